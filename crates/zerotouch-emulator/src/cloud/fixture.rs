//! What the emulated cloud contains when it starts.

mod enrollment;

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zerotouch_credentials::KeyAlgorithm;
use zerotouch_dps::{ConnectionProfile, IdError, IdScope, RegistrationId};

pub(super) use self::enrollment::Terms;
pub use self::enrollment::{
    Allocation, Attestation, CertificateAuthority, EnrollmentGroup, GroupAttestation,
    IndividualEnrollment, InitialTwin, Latency, Reprovision, SymmetricKeys, TpmKeys, Webhook,
};
use super::fault::{FaultError, FaultRule};
use super::text_form;

/// The emulated cloud's contents and manners. [`Fixture::default`] is what a laptop needs: the
/// symmetric-key group [`Fixture::DEFAULT_GROUP`] and the X.509 group [`Fixture::DEFAULT_X509_GROUP`], both
/// with the policy [`Fixture::DEFAULT_POLICY`], and a disabled individual enrolment,
/// [`Fixture::DISABLED_DEVICE`].
///
/// In a file, members bear the names they have here, in camelCase. What is left out is as in the default
/// fixture; times are written as in `30days` or `200ms`, keys in base64, certificates in PEM.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Fixture {
    /// The id scope of the provisioning service; default [`Fixture::DEFAULT_ID_SCOPE`].
    pub id_scope: String,
    /// Host names of the hubs, as devices dial them; default `["localhost"]`.
    pub hubs: Vec<String>,
    /// The algorithm of the namespace's authority, its root and its issuing authorities alike; default
    /// P-384, as the real one.
    #[serde(with = "text_form::one")]
    pub ca_algorithm: KeyAlgorithm,
    /// The namespace's credential policies.
    pub credential_policies: Vec<CredentialPolicy>,
    /// Authorities that enrolments refer to by name.
    pub certificate_authorities: Vec<CertificateAuthority>,
    /// Enrolment groups.
    pub enrollment_groups: Vec<EnrollmentGroup>,
    /// Individual enrolments; where one exists for an id, it alone decides.
    pub individual_enrollments: Vec<IndividualEnrollment>,
    /// How the provisioning service behaves.
    pub dps: DpsSettings,
    /// How the hubs behave.
    pub hub: HubSettings,
    /// What goes wrong.
    pub faults: Vec<FaultRule>,
}

/// A policy of the Azure Device Registry namespace: an issuing authority and what it issues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct CredentialPolicy {
    /// Its name, which enrolments refer to.
    pub name: String,
    /// How long a device certificate is good; default 30 days. The real service takes 7 to 90 days;
    /// here any time is taken, so that a test can see one expire.
    #[serde(with = "text_form::one")]
    pub leaf_validity: Duration,
    /// Whether the hubs were given the issuing authority's certificate; default yes. Forgetting it is
    /// the common mistake, and then the hubs refuse every certificate of the policy.
    pub synchronized: bool,
    /// Whether a root outside of the namespace signs its issuing authority; default no. Until it has, the
    /// policy certifies nothing.
    pub external_root: bool,
    /// Which keys are certified; default [`KeyPolicy::Permissive`].
    pub keys: KeyPolicy,
}

/// Which public keys a policy certifies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum KeyPolicy {
    /// P-256 and P-384, as the real service has been seen to do.
    #[default]
    Permissive,
    /// P-384 alone, as the documentation says.
    P384Only,
}

/// How the provisioning service behaves.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct DpsSettings {
    /// What `retry-after` says while a registration is under way, in whole seconds; default 3 s, as
    /// the real service.
    #[serde(with = "text_form::one")]
    pub retry_after: Duration,
    /// How long a registration takes at least; default none. The first answer is 202 even so.
    #[serde(with = "text_form::one")]
    pub assign_delay: Duration,
    /// How many registrations the service takes; default 1,000 a minute, more are refused with status 429.
    pub registrations: Quota,
    /// How often one device may ask how far its registration is; default 5 times in 10 s, and 429 as above.
    pub polls: Quota,
    /// The api-versions taken; others are refused at CONNECT.
    pub api_versions: Vec<DpsApiVersion>,
    /// Which protocol the hubs are said to speak, to those whose api-version tells; default classic, which
    /// is what these do.
    pub connection_profile: ConnectionProfile,
    /// How far the hubs are from devices. Of several for one hub the first counts that is for the device;
    /// a hub without any is farther than all others.
    pub latencies: Vec<Latency>,
}

/// So many in any period of that length; more are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Quota {
    /// How many.
    pub count: usize,
    /// In which time.
    #[serde(with = "text_form::one")]
    pub period: Duration,
}

/// An api-version of the provisioning service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DpsApiVersion {
    /// As in the user name.
    pub name: String,
    /// Whether a registration may carry `csr`.
    pub issues_certificates: bool,
    /// Whether an assignment tells the connection profile.
    pub tells_profile: bool,
}

