//! From packets to bytes.
//!
//! The types leave little that can go wrong: fields too long for their length prefix, U+0000 in a
//! client identifier or user name, a packet beyond the protocol's limit. Each is an error before the
//! first byte is written.

mod sink;
pub(crate) mod write;

use self::sink::SliceSink;
use crate::decode::Field;
use crate::packet::{Connect, Entries, Packet, Publish};
use crate::scan;

/// The largest remaining length: four bytes of seven bits (section 2.2.3).
pub(crate) const MAX_REMAINING_LENGTH: u32 = 268_435_455;

/// The most bytes behind a length prefix of two.
const MAX_FIELD_LEN: usize = 65_535;

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
    /// A field of a CONNECT is longer than 65,535 bytes.
    #[error("the {field} has {length} bytes, the most is 65535 [section 1.5.3]")]
    FieldTooLong {
        /// Which.
        field: Field,
        /// Its length in bytes.
        length: usize,
    },
    /// A text of a CONNECT contains U+0000.
    #[error("the {field} contains U+0000 [MQTT-1.5.3-2]")]
    NulCharacter {
        /// Which.
        field: Field,
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
        let remaining = remaining_length(self)?;
        SliceSink::write(out, encoded_len(remaining), |sink| write::packet(self, remaining, sink))
    }

    /// Encodes to the end of `out` and says how many bytes that took.
    ///
    /// `out` grows at most once, and not at all where its capacity suffices.
    #[cfg(feature = "alloc")]
    #[inline]
    pub fn encode_to(&self, out: &mut alloc::vec::Vec<u8>) -> Result<usize, EncodeError> {
        let remaining = remaining_length(self)?;
        let length = encoded_len(remaining);
        out.reserve(length);
        write::packet(self, remaining, out);
        Ok(length)
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
        let remaining = publish_length(self)?;
        let length = encoded_len(remaining) - self.payload.len();
        SliceSink::write(out, length, |sink| write::publish_header(self, remaining, sink))
    }

    /// Encodes everything before the payload to the end of `out` and says how many bytes that took.
    #[cfg(feature = "alloc")]
    #[inline]
    pub fn encode_header_to(&self, out: &mut alloc::vec::Vec<u8>) -> Result<usize, EncodeError> {
        let remaining = publish_length(self)?;
        let length = encoded_len(remaining) - self.payload.len();
        out.reserve(length);
        write::publish_header(self, remaining, out);
        Ok(length)
    }
}

/// The length of a packet of that remaining length.
#[inline]
fn encoded_len(remaining: u32) -> usize {
    let fixed_header = match remaining {
        0..=0x7F => 2,
        0x80..=0x3FFF => 3,
        0x4000..=0x1F_FFFF => 4,
        _ => 5,
    };
    fixed_header + remaining as usize
}

/// The remaining length of a packet that can be encoded: everything is checked here.
#[inline]
fn remaining_length(packet: &Packet<'_>) -> Result<u32, EncodeError> {
    match packet {
        Packet::Publish(publish) => publish_length(publish),
        Packet::ConnAck(_)
        | Packet::PubAck(_)
        | Packet::PubRec(_)
        | Packet::PubRel(_)
        | Packet::PubComp(_)
        | Packet::UnsubAck(_) => Ok(2),
        Packet::PingReq | Packet::PingResp | Packet::Disconnect => Ok(0),
        Packet::Connect(connect) => connect_length(connect),
        Packet::Subscribe(subscribe) => limited(
            2 + match subscribe.filters.0 {
                Entries::Wire { bytes, .. } => bytes.len() as u64,
                Entries::Slice(list) => {
                    list.iter().map(|(filter, _)| 3 + filter.as_str().len() as u64).sum()
                }
            },
        ),
        Packet::SubAck(suback) => limited(2 + suback.return_codes.len() as u64),
        Packet::Unsubscribe(unsubscribe) => limited(
            2 + match unsubscribe.filters.0 {
                Entries::Wire { bytes, .. } => bytes.len() as u64,
                Entries::Slice(list) => {
                    list.iter().map(|filter| 2 + filter.as_str().len() as u64).sum()
                }
            },
        ),
    }
}

#[inline]
fn limited(length: u64) -> Result<u32, EncodeError> {
    match u32::try_from(length) {
        Ok(length) if length <= MAX_REMAINING_LENGTH => Ok(length),
        _ => Err(EncodeError::PacketTooLarge { length }),
    }
}

#[inline]
fn publish_length(publish: &Publish<'_>) -> Result<u32, EncodeError> {
    let identifier = if publish.packet_identifier().is_some() { 2 } else { 0 };
    limited(2 + publish.topic.as_str().len() as u64 + identifier + publish.payload.len() as u64)
}

fn connect_length(connect: &Connect<'_>) -> Result<u32, EncodeError> {
    if connect.client_id.is_empty() && !connect.clean_session {
        return Err(EncodeError::EmptyClientId);
    }
    let mut length = 10 + text_length(connect.client_id, Field::ClientId)?;
    if let Some(will) = &connect.will {
        length += 2 + will.topic.as_str().len() as u64;
        length += field_length(will.message, Field::WillMessage)?;
    }
    if let Some(login) = &connect.login {
        length += text_length(login.username, Field::UserName)?;
        if let Some(password) = login.password {
            length += field_length(password, Field::Password)?;
        }
    }
    limited(length)
}

fn text_length(text: &str, field: Field) -> Result<u64, EncodeError> {
    if scan::has_nul(text.as_bytes()) {
        return Err(EncodeError::NulCharacter { field });
    }
    field_length(text.as_bytes(), field)
}

fn field_length(bytes: &[u8], field: Field) -> Result<u64, EncodeError> {
    if bytes.len() > MAX_FIELD_LEN {
        return Err(EncodeError::FieldTooLong { field, length: bytes.len() });
    }
    Ok(2 + bytes.len() as u64)
}
