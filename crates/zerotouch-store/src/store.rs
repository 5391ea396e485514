//! Where an identity rests.

use alloc::boxed::Box;
use core::error::Error;

use crate::model::{Change, Identity, ModelError};

/// A place that keeps one device's identity.
///
/// The contract, whatever the place: [`Store::apply`] returns `Ok` only when the change will
/// survive a loss of power, and after any error or crash the next [`Store::load`] returns the
/// identity before the change or after it, whole.
pub trait Store {
    /// The identity as it rests. A place that was never written holds [`Identity::default`]. Keys in
    /// hardware may come back unattached ([`Identity::attach`]).
    fn load(&mut self) -> Result<Identity, StoreError>;

    /// Makes `change` durable.
    fn apply(&mut self, change: &Change) -> Result<(), StoreError>;
}

/// Why an identity or a queue was not read or not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The change does not fit the identity.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The file store failed.
    #[cfg(all(feature = "file", unix))]
    #[error(transparent)]
    File(#[from] crate::file::FileError),
    /// A store this crate does not know failed.
    #[error("the store failed")]
    Other(#[source] Box<dyn Error + Send + Sync>),
}
