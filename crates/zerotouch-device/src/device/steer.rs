//! What happens next: from the identity to the session, from a session's step to a change.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::mem;

use rand_core::CryptoRng;
use zerotouch_credentials::{
    CertificateChain, CertificateRequest, ChainError, ChainPolicy, Finding, PrivateKey,
    RequestError, SignError,
};
use zerotouch_dps::{Assignment, ConnectionProfile, Registered};
use zerotouch_hub::RequestId;
use zerotouch_store::{Change, Key, KeyReference};
use zerotouch_time::Now;

use super::{Device, Phase, Then};
use crate::hub::{HubSession, HubStep, Renewing, Shown};
use crate::provision::{DpsSession, DpsStep};
use crate::{
    Action, ConnectionId, Credential, Dial, Event, Failure, FailureClass, IssuedCertificate, Scope,
    TlsIdentity,
};

impl<R: CryptoRng> Device<R> {
    /// From `Ready`: what the identity wants.
    pub(super) fn proceed(&mut self, now: Now) {
        if !matches!(self.phase, Phase::Ready) || self.storing.is_some() {
            return;
        }
        self.open_keys();
        // What DPS has renewed is tried before DPS is asked again; a hub that was given up is not.
        let is_for_hub = |credential, shown| {
            !self.schedule.is_for_dps() || credential == Credential::Staged && self.can_show(shown)
        };
        match (&self.identity.assignment, self.candidate(now)) {
            (Some(assignment), Some((credential, shown)))
                if !self.trial.is_over() && is_for_hub(credential, shown) =>
            {
                self.dial_hub(assignment.clone(), credential, shown, now);
            }
            _ => self.provision(now),
        }
    }

    pub(super) fn provision(&mut self, now: Now) {
        let csr = match &self.identity.pending {
            _ if !self.config.wants_certificates() => None,
            None => {
                if let Err(failure) = self.create_key() {
                    self.wait(Scope::Dps, Credential::Bootstrap, failure, now);
                }
                return;
            }
            Some(pending) => {
                let registration_id = self.config.registration.registration_id.as_str();
                match request_for(&pending.key, registration_id) {
                    Ok(request) => Some(request.to_base64()),
                    Err(error) => {
                        // What has no key to sign with now may have none ever. Another one is made.
                        self.store(Change::DiscardPending);
                        return self.wait(Scope::Dps, Credential::Bootstrap, error.into(), now);
                    }
                }
            }
        };
        let turn = self.trial.attestation;
        let identity = match self.bootstrap_identity(turn, now) {
            Ok(identity) => identity,
            Err(failure) => return self.fail_at_dps(failure, now),
        };
        let (host, port) = (self.config.provisioning_host.clone(), self.config.provisioning_port);
        let connection = self.dial(host, port, identity);
        let session =
            DpsSession::new(&self.config, turn, (connection, csr), now.monotonic, &mut self.rng);
        self.phase = Phase::Dps(session);
    }

    /// What TLS presents with a bootstrap credential, unless a service would be asked in vain.
    fn bootstrap_identity(&self, turn: usize, now: Now) -> Result<Option<TlsIdentity>, Failure> {
        let identity = self.config.tls_identity(turn);
        match identity.and_then(|identity| self.lint(identity, now)) {
            Some(finding) => Err(Failure::Attestation(Arc::new(finding))),
            None => Ok(identity.cloned()),
        }
    }

    /// What is wrong with a bootstrap certificate.
    fn lint(&self, identity: &TlsIdentity, now: Now) -> Option<Finding> {
        let policy = ChainPolicy {
            now: now.wall.filter(|_| !self.doubts_clock),
            ..ChainPolicy::new(&[], self.config.registration.registration_id.as_str())
        };
        let findings = identity.chain.lint(&*identity.signer, &policy);
        findings.into_iter().find(Finding::is_error)
    }

