#![doc = include_str!("../README.md")]
//!
//! # Contents
//!
//! | | |
//! |---|---|
//! | [`Identity`], [`Generation`], [`Pending`] | what a device is: pure data |
//! | [`Change`] | how that may change: a pure function, [`Identity::apply`] |
//! | [`Store`] | where it rests; [`MemoryStore`] for tests and for devices that bring their own |
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(any(test, feature = "file"))]
extern crate std;

mod memory;
mod model;
mod store;

pub use crate::memory::MemoryStore;
pub use crate::model::{Change, Generation, Identity, ModelError, Pending};
pub use crate::store::{Store, StoreError};
