//! Who may register: enrolments and the proofs they ask for.
//!
//! An individual enrolment for the id decides alone. Otherwise groups are asked: for a token those
//! with keys, for a certificate those with authorities. The first that takes the proof decides, and
//! if it is disabled, the device is refused (Azure docs, "X.509 certificate attestation").

use std::time::Duration;

use base64ct::{Base64, Encoding};
use chacha20::ChaCha20Rng;
use zerotouch_credentials::{
    Certificate, CertificateChain, ChainPolicy, KeyError, SasClaims, SasError, SymmetricKey,
    Thumbprint,
};

use super::clock::Clock;
use super::fixture::{
    Attestation, EnrollmentGroup, GroupAttestation, IndividualEnrollment, SymmetricKeys,
};
use super::refusal::DpsRefusal;
use super::table::{Kept, Table};

/// How far a token's expiry may have passed, for devices whose clock is slow.
pub(super) const SAS_SKEW: Duration = Duration::from_secs(300);

/// All enrolments of the service.
#[derive(Debug)]
pub(super) struct Enrollments {
    groups: Table<String, EnrollmentGroup>,
    /// By registration id in lower case, as ids are compared without regard to it.
    individuals: Table<String, IndividualEnrollment>,
}

/// What a device shows when it connects.
#[derive(Clone, Copy)]
pub(super) struct Evidence<'a> {
    pub(super) id_scope: &'a str,
    /// As given; keys are derived from it to the letter.
    pub(super) registration_id: &'a str,
    /// DER, leaf first; TLS has proved that the device holds the leaf's key.
    pub(super) chain: &'a [Vec<u8>],
    pub(super) password: Option<&'a [u8]>,
}

/// A device that an enrolment has taken.
#[derive(Debug)]
pub(super) struct Attested {
    pub(super) enrollment: EnrollmentName,
    pub(super) enabled: bool,
    pub(super) device_id: String,
    pub(super) policy: Option<String>,
    pub(super) hub: Option<String>,
    pub(super) proof: Proof,
}

/// Which enrolment has taken a device.
#[derive(Clone, Debug)]
pub(super) enum EnrollmentName {
    Group(String),
    Individual(String),
}

impl EnrollmentName {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Group(name) | Self::Individual(name) => name,
        }
    }

    pub(super) fn group(&self) -> Option<&str> {
        match self {
            Self::Group(name) => Some(name),
            Self::Individual(_) => None,
        }
    }
}

/// By what a device has proved who it is; without an issued certificate it is its credential at the
/// hub, too.
#[derive(Debug)]
pub(super) enum Proof {
    /// All keys of the enrolment, of which the device has shown one.
    Keys(SymmetricKeys),
    Certificate(Thumbprint),
}

