//! The services behind the connections: whom a client means, and what it is told.

use chacha20::ChaCha20Rng;
use serde::{Deserialize, Serialize};
use zerotouch_credentials::SymmetricKey;
use zerotouch_dps::{RegistrationId, SUBSCRIPTION};
use zerotouch_mqtt_codec::{Connect, QoS, SubAckReturnCode, Subscribe, TopicFilter};
use zerotouch_mqtt_session::{CloseReason, ServerEvent};
use zerotouch_time::UnixTime;

use super::CloudError;
use super::admission::{self, HubRefusal};
use super::authority::{AuthorityError, AuthorityKeys, MakeSigner};
use super::clock::{Clock, TimeOfDay, uuid};
use super::connection::Peer;
use super::dps::{self, Dps};
use super::effects::{At, Command, Effects};
use super::enrollment::{self, Enrollments};
use super::event::{CloudEvent, ConnectionId};
use super::fault::{Operation, Strikes};
use super::fixture::Fixture;
use super::http::Uploads;
use super::hub::{self, CommandError, Hubs};
use super::login::UserName;
use super::namespace::Namespace;
use super::refusal::ConnectFault;
use super::registry::{Device, DeviceKey, HubCredential};
use super::table::{Kept, Single};
use super::test_authority::{self, TestAuthorities};
use super::text_form;
use super::twin::TwinError;

#[derive(Debug)]
pub(super) struct Services {
    pub(super) dps: Dps,
    pub(super) namespace: Namespace,
    pub(super) hubs: Hubs,
    pub(super) uploads: Uploads,
    pub(super) time_of_day: TimeOfDay,
    pub(super) test_authorities: TestAuthorities,
    service_key: Single<ServiceKey>,
}

/// Why a hub ends the connection of a device that it would no longer let in.
const REVOKED: &str = "it was disabled, or its certificates were revoked";

/// Opens the service API.
#[derive(Debug, Serialize, Deserialize)]
struct ServiceKey(#[serde(with = "text_form::one")] SymmetricKey);

/// A registered device, as an operator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRecord<'a> {
    /// Under which name it registered.
    pub registration_id: &'a str,
    /// Its name at its hub.
    pub device_id: &'a str,
    /// Its hub's host name.
    pub hub: &'a str,
    /// The namespace's name for it.
    pub uuid: &'a str,
    /// Whether its hub lets it in.
    pub enabled: bool,
    /// How many times it has registered.
    pub registrations: u64,
}

impl Services {
    pub(super) fn new(
        mut fixture: Fixture,
        signer: MakeSigner,
        now: UnixTime,
        rng: &mut ChaCha20Rng,
    ) -> Result<Self, CloudError> {
        fixture.check()?;
        // The first that is drawn: the same for every fixture.
        let service_key = SymmetricKey::generate(rng)?;
        let keys = AuthorityKeys { algorithm: fixture.ca_algorithm, signer };
        let test_authorities =
            test_authority::complete(&mut fixture.enrollment_groups, keys, now, rng)
                .map_err(AuthorityError::from)?;
        let enrollments = Enrollments::new(
            fixture.enrollment_groups,
            fixture.individual_enrollments,
            fixture.certificate_authorities,
            now,
            rng,
        )?;
        let namespace = Namespace::new(fixture.credential_policies, keys, now, rng)
            .map_err(AuthorityError::from)?;
        Ok(Self {
            dps: Dps::new(fixture.id_scope, fixture.hubs.clone(), fixture.dps, enrollments),
            namespace,
            hubs: Hubs::new(fixture.hubs, fixture.hub),
            uploads: Uploads::default(),
            time_of_day: TimeOfDay::new(now),
            test_authorities,
            service_key: Single::new(ServiceKey(service_key)),
        })
    }

    /// One event of a connection.
    pub(super) fn handle(
        &mut self,
        peer: &mut Peer,
        event: ServerEvent<'_>,
        at: At,
        fx: &mut Effects,
    ) {
        match (peer, event) {
            (peer @ Peer::Stranger { .. }, ServerEvent::Connect(connect)) => {
                self.connect(peer, &connect, at, fx);
            }
            (Peer::Dps(session), ServerEvent::Publish(publish)) => {
                self.dps.publish(session, &publish, &mut self.namespace, at, fx);
            }
            (Peer::Dps(session), ServerEvent::Subscribe(subscribe)) => {
                let codes = subscribe_dps(session, &subscribe);
                fx.command(at.connection, Command::Suback(subscribe.id, codes));
            }
            (Peer::Dps(session), ServerEvent::Unsubscribe(unsubscribe)) => {
                if unsubscribe.filters.iter().any(|f| f.as_str() == SUBSCRIPTION) {
                    session.set_subscription(None);
                }
                fx.command(at.connection, Command::Unsuback(unsubscribe.id));
            }
            (Peer::Hub(session), ServerEvent::Publish(publish)) => {
                self.hubs.publish(session, &publish, &self.namespace, at, fx);
            }
            (Peer::Hub(session), ServerEvent::Subscribe(subscribe)) => {
                self.hubs.subscribe(session, &subscribe, at, fx);
            }
            (Peer::Hub(session), ServerEvent::Unsubscribe(unsubscribe)) => {
                self.hubs.unsubscribe(session, &unsubscribe, at, fx);
            }
            _ => {}
        }
    }