    fn dial_hub(&mut self, assignment: Assignment, credential: Credential, shown: Shown, now: Now) {
        let identity = match shown {
            Shown::Attestation(turn) => self.bootstrap_identity(turn, now),
            Shown::Generation(number) => self.issued_identity(number),
        };
        let identity = match identity {
            Ok(identity) => identity,
            Err(failure) if failure.class() == FailureClass::IdentityTerminal => {
                return self.refused_at_hub(credential, shown, failure, now);
            }
            Err(failure) => return self.unusable_at_hub(credential, shown, failure, now),
        };
        // The hub may hold the answer to an earlier request, and deliver it before anything is asked.
        if self.lasting.renewal.is_none()
            && self.identity.active.is_some()
            && self.config.wants_certificates()
        {
            self.lasting.renewal = self.prepare_renewal(&assignment.device_id).ok().flatten();
        }
        let connection = self.dial(assignment.assigned_hub.clone(), self.config.hub.port, identity);
        self.phase = Phase::Hub(HubSession::new(
            &self.config,
            connection,
            (credential, shown),
            assignment,
            now.monotonic,
        ));
    }

    fn can_show(&self, shown: Shown) -> bool {
        match shown {
            Shown::Generation(number) => self.issued_identity(number).is_ok(),
            Shown::Attestation(_) => true,
        }
    }

    /// What TLS presents with an issued certificate.
    pub(super) fn issued_identity(&self, number: u64) -> Result<Option<TlsIdentity>, Failure> {
        let Some(generation) = self.identity.generation(number) else { return Ok(None) };
        let signer = generation.key.signer().map_err(RequestError::from)?;
        Ok(Some(TlsIdentity { signer, chain: generation.chain.clone() }))
    }

    fn dial(&mut self, host: String, port: u16, identity: Option<TlsIdentity>) -> ConnectionId {
        self.last_connection += 1;
        let connection = ConnectionId(self.last_connection);
        self.actions.push_back(Action::Dial(Dial { connection, host, port, identity }));
        connection
    }

    /// Opens the keys in hardware that are not open yet. A token that is not there may come later.
    fn open_keys(&mut self) {
        if let Some(slots) = &self.config.key_slots {
            self.identity.attach(|reference| slots.open(reference.uri()).ok());
        }
    }

    /// A new key, to be stored before anything is asked for with it. Where hardware has no room for
    /// it, room is made first, and stored.
    pub(super) fn create_key(&mut self) -> Result<(), Failure> {
        let algorithm = self.config.key_algorithm;
        let key = match (&self.identity.active, &self.config.key_slots) {
            (Some(active), _) if self.config.renewal.same_key => active.key.clone(),
            (_, None) => PrivateKey::generate(algorithm, &mut self.rng)?.into(),
            (_, Some(slots)) => {
                let in_use = self.identity.key_addresses();
                if !slots.has_room(&in_use)
                    && let Some(change) = self.dispensable()
                {
                    self.store(change);
                    return Ok(());
                }
                let created = slots.create(algorithm, &in_use).and_then(|(address, signer)| {
                    KeyReference::new(&address, signer)
                        .map_err(|error| SignError::Device(Box::new(error)))
                });
                created.map_err(RequestError::from)?.into()
            }
        };
        let bits = u128::from(self.rng.next_u64()) << 64 | u128::from(self.rng.next_u64());
        self.store(Change::Begin { key, request_id: RequestId::from_bits(bits).to_string() });
        Ok(())
    }

    /// What gives up a key that is not needed now. A staged or a previous one may be what this session stands
    /// on.
    fn dispensable(&self) -> Option<Change> {
        let by_previous = matches!(&self.phase, Phase::Hub(session) if session.credential == Credential::Previous);
        if !self.identity.previous.is_empty() && !by_previous {
            Some(Change::DiscardPrevious)
        } else if self.identity.staged.is_some() && matches!(self.phase, Phase::Ready) {
            Some(Change::DiscardStaged)
        } else {
            None
        }
    }

    pub(super) fn store(&mut self, change: Change) {
        debug_assert!(self.storing.is_none(), "one change at a time");
        self.storing = Some(change.clone());
        self.actions.push_back(Action::Store(change));
    }

