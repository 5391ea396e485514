//! Randomness from the caller, refused when it is visibly none.

use rand_core::TryCryptoRng;

/// The random number generator failed, or its output cannot be random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RandomnessError {
    /// The generator itself reported a failure.
    #[error("the random number generator failed; no key was made")]
    Failed,
    /// Every byte drawn was the same: a generator that is stuck or was never seeded.
    #[error("the random number generator returned a constant; no key was made")]
    Constant,
}

/// Fills `secret` (16 bytes or more) from `rng`.
///
/// A device without entropy at first boot is the classic way for a fleet to share one key. A
/// constant output is the symptom that can be seen in one draw; honest randomness shows it once in
/// 2^120 draws.
pub(crate) fn fill_secret(
    rng: &mut (impl TryCryptoRng + ?Sized),
    secret: &mut [u8],
) -> Result<(), RandomnessError> {
    rng.try_fill_bytes(secret).map_err(|_| RandomnessError::Failed)?;
    let Some((first, rest)) = secret.split_first() else { return Ok(()) };
    if rest.iter().all(|byte| byte == first) {
        return Err(RandomnessError::Constant);
    }
    Ok(())
}
