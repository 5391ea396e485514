//! Which credential is shown next, and what follows when the last one was refused.
//!
//! Certificates are shown from the newest to the oldest; one that is refused is followed by the next at
//! once, and the whole round counts as one attempt. Where the hub is shown the bootstrap credential, the
//! others of these follow it in the same way.
//!
//! | refused | next |
//! |---|---|
//! | the staged one | it is discarded; the active one, at once |
//! | the active one | the previous one, at once |
//! | the last one | by policy: the hub again or DPS, on the slow ladder, or the end |
//! | accepted: the previous one | it is the active one again |

use alloc::vec::Vec;
use core::time::Duration;

use rand_core::CryptoRng;
use zerotouch_credentials::ChainPolicy;
use zerotouch_dps::RegistrationError;
use zerotouch_store::Change;
use zerotouch_time::{Instant, Now, UnixTime};

use super::{Device, Phase};
use crate::hub::{HubSession, Shown};
use crate::{Credential, Event, Failure, FailureClass, OnRefusal, Scope, TransportFailureKind};

/// How many connections in a row that end soon make one suspect somebody else.
const SUSPECT_AFTER: u32 = 3;

/// How the device is getting on with its hub.
#[derive(Debug, Default)]
pub(crate) struct Trial {
    /// What was refused in this round.
    refused: Vec<Shown>,
    /// Rounds in a row that led to no connection.
    failures: u32,
    /// Whether DPS is to be asked before the hub is dialled again.
    is_over: bool,
    /// Connections in a row that ended soon after they were accepted.
    short_lived: u32,
    /// Which bootstrap credential is shown.
    pub(crate) attestation: usize,
}

impl Trial {
    /// Whether DPS is to be asked before the hub is dialled again.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// The hub has accepted the device. A bootstrap credential that is good is the first from now on.
    pub(crate) fn connected(&mut self, shown: Shown) {
        let attestation = match shown {
            Shown::Attestation(turn) => turn,
            Shown::Generation(_) => 0,
        };
        *self = Self { short_lived: self.short_lived, attestation, ..Self::default() };
    }

    /// DPS has assigned a hub.
    pub(crate) fn provisioned(&mut self) {
        *self = Self {
            short_lived: self.short_lived,
            attestation: self.attestation,
            ..Self::default()
        };
    }
}

impl<R: CryptoRng> Device<R> {
    /// What to show to the hub, of what was not refused in this round: the newest certificate that is good
    /// still, or the bootstrap credential that was accepted last, and then the others.
    pub(super) fn candidate(&self, now: Now) -> Option<(Credential, Shown)> {
        let refused = |shown: &Shown| self.trial.refused.contains(shown);
        if !self.config.wants_certificates() {
            let (first, count) = (self.trial.attestation, 1 + self.config.other_attestations.len());
            return (first..count)
                .chain(0..first)
                .map(Shown::Attestation)
                .find(|shown| !refused(shown))
                .map(|shown| (Credential::Bootstrap, shown));
        }
        // Whether a certificate is good still is for the hub to say, where the clock is in doubt.
        let wall = now.wall.filter(|_| !self.doubts_clock);
        let identity = &self.identity;
        let staged = identity.staged.iter().map(|staged| (Credential::Staged, staged));
        let active = identity.active.iter().map(|active| (Credential::Active, active));
        let previous = identity.previous.iter().map(|previous| (Credential::Previous, previous));
        staged
            .chain(active)
            .chain(previous)
            .filter(|(_, generation)| {
                wall.is_none_or(|wall| generation.chain.leaf().not_after() > wall)
            })
            .map(|(credential, generation)| (credential, Shown::Generation(generation.number)))
            .find(|(_, shown)| !refused(shown))
    }

    /// A session with the hub failed, or did not come up.
    pub(super) fn fail_at_hub(&mut self, session: &HubSession, failure: Failure, now: Now) {
        let credential = session.credential;
        if failure.class() != FailureClass::IdentityTerminal {
            let failure = self.suspect(session, failure, now.monotonic);
            self.count_failure();
            return self.wait(Scope::Hub, credential, failure, now);
        }
        self.refused_at_hub(credential, session.shown, failure, now);
    }