    pub(super) fn stored(&mut self, change: &Change, now: Now) {
        match change {
            Change::Begin { key, .. } => {
                if let Ok(signer) = key.signer() {
                    self.events.push_back(Event::KeyCreated { algorithm: signer.algorithm() });
                }
                if matches!(&self.phase, Phase::Hub(session) if matches!(session.renewal, Renewing::StoringKey))
                {
                    self.request_renewal(now);
                }
            }
            Change::Stage { .. } => {
                self.lasting.renewal = None;
                self.provisioned();
                if let Some(staged) = &self.identity.staged {
                    let (generation, chain) = (staged.number, staged.chain.clone());
                    let issued = IssuedCertificate { generation, chain };
                    self.events.push_back(Event::CertificateIssued(issued));
                }
                if let Phase::Hub(session) = &mut self.phase {
                    session.renewal = Renewing::No;
                }
                self.switch(now);
            }
            Change::Assign(_) => self.provisioned(),
            Change::Activate => {
                if let Phase::Hub(session) = &mut self.phase {
                    session.credential = Credential::Active;
                }
                if let Some(active) = &self.identity.active {
                    self.schedule.succeeded(active.chain.leaf(), now.monotonic);
                    let (generation, thumbprint) =
                        (active.number, active.chain.leaf().thumbprint());
                    self.events.push_back(Event::Activated { generation, thumbprint });
                }
                self.resume_renewal(now);
            }
            Change::DiscardPrevious => {
                if matches!(&self.phase, Phase::Hub(session) if matches!(session.renewal, Renewing::StoringKey))
                    && let Err(failure) = self.create_key()
                {
                    self.fail_renewal(failure.into(), now);
                }
            }
            Change::DiscardStaged => {
                self.renewed_in_vain(now);
                let generation = self.identity.last_number;
                self.events.push_back(Event::RolledBack { generation });
            }
            Change::RollBack => {
                if let Phase::Hub(session) = &mut self.phase {
                    session.credential = Credential::Active;
                }
                let generation = self.identity.last_number;
                self.events.push_back(Event::RolledBack { generation });
            }
            _ => {}
        }
    }

    /// What was assigned is stored: before that nothing has succeeded that would not be asked for again.
    fn provisioned(&mut self) {
        self.trial.provisioned();
        self.dps_ladder.reset();
        self.hub_ladder.reset();
    }

    pub(super) fn not_stored(&mut self, change: &Change, failure: Failure, now: Now) {
        match (&self.phase, change) {
            (
                Phase::Hub(_),
                Change::Begin { .. } | Change::Stage { .. } | Change::DiscardPrevious,
            ) => {
                self.fail_renewal(failure.into(), now);
            }
            // The hub has accepted the certificate; that it did is told to the store next time.
            (Phase::Hub(session), Change::Activate | Change::RollBack) => {
                self.report(Scope::Hub, session.credential, failure, None);
            }
            (Phase::Hub(_) | Phase::Stopped | Phase::Leaving { then: Then::Stop, .. }, _) => {}
            _ => {
                let waiting = mem::replace(&mut self.phase, Phase::Ready);
                if let Phase::Leaving { link, .. } = waiting {
                    self.actions.push_back(Action::HangUp(link.connection));
                }
                self.wait(Scope::Dps, Credential::Bootstrap, failure, now);
            }
        }
    }

    pub(super) fn after_dps(&mut self, step: DpsStep, now: Now) {
        match step {
            DpsStep::Progress => {}
            DpsStep::Connected => {
                let host = self.config.provisioning_host.clone();
                self.events.push_back(Event::ProvisioningConnected { host });
            }
            DpsStep::Assigning { operation_id, next_poll } => {
                self.events.push_back(Event::Assigning { operation_id, next_poll });
            }
            DpsStep::Throttled { status, error, retry_in } => {
                self.dps_not_before = now.monotonic + retry_in;
                self.events.push_back(Event::Throttled { status, error, retry_in });
            }
            DpsStep::Assigned(registered) => match self.adopt(*registered, now) {
                Ok(()) => self.leave(Then::Proceed, now.monotonic),
                Err(failure) => self.fail(failure, now),
            },
            DpsStep::Failed(failure) => self.fail(failure, now),
        }
    }

    /// Checks an assignment and its chain, where one was asked for, and stores them together.
    fn adopt(&mut self, registered: Registered, now: Now) -> Result<(), Failure> {
        let Registered { assignment, substatus, issued_certificate_chain, .. } = registered;
        match &assignment.connection_profile {
            ConnectionProfile::Classic => {}
            other => return Err(Failure::UnsupportedProfile { profile: other.clone().into() }),
        }
        if !self.config.hub.hosts.allows(&assignment.assigned_hub) {
            return Err(Failure::HubNotAllowed { host: assignment.assigned_hub });
        }
        let change = if self.config.wants_certificates() {
            let chain = self.accept(&issued_certificate_chain, &assignment.device_id, now)?;
            Change::Stage { chain, assignment: Some(assignment.clone()) }
        } else {
            Change::Assign(assignment.clone())
        };
        self.events.push_back(Event::Assigned { assignment, substatus });
        self.store(change);
        Ok(())
    }

