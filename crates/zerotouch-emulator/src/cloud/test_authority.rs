//! Authorities for X.509 groups that name none: with a key that their owner can have, so that devices can
//! be given certificates to try with.

use chacha20::ChaCha20Rng;
use zerotouch_time::UnixTime;

use super::authority::{Authority, AuthorityKeys};
use super::fixture::{EnrollmentGroup, GroupAttestation};
use super::table::Table;
use crate::pki::PkiError;

/// The authorities that were made, by the name of their group.
pub(super) type TestAuthorities = Table<String, Authority>;

/// Makes an authority for each X.509 group that has none.
pub(super) fn complete(
    groups: &mut [EnrollmentGroup],
    keys: AuthorityKeys,
    now: UnixTime,
    rng: &mut ChaCha20Rng,
) -> Result<TestAuthorities, PkiError> {
    let mut made = TestAuthorities::default();
    for group in groups {
        if let GroupAttestation::X509 { authorities } = &mut group.attestation
            && authorities.is_empty()
        {
            let authority = Authority::root(&format!("group {}", group.id), keys, now, rng)?;
            authorities.push(authority.certificate().clone());
            made.insert(group.id.clone(), authority);
        }
    }
    Ok(made)
}