    fn connect(&mut self, peer: &mut Peer, connect: &Connect<'_>, at: At, fx: &mut Effects) {
        let Peer::Stranger { chain } = peer else { return };
        let username = connect.login.map(|login| login.username.as_str()).unwrap_or_default();
        // Clients without a password send none, or an empty one.
        let password =
            connect.login.and_then(|login| login.password).filter(|password| !password.is_empty());
        match UserName::parse(username) {
            Some(UserName::Dps { id_scope, registration_id, api_version }) => {
                let strikes = fx.strike(Operation::DpsConnect, registration_id);
                if let Some(refusal) = strikes.refusal() {
                    return fx.deliver(Command::Refuse(refusal), &strikes, at);
                }
                let evidence = enrollment::Evidence { id_scope, registration_id, chain, password };
                match self.connect_dps(connect.client_id.as_str(), api_version, evidence, at) {
                    Ok(session) => {
                        fx.deliver(Command::Accept { session_present: false }, &strikes, at);
                        *peer = Peer::Dps(Box::new(session));
                    }
                    Err(fault) => refuse(connect, &fault, at, fx),
                }
            }
            Some(UserName::Hub { host, device_id, api_version }) => {
                let strikes = fx.strike(Operation::HubConnect, device_id);
                if let Some(refusal) = strikes.refusal() {
                    return fx.deliver(Command::Refuse(refusal), &strikes, at);
                }
                let evidence = admission::Evidence { host, chain, password };
                let whom = (device_id, api_version);
                match self.connect_hub(connect, whom, evidence, &strikes, at, fx) {
                    Ok(session) => *peer = Peer::Hub(Box::new(session)),
                    Err(refusal) => {
                        fx.command(at.connection, Command::Refuse(refusal.code()));
                        let (device_id, reason) = (device_id.into(), refusal.to_string());
                        fx.tell(CloudEvent::HubRefused { device_id, reason });
                    }
                }
            }
            None => {
                let fault = ConnectFault::UserName { username: username.into() };
                refuse(connect, &fault, at, fx);
            }
        }
    }

    fn connect_dps(
        &self,
        client_id: &str,
        api_version: &str,
        evidence: enrollment::Evidence<'_>,
        at: At,
    ) -> Result<dps::Session, ConnectFault> {
        let version = self.dps.api_version(api_version).cloned();
        let version =
            version.ok_or_else(|| ConnectFault::ApiVersion { version: api_version.into() })?;
        let id = evidence.registration_id;
        if RegistrationId::new(id).is_err() || !client_id.eq_ignore_ascii_case(id) {
            return Err(ConnectFault::RegistrationId { given: id.into() });
        }
        Ok(dps::Session::new(self.dps.identify(evidence, version, at.clock)))
    }

    fn connect_hub(
        &mut self,
        connect: &Connect<'_>,
        (device_id, api_version): (&str, &str),
        evidence: admission::Evidence<'_>,
        strikes: &Strikes,
        at: At,
        fx: &mut Effects,
    ) -> Result<hub::Session, HubRefusal> {
        let host = evidence.host;
        let hub =
            self.hubs.position(host).ok_or_else(|| HubRefusal::UnknownHub { host: host.into() })?;
        self.hubs
            .take_in(hub, at.clock.monotonic)
            .map_err(|retry_after| HubRefusal::Throttled { retry_after })?;
        let version = self.hubs.api_version(api_version).cloned();
        let version =
            version.ok_or_else(|| HubRefusal::ApiVersion { version: api_version.into() })?;
        let client_id = connect.client_id.as_str();
        if client_id != device_id {
            return Err(HubRefusal::ClientId { client_id: client_id.into() });
        }
        let key = DeviceKey { hub, device_id: device_id.into() };
        let admission = admission::admit(&key, evidence, &self.namespace, at.clock)?;
        Ok(self.hubs.connect(key, version, connect, (admission, strikes), at, fx))
    }

    pub(super) fn closed(
        &mut self,
        peer: &Peer,
        reason: &CloseReason,
        connection: ConnectionId,
        fx: &mut Effects,
    ) {
        if let Peer::Hub(session) = peer {
            self.hubs.closed(session, reason, connection, fx);
        }
    }

    pub(super) fn renewal_due(&mut self, key: &DeviceKey, clock: Clock, fx: &mut Effects) {
        self.hubs.renewal_due(key, &self.namespace, clock, fx);
    }
}

/// Refuses a CONNECT that is for no hub.
fn refuse(connect: &Connect<'_>, fault: &ConnectFault, at: At, fx: &mut Effects) {
    fx.command(at.connection, Command::Refuse(fault.code()));
    let (client_id, reason) = (connect.client_id.as_str().into(), fault.to_string());
    fx.tell(CloudEvent::ConnectRefused { client_id, reason });
}

