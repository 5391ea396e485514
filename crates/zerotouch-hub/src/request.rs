//! What goes out.

use alloc::string::String;
use alloc::vec::Vec;

/// A message to publish, at `QoS` 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The topic name.
    pub topic: String,
    /// JSON, or nothing.
    pub payload: Vec<u8>,
}