    /// The hub does not take a credential, or it cannot be shown.
    pub(super) fn refused_at_hub(
        &mut self,
        credential: Credential,
        shown: Shown,
        failure: Failure,
        now: Now,
    ) {
        self.trial.refused.push(shown);
        let discards = credential == Credential::Staged && self.storing.is_none();
        if discards {
            self.store(Change::DiscardStaged);
        }
        if self.candidate(now).is_some() {
            self.report(Scope::Hub, credential, failure, Some(Duration::ZERO));
            // Once what is being stored is stored.
            return self.proceed(now);
        }
        self.trial.refused.clear();
        self.count_failure();
        let by_tls = matches!(&failure, Failure::Transport(transport)
            if transport.kind == TransportFailureKind::ClientCertificateRefused);
        match self.config.retry.on_refusal {
            OnRefusal::Stop => {
                self.report(Scope::Hub, credential, failure, None);
                return self.stop();
            }
            OnRefusal::Reprovision => self.trial.is_over = true,
            OnRefusal::RetryHub => self.trial.is_over |= by_tls,
        }
        self.wait(Scope::Hub, credential, failure, now);
    }

    /// A certificate cannot be shown, for its key in hardware is not there. Perhaps it comes back; after as
    /// many rounds as for a hub that is silent the device provisions anew, with another key.
    pub(super) fn unusable_at_hub(
        &mut self,
        credential: Credential,
        shown: Shown,
        failure: Failure,
        now: Now,
    ) {
        self.trial.refused.push(shown);
        if self.candidate(now).is_some() {
            self.report(Scope::Hub, credential, failure, Some(Duration::ZERO));
            return self.proceed(now);
        }
        self.trial.refused.clear();
        self.count_failure();
        self.wait(Scope::Hub, credential, failure, now);
    }

    fn count_failure(&mut self) {
        self.trial.failures += 1;
        self.trial.is_over |= self.trial.failures >= self.config.retry.failures_before_provisioning;
    }

    /// An accepted connection that ends soon may be somebody else's doing: a hub lets the last one in and
    /// says nothing to the one before.
    fn suspect(&mut self, session: &HubSession, failure: Failure, now: Instant) -> Failure {
        let Some(since) = session.connected_since else { return failure };
        let soon = Duration::from_secs(self.config.hub.keep_alive.into());
        if now - since >= soon {
            self.trial.short_lived = 0;
            return failure;
        }
        self.trial.short_lived += 1;
        let connections = self.trial.short_lived;
        if connections < SUSPECT_AFTER {
            return failure;
        }
        self.events.push_back(Event::TakeoverSuspected { connections });
        Failure::IdentityInUse { connections }
    }

    /// A session with DPS failed. A credential that was refused is followed by the next; and a hub that
    /// was given up is not given up while DPS is of no help.
    pub(super) fn fail_at_dps(&mut self, failure: Failure, now: Now) {
        let failure = blame_the_clock(failure, now);
        let refused = failure.class() == FailureClass::IdentityTerminal;
        self.trial.is_over = false;
        self.trial.failures = 0;
        if refused {
            self.trial.attestation += 1;
            if self.config.attestation(self.trial.attestation).is_some() {
                self.report(Scope::Dps, Credential::Bootstrap, failure, Some(Duration::ZERO));
                return self.provision(now);
            }
            self.trial.attestation = 0;
        }
        self.wait(Scope::Dps, Credential::Bootstrap, failure, now);
    }

    /// The hub has accepted a certificate that was in use before.
    pub(super) fn restore_previous(&mut self) {
        let Phase::Hub(session) = &self.phase else { return };
        let latest = self.identity.previous.first().map(|one| Shown::Generation(one.number));
        let is_latest = latest == Some(session.shown);
        if session.credential == Credential::Previous && is_latest && self.storing.is_none() {
            self.store(Change::RollBack);
        }
    }
}

/// A token that should be good and is refused by a service whose clock shows another time.
fn blame_the_clock(failure: Failure, now: Now) -> Failure {
    let theirs = |failure: &Failure| {
        let Failure::Registration(RegistrationError::Refused { status: 401, error, .. }) = failure
        else {
            return None;
        };
        UnixTime::parse_rfc3339(error.timestamp_utc.as_deref()?)
    };
    match (theirs(&failure), now.wall) {
        (Some(theirs), Some(ours))
            if ours.since(theirs).max(theirs.since(ours)) > ChainPolicy::DEFAULT_SKEW =>
        {
            Failure::ClockSuspect { ours, theirs }
        }
        _ => failure,
    }
}
