//! Who may register: enrolments and the proofs they ask for.
//!
//! An individual enrolment for the id decides alone. Otherwise groups are asked: for a token those
//! with keys, for a certificate those with authorities, from the leaf's issuer upwards. The first that
//! takes the proof decides, and if it is disabled, the device is refused (Azure docs, "X.509 certificate
//! attestation").

use std::time::Duration;

use chacha20::ChaCha20Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zerotouch_credentials::{
    Certificate, CertificateChain, ChainError, ChainPolicy, KeyError, SasClaims, SasError,
    SymmetricKey,
};
use zerotouch_time::UnixTime;

use super::clock::Clock;
use super::fixture::{
    Attestation, CertificateAuthority, EnrollmentGroup, GroupAttestation, IndividualEnrollment,
    SymmetricKeys, Terms,
};
use super::namespace::hex;
use super::refusal::DpsRefusal;
use super::table::{Kept, Table};
use super::text_form;

/// How far a token's expiry may have passed, for devices whose clock is slow.
pub(super) const SAS_SKEW: Duration = Duration::from_secs(300);

/// All enrolments of the service, by id in lower case, as ids are compared without regard to it.
#[derive(Debug)]
pub(super) struct Enrollments {
    pub(super) groups: Table<String, Entry<EnrollmentGroup>>,
    pub(super) individuals: Table<String, Entry<IndividualEnrollment>>,
    /// Those that enrolments refer to, by name.
    authorities: Table<String, CertificateAuthority>,
}

/// An enrolment as it is kept.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry<E> {
    pub(super) enrollment: E,
    #[serde(with = "text_form::one")]
    pub(super) created: UnixTime,
    #[serde(with = "text_form::one")]
    pub(super) updated: UnixTime,
    /// What its owner has noted, and nothing here looks at.
    #[serde(default)]
    pub(super) notes: Notes,
}

/// Members of an enrolment that say nothing to the emulator.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Notes {
    pub(super) iot_edge: bool,
    pub(super) device_information: Option<serde_json::Value>,
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
    pub(super) proof: Proof,
}

/// Which enrolment has taken a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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
    Certificate(Box<Certificate>),
}

impl Enrollments {
    /// Takes the fixture's enrolments and draws the keys it leaves open.
    pub(super) fn new(
        mut groups: Vec<EnrollmentGroup>,
        individuals: Vec<IndividualEnrollment>,
        authorities: Vec<CertificateAuthority>,
        now: UnixTime,
        rng: &mut ChaCha20Rng,
    ) -> Result<Self, KeyError> {
        for group in &mut groups {
            if let GroupAttestation::SymmetricKeys(keys) = &mut group.attestation {
                keys.complete(rng)?;
            }
        }
        // An individual enrolment for a device of a group: as an owner makes one to treat that device
        // apart, its key stays the one it was shipped with.
        let group = groups.iter().find_map(|group| match &group.attestation {
            GroupAttestation::SymmetricKeys(keys) => Some(keys),
            _ => None,
        });
        let mut by_id = Table::default();
        for mut individual in individuals {
            if let Attestation::SymmetricKeys(keys) = &mut individual.attestation {
                if let Some(group) = group {
                    inherit(keys, group, &individual.registration_id);
                }
                keys.complete(rng)?;
            }
            let id = individual.registration_id.to_ascii_lowercase();
            by_id.insert(id, Entry::new(individual, now));
        }
        let by_name = |one: CertificateAuthority| (one.name.clone(), one);
        let entry =
            |group: EnrollmentGroup| (group.id.to_ascii_lowercase(), Entry::new(group, now));
        Ok(Self {
            groups: groups.into_iter().map(entry).collect(),
            individuals: by_id,
            authorities: authorities.into_iter().map(by_name).collect(),
        })
    }

    pub(super) fn group(&self, id: &str) -> Option<&EnrollmentGroup> {
        Some(&self.groups.get(&id.to_ascii_lowercase())?.enrollment)
    }

