#![doc = include_str!("../README.md")]
//!
//! # Contents
//!
//! | | |
//! |---|---|
//! | [`TlsClient`], [`client_config`] | a [`rustls::ClientConfig`] from roots, a signer and a chain |
//! | [`Roots`] | whom to believe that a server is who it says |
//! | [`TlsFailure`], [`classify`], [`classify_io`] | why a connection failed, in terms one can act on |
#![forbid(unsafe_code)]

mod client;
mod failure;
mod roots;
mod signing;

#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
pub use crate::client::client_config;
pub use crate::client::{TlsClient, TlsConfigError};
pub use crate::failure::{Alert, TlsFailure, classify, classify_io};
pub use crate::roots::{Roots, RootsError};
