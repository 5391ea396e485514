//! Renewal: when, by which way, and what if it fails.
//!
//! | the way | it fails | next |
//! |---|---|---|
//! | the hub | for now | the hub again, after a delay that grows |
//! | | the hub does not do it, or [`HUB_TRIES`] times in a row | DPS, after that delay |
//! | DPS | | the hub with the certificate in use; DPS again, after a delay that grows |
//! | either | the hub refuses the new certificate | DPS, after a delay that grows |
//! | | never | the new certificate is active; the schedule is that of the next |

use core::time::Duration;

use rand_core::CryptoRng;
use zerotouch_credentials::Certificate;
use zerotouch_hub::wire::CREDENTIALS;
use zerotouch_hub::{Recovery, Renewal, RenewalError, RequestId};
use zerotouch_store::Change;
use zerotouch_time::{Instant, Now};

use super::steer::request_for;
use super::{Device, Phase};
use crate::backoff::Ladder;
use crate::config::lifetime;
use crate::hub::Renewing;
use crate::{Event, Failure, RenewalFailure};

/// After how many failures in a row the hub is not asked any more.
const HUB_TRIES: u32 = 3;
/// How long the wall clock is believed at most: it may be set meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);
/// The least time between two attempts, unless certificates live for less than a few hours.
const LEAST_PAUSE: Duration = Duration::from_secs(300);

/// When to renew, and by which way.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    ladder: Ladder,
    way: Way,
    /// No attempt before this.
    not_before: Instant,
    /// When the certificate in use is to be looked at again.
    look_at: Option<Instant>,
    /// The generation whose end was announced.
    announced: u64,
}

#[derive(Debug, Default)]
enum Way {
    #[default]
    Hub,
    /// DPS, when the time comes; until then the hub is served with the certificate in use.
    Dps,
    /// DPS, now.
    DpsNow,
}

impl Schedule {
    /// Whether a session with DPS is due although the hub would take the device.
    pub(crate) fn is_for_dps(&self) -> bool {
        matches!(self.way, Way::DpsNow)
    }

    /// A new certificate is here. Should it be due at once, because the clock is wrong, it is not renewed
    /// at once.
    pub(crate) fn succeeded(&mut self, certificate: &Certificate, now: Instant) {
        let pause = LEAST_PAUSE.min(lifetime(certificate) / 25).max(Duration::from_secs(1));
        *self = Self { announced: self.announced, not_before: now + pause, ..Self::default() };
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.look_at
    }
}

impl<R: CryptoRng> Device<R> {
    /// Renews the certificate in use if that is due. To be called whenever something has happened on a
    /// session with the hub.
    pub(super) fn renew_if_due(&mut self, now: Now) {
        self.schedule.look_at = None;
        if !self.config.wants_certificates() {
            return;
        }
        let Phase::Hub(session) = &self.phase else { return };
        let is_idle = matches!(session.renewal, Renewing::No) && session.draining.is_none();
        let (true, true, None, Some(active)) =
            (session.link.is_up(), is_idle, &self.storing, &self.identity.active)
        else {
            return;
        };
        let leaf = active.chain.leaf();
        let Some(wall) = now.wall else {
            self.schedule.look_at = Some(now.monotonic + LOOK_AGAIN);
            return;
        };
        let policy = &self.config.renewal;
        let (due, announce) = (policy.due(leaf), policy.announce(leaf));
        if wall >= announce && self.schedule.announced != active.number {
            self.schedule.announced = active.number;
            let (generation, not_after) = (active.number, leaf.not_after());
            self.events.push_back(Event::CertificateExpiring { generation, not_after });
        }
        let not_before = self.schedule.not_before;
        if !policy.automatic {
            self.schedule.look_at =
                (wall < announce).then(|| now.monotonic + announce.since(wall).min(LOOK_AGAIN));
        } else if wall < due || now.monotonic < not_before {
            let look_at = now.monotonic + due.since(wall).min(LOOK_AGAIN);
            self.schedule.look_at = Some(look_at.max(not_before));
        } else {
            match self.schedule.way {
                Way::Hub => self.begin_renewal(now),
                Way::Dps | Way::DpsNow => {
                    self.schedule.way = Way::DpsNow;
                    self.events.push_back(Event::RenewalRedirected);
                    self.switch(now);
                }
            }
        }
    }

    /// Asks the hub, with the key that waits or a new one.
    pub(super) fn begin_renewal(&mut self, now: Now) {
        if self.identity.pending.is_some() {
            return self.request_renewal(now);
        }
        if let Phase::Hub(session) = &mut self.phase {
            session.renewal = Renewing::StoringKey;
        }
        if let Err(failure) = self.create_key() {
            self.fail_renewal(failure.into(), now);
        }
    }

    /// A request that the last connection or the last run of the program left unanswered. One that failed
    /// has to wait for its time.
    pub(super) fn resume_renewal(&mut self, now: Now) {
        if self.config.wants_certificates()
            && self.identity.pending.is_some()
            && matches!(&self.phase, Phase::Hub(session) if session.link.is_up() && matches!(session.renewal, Renewing::No))
            && self.schedule.ladder.failures() == 0
        {
            self.request_renewal(now);
        }
    }

