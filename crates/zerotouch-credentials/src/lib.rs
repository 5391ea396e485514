#![doc = include_str!("../README.md")]
//!
//! # Contents
//!
//! | | |
//! |---|---|
//! | [`SymmetricKey`] | an enrolment key, and the device key derived from it |
//! | [`SasToken`], [`SasClaims`] | the token a key signs for DPS or a hub, and the service's side of it |
//! | [`Signer`], [`PrivateKey`] | what signs requests and TLS handshakes; the key kept in software |
//! | [`CertificateRequest`] | PKCS#10, made by a device or read by an authority |
//! | [`Certificate`], [`CertificateChain`] | what an authority issued |
//! | [`CertificateChain::accept`], [`ChainPolicy`] | what makes an issued chain ours |
//! | [`CertificateChain::lint`], [`Finding`] | what is wrong with a chain from the factory |
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod accept;
#[cfg(feature = "aws-lc-rs")]
mod aws_lc;
mod certificate;
mod chain;
mod chain_error;
mod decode;
mod extensions;
mod key;
mod linkage;
mod lint;
mod name;
mod oid;
mod private_key;
mod random;
mod request;
#[cfg(feature = "rsa")]
mod rsa_key;
mod sas;
mod signer;
mod verify;
#[cfg(feature = "simulation")]
mod vouched;

pub use crate::accept::{Accepted, ChainNote, ChainPolicy};
#[cfg(feature = "aws-lc-rs")]
pub use crate::aws_lc::AwsLcKey;
pub use crate::certificate::{Certificate, CertificateError, Thumbprint, ThumbprintError};
pub use crate::chain::{CertificateChain, PemError};
pub use crate::chain_error::{Base64Fault, ChainError, PathFault};
pub use crate::key::{KeyError, SymmetricKey};
pub use crate::lint::Finding;
pub use crate::private_key::{PrivateKey, PrivateKeyError};
pub use crate::random::RandomnessError;
pub use crate::request::{CertificateRequest, MAX_COMMON_NAME_CHARS, RequestError};
pub use crate::sas::{SasClaims, SasError, SasField, SasToken};
pub use crate::signer::{KeyAlgorithm, KeySlots, SignError, Signer};
pub use crate::verify::{ECDSA_P256_SHA256, ECDSA_P256_SHA384, SignatureError, verify_signature};
#[cfg(feature = "simulation")]
pub use crate::vouched::Vouched;
