//! What the emulated cloud contains when it starts.

use std::collections::BTreeSet;
use std::time::Duration;

use zerotouch_credentials::{Certificate, KeyAlgorithm, SymmetricKey};
use zerotouch_dps::{ConnectionProfile, IdError, IdScope, RegistrationId};

/// The emulated cloud's contents and manners. [`Fixture::default`] is what a laptop needs: the
/// symmetric-key group [`Fixture::DEFAULT_GROUP`] with the policy [`Fixture::DEFAULT_POLICY`], and a
/// disabled individual enrolment, [`Fixture::DISABLED_DEVICE`].
#[derive(Debug)]
pub struct Fixture {
    /// The id scope of the provisioning service; default [`Fixture::DEFAULT_ID_SCOPE`].
    pub id_scope: String,
    /// Host names of the hubs, as devices dial them; default `["localhost"]`.
    pub hubs: Vec<String>,
    /// The algorithm of the namespace's authority, its root and its issuing authorities alike; default
    /// P-384, as the real one.
    pub ca_algorithm: KeyAlgorithm,
    /// The namespace's credential policies.
    pub credential_policies: Vec<CredentialPolicy>,
    /// Enrolment groups, asked in this order.
    pub enrollment_groups: Vec<EnrollmentGroup>,
    /// Individual enrolments; where one exists for an id, it alone decides.
    pub individual_enrollments: Vec<IndividualEnrollment>,
    /// How the provisioning service behaves.
    pub dps: DpsSettings,
    /// How the hubs behave.
    pub hub: HubSettings,
}

/// A policy of the Azure Device Registry namespace: an issuing authority and what it issues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialPolicy {
    /// Its name, which enrolments refer to.
    pub name: String,
    /// How long a device certificate is good; default 30 days. The real service takes 7 to 90 days;
    /// here any time is taken, so that a test can see one expire.
    pub leaf_validity: Duration,
    /// Whether the hubs were given the issuing authority's certificate; default yes. Forgetting it is
    /// the common mistake, and then the hubs refuse every certificate of the policy.
    pub synchronized: bool,
    /// Which keys are certified; default [`KeyPolicy::Permissive`].
    pub keys: KeyPolicy,
}

/// Which public keys a policy certifies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyPolicy {
    /// P-256 and P-384, as the real service has been seen to do.
    #[default]
    Permissive,
    /// P-384 alone, as the documentation says.
    P384Only,
}

/// Two keys of one enrolment, either of which opens it. A group's key that is not given is drawn from
/// the cloud's random numbers; an individual enrolment's is derived from the first symmetric-key
/// group's, as that device would have it, or drawn where there is no such group.
#[derive(Debug, Default)]
pub struct SymmetricKeys {
    /// The first key.
    pub primary: Option<SymmetricKey>,
    /// The second key, there to be changed without interruption.
    pub secondary: Option<SymmetricKey>,
}

/// How the devices of a group prove who they are.
#[derive(Debug)]
#[non_exhaustive]
pub enum GroupAttestation {
    /// Each by a key derived from the group's.
    SymmetricKeys(SymmetricKeys),
    /// Each by a certificate under one of these authorities, its common name the registration id.
    X509 {
        /// Root or intermediate authorities (ECDSA P-256 or P-384).
        authorities: Vec<Certificate>,
    },
}

/// How the device of an individual enrolment proves who it is.
#[derive(Debug)]
#[non_exhaustive]
pub enum Attestation {
    /// By one of the enrolment's keys.
    SymmetricKeys(SymmetricKeys),
    /// By exactly one of these certificates.
    X509 {
        /// The primary and perhaps a secondary certificate.
        certificates: Vec<Certificate>,
    },
}

/// An enrolment of many devices.
#[derive(Debug)]
pub struct EnrollmentGroup {
    /// Its name.
    pub id: String,
    /// How its devices prove who they are.
    pub attestation: GroupAttestation,
    /// A disabled group refuses its devices.
    pub enabled: bool,
    /// The policy that certifies its devices' keys; without one they get no certificate.
    pub credential_policy: Option<String>,
    /// The one hub its devices go to; without one they are spread by a hash of their id.
    pub hub: Option<String>,
}

/// An enrolment of one device.
#[derive(Debug)]
pub struct IndividualEnrollment {
    /// The registration id.
    pub registration_id: String,
    /// The device's name at its hub, if it is not the registration id.
    pub device_id: Option<String>,
    /// How it proves who it is.
    pub attestation: Attestation,
    /// A disabled enrolment refuses its device.
    pub enabled: bool,
    /// The policy that certifies its key; without one it gets no certificate.
    pub credential_policy: Option<String>,
    /// The one hub it goes to; without one a hash of its id decides.
    pub hub: Option<String>,
}

