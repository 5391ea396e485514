//! A sans-IO client of the Azure Device Provisioning Service (DPS) over MQTT 3.1.1.
//!
//! A device that knows an id scope and its own registration id asks DPS where it belongs. It may send
//! a certificate signing request (CSR) along and then receives, with its hub, the chain issued for
//! its key. This crate knows the topics, the JSON and the pace; it works over any MQTT client:
//!
//! ```text
//!   CONNECT  client id = registration id, user name = Config::username()
//!   SUBSCRIBE SUBSCRIPTION ── granted ─► Registration::start
//!   PUBLISH ◄─ poll_request           PUBLISH from the service ─► handle_message
//!   sleep   ◄─ poll_timeout ── woken ─► handle_timeout
//!   result  ◄─ poll_event: Assigning, Assigned, Failed
//! ```
//!
//! ```
//! use zerotouch_dps::{Config, Event, IdScope, Registration, RegistrationId};
//! use zerotouch_time::Instant;
//! # use chacha20::{ChaCha8Rng, rand_core::SeedableRng};
//! # let mut rng = ChaCha8Rng::from_seed([7; 32]);
//! let config = Config::new(IdScope::new("0ne00000A0A")?, RegistrationId::new("pump-17")?);
//! assert!(config.username().starts_with("0ne00000A0A/registrations/pump-17/api-version=2025-07-01-preview"));
//!
//! let mut registration = Registration::new(config, None, &mut rng);
//! registration.start(Instant::ZERO);
//! let request = registration.poll_request().unwrap();
//! assert!(request.topic.starts_with("$dps/registrations/PUT/iotdps-register/?$rid="));
//!
//! let rid = request.topic.rsplit('=').next().unwrap();
//! registration.handle_message(
//!     &format!("$dps/registrations/res/200/?$rid={rid}"),
//!     br#"{"operationId":"5.1","status":"assigned","registrationState":{
//!         "assignedHub":"contoso.azure-devices.net","deviceId":"pump-17","status":"assigned"}}"#,
//!     Instant::ZERO,
//!     &mut rng,
//! );
//! let Some(Event::Assigned(registered)) = registration.poll_event() else { panic!() };
//! assert_eq!(registered.assignment.assigned_hub, "contoso.azure-devices.net");
//! # Ok::<(), zerotouch_dps::IdError>(())
//! ```

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
