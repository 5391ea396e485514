//! The fixed header (section 2.2): all that can be judged before the rest of the packet is there.

use super::{DecodeError, DecodeErrorKind, Decoder};
use crate::packet::PacketType;

/// The most a CONNECT can have behind its fixed header: ten bytes and five fields of 2 + 65,535.
const MAX_CONNECT_LENGTH: u32 = 10 + 5 * (2 + 65_535);

/// The type of the packet that each byte may begin. A table, where the reasons would be several jumps that
/// depend on the type.
static TYPES: [Option<PacketType>; 256] = {
    let mut types = [None; 256];
    let mut first = u8::MAX;
    while first > 0 {
        types[first as usize] = match judge(first) {
            Ok(packet_type) => Some(packet_type),
            Err(_) => None,
        };
        first -= 1;
    }
    types
};

/// Judges the first byte: type and flags.
#[cold]
const fn judge(first: u8) -> Result<PacketType, DecodeError> {
    let (number, flags) = (first >> 4, first & 0x0F);
    let Some(packet_type) = PacketType::from_u8(number) else {
        return Err(DecodeError::new(DecodeErrorKind::ReservedPacketType(number), 0, None));
    };
    let kind = match packet_type.fixed_flags() {
        Some(required) if flags != required => {
            DecodeErrorKind::ReservedFlags { packet_type, found: flags, required }
        }
        // PUBLISH: DUP in bit 3, QoS in bits 2 and 1, RETAIN in bit 0.
        None if flags & 0b0110 == 0b0110 => DecodeErrorKind::InvalidQoS,
        None if flags & 0b1110 == 0b1000 => DecodeErrorKind::DupOnQoS0,
        _ => return Ok(packet_type),
    };
    Err(DecodeError::new(kind, 0, Some(packet_type)))
}

/// The least and the most that each type has behind its fixed header, by its number.
const LENGTHS: [(u32, u32); 15] = {
    let mut lengths = [(0, u32::MAX); 15];
    let mut number = 1;
    while let Some(packet_type) = PacketType::from_u8(number) {
        lengths[number as usize] = match packet_type {
            PacketType::Publish
            | PacketType::Subscribe
            | PacketType::SubAck
            | PacketType::Unsubscribe => (0, u32::MAX),
            PacketType::Connect => (0, MAX_CONNECT_LENGTH),
            PacketType::PingReq | PacketType::PingResp | PacketType::Disconnect => (0, 0),
            PacketType::ConnAck
            | PacketType::PubAck
            | PacketType::PubRec
            | PacketType::PubRel
            | PacketType::PubComp
            | PacketType::UnsubAck => (2, 2),
        };
        number += 1;
    }
    lengths
};

/// A fixed header that may begin a packet: type, flags and direction are right, and the length is one
/// that this type can have and this decoder allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FixedHeader {
    pub(crate) packet_type: PacketType,
    /// The low half of the first byte.
    pub(crate) flags: u8,
    /// The length of the fixed header itself, 2 to 5.
    pub(crate) len: usize,
    /// The length of the whole packet.
    pub(crate) packet_len: usize,
}

impl Decoder {
    /// Reads the fixed header; `None` if it is not all there.
    #[inline]
    pub(crate) fn header(self, input: &[u8]) -> Result<Option<FixedHeader>, DecodeError> {
        let [first, rest @ ..] = input else {
            return Ok(None);
        };
        let flags = first & 0x0F;
        let packet_type = match TYPES[usize::from(*first)] {
            Some(packet_type) => packet_type,
            None => judge(*first)?,
        };
        if let Some(sender) = self.sender
            && !packet_type.may_be_sent_by(sender)
        {
            let kind = DecodeErrorKind::WrongDirection(sender);
            return Err(DecodeError::new(kind, 0, Some(packet_type)));
        }
        let (remaining, len) = match rest {
            [length, ..] if length & 0x80 == 0 => (u32::from(*length), 2),
            [low, high, ..] if high & 0x80 == 0 => {
                (u32::from(low & 0x7F) | u32::from(*high) << 7, 3)
            }
            _ => match long_remaining_length(rest) {
                Ok(Some(long)) => long,
                Ok(None) => return Ok(None),
                Err(kind) => return Err(DecodeError::new(kind, 4, Some(packet_type))),
            },
        };
        match self.packet_len(packet_type, remaining, len) {
            Ok(packet_len) => {
                Ok(Some(FixedHeader { packet_type, flags, len: usize::from(len), packet_len }))
            }
            Err(kind) => Err(DecodeError::new(kind, 1, Some(packet_type))),
        }
    }

    /// Judges the remaining length and gives that of the whole packet. What is too long for its type
    /// is refused here, so that no claim of 256 MB is waited for; what is too short is refused where
    /// the missing field can be named.
    #[inline]
    fn packet_len(
        self,
        packet_type: PacketType,
        remaining: u32,
        header_len: u8,
    ) -> Result<usize, DecodeErrorKind> {
        let (least, most) = LENGTHS[packet_type as usize];
        if remaining < least || remaining > most {
            return Err(DecodeErrorKind::ImpossibleLength { found: remaining, least, most });
        }
        let size = u32::from(header_len) + remaining;
        if size > self.max_packet_size {
            return Err(DecodeErrorKind::PacketTooLarge { size, limit: self.max_packet_size });
        }
        // Fits wherever the packet itself could: a 16-bit machine has no slice that long.
        usize::try_from(size).map_err(|_| DecodeErrorKind::OutOfMemory { size })
    }
}

/// Reads a remaining length and the length of the fixed header with it; `None` if it is not all there.
///
/// Seven bits a byte, the lowest first, bit 7 set where another byte follows, four bytes at most. The
/// standard does not ask for the shortest form, so `80 00` is zero.
fn long_remaining_length(bytes: &[u8]) -> Result<Option<(u32, u8)>, DecodeErrorKind> {
    let mut remaining = 0;
    for (header_len, byte) in (2..=5).zip(bytes) {
        remaining |= u32::from(byte & 0x7F) << (7 * (header_len - 2));
        if byte & 0x80 == 0 {
            return Ok(Some((remaining, header_len)));
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err(DecodeErrorKind::RemainingLengthTooLong) }
}