    /// The policies that enrolments name.
    pub(super) fn policies(&self) -> impl Iterator<Item = &str> {
        let groups = self.groups.values().map(|one| one.enrollment.terms());
        let individuals = self.individuals.values().map(|one| one.enrollment.terms());
        groups.chain(individuals).filter_map(|terms| terms.credential_policy)
    }

    pub(super) fn individual(&self, registration_id: &str) -> Option<&IndividualEnrollment> {
        Some(&self.individuals.get(&registration_id.to_ascii_lowercase())?.enrollment)
    }

    pub(super) fn tables(&mut self) -> [(&'static str, &mut dyn Kept); 3] {
        [
            ("groups", &mut self.groups),
            ("individuals", &mut self.individuals),
            ("authorities", &mut self.authorities),
        ]
    }

    /// What an enrolment says now: it may have been changed since it has taken a device, or be gone.
    pub(super) fn terms(&self, name: &EnrollmentName) -> Option<Terms<'_>> {
        match name {
            EnrollmentName::Group(id) => self.group(id).map(EnrollmentGroup::terms),
            EnrollmentName::Individual(id) => self.individual(id).map(IndividualEnrollment::terms),
        }
    }

    /// What its hub shall call a device.
    pub(super) fn device_id<'a>(
        &'a self,
        name: &EnrollmentName,
        registration_id: &'a str,
    ) -> &'a str {
        match name {
            EnrollmentName::Group(_) => registration_id,
            EnrollmentName::Individual(id) => match self.individual(id) {
                Some(one) => one.device_id.as_ref().unwrap_or(&one.registration_id),
                None => registration_id,
            },
        }
    }

    pub(super) fn has_authority(&self, name: &str) -> bool {
        self.authorities.get(name).is_some()
    }

    /// Finds the enrolment that decides about a device, and has it check the proof.
    pub(super) fn attest(
        &self,
        evidence: Evidence<'_>,
        clock: Clock,
    ) -> Result<Attested, DpsRefusal> {
        if let Some(enrollment) = self.individual(evidence.registration_id) {
            return self.attest_individual(enrollment, evidence, clock);
        }
        match (evidence.password, evidence.chain) {
            (Some(_), _) => self.attest_by_key(evidence, clock),
            (None, [_, ..]) => self.attest_by_certificate(evidence, clock),
            (None, []) => Err(DpsRefusal::NoCredential),
        }
    }

    fn attest_by_key(&self, evidence: Evidence<'_>, clock: Clock) -> Result<Attested, DpsRefusal> {
        let mut refusal = DpsRefusal::NoEnrollment;
        for Entry { enrollment: group, .. } in self.groups.values() {
            let GroupAttestation::SymmetricKeys(keys) = &group.attestation else { continue };
            let keys = keys.derive(evidence.registration_id);
            match verify_token(evidence, &keys, clock) {
                Ok(()) => return Ok(taken_by_group(group, Proof::Keys(keys))),
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
        let chain = read_chain(&leaf, evidence.chain).map_err(DpsRefusal::Certificate)?;
        let mut refusal = DpsRefusal::NoEnrollment;
        let mut nearest: Option<(usize, &EnrollmentGroup)> = None;
        for Entry { enrollment: group, .. } in self.groups.values() {
            let authorities = match &group.attestation {
                GroupAttestation::SymmetricKeys(_) => continue,
                GroupAttestation::X509 { authorities } => authorities.iter().collect(),
                GroupAttestation::CaReferences { names } => self.referred_to(names),
            };
            match nearest_of(&authorities, &chain, evidence.registration_id, clock) {
                Ok(distance) if nearest.is_none_or(|(least, _)| distance < least) => {
                    nearest = Some((distance, group));
                }
                Ok(_) => {}
                Err(error) => refusal = DpsRefusal::Certificate(error),
            }
        }
        let (_, group) = nearest.ok_or(refusal)?;
        Ok(taken_by_group(group, Proof::Certificate(Box::new(leaf))))
    }

    fn referred_to(&self, names: &[String]) -> Vec<&Certificate> {
        let authorities = names.iter().filter_map(|name| self.authorities.get(name));
        authorities.map(|authority| &authority.certificate).collect()
    }

    fn attest_individual(
        &self,
        enrollment: &IndividualEnrollment,
        evidence: Evidence<'_>,
        clock: Clock,
    ) -> Result<Attested, DpsRefusal> {
        let name = || enrollment.registration_id.clone();
        let by_authority = |authorities: &[&Certificate]| {
            let leaf = read_leaf(evidence.chain)?;
            read_chain(&leaf, evidence.chain)
                .and_then(|chain| nearest_of(authorities, &chain, evidence.registration_id, clock))
                .map_err(DpsRefusal::Certificate)?;
            Ok::<_, DpsRefusal>(Proof::Certificate(Box::new(leaf)))
        };
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
                Proof::Certificate(Box::new(leaf))
            }
            Attestation::SignedX509 { authorities } => {
                by_authority(&authorities.iter().collect::<Vec<_>>())?
            }
            Attestation::CaReferences { names } => by_authority(&self.referred_to(names))?,
            Attestation::Tpm(_) => return Err(DpsRefusal::Tpm { enrollment: name() }),
        };
        Ok(Attested { enrollment: EnrollmentName::Individual(name()), proof })
    }
}