impl Enrollments {
    /// Takes the fixture's enrolments and draws the keys it leaves open.
    pub(super) fn new(
        mut groups: Vec<EnrollmentGroup>,
        individuals: Vec<IndividualEnrollment>,
        rng: &mut ChaCha20Rng,
    ) -> Result<Self, KeyError> {
        for group in &mut groups {
            if let GroupAttestation::SymmetricKeys(keys) = &mut group.attestation {
                complete(keys, rng)?;
            }
        }
        // An individual enrolment for a device of a group: as an owner makes one to treat that device
        // apart, its key stays the one it was shipped with.
        let group = groups.iter().find_map(|group| match &group.attestation {
            GroupAttestation::SymmetricKeys(keys) => Some(keys),
            GroupAttestation::X509 { .. } => None,
        });
        let mut by_id = Table::default();
        for mut individual in individuals {
            if let Attestation::SymmetricKeys(keys) = &mut individual.attestation {
                if let Some(group) = group {
                    inherit(keys, group, &individual.registration_id);
                }
                complete(keys, rng)?;
            }
            by_id.insert(individual.registration_id.to_ascii_lowercase(), individual);
        }
        let groups = groups.into_iter().map(|group| (group.id.clone(), group)).collect();
        Ok(Self { groups, individuals: by_id })
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = &EnrollmentGroup> {
        self.groups.values()
    }

    pub(super) fn group(&self, id: &str) -> Option<&EnrollmentGroup> {
        self.groups.get(id)
    }

    /// The policies that enrolments name.
    pub(super) fn policies(&self) -> impl Iterator<Item = &String> {
        let groups = self.groups.values().filter_map(|one| one.credential_policy.as_ref());
        groups.chain(self.individuals.values().filter_map(|one| one.credential_policy.as_ref()))
    }

    pub(super) fn tables(&mut self) -> [(&'static str, &mut dyn Kept); 2] {
        [("groups", &mut self.groups), ("individuals", &mut self.individuals)]
    }

    pub(super) fn individual(&self, registration_id: &str) -> Option<&IndividualEnrollment> {
        self.individuals.get(&registration_id.to_ascii_lowercase())
    }

    /// Finds the enrolment that decides about a device, and has it check the proof.
    pub(super) fn attest(
        &self,
        evidence: Evidence<'_>,
        clock: Clock,
    ) -> Result<Attested, DpsRefusal> {
        if let Some(enrollment) = self.individual(evidence.registration_id) {
            return attest_individual(enrollment, evidence, clock);
        }
        match (evidence.password, evidence.chain) {
            (Some(_), _) => self.attest_by_key(evidence, clock),
            (None, [_, ..]) => self.attest_by_certificate(evidence, clock),
            (None, []) => Err(DpsRefusal::NoCredential),
        }
    }

    fn attest_by_key(&self, evidence: Evidence<'_>, clock: Clock) -> Result<Attested, DpsRefusal> {
        let mut refusal = DpsRefusal::NoEnrollment;
        for group in self.groups.values() {
            let GroupAttestation::SymmetricKeys(keys) = &group.attestation else { continue };
            let keys = keys.derive(evidence.registration_id);
            match verify_token(evidence, &keys, clock) {
                Ok(()) => return Ok(taken_by_group(group, evidence, Proof::Keys(keys))),
                Err(DpsRefusal::Token(SasError::SignatureMismatch)) => {
                    refusal = DpsRefusal::GroupKey;
                }
                // What is wrong with the token itself is wrong for every key.
                Err(other) => return Err(other),
            }
        }
        Err(refusal)
    }

    fn attest_by_certificate(
        &self,
        evidence: Evidence<'_>,
        clock: Clock,
    ) -> Result<Attested, DpsRefusal> {
        let leaf = read_leaf(evidence.chain)?;
        let mut refusal = DpsRefusal::NoEnrollment;
        for group in self.groups.values() {
            let GroupAttestation::X509 { authorities } = &group.attestation else { continue };
            for anchor in authorities {
                let policy = ChainPolicy {
                    now: Some(clock.wall),
                    anchor: Some(anchor),
                    ..ChainPolicy::new(leaf.public_key(), evidence.registration_id)
                };
                let chain = evidence.chain.iter().map(|der| Base64::encode_string(der));
                match CertificateChain::accept(chain, &policy) {
                    Ok(_) => {
                        let proof = Proof::Certificate(leaf.thumbprint());
                        return Ok(taken_by_group(group, evidence, proof));
                    }
                    Err(error) => refusal = DpsRefusal::Certificate(error),
                }
            }
        }
        Err(refusal)
    }
}

fn attest_individual(
    enrollment: &IndividualEnrollment,
    evidence: Evidence<'_>,
    clock: Clock,
) -> Result<Attested, DpsRefusal> {
    let name = || enrollment.registration_id.clone();
    let proof = match &enrollment.attestation {
        Attestation::SymmetricKeys(keys) => {
            verify_token(evidence, keys, clock).map_err(|refusal| match refusal {
                DpsRefusal::Token(SasError::SignatureMismatch) => {
                    DpsRefusal::Key { enrollment: name() }
                }
                other => other,
            })?;
            Proof::Keys(keys.copy())
        }
        Attestation::X509 { certificates } => {
            let leaf = read_leaf(evidence.chain)?;
            if certificates.iter().all(|known| known.as_der() != leaf.as_der()) {
                return Err(DpsRefusal::OtherCertificate { enrollment: name() });
            }
            let current = (leaf.not_before()..=leaf.not_after()).contains(&clock.wall);
            if !current || leaf.common_name() != Some(evidence.registration_id) {
                return Err(DpsRefusal::CertificateNameOrDates);
            }
            Proof::Certificate(leaf.thumbprint())
        }
    };
    Ok(Attested {
        enrollment: EnrollmentName::Individual(name()),
        enabled: enrollment.enabled,
        device_id: enrollment.device_id.clone().unwrap_or_else(name),
        policy: enrollment.credential_policy.clone(),
        hub: enrollment.hub.clone(),
        proof,
    })
}

fn taken_by_group(group: &EnrollmentGroup, evidence: Evidence<'_>, proof: Proof) -> Attested {
    Attested {
        enrollment: EnrollmentName::Group(group.id.clone()),
        enabled: group.enabled,
        device_id: evidence.registration_id.into(),
        policy: group.credential_policy.clone(),
        hub: group.hub.clone(),
        proof,
    }
}

fn read_leaf(chain: &[Vec<u8>]) -> Result<Certificate, DpsRefusal> {
    let leaf = chain.first().ok_or(DpsRefusal::NoCredential)?;
    Certificate::from_der(leaf).map_err(|_| DpsRefusal::UnreadableCertificate)
}

fn verify_token(
    evidence: Evidence<'_>,
    keys: &SymmetricKeys,
    clock: Clock,
) -> Result<(), DpsRefusal> {
    let token = evidence.password.ok_or(DpsRefusal::NoCredential)?;
    let token = std::str::from_utf8(token).map_err(|_| SasError::Scheme)?;
    let claims = SasClaims::parse(token)?;
    let resource = [evidence.id_scope, "/registrations/", evidence.registration_id].concat();
    if !claims.is_for(&resource) {
        return Err(DpsRefusal::TokenResource { resource: claims.resource().into() });
    }
    // The documentation wants `skn=registration`; the vendor's Python client leaves it out.
    if claims.key_name().is_some_and(|name| name != "registration") {
        return Err(DpsRefusal::TokenKeyName);
    }
    Ok(keys.verify(&claims, clock)?)
}

/// Derives the keys that are not given from the group's.
fn inherit(keys: &mut SymmetricKeys, group: &SymmetricKeys, registration_id: &str) {
    let derived = group.derive(registration_id);
    keys.primary = keys.primary.take().or(derived.primary);
    keys.secondary = keys.secondary.take().or(derived.secondary);
}

fn complete(keys: &mut SymmetricKeys, rng: &mut ChaCha20Rng) -> Result<(), KeyError> {
    for key in [&mut keys.primary, &mut keys.secondary] {
        if key.is_none() {
            *key = Some(SymmetricKey::generate(rng)?);
        }
    }
    Ok(())
}

impl SymmetricKeys {
    pub(super) fn iter(&self) -> impl Iterator<Item = &SymmetricKey> {
        [&self.primary, &self.secondary].into_iter().flatten()
    }

    /// Checks a token against each; what is wrong with the one it is signed with counts.
    pub(super) fn verify(&self, claims: &SasClaims<'_>, clock: Clock) -> Result<(), SasError> {
        self.iter()
            .map(|key| claims.verify(key, clock.wall, SAS_SKEW))
            .find(|outcome| *outcome != Err(SasError::SignatureMismatch))
            .unwrap_or(Err(SasError::SignatureMismatch))
    }

    fn derive(&self, registration_id: &str) -> Self {
        let derived = |key: &Option<SymmetricKey>| Some(key.as_ref()?.derive(registration_id));
        Self { primary: derived(&self.primary), secondary: derived(&self.secondary) }
    }

    /// Keys are not `Clone`, so that no copy is made unawares; the hub needs one of its own.
    pub(super) fn copy(&self) -> Self {
        let copied = |key: &Option<SymmetricKey>| {
            key.as_ref().and_then(|key| SymmetricKey::from_base64(&key.to_base64()).ok())
        };
        Self { primary: copied(&self.primary), secondary: copied(&self.secondary) }
    }
}
