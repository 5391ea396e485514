#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod cloud;
mod pem;
#[cfg(feature = "server")]
pub mod server;

#[cfg(feature = "server")]
pub use server::{Emulator, EmulatorBuilder};
