//! What a device is told before it starts.

mod validate;

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::num::NonZeroU32;
use core::time::Duration;

use zerotouch_credentials::{Certificate, KeyAlgorithm, KeySlots, SymmetricKey};
use zerotouch_dps::{GLOBAL_HOST, IdScope, RegistrationId};
use zerotouch_hub::{DEFAULT_API_VERSION, RenewalConfig};
use zerotouch_mqtt_session::ClientConfig;
use zerotouch_time::{Now, UnixTime};

pub use self::validate::ConfigError;
use crate::{Failure, QueuePolicy, TlsIdentity};

/// MQTT over TLS.
const MQTTS_PORT: u16 = 8883;

/// How the device proves itself to the provisioning service.
#[derive(Debug)]
#[non_exhaustive]
pub enum Attestation {
    /// An individual key, or one derived from a group's key for this registration id.
    SymmetricKey(SymmetricKey),
    /// A certificate from the factory, shown in the TLS handshake.
    X509(TlsIdentity),
}

/// Everything a device is told. Public members have the defaults that [`Config::new`] states, and
/// [`Config::validate`] says whether they can work.
#[derive(Debug)]
pub struct Config {
    /// Host of the provisioning service; default [`GLOBAL_HOST`].
    pub provisioning_host: String,
    /// Its port; default 8883.
    pub provisioning_port: u16,
    /// Who registers where, and in which api-version.
    pub registration: zerotouch_dps::Config,
    /// The bootstrap credential.
    pub attestation: Attestation,
    /// Others, to be shown in turn where one is refused, such as an enrolment's secondary key; default
    /// none.
    pub other_attestations: Vec<Attestation>,
    /// The algorithm of new keys; default ECDSA on P-384, which every policy accepts.
    pub key_algorithm: KeyAlgorithm,
    /// Where new keys are made; default none, which is in this process's memory. Two places are enough:
    /// they take turns, and a previous certificate goes when its place is needed.
    pub key_slots: Option<Arc<dyn KeySlots>>,
    /// About hubs.
    pub hub: HubPolicy,
    /// About trying again.
    pub retry: RetryPolicy,
    /// About telemetry that cannot be sent yet.
    pub queue: QueuePolicy,
    /// About renewal.
    pub renewal: RenewalPolicy,
    /// Limits of the MQTT client.
    pub mqtt: ClientConfig,
    /// How long name resolution, TCP and TLS may take together; default 60 s.
    pub dial_timeout: Duration,
    /// How long a subscription that is waited for may take; default 60 s.
    pub subscribe_timeout: Duration,
    /// How long a farewell, and messages in flight before a change of certificate, may take;
    /// default 10 s.
    pub close_timeout: Duration,
    /// For how long a SAS token is valid; default 1 h. A connection with a hub that stands on one is made
    /// anew after four fifths of it.
    pub sas_lifetime: Duration,
}

impl Config {
    /// The defaults for this device.
    pub fn new(
        id_scope: IdScope,
        registration_id: RegistrationId,
        attestation: Attestation,
    ) -> Self {
        Self {
            provisioning_host: GLOBAL_HOST.to_owned(),
            provisioning_port: MQTTS_PORT,
            registration: zerotouch_dps::Config::new(id_scope, registration_id),
            attestation,
            other_attestations: Vec::new(),
            key_algorithm: KeyAlgorithm::EcdsaP384,
            key_slots: None,
            hub: HubPolicy::default(),
            retry: RetryPolicy::default(),
            queue: QueuePolicy::default(),
            renewal: RenewalPolicy::default(),
            mqtt: ClientConfig::default(),
            dial_timeout: Duration::from_secs(60),
            subscribe_timeout: Duration::from_secs(60),
            close_timeout: Duration::from_secs(10),
            sas_lifetime: Duration::from_secs(3600),
        }
    }
}

/// Seconds of keep-alive beyond which the hub does not believe a device (IoT Hub MQTT documentation).
pub(crate) const MAX_KEEP_ALIVE: u16 = 1177;

impl Config {
    /// The bootstrap credentials, in the order in which they are shown.
    pub(crate) fn attestation(&self, turn: usize) -> Option<&Attestation> {
        match turn.checked_sub(1) {
            None => Some(&self.attestation),
            Some(other) => self.other_attestations.get(other),
        }
    }

    /// What TLS presents with one of them.
    pub(crate) fn tls_identity(&self, turn: usize) -> Option<&TlsIdentity> {
        match self.attestation(turn)? {
            Attestation::X509(identity) => Some(identity),
            Attestation::SymmetricKey(_) => None,
        }
    }

    /// The key that signs tokens with one of them, and the last second of a token signed now.
    pub(crate) fn token_key(
        &self,
        turn: usize,
        now: Now,
    ) -> Result<Option<(&SymmetricKey, UnixTime)>, Failure> {
        match self.attestation(turn) {
            Some(Attestation::SymmetricKey(key)) => {
                Ok(Some((key, now.wall.ok_or(Failure::ClockUnset)? + self.sas_lifetime)))
            }
            _ => Ok(None),
        }
    }