/// The one filter of the provisioning service is granted, at `QoS` 1 at most.
fn subscribe_dps(session: &mut dps::Session, subscribe: &Subscribe<'_>) -> Vec<SubAckReturnCode> {
    let grant = |(filter, qos): (TopicFilter<'_>, QoS)| {
        if filter.as_str() != SUBSCRIPTION {
            return SubAckReturnCode::Failure;
        }
        let granted = qos.min(QoS::AtLeastOnce);
        session.set_subscription(Some(granted));
        SubAckReturnCode::Granted(granted)
    };
    subscribe.filters.iter().map(grant).collect()
}

/// What an operator does.
impl Services {
    pub(super) fn hub_names(&self) -> &[String] {
        self.hubs.names()
    }

    /// Opens the service API.
    pub(super) fn service_key(&self) -> &SymmetricKey {
        &self.service_key.get().0
    }

    pub(super) fn id_scope(&self) -> &str {
        self.dps.id_scope()
    }

    pub(super) fn enrollments(&self) -> &Enrollments {
        &self.dps.enrollments
    }

    /// The devices of one hub.
    pub(super) fn devices_of(&self, hub: usize) -> impl Iterator<Item = (&DeviceKey, &Device)> {
        self.namespace.registry.iter().filter(move |(key, _)| key.hub == hub)
    }

    /// Sets the time of day, forward or back; it goes on from there.
    pub(super) fn set_time(&mut self, time: UnixTime, clock: Clock, fx: &mut Effects) {
        self.time_of_day.set(time);
        self.hubs.wind(Clock { wall: time, ..clock }, fx);
    }

    /// All that is kept.
    pub(super) fn tables(&mut self) -> impl Iterator<Item = (&'static str, &mut dyn Kept)> {
        let dps = self.dps.tables().into_iter();
        let others = self.namespace.tables().into_iter().chain(self.hubs.tables());
        let made: &mut dyn Kept = &mut self.test_authorities;
        let service_key: &mut dyn Kept = &mut self.service_key;
        dps.chain(others).chain([
            ("testAuthorities", made),
            ("serviceKey", service_key),
            self.time_of_day.table(),
        ])
    }

    pub(super) fn devices(&self) -> impl Iterator<Item = DeviceRecord<'_>> {
        self.namespace.registry.iter().map(|(key, device)| DeviceRecord {
            registration_id: &device.registration_id,
            device_id: &key.device_id,
            hub: &self.hubs.names()[key.hub],
            uuid: &device.uuid,
            enabled: device.enabled,
            registrations: device.generation,
        })
    }

    /// All devices that have registered, or were entered.
    pub(super) fn registered(&self) -> impl Iterator<Item = (&DeviceKey, &Device)> {
        self.namespace.registry.iter()
    }

    /// Whether an enrolment has its devices' keys certified under a policy.
    pub(super) fn is_referenced(&self, policy: &str) -> bool {
        self.dps.enrollments.policies().any(|name| name == policy)
    }

    /// Ends the connection of a device, if it has one.
    pub(super) fn disconnect(&mut self, registration_id: &str, fx: &mut Effects) {
        if let Some(key) = self.namespace.registry.registration(registration_id) {
            self.hubs.disconnect(key, REVOKED, fx);
        }
    }

    /// Ends the connections of devices whose certificates are issued under a policy.
    pub(super) fn disconnect_policy(&mut self, policy: &str, fx: &mut Effects) {
        for (key, device) in self.namespace.registry.iter() {
            if matches!(&device.credential, HubCredential::Issued { policy: its } if its == policy)
            {
                self.hubs.disconnect(key, REVOKED, fx);
            }
        }
    }

    pub(super) fn revoke(
        &mut self,
        registration_id: &str,
        disable: bool,
        fx: &mut Effects,
    ) -> bool {
        let Some(device) = self.namespace.registry.device_mut(registration_id) else {
            return false;
        };
        device.identifier = uuid(&mut fx.rng);
        device.enabled &= !disable;
        self.disconnect(registration_id, fx);
        true
    }

    pub(super) fn update_desired(
        &mut self,
        registration_id: &str,
        patch: serde_json::Map<String, serde_json::Value>,
        fx: &mut Effects,
    ) -> Result<u64, TwinError> {
        let key = self.namespace.registry.registration(registration_id);
        self.hubs.desire(key.ok_or(TwinError::NoDevice)?, patch, fx)
    }

    pub(super) fn invoke_method(
        &self,
        registration_id: &str,
        call: (&str, &str),
        payload: &[u8],
        fx: &mut Effects,
    ) -> bool {
        let key = self.namespace.registry.registration(registration_id);
        key.is_some_and(|key| self.hubs.invoke(key, call, payload, fx))
    }

    pub(super) fn send_command(
        &mut self,
        registration_id: &str,
        properties: &[(&str, &str)],
        payload: &[u8],
        clock: Clock,
        fx: &mut Effects,
    ) -> Result<String, CommandError> {
        let registry = &self.namespace.registry;
        let key = registry.registration(registration_id);
        let key = key.filter(|key| registry.device(key).is_some()).ok_or(CommandError::NoDevice)?;
        self.hubs.send(key, properties, payload, clock, fx)
    }
}