/// How the provisioning service behaves.
#[derive(Clone, Debug)]
pub struct DpsSettings {
    /// What `retry-after` says while a registration is under way, in whole seconds; default 3 s, as
    /// the real service.
    pub retry_after: Duration,
    /// How long a registration takes at least; default none. The first answer is 202 even so.
    pub assign_delay: Duration,
    /// How many registrations the service takes; default 1,000 a minute.
    pub registrations: Quota,
    /// How often one device may ask how far its registration is; default 5 times in 10 s.
    pub polls: Quota,
    /// The api-versions taken; others are refused at CONNECT.
    pub api_versions: Vec<DpsApiVersion>,
    /// Which protocol the hubs are said to speak, to those whose api-version tells; default classic, which
    /// is what these do.
    pub connection_profile: ConnectionProfile,
}

/// So many in any period of that length; more are refused with status 429.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// How many.
    pub count: usize,
    /// In which time.
    pub period: Duration,
}

/// An api-version of the provisioning service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DpsApiVersion {
    /// As in the user name.
    pub name: String,
    /// Whether a registration may carry `csr`.
    pub issues_certificates: bool,
    /// Whether an assignment tells the connection profile.
    pub tells_profile: bool,
}

/// How the hubs behave.
#[derive(Clone, Debug)]
pub struct HubSettings {
    /// The api-versions taken; others are refused at CONNECT.
    pub api_versions: Vec<HubApiVersion>,
    /// How long a renewal takes from its 202 to its 200; default 200 ms.
    pub issue_delay: Duration,
    /// How long a renewal is kept for a device that does not fetch it; default 12 h.
    pub operation_expiry: Duration,
    /// Which error codes renewals answer with; default those last recorded.
    pub error_codes: ErrorCodes,
    /// Whether answers to renewals carry `&$version=1` after the request id; default no.
    pub version_suffix: bool,
    /// Whether certificates come as a bare JSON array, as one preview SDK expects; default no.
    pub bare_array: bool,
}

/// An api-version of the hubs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubApiVersion {
    /// As in the user name.
    pub name: String,
    /// Whether certificates can be renewed.
    pub renews_certificates: bool,
}

/// The service's error codes for renewals have changed between two published descriptions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorCodes {
    /// Seen in a run against the service in January 2026: 400037, 409004.
    #[default]
    Recorded,
    /// As in the SDKs' tables and documentation: 400040, 409005.
    Documented,
}

impl Fixture {
    /// The default id scope. Not of the real service's shape, so that none is mistaken for it.
    pub const DEFAULT_ID_SCOPE: &'static str = "0neEMULATOR";
    /// The default group.
    pub const DEFAULT_GROUP: &'static str = "default-group";
    /// The default credential policy.
    pub const DEFAULT_POLICY: &'static str = "default";
    /// The registration id of the default fixture's disabled enrolment.
    pub const DISABLED_DEVICE: &'static str = "disabled-device";

    /// Checks that names are legal, unique and refer to something.
    pub(super) fn check(&self) -> Result<(), FixtureError> {
        IdScope::new(&self.id_scope)?;
        if self.hubs.is_empty() {
            return Err(FixtureError::NoHub);
        }
        unique("hub", self.hubs.iter())?;
        unique("credential policy", self.credential_policies.iter().map(|p| &p.name))?;
        unique("enrolment group", self.enrollment_groups.iter().map(|g| &g.id))?;
        unique("enrolment", self.individual_enrollments.iter().map(|e| &e.registration_id))?;
        for group in &self.enrollment_groups {
            self.check_references(&group.id, group.credential_policy.as_ref(), group.hub.as_ref())?;
        }
        for one in &self.individual_enrollments {
            RegistrationId::new(&one.registration_id)?;
            if let Some(id) = one.device_id.as_ref().filter(|id| !is_device_id(id)) {
                return Err(FixtureError::DeviceId { given: id.clone() });
            }
            let (policy, hub) = (one.credential_policy.as_ref(), one.hub.as_ref());
            self.check_references(&one.registration_id, policy, hub)?;
        }
        Ok(())
    }

    fn check_references(
        &self,
        enrollment: &str,
        policy: Option<&String>,
        hub: Option<&String>,
    ) -> Result<(), FixtureError> {
        let missing = |what, name: &String| {
            Err(FixtureError::Unknown { enrollment: enrollment.into(), what, name: name.clone() })
        };
        match (policy, hub) {
            (Some(name), _) if self.credential_policies.iter().all(|p| p.name != *name) => {
                missing("credential policy", name)
            }
            (_, Some(name)) if !self.hubs.contains(name) => missing("hub", name),
            _ => Ok(()),
        }
    }
}

/// What a hub takes for a device's name, without the characters that MQTT topics give a meaning.
fn is_device_id(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-.%_*?!(),:=@$'".contains(&byte);
    (1..=128).contains(&text.len()) && text.bytes().all(legal)
}

fn unique<'a>(
    what: &'static str,
    mut names: impl Iterator<Item = &'a String>,
) -> Result<(), FixtureError> {
    let mut seen = BTreeSet::new();
    match names.find(|name| !seen.insert(name.to_ascii_lowercase())) {
        Some(name) => Err(FixtureError::Twice { what, name: name.clone() }),
        None => Ok(()),
    }
}