    /// Whether certificates are asked for.
    pub(crate) fn wants_certificates(&self) -> bool {
        self.hub.credential == HubCredential::Issued
    }
}

/// What a device shows to its hub.
///
/// It is the same as what its enrolment says: a hub takes certificates from a device whose enrolment has
/// a credential policy, and the bootstrap credential from others. Where an enrolment is changed from one
/// to the other, the hub follows with the next registration, to which [`OnRefusal::Reprovision`] leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HubCredential {
    /// A certificate that is issued for it, and renewed. Without one the hub is not dialled.
    #[default]
    Issued,
    /// The credential that it shows to the provisioning service: the same certificate, or a token
    /// signed with the same key. No certificate is asked for, and one that is stored is not touched.
    Bootstrap,
}

/// What a device holds of hubs.
#[derive(Clone, Debug)]
pub struct HubPolicy {
    /// What is shown to a hub; default a certificate that is issued.
    pub credential: HubCredential,
    /// The port of every hub; default 8883.
    pub port: u16,
    /// The port of every hub's HTTPS, for uploads; default 443.
    pub https_port: u16,
    /// Which hubs an assignment may name; default the vendor's clouds.
    pub hosts: HubHosts,
    /// Default the first that renews certificates. Nothing is derived from the text.
    pub api_version: String,
    /// Whether to receive cloud-to-device messages; default yes.
    pub messages: bool,
    /// Whether to take calls of direct methods; default no. A call that nobody answers keeps its caller
    /// waiting.
    pub methods: bool,
    /// Whether to keep the twin; default no.
    pub twin: bool,
    /// The model that the device implements, as `dtmi:com:example:Thermostat;1`; default none.
    pub model_id: Option<String>,
    /// Seconds of silence after which the device pings; default 240, at most 1177 (the hub's ceiling).
    pub keep_alive: u16,
}

impl Default for HubPolicy {
    fn default() -> Self {
        Self {
            credential: HubCredential::default(),
            port: MQTTS_PORT,
            https_port: 443,
            hosts: HubHosts::default(),
            api_version: DEFAULT_API_VERSION.to_owned(),
            messages: true,
            methods: false,
            twin: false,
            model_id: None,
            keep_alive: 240,
        }
    }
}

/// The hosts a device may be sent to. The assignment decides where credentials and telemetry go, so a
/// service that was taken over, or a mistake, must not send them anywhere.
#[derive(Clone, Debug)]
pub struct HubHosts(Vec<String>);

impl HubHosts {
    /// Entries that begin with a dot allow every name below them, others themselves alone.
    pub fn new(entries: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(entries.into_iter().map(|entry| entry.into().to_ascii_lowercase()).collect())
    }

    /// Adds an entry.
    pub fn allow(&mut self, entry: &str) {
        self.0.push(entry.to_ascii_lowercase());
    }

    /// Is `host` a host name, or an address, that an entry allows?
    pub fn allows(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let well_formed = !host.is_empty()
            && !host.starts_with(['.', '-'])
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':'));
        well_formed
            && self.0.iter().any(|entry| match entry.strip_prefix('.') {
                Some(_) => host.len() > entry.len() && host.ends_with(entry.as_str()),
                None => host == *entry,
            })
    }
}

impl Default for HubHosts {
    /// The public cloud and its sovereign siblings.
    fn default() -> Self {
        Self::new(vec![".azure-devices.net", ".azure-devices.us", ".azure-devices.cn"])
    }
}

/// One ladder of delays: full jitter, uniform between zero and `initial` doubled with each failure up
/// to `cap`, above whatever delay the service asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first delay's upper end.
    pub initial: Duration,
    /// The last delay's upper end.
    pub cap: Duration,
}

impl Backoff {
    /// The same, but for delays that would be drawn from a smaller range than this.
    pub(crate) fn spread(self, least: Duration) -> Self {
        Self { initial: self.initial.max(least), cap: self.cap.max(least) }
    }
}

/// About trying again. Three ladders, because three things fail apart: the provisioning service, the
/// hub, and the belief that a credential is good.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// Default 1 s to 60 s.
    pub dps: Backoff,
    /// Default 1 s to 60 s.
    pub hub: Backoff,
    /// For refused credentials and what only a person can mend; default 5 min to 1 h.
    pub identity: Backoff,
    /// How many failures in a row end the device's efforts; default none, it tries for ever.
    pub max_attempts: Option<NonZeroU32>,
    /// What to do when the hub has refused every certificate the device has; default
    /// [`OnRefusal::RetryHub`].
    pub on_refusal: OnRefusal,
    /// After how many failures in a row to connect to its hub, of whatever kind, the device provisions
    /// anew; default 50.
    pub failures_before_provisioning: u32,
    /// The least range from which the wait before a connection is drawn, the first one and each after a
    /// failure, for a fleet that loses its power or its hub in one instant: of N devices about N divided
    /// by this come in a second. Default none: a device by itself comes back as soon as it can.
    pub connect_spread: Duration,
}

