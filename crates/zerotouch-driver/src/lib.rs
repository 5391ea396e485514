#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod blocking;
mod channel;
mod clock;
#[cfg(feature = "https")]
mod http;
#[cfg(feature = "https")]
mod https;
mod network;
mod observer;
mod outbox;
mod outcome;
mod resolver;
mod setup;
mod transport;
mod tunnel;
#[cfg(feature = "file-upload")]
mod upload;
mod waiters;
mod web_socket;

pub use channel::Channel;
pub use clock::Clock;
#[cfg(feature = "https")]
pub use https::{HttpsRequest, HttpsResponse, https, root_behind};
pub use network::{Network, Proxy, ProxyError, Transport};
pub use outbox::{Write, Written};
pub use outcome::{ConnectError, RenewError, ReportError, RespondError, SendError};
pub use resolver::Resolver;
pub use setup::{DeviceRng, StartError, device_rng, prepare};
pub use transport::{ADDRESS_TIMEOUT, Dialler, Way, Ways, transport_failure};
#[cfg(feature = "file-upload")]
pub use upload::{UploadError, upload};
pub use waiters::{Command, Done, Waiters};