impl<E> Entry<E> {
    pub(super) fn new(enrollment: E, now: UnixTime) -> Self {
        Self { enrollment, created: now, updated: now, notes: Notes::default() }
    }
}

impl<E: Serialize> Entry<E> {
    /// Changes with everything that is kept of it.
    pub(super) fn etag(&self) -> String {
        // It was made to be kept as JSON.
        let json = serde_json::to_vec(self).unwrap_or_default();
        hex(&Sha256::digest(json)[..16])
    }
}

/// Checks a chain against each authority; yields how far above the leaf the nearest is that vouches for it.
fn nearest_of(
    authorities: &[&Certificate],
    chain: &[Certificate],
    registration_id: &str,
    clock: Clock,
) -> Result<usize, ChainError> {
    let leaf = chain.first().ok_or(ChainError::NoChain)?;
    let mut refusal = ChainError::Untrusted { root: leaf.issuer() };
    let mut nearest = None;
    for anchor in authorities {
        // Signatures are verified where names fit already.
        if !chain.iter().any(|one| one.names_as_issuer(anchor)) {
            continue;
        }
        let policy = ChainPolicy {
            now: Some(clock.wall),
            anchor: Some(anchor),
            ..ChainPolicy::new(leaf.public_key(), registration_id)
        };
        match CertificateChain::accept_read(chain, &policy) {
            Ok(path) => {
                let above = path.iter().skip(1).take_while(|one| {
                    one.public_key() != anchor.public_key() || one.subject() != anchor.subject()
                });
                let distance = above.count();
                nearest = Some(nearest.map_or(distance, |least: usize| least.min(distance)));
            }
            Err(error) => refusal = error,
        }
    }
    nearest.ok_or(refusal)
}

fn taken_by_group(group: &EnrollmentGroup, proof: Proof) -> Attested {
    Attested { enrollment: EnrollmentName::Group(group.id.clone()), proof }
}

fn read_leaf(chain: &[Vec<u8>]) -> Result<Certificate, DpsRefusal> {
    let leaf = chain.first().ok_or(DpsRefusal::NoCredential)?;
    Certificate::from_der(leaf).map_err(|_| DpsRefusal::UnreadableCertificate)
}

/// What a client has shown, its leaf read already.
fn read_chain(leaf: &Certificate, chain: &[Vec<u8>]) -> Result<Vec<Certificate>, ChainError> {
    let read = |(index, der): (usize, &Vec<u8>)| {
        Certificate::from_der(der).map_err(|reason| ChainError::NotACertificate { index, reason })
    };
    let others = chain.iter().enumerate().skip(1).map(read);
    std::iter::once(Ok(leaf.clone())).chain(others).collect()
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

impl SymmetricKeys {
    /// Draws those that are not given.
    pub(super) fn complete(&mut self, rng: &mut ChaCha20Rng) -> Result<(), KeyError> {
        for key in [&mut self.primary, &mut self.secondary] {
            if key.is_none() {
                *key = Some(SymmetricKey::generate(rng)?);
            }
        }
        Ok(())
    }

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