/// What to do when the hub has refused every certificate the device has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnRefusal {
    /// Show them again, slowly: the hub does not say whether a device was disabled, moved or revoked. A
    /// refusal in TLS is of the certificate itself, and leads to the provisioning service.
    #[default]
    RetryHub,
    /// Provision anew, slowly.
    Reprovision,
    /// End.
    Stop,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        let network = Backoff { initial: Duration::from_secs(1), cap: Duration::from_secs(60) };
        let identity =
            Backoff { initial: Duration::from_secs(300), cap: Duration::from_secs(3600) };
        Self {
            dps: network,
            hub: network,
            identity,
            max_attempts: None,
            on_refusal: OnRefusal::default(),
            failures_before_provisioning: 50,
            connect_spread: Duration::ZERO,
        }
    }
}

/// When a certificate is renewed.
#[derive(Clone, Debug)]
pub struct RenewalPolicy {
    /// Whether the device renews by itself; default yes. Without it, the application does, by
    /// [`Device::renew`](crate::Device::renew).
    pub automatic: bool,
    /// After which part of its life a certificate is renewed, in percent; default 67.
    pub at_percent: u8,
    /// By how much that may come earlier, in percent of its life; default 10. Which part of that is
    /// drawn for each certificate and stays, so that a fleet that was certified in one minute does not
    /// renew in one.
    pub spread_percent: u8,
    /// After which part of its life the application is told that a certificate comes to its end, in
    /// percent; default 90.
    pub announce_percent: u8,
    /// Whether the new certificate is for the same key; default no.
    pub same_key: bool,
    /// The delays after failures; default 1 min to 6 h. A cap of more than 4 % of the certificate's life
    /// counts as that much.
    pub backoff: Backoff,
    /// About the request to the hub.
    pub hub: RenewalConfig,
}

impl Default for RenewalPolicy {
    fn default() -> Self {
        Self {
            automatic: true,
            at_percent: 67,
            spread_percent: 10,
            announce_percent: 90,
            same_key: false,
            backoff: Backoff {
                initial: Duration::from_secs(60),
                cap: Duration::from_secs(6 * 3600),
            },
            hub: RenewalConfig::default(),
        }
    }
}

impl RenewalPolicy {
    /// When this certificate is to be renewed. The draw is from its thumbprint, which is as good as random
    /// and the same after a restart.
    pub fn due(&self, certificate: &Certificate) -> UnixTime {
        let thumbprint = certificate.thumbprint();
        let drawn = thumbprint.as_bytes().iter().take(4).fold(0, |n, b| n << 8 | u64::from(*b));
        let lifetime = lifetime(certificate);
        let percent = |percent: u8| lifetime / 100 * u32::from(percent);
        let earlier = percent(self.spread_percent).as_secs();
        // Of 32 bits, and of less than 2^64 seconds.
        let drawn = (u128::from(earlier) * u128::from(drawn)) >> 32;
        let earlier = Duration::from_secs(u64::try_from(drawn).unwrap_or(earlier));
        certificate.not_before() + percent(self.at_percent).saturating_sub(earlier)
    }

    /// When the application is told that this certificate comes to its end.
    pub fn announce(&self, certificate: &Certificate) -> UnixTime {
        certificate.not_before() + lifetime(certificate) / 100 * u32::from(self.announce_percent)
    }

    /// The delays while this certificate is in use.
    pub(crate) fn backoff(&self, certificate: Option<&Certificate>) -> Backoff {
        let Backoff { initial, cap } = self.backoff;
        let share = certificate.map_or(cap, |certificate| lifetime(certificate) / 25);
        let cap = cap.min(share).max(Duration::from_secs(1));
        Backoff { initial: initial.min(cap), cap }
    }
}

pub(crate) fn lifetime(certificate: &Certificate) -> Duration {
    certificate.not_after().since(certificate.not_before())
}

#[cfg(test)]
mod tests {
    use super::*;

    // The assignment decides where credentials go.
    #[test]
    fn hubs_are_matched_whole() {
        let mut hosts = HubHosts::default();
        for good in
            ["contoso.azure-devices.net", "CONTOSO.Azure-Devices.NET", "a.b.azure-devices.cn"]
        {
            assert!(hosts.allows(good), "{good}");
        }
        for bad in [
            "",
            "azure-devices.net",
            ".azure-devices.net",
            "evilazure-devices.net",
            "x.azure-devices.net.evil.org",
            "evil.org/.azure-devices.net",
            "evil.org#.azure-devices.net",
            "a b.azure-devices.net",
            "localhost",
            "-x.azure-devices.net",
        ] {
            assert!(!hosts.allows(bad), "{bad}");
        }
        hosts.allow("localhost");
        assert!(hosts.allows("LOCALHOST") && !hosts.allows("a.localhost"));
    }
}
