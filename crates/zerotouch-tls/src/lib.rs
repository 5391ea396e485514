#![doc = include_str!("../README.md")]
//!
//! # Contents
//!
//! | | |
//! |---|---|
//! | [`TlsClient`], [`client_config`] | a [`rustls::ClientConfig`] from roots, a signer and a chain |
//! | [`Roots`] | whom to believe that a server is who it says |
//! | [`handshake`] | a handshake over a blocking socket, with an end to it |
//! | [`TlsFailure`], [`classify`], [`classify_io`] | why a connection failed, in terms one can act on |
#![forbid(unsafe_code)]

mod client;
mod failure;
mod handshake;
#[cfg(feature = "ring")]
mod key_exchange;
#[cfg(feature = "ring")]
mod provider;
mod roots;
mod signing;

#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
pub use crate::client::client_config;
pub use crate::client::{TlsClient, TlsConfigError};
pub use crate::failure::{Alert, TlsFailure, classify, classify_io};
pub use crate::handshake::{handshake, handshake_timed_out};
pub use crate::roots::{Roots, RootsError};
