#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod reference;
#[cfg(feature = "token")]
mod signer;
#[cfg(feature = "token")]
mod slots;
#[cfg(feature = "token")]
mod token;
mod uri;

pub use crate::reference::{KeyReference, KeyReferenceError};
#[cfg(feature = "token")]
pub use crate::signer::{Pkcs11Error, Pkcs11Signer};
#[cfg(feature = "token")]
pub use crate::slots::Pkcs11Slots;
pub use crate::uri::{KeyUri, KeyUriError};