    /// The request for a certificate for the pending key, under the id that was stored with it; `None` if
    /// no key waits.
    pub(super) fn prepare_renewal(
        &self,
        device_id: &str,
    ) -> Result<Option<Renewal>, RenewalFailure> {
        let Some(pending) = &self.identity.pending else { return Ok(None) };
        let csr = request_for(&pending.key, device_id).map_err(Failure::from)?.to_base64();
        // A request id that this device has made itself is within the rules.
        let request_id =
            RequestId::new(&pending.request_id).unwrap_or_else(|_| RequestId::from_bits(0));
        Ok(Some(Renewal::new(self.config.renewal.hub, device_id, request_id, csr)?))
    }

    /// Asks the hub for a certificate for the pending key.
    pub(super) fn request_renewal(&mut self, now: Now) {
        let Phase::Hub(session) = &self.phase else { return };
        if !session.can_renew() {
            let filter = CREDENTIALS.into();
            return self.fail_renewal(Failure::SubscriptionRefused { filter }.into(), now);
        }
        if self.lasting.renewal.is_none() {
            match self.prepare_renewal(&session.assignment().device_id) {
                Ok(renewal) => self.lasting.renewal = renewal,
                Err(failure) => return self.fail_renewal(failure, now),
            }
        }
        let (Some(renewal), Some(pending), Phase::Hub(session)) =
            (&mut self.lasting.renewal, &self.identity.pending, &mut self.phase)
        else {
            return;
        };
        renewal.start(now);
        session.renewal = Renewing::Requested;
        let request_id = pending.request_id.clone();
        self.events.push_back(Event::RenewalRequested { request_id });
    }

    /// The certificate in use stays; a key whose request was refused goes.
    pub(super) fn fail_renewal(&mut self, failure: RenewalFailure, now: Now) {
        self.lasting.renewal = None;
        if let Phase::Hub(session) = &mut self.phase {
            session.renewal = Renewing::No;
        }
        let floor = match failure.recovery() {
            Recovery::Retry { floor } => floor,
            Recovery::ServiceSetup | Recovery::UnknownDevice => {
                self.schedule.way = Way::Dps;
                Duration::ZERO
            }
            _ => Duration::ZERO,
        };
        if failure.spends_the_key() && self.identity.pending.is_some() && self.storing.is_none() {
            self.store(Change::DiscardPending);
        }
        let retry_in = self.put_off_renewal(floor, now);
        // DPS would be of no help against a clock that is wrong.
        if self.schedule.ladder.failures() >= HUB_TRIES && !self.doubts_clock {
            self.schedule.way = Way::Dps;
        }
        self.events.push_back(Event::RenewalFailed { failure, retry_in });
    }

    /// DPS did not renew: the hub is to be served with the certificate in use, if there is one. Says
    /// whether this was about a renewal.
    pub(super) fn fail_renewal_at_dps(
        &mut self,
        failure: &Failure,
        floor: Duration,
        now: Now,
    ) -> bool {
        if !self.schedule.is_for_dps() {
            return false;
        }
        self.schedule.way = Way::Dps;
        let retry_in = self.put_off_renewal(floor, now);
        let failure = failure.clone().into();
        self.events.push_back(Event::RenewalFailed { failure, retry_in });
        true
    }

    /// The hub refused the new certificate. Perhaps DPS knows better; not at once, either way.
    pub(super) fn renewed_in_vain(&mut self, now: Now) {
        self.schedule.way = Way::Dps;
        self.put_off_renewal(Duration::ZERO, now);
    }

    fn put_off_renewal(&mut self, floor: Duration, now: Now) -> Duration {
        let active = self.identity.active.as_ref().map(|active| active.chain.leaf());
        let backoff = self.config.renewal.backoff(active);
        let delay = self.schedule.ladder.next(backoff, floor, &mut self.rng);
        let not_before = self.schedule.not_before.max(now.monotonic + delay);
        self.schedule.not_before = not_before;
        not_before - now.monotonic
    }

    /// Makes way for another session, once nothing is in flight on this one.
    pub(super) fn switch(&mut self, now: Now) {
        if let Phase::Hub(session) = &mut self.phase {
            session.make_way(now.monotonic + self.config.close_timeout);
        }
    }
}

impl RenewalFailure {
    /// What may come of it.
    pub(crate) fn recovery(&self) -> Recovery {
        match self {
            Self::Hub(error) => error.recovery(),
            // The hub does not let answers be heard.
            Self::Device(Failure::SubscriptionRefused { .. }) => Recovery::ServiceSetup,
            Self::Device(_) => Recovery::Retry { floor: Duration::ZERO },
        }
    }

    /// Is the request itself refused, so that a new one with a new key is needed?
    pub(crate) fn spends_the_key(&self) -> bool {
        match self {
            Self::Hub(RenewalError::Refused { status: 412, .. }) => true,
            Self::Hub(error) => matches!(error.recovery(), Recovery::NewRequest),
            Self::Device(failure) => matches!(failure, Failure::Chain(_) | Failure::Possession(_)),
        }
    }
}
