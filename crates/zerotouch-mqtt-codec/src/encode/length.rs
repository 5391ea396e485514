//! How long a packet is, and whether it can be encoded at all: everything is checked here.

use super::{EncodeError, MAX_REMAINING_LENGTH};
use crate::decode::Field;
use crate::packet::{Connect, Entries, Packet, Publish};
use crate::text::MAX_FIELD_LEN;

/// The length of a packet of that remaining length.
#[inline(always)]
pub(super) fn encoded_len(remaining: u32) -> usize {
    let fixed_header = match remaining {
        0..=0x7F => 2,
        0x80..=0x3FFF => 3,
        0x4000..=0x1F_FFFF => 4,
        _ => 5,
    };
    fixed_header + remaining as usize
}

/// The remaining length of a packet that can be encoded.
pub(super) fn remaining_length(packet: &Packet<'_>) -> Result<u32, EncodeError> {
    match packet {
        Packet::Publish(packet) => publish_length(packet),
        Packet::ConnAck(_)
        | Packet::PubAck(_)
        | Packet::PubRec(_)
        | Packet::PubRel(_)
        | Packet::PubComp(_)
        | Packet::UnsubAck(_) => Ok(2),
        Packet::PingReq | Packet::PingResp | Packet::Disconnect => Ok(0),
        Packet::Connect(packet) => connect_length(packet),
        Packet::Subscribe(packet) => list_length(packet.filters.0),
        Packet::SubAck(packet) => list_length(packet.return_codes.0),
        Packet::Unsubscribe(packet) => list_length(packet.filters.0),
    }
}

#[inline(always)]
fn limited(length: u64) -> Result<u32, EncodeError> {
    match u32::try_from(length) {
        Ok(length) if length <= MAX_REMAINING_LENGTH => Ok(length),
        _ => Err(EncodeError::PacketTooLarge { length }),
    }
}

#[inline(always)]
pub(super) fn publish_length(publish: &Publish<'_>) -> Result<u32, EncodeError> {
    let identifier = if publish.packet_identifier().is_some() { 2 } else { 0 };
    limited(2 + publish.topic.as_str().len() as u64 + identifier + publish.payload.len() as u64)
}

#[inline(always)]
pub(super) fn connect_length(connect: &Connect<'_>) -> Result<u32, EncodeError> {
    if connect.client_id.as_str().is_empty() && !connect.clean_session {
        return Err(EncodeError::EmptyClientId);
    }
    let mut length = 10 + text_length(connect.client_id.as_str());
    if let Some(will) = &connect.will {
        length += text_length(will.topic.as_str());
        length += field_length(will.message, Field::WillMessage)?;
    }
    if let Some(login) = &connect.login {
        length += text_length(login.username.as_str());
        if let Some(password) = login.password {
            length += field_length(password, Field::Password)?;
        }
    }
    limited(length)
}

/// Of a text that was checked to have no more than 65,535 bytes.
#[inline(always)]
fn text_length(text: &str) -> u64 {
    2 + text.len() as u64
}

#[inline(always)]
fn field_length(bytes: &[u8], field: Field) -> Result<u64, EncodeError> {
    if bytes.len() > MAX_FIELD_LEN {
        return Err(EncodeError::FieldTooLong { field, length: bytes.len() });
    }
    Ok(2 + bytes.len() as u64)
}

/// Of a packet that has an identifier and a list.
#[inline(always)]
pub(super) fn list_length<T>(list: Entries<'_, T>) -> Result<u32, EncodeError> {
    limited(2 + list.wire_len() as u64)
}
