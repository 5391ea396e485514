#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod clock;
mod outcome;
mod setup;
mod transport;
mod waiters;

pub use clock::Clock;
pub use outcome::{ConnectError, RenewError, ReportError, RespondError, SendError};
pub use setup::{DeviceRng, StartError, device_rng};
pub use transport::{TlsDialler, transport_failure};
pub use waiters::{Command, Done, Waiters};
