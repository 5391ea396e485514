//! From bytes to packets.

mod body;
mod error;
mod header;
mod reader;

#[cfg(feature = "alloc")]
pub(crate) use self::body::decode as decode_body;
pub use self::error::{DecodeError, DecodeErrorKind, Field};
#[cfg(feature = "alloc")]
pub(crate) use self::header::FixedHeader;
use crate::packet::{Packet, Sender};

/// The largest packet there is: the largest remaining length (section 2.2.3) and its fixed header.
pub const MAX_PACKET_SIZE: u32 = crate::encode::MAX_REMAINING_LENGTH + 5;

/// What to accept: from which end, and up to which size.
///
/// Strict: whatever the standard forbids is refused, with the number of the statement that forbids
/// it. Where the standard leaves the receiver a choice, this decoder accepts:
///
/// - control characters and non-characters in text (section 1.5.3: "may" close the connection),
/// - U+FEFF anywhere, which is a character like any other `[MQTT-1.5.3-3]`,
/// - a remaining length in more bytes than it needs, such as `80 00` for zero (section 2.2.3 limits
///   the bytes to four and says no more; MQTT 5.0 forbids it),
/// - client identifiers beyond 23 bytes (section 3.1.3.1).
///
/// ```
/// use zerotouch_mqtt_codec::{Decoded, Decoder, Packet, Sender};
///
/// let decoder = Decoder::from_sender(Sender::Server).max_packet_size(16 * 1024);
/// match decoder.decode(&[0xD0, 0x00])? {
///     Decoded::Complete { packet, used } => assert_eq!((packet, used), (Packet::PingResp, 2)),
///     Decoded::Incomplete { needed } => panic!("{needed} more bytes"),
/// }
/// // A client's packet, from the server:
/// let error = decoder.decode(&[0xC0, 0x00]).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "malformed PINGREQ at byte 0: a server does not send this packet [Table 2.1]"
/// );
/// # Ok::<(), zerotouch_mqtt_codec::DecodeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoder {
    sender: Option<Sender>,
    max_packet_size: u32,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// Accepts packets of either end, up to the protocol's own limit of 268,435,460 bytes.
    pub const fn new() -> Self {
        Self { sender: None, max_packet_size: MAX_PACKET_SIZE }
    }

    /// Accepts only packets that `sender` may send (Table 2.1).
    pub const fn from_sender(sender: Sender) -> Self {
        Self { sender: Some(sender), ..Self::new() }
    }

    /// Limits the size of a whole packet, fixed header included, in bytes. What is larger is refused as
    /// soon as its fixed header is there.
    #[must_use]
    pub const fn max_packet_size(self, bytes: u32) -> Self {
        Self { max_packet_size: bytes, ..self }
    }

    /// The size limit, for buffers.
    #[cfg(feature = "alloc")]
    pub(crate) fn limit(self) -> usize {
        usize::try_from(self.max_packet_size).unwrap_or(usize::MAX)
    }

    /// Decodes the first packet of `input`. What lies behind it is not looked at.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] as soon as it is certain that no packet begins here, however many bytes are yet
    /// to come.
    #[inline]
    pub fn decode<'a>(&self, input: &'a [u8]) -> Result<Decoded<'a>, DecodeError> {
        match self.header(input)? {
            Some(header) => match input.get(header.len..header.packet_len) {
                Some(body) => body::decode(&header, body, |packet| Decoded::Complete {
                    packet,
                    used: header.packet_len,
                }),
                None => Ok(Decoded::Incomplete { needed: header.packet_len - input.len() }),
            },
            // At least the rest of the shortest fixed header, which has two bytes.
            None => Ok(Decoded::Incomplete { needed: if input.is_empty() { 2 } else { 1 } }),
        }
    }
}

/// Decodes the first packet of `input`, from either end, up to the protocol's own size limit.
///
/// The same as [`Decoder::new`]`().`[`decode`](Decoder::decode)`(input)`.
#[inline]
pub fn decode(input: &[u8]) -> Result<Decoded<'_>, DecodeError> {
    Decoder::new().decode(input)
}

/// What was found at the start of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// A packet.
    Complete {
        /// The packet, borrowing from the input.
        packet: Packet<'a>,
        /// How many bytes of the input it takes.
        used: usize,
    },
    /// The beginning of a packet, so far without fault.
    Incomplete {
        /// At least this many bytes are missing; exactly this many once the fixed header is there.
        needed: usize,
    },
}