/// Why a fixture describes no cloud.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FixtureError {
    /// An identifier is not one.
    #[error(transparent)]
    Id(#[from] IdError),
    /// A device id is empty, too long, or holds a character that does not belong there.
    #[error("{given:?} is no device id: 1 to 128 letters, digits and -.%_*?!(),:=@$'")]
    DeviceId {
        /// What it says.
        given: String,
    },
    /// There is no hub.
    #[error("there is no hub for devices to go to")]
    NoHub,
    /// Two things have one name; case is not looked at.
    #[error("there are two {what}s called {name:?}")]
    Twice {
        /// What kind of thing.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// An enrolment names something that does not exist.
    #[error("enrolment {enrollment:?} names the {what} {name:?}, which does not exist")]
    Unknown {
        /// The enrolment.
        enrollment: String,
        /// What kind of thing it names.
        what: &'static str,
        /// By which name.
        name: String,
    },
}

impl Default for Fixture {
    fn default() -> Self {
        Self {
            id_scope: Self::DEFAULT_ID_SCOPE.into(),
            hubs: vec!["localhost".into()],
            ca_algorithm: KeyAlgorithm::EcdsaP384,
            credential_policies: vec![CredentialPolicy::new(Self::DEFAULT_POLICY)],
            enrollment_groups: vec![EnrollmentGroup::symmetric(Self::DEFAULT_GROUP)],
            individual_enrollments: vec![IndividualEnrollment {
                enabled: false,
                ..IndividualEnrollment::symmetric(Self::DISABLED_DEVICE)
            }],
            dps: DpsSettings::default(),
            hub: HubSettings::default(),
        }
    }
}

impl CredentialPolicy {
    /// A policy with the defaults.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            leaf_validity: Duration::from_secs(30 * 24 * 60 * 60),
            synchronized: true,
            keys: KeyPolicy::default(),
        }
    }
}

impl EnrollmentGroup {
    /// An enabled group with keys to be drawn and the default policy.
    pub fn symmetric(id: &str) -> Self {
        Self {
            id: id.into(),
            attestation: GroupAttestation::SymmetricKeys(SymmetricKeys::default()),
            enabled: true,
            credential_policy: Some(Fixture::DEFAULT_POLICY.into()),
            hub: None,
        }
    }

    /// An enabled group whose devices have certificates under `authorities`, with the default policy.
    pub fn x509(id: &str, authorities: Vec<Certificate>) -> Self {
        Self { attestation: GroupAttestation::X509 { authorities }, ..Self::symmetric(id) }
    }
}

impl IndividualEnrollment {
    /// An enabled enrolment with keys to be drawn and the default policy.
    pub fn symmetric(registration_id: &str) -> Self {
        Self {
            registration_id: registration_id.into(),
            device_id: None,
            attestation: Attestation::SymmetricKeys(SymmetricKeys::default()),
            enabled: true,
            credential_policy: Some(Fixture::DEFAULT_POLICY.into()),
            hub: None,
        }
    }

    /// An enabled enrolment of the device that has one of `certificates`, with the default policy.
    pub fn x509(registration_id: &str, certificates: Vec<Certificate>) -> Self {
        Self { attestation: Attestation::X509 { certificates }, ..Self::symmetric(registration_id) }
    }
}

impl Default for DpsSettings {
    fn default() -> Self {
        let version = |name: &str, issues_certificates, tells_profile| DpsApiVersion {
            name: name.into(),
            issues_certificates,
            tells_profile,
        };
        Self {
            retry_after: Duration::from_secs(3),
            assign_delay: Duration::ZERO,
            registrations: Quota { count: 1000, period: Duration::from_secs(60) },
            polls: Quota { count: 5, period: Duration::from_secs(10) },
            api_versions: vec![
                version("2018-11-01", false, false),
                version("2019-01-15", false, false),
                version("2019-03-31", false, false),
                version("2021-06-01", false, false),
                version("2021-10-01", false, false),
                version("2025-07-01-preview", true, false),
                version("2026-11-01", true, true),
                version("2026-11-02-preview", true, true),
            ],
            connection_profile: ConnectionProfile::Classic,
        }
    }
}

impl Default for HubSettings {
    fn default() -> Self {
        const WITHOUT_RENEWAL: [&str; 9] = [
            "2016-11-14",
            "2018-06-30",
            "2019-03-30",
            "2019-10-01",
            "2020-03-13",
            "2020-05-31-preview",
            "2020-09-30",
            "2021-04-12",
            "2021-06-30-preview",
        ];
        let mut api_versions: Vec<_> = WITHOUT_RENEWAL
            .map(|name| HubApiVersion { name: name.into(), renews_certificates: false })
            .into();
        api_versions.push(HubApiVersion {
            name: zerotouch_hub::DEFAULT_API_VERSION.into(),
            renews_certificates: true,
        });
        Self {
            api_versions,
            issue_delay: Duration::from_millis(200),
            operation_expiry: Duration::from_secs(12 * 60 * 60),
            error_codes: ErrorCodes::default(),
            version_suffix: false,
            bare_array: false,
        }
    }
}
