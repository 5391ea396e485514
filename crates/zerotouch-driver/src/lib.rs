#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod clock;
mod setup;
mod transport;
mod waiters;

pub use clock::Clock;
pub use setup::{DeviceRng, SetupError, device_rng};
pub use transport::{TlsDialler, transport_failure};
pub use waiters::{RenewError, SendError, Waiters};
