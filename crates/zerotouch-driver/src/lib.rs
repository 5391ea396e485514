#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod channel;
mod clock;
mod network;
mod observer;
mod outbox;
mod outcome;
mod resolver;
mod setup;
mod transport;
mod tunnel;
mod waiters;
mod web_socket;

pub use channel::Channel;
pub use clock::Clock;
pub use network::{Network, Proxy, ProxyError, Transport};
pub use outbox::{Write, Written};
pub use outcome::{ConnectError, RenewError, ReportError, RespondError, SendError};
pub use resolver::Resolver;
pub use setup::{DeviceRng, StartError, device_rng, prepare};
pub use transport::{ADDRESS_TIMEOUT, Dialler, Way, Ways, transport_failure};
pub use waiters::{Command, Done, Waiters};
