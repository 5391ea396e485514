//! From packets to bytes.
//!
//! The types leave little that can go wrong: a password or Will message too long for its length prefix,
//! an empty client identifier where there must be one, a packet beyond the protocol's limit. Each is an
//! error before the first byte is written.

mod length;
mod sink;
pub(crate) mod write;

use self::length::{encoded_len, remaining_length};
use self::sink::Slice;
use crate::decode::Field;
use crate::packet::{Packet, Publish};

/// The largest remaining length: four bytes of seven bits (section 2.2.3).
pub(crate) const MAX_REMAINING_LENGTH: u32 = 268_435_455;

/// Why a packet was not encoded. Nothing has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The output is too short.
    #[error("the packet needs {needed} bytes, the output has {available}")]
    BufferTooSmall {
        /// The bytes to be written.
        needed: usize,
        /// The bytes there is room for.
        available: usize,
    },
    /// A password or Will message is longer than 65,535 bytes.
    #[error("the {field} has {length} bytes, the most is 65535 [section 1.5.3]")]
    FieldTooLong {
        /// Which.
        field: Field,
        /// Its length in bytes.
        length: usize,
    },
    /// An empty client identifier without `clean_session`.
    #[error("an empty client identifier needs a clean session [MQTT-3.1.3-7]")]
    EmptyClientId,
    /// The remaining length would be above 268,435,455.
    #[error("a remaining length of {length} bytes, the most is 268435455 [section 2.2.3]")]
    PacketTooLarge {
        /// The bytes behind the fixed header.
        length: u64,
    },
}

impl Packet<'_> {
    /// How many bytes the packet takes.
    #[inline]
    pub fn encoded_len(&self) -> Result<usize, EncodeError> {
        Ok(encoded_len(remaining_length(self)?))
    }

    /// Encodes to the start of `out` and says how many bytes that took.
    #[inline]
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        write::packet(self, &mut Slice(out))
    }

    /// Encodes to the end of `out` and says how many bytes that took.
    ///
    /// `out` grows at most once, and not at all where its capacity suffices.
    #[cfg(feature = "alloc")]
    #[inline]
    pub fn encode_to(&self, out: &mut alloc::vec::Vec<u8>) -> Result<usize, EncodeError> {
        write::packet(self, out)
    }
}

/// The header alone, for writing header and payload as two pieces of one vectored write, so that a
/// large payload is never copied:
///
/// ```
/// use std::io::{IoSlice, Write};
/// use zerotouch_mqtt_codec::{Delivery, Packet, Publish, TopicName};
///
/// let payload = vec![7; 65_536];
/// let publish = Publish {
///     topic: TopicName::new("plant/7/image")?,
///     payload: &payload,
///     retain: false,
///     delivery: Delivery::AtMostOnce,
/// };
/// let mut header = [0; 32];
/// let length = publish.encode_header(&mut header)?;
///
/// let mut socket = Vec::new();
/// socket.write_vectored(&[IoSlice::new(&header[..length]), IoSlice::new(publish.payload)])?;
///
/// let mut whole = Vec::new();
/// Packet::from(publish).encode_to(&mut whole)?;
/// assert_eq!(socket, whole);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl Publish<'_> {
    /// Encodes everything before the payload to the start of `out` and says how many bytes that took.
    #[inline]
    pub fn encode_header(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        write::publish_header(self, &mut Slice(out))
    }

    /// Encodes everything before the payload to the end of `out` and says how many bytes that took.
    #[cfg(feature = "alloc")]
    #[inline]
    pub fn encode_header_to(&self, out: &mut alloc::vec::Vec<u8>) -> Result<usize, EncodeError> {
        write::publish_header(self, out)
    }
}