    /// Is the chain for the pending key, for this device, valid, and new? And does a key in
    /// hardware, used once, fit it?
    fn accept(
        &mut self,
        issued: &[String],
        device_id: &str,
        now: Now,
    ) -> Result<CertificateChain, Failure> {
        let pending = self.identity.pending.as_ref().ok_or(ChainError::KeyMismatch)?;
        let policy = ChainPolicy {
            now: now.wall,
            current: self.identity.active.as_ref().map(|active| active.chain.leaf()),
            ..ChainPolicy::new(pending.key.public_key(), device_id)
        };
        let accepted = CertificateChain::accept(issued, &policy);
        self.doubts_clock = accepted.as_ref().is_err_and(is_about_dates);
        let chain = accepted?;
        // The public half of a key in memory is computed from it. What a place in hardware holds by now
        // shows when it is used.
        if let Key::Reference(_) = pending.key {
            let signer = pending.key.signer().map_err(RequestError::from)?;
            chain.prove_possession(&*signer)?;
        }
        Ok(chain)
    }

    pub(super) fn after_hub(&mut self, step: HubStep, now: Now) {
        match step {
            HubStep::Progress => {}
            HubStep::Connected => self.hub_connected(now),
            HubStep::Published(published) => {
                let acknowledged = self.lasting.queue.acknowledged(published);
                self.events.extend(acknowledged.map(Event::TelemetryAcknowledged));
            }
            HubStep::Message(message) => self.events.push_back(Event::Message(message)),
            HubStep::Method(event) => self.events.push_back(Event::Method(event)),
            HubStep::Twin(event) => self.events.push_back(Event::Twin(event)),
            HubStep::RenewalAccepted(accepted) => {
                let operation_expires = accepted.operation_expires;
                self.events.push_back(Event::RenewalAccepted { operation_expires });
            }
            HubStep::Issued(issued) => {
                self.lasting.renewal = None;
                let Phase::Hub(session) = &mut self.phase else { return };
                let device_id = session.assignment().device_id.clone();
                session.renewal = Renewing::StoringChain;
                match self.accept(&issued, &device_id, now) {
                    Ok(chain) => self.store(Change::Stage { chain, assignment: None }),
                    Err(failure) => self.fail_renewal(failure.into(), now),
                }
            }
            HubStep::RenewalFailed(failure) => self.fail_renewal(failure, now),
            HubStep::Failed(failure) => self.fail(failure, now),
        }
    }

    fn hub_connected(&mut self, now: Now) {
        let Phase::Hub(session) = &self.phase else { return };
        let (credential, shown) = (session.credential, session.shown);
        let chain = match shown {
            Shown::Attestation(turn) => self.config.tls_identity(turn).map(|one| &one.chain),
            Shown::Generation(number) => self.identity.generation(number).map(|one| &one.chain),
        };
        self.events.push_back(Event::Connected {
            assignment: session.assignment().clone(),
            credential,
            thumbprint: chain.map(|chain| chain.leaf().thumbprint()),
        });
        self.attempts = 0;
        self.trial.connected(shown);
        self.hub_ladder.reset();
        self.identity_ladder.reset();
        match credential {
            Credential::Staged => self.store(Change::Activate),
            Credential::Previous => self.restore_previous(),
            _ => self.resume_renewal(now),
        }
    }
}

pub(super) fn request_for(
    key: &Key,
    common_name: &str,
) -> Result<CertificateRequest, RequestError> {
    CertificateRequest::new(&*key.signer()?, common_name)
}

/// Whether what is wrong with a chain that was issued just now is its dates.
pub(crate) fn is_about_dates(error: &ChainError) -> bool {
    matches!(
        error,
        ChainError::Expired { .. }
            | ChainError::NotYetValid { .. }
            | ChainError::ClockSuspect { .. }
    )
}
