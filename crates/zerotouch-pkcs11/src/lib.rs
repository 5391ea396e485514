#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod signer;
mod token;
mod uri;

pub use crate::signer::{Pkcs11Error, Pkcs11Signer};
pub use crate::uri::{KeyUri, KeyUriError};