/// How the hubs behave.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HubSettings {
    /// The api-versions taken; others are refused at CONNECT.
    pub api_versions: Vec<HubApiVersion>,
    /// How long a renewal takes from its 202 to its 200; default 200 ms.
    #[serde(with = "text_form::one")]
    pub issue_delay: Duration,
    /// How long a renewal is kept for a device that does not fetch it; default 12 h.
    #[serde(with = "text_form::one")]
    pub operation_expiry: Duration,
    /// How many connections each hub takes, whoever asks; more are refused with CONNACK 3. Default any
    /// number: what a real hub takes depends on its tier and units, and is 100 a second at least.
    pub connections: Option<Quota>,
}

/// An api-version of the hubs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HubApiVersion {
    /// As in the user name.
    pub name: String,
    /// Whether certificates can be renewed.
    pub renews_certificates: bool,
}

impl Fixture {
    /// The default id scope. Not of the real service's shape, so that none is mistaken for it.
    pub const DEFAULT_ID_SCOPE: &'static str = "0neEMULATOR";
    /// The default group.
    pub const DEFAULT_GROUP: &'static str = "default-group";
    /// The default group whose devices come with certificates.
    pub const DEFAULT_X509_GROUP: &'static str = "x509-group";
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
        if let Some(what) = self.nameless() {
            return Err(FixtureError::Nameless { what });
        }
        unique("hub", self.hubs.iter())?;
        unique("credential policy", self.credential_policies.iter().map(|p| &p.name))?;
        unique("enrolment group", self.enrollment_groups.iter().map(|g| &g.id))?;
        unique("enrolment", self.individual_enrollments.iter().map(|e| &e.registration_id))?;
        unique("CA", self.certificate_authorities.iter().map(|ca| &ca.name))?;
        for group in &self.enrollment_groups {
            self.check_terms(&group.id, group.terms(), group.ca_references())?;
        }
        for one in &self.individual_enrollments {
            RegistrationId::new(&one.registration_id)?;
            if let Some(id) = one.device_id.as_ref().filter(|id| !is_device_id(id)) {
                return Err(FixtureError::DeviceId { given: id.clone() });
            }
            self.check_terms(&one.registration_id, one.terms(), one.ca_references())?;
        }
        Ok(())
    }

    fn nameless(&self) -> Option<&'static str> {
        let policy = self.credential_policies.iter().find(|one| one.name.is_empty());
        let group = self.enrollment_groups.iter().find(|one| one.id.is_empty());
        policy.map(|_| "credential policy").or(group.map(|_| "enrolment group"))
    }

    fn check_terms(
        &self,
        enrollment: &str,
        terms: Terms<'_>,
        ca_references: &[String],
    ) -> Result<(), FixtureError> {
        let has_policy = |name: &str| self.credential_policies.iter().any(|p| p.name == name);
        terms.check(enrollment, has_policy, &self.hubs)?;
        let is_missing = |name: &&String| {
            self.certificate_authorities.iter().all(|authority| authority.name != **name)
        };
        match ca_references.iter().find(is_missing) {
            None => Ok(()),
            Some(name) => Err(FixtureError::Unknown {
                enrollment: enrollment.into(),
                what: "CA",
                name: name.clone(),
            }),
        }
    }
}

/// What a hub takes for a device's name, without the characters that MQTT topics give a meaning.
pub(super) fn is_device_id(text: &str) -> bool {
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
    /// A fault cannot be.
    #[error("a fault cannot be: {0}")]
    Fault(#[from] FaultError),
    /// There is no hub.
    #[error("there is no hub for devices to go to")]
    NoHub,
    /// Something has no name.
    #[error("there is a {what} without a name")]
    Nameless {
        /// What kind of thing.
        what: &'static str,
    },
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
    /// What an enrolment says cannot be done.
    #[error("enrolment {enrollment:?}: {fault}")]
    Terms {
        /// The enrolment.
        enrollment: String,
        /// Why not.
        fault: &'static str,
    },
}

impl Default for Fixture {
    fn default() -> Self {
        Self {
            id_scope: Self::DEFAULT_ID_SCOPE.into(),
            hubs: vec!["localhost".into()],
            ca_algorithm: KeyAlgorithm::EcdsaP384,
            credential_policies: vec![CredentialPolicy::new(Self::DEFAULT_POLICY)],
            certificate_authorities: Vec::new(),
            enrollment_groups: vec![
                EnrollmentGroup::symmetric(Self::DEFAULT_GROUP),
                EnrollmentGroup::x509(Self::DEFAULT_X509_GROUP, Vec::new()),
            ],
            individual_enrollments: vec![IndividualEnrollment {
                enabled: false,
                ..IndividualEnrollment::symmetric(Self::DISABLED_DEVICE)
            }],
            dps: DpsSettings::default(),
            hub: HubSettings::default(),
            faults: Vec::new(),
        }
    }
}

/// Without a name, which every one must have.
impl Default for CredentialPolicy {
    fn default() -> Self {
        Self::new("")
    }
}

impl CredentialPolicy {
    /// A policy with the defaults.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            leaf_validity: Duration::from_secs(30 * 24 * 60 * 60),
            synchronized: true,
            external_root: false,
            keys: KeyPolicy::default(),
        }
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
            latencies: Vec::new(),
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
            connections: None,
        }
    }
}
