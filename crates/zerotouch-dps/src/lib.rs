#![doc = include_str!("../README.md")]
//!
//! # Contents
//!
//! | | |
//! |---|---|
//! | [`Config`] | which service, which device, with what payload and deadlines |
//! | [`Registration`] | the engine; [`Request`] and [`Event`] are what comes out of it |
//! | [`Registered`], [`Assignment`] | where the device belongs, and the chain that was issued |
//! | [`ConnectionProfile`] | which protocol its hub speaks |
//! | [`RegistrationError`] | why there is no assignment |
//! | [`IdScope`], [`RegistrationId`], [`IdError`] | names, checked where they enter |
//! | [`wire`] | topics and JSON, for both ends |

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod assignment;
mod error;
mod id;
mod registration;
pub mod wire;

pub use assignment::{Assignment, ConnectionProfile, Registered};
pub use error::RegistrationError;
pub use id::{IdError, IdScope, RegistrationId};
pub use registration::{Config, Event, Registration, Request};
pub use wire::SUBSCRIPTION;

/// The api-version asked for unless another is configured: the first that issues certificates over
/// the `csr` member.
pub const DEFAULT_API_VERSION: &str = "2025-07-01-preview";

/// The host every provisioning service of the public cloud answers on.
pub const GLOBAL_HOST: &str = "global.azure-devices-provisioning.net";
