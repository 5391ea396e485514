//! The life of a device identity as one sans-IO engine.
//!
//! [`Device`] decides everything: when to provision, which credential to show, what to store before
//! what leaves, when to try again. It touches nothing: a driver dials, copies bytes, stores, sleeps.
//!
//! ```text
//!            the device asks (poll_action)          the driver answers
//!            Dial { host, port, identity }   ─►     handle_dialled │ handle_dial_failed
//!            HangUp                          ─►
//!            Store(change)                   ─►     handle_stored
//!            poll_transmit: bytes            ─►     handle_transmitted
//!                                                   handle_bytes, handle_disconnected
//!            poll_timeout: an instant        ─►     handle_timeout
//!            poll_event: to the application         start, send_telemetry, renew, close
//! ```
//!
//! The canonical life, each arrow an input:
//!
//! ```text
//!  start ─► a key is made ─stored─► DPS: CONNECT, SUBSCRIBE, register with the request
//!        ─► assigned: hub allowed? chain ours? ─stored (staged)─► hub: CONNECT with the certificate
//!        ─► accepted ─stored (active)─► telemetry … renew ─► a new key … staged ─► reconnect ─► active
//! ```
//!
//! A driver in full, with a loop in place of sockets, is in `zerotouch-sim`; for tokio and blocking
//! std there are `zerotouch-tokio` and `zerotouch-blocking`.
//!
//! ```
//! use zerotouch_credentials::SymmetricKey;
//! use zerotouch_device::{Action, Attestation, Config, Device};
//! use zerotouch_dps::{IdScope, RegistrationId};
//! use zerotouch_store::{Identity, Store, MemoryStore};
//! use zerotouch_time::{Instant, Now, UnixTime};
//! # use chacha20::{ChaCha20Rng, rand_core::SeedableRng};
//! # let rng = ChaCha20Rng::from_seed([7; 32]);
//! let key = SymmetricKey::from_base64("8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw==")?;
//! let config = Config::new(
//!     IdScope::new("0ne00000A0A")?,
//!     RegistrationId::new("pump-17")?,
//!     Attestation::SymmetricKey(key.derive("pump-17")),
//! );
//! let mut store = MemoryStore::new();
//! let now = Now { monotonic: Instant::ZERO, wall: Some(UnixTime::from_secs(1_790_000_000)) };
//! let mut device = Device::new(config, store.load()?, rng);
//! device.start(now);
//!
//! // The new key is to be stored before anything is asked for.
//! let Some(Action::Store(change)) = device.poll_action() else { panic!() };
//! store.apply(&change)?;
//! device.handle_stored(Ok(()), now);
//! let Some(Action::Dial(dial)) = device.poll_action() else { panic!() };
//! assert_eq!((dial.host.as_str(), dial.port), ("global.azure-devices-provisioning.net", 8883));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod backoff;
mod config;
mod device;
mod failure;
mod hub;
mod link;
mod provision;
mod queue;
mod seam;

pub use config::{
    Attestation, Backoff, Config, ConfigError, HubCredential, HubHosts, HubPolicy, OnRefusal,
    RenewalPolicy, RetryPolicy,
};
pub use device::{Device, RenewError, SendError, State};
pub use failure::{
    Failure, FailureClass, Layer, RenewalFailure, TransportFailure, TransportFailureKind,
};
pub use queue::{DropReason, QueuePolicy, QueueStatus, WhenFull};
pub use seam::{
    Action, ConnectionId, Credential, Dial, Event, HubAccess, IssuedCertificate, Scope,
    TelemetryHandle, TlsIdentity,
};
