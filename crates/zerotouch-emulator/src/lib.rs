#![cfg_attr(feature = "server", doc = include_str!("../README.md"))]
#![cfg_attr(not(feature = "server"), doc = "The emulated cloud as a pure engine: see [`cloud`].")]
#![forbid(unsafe_code)]

pub mod cloud;
mod event_log;
mod pem;
pub mod pki;
#[cfg(feature = "server")]
pub mod server;

#[cfg(feature = "server")]
pub use server::{Emulator, EmulatorBuilder, PlainBrokerServer};
