#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod reference;
mod signer;
mod slots;
mod token;
mod uri;

pub use crate::reference::{KeyReference, KeyReferenceError};
pub use crate::signer::{Pkcs11Error, Pkcs11Signer};
pub use crate::slots::Pkcs11Slots;
pub use crate::uri::{KeyUri, KeyUriError};
