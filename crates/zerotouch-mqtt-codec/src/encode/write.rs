//! Writes packets: measures and checks one, makes room for it, and then nothing can fail any more.

use super::EncodeError;
use super::length::{
    connect_length, encoded_len, limited, publish_length, subscribe_length, unsubscribe_length,
};
use super::sink::Sink;
use crate::packet::{
    ConnAck, Connect, Entries, Packet, PacketType, Publish, SubAck, SubAckReturnCodes, Subscribe,
    Subscriptions, TopicFilters, Unsubscribe,
};
use crate::types::PacketIdentifier;

/// Writes a packet and says how many bytes it has.
#[inline]
pub(super) fn packet<S: Sink>(packet: &Packet<'_>, sink: &mut S) -> Result<usize, EncodeError> {
    match packet {
        Packet::Publish(packet) => publish(packet, sink),
        Packet::PubAck(id) => acknowledgement(PacketType::PubAck, *id, sink),
        Packet::PubRec(id) => acknowledgement(PacketType::PubRec, *id, sink),
        Packet::PubRel(id) => acknowledgement(PacketType::PubRel, *id, sink),
        Packet::PubComp(id) => acknowledgement(PacketType::PubComp, *id, sink),
        Packet::UnsubAck(id) => acknowledgement(PacketType::UnsubAck, *id, sink),
        Packet::Connect(packet) => connect(packet, sink),
        Packet::ConnAck(packet) => connack(*packet, sink),
        Packet::Subscribe(packet) => subscribe(packet, sink),
        Packet::SubAck(packet) => suback(packet, sink),
        Packet::Unsubscribe(packet) => unsubscribe(packet, sink),
        Packet::PingReq => short([first_byte(PacketType::PingReq), 0], sink),
        Packet::PingResp => short([first_byte(PacketType::PingResp), 0], sink),
        Packet::Disconnect => short([first_byte(PacketType::Disconnect), 0], sink),
    }
}

#[inline(always)]
fn publish<S: Sink>(publish: &Publish<'_>, sink: &mut S) -> Result<usize, EncodeError> {
    let remaining = publish_length(publish)?;
    let length = encoded_len(remaining);
    sink.make_room(length)?;
    before_payload(publish, remaining, sink);
    sink.bytes(publish.payload);
    Ok(length)
}

/// Writes everything of a PUBLISH before its payload and says how many bytes that has.
#[inline]
pub(super) fn publish_header<S: Sink>(
    publish: &Publish<'_>,
    sink: &mut S,
) -> Result<usize, EncodeError> {
    let remaining = publish_length(publish)?;
    let length = encoded_len(remaining) - publish.payload.len();
    sink.make_room(length)?;
    before_payload(publish, remaining, sink);
    Ok(length)
}

#[inline(always)]
fn before_payload<S: Sink>(publish: &Publish<'_>, remaining: u32, sink: &mut S) {
    let topic = publish.topic.as_str().as_bytes();
    let flags =
        (publish.qos() as u8) << 1 | u8::from(publish.dup()) << 3 | u8::from(publish.retain);
    begin((PacketType::Publish as u8) << 4 | flags, remaining, prefix(topic), sink);
    sink.bytes(topic);
    if let Some(id) = publish.packet_identifier() {
        sink.array(id.get().to_be_bytes());
    }
}

#[inline(always)]
fn acknowledgement<S: Sink>(
    packet_type: PacketType,
    id: PacketIdentifier,
    sink: &mut S,
) -> Result<usize, EncodeError> {
    let [high, low] = id.get().to_be_bytes();
    short([first_byte(packet_type), 2, high, low], sink)
}

#[inline(always)]
fn connack<S: Sink>(packet: ConnAck, sink: &mut S) -> Result<usize, EncodeError> {
    let (flags, code) = match packet {
        ConnAck::Accepted { session_present } => (u8::from(session_present), 0),
        ConnAck::Refused(refusal) => (0, refusal as u8),
    };
    short([first_byte(PacketType::ConnAck), 2, flags, code], sink)
}

/// Writes a packet of fixed length.
#[inline(always)]
fn short<const N: usize, S: Sink>(packet: [u8; N], sink: &mut S) -> Result<usize, EncodeError> {
    sink.make_room(N)?;
    sink.array(packet);
    Ok(N)
}

fn connect<S: Sink>(packet: &Connect<'_>, sink: &mut S) -> Result<usize, EncodeError> {
    let remaining = connect_length(packet)?;
    let length = encoded_len(remaining);
    sink.make_room(length)?;
    let mut flags = u8::from(packet.clean_session) << 1;
    if let Some(will) = &packet.will {
        flags |= 0b0000_0100 | (will.qos as u8) << 3 | u8::from(will.retain) << 5;
    }
    if let Some(login) = &packet.login {
        flags |= 0b1000_0000 | u8::from(login.password.is_some()) << 6;
    }
    let [high, low] = packet.keep_alive.to_be_bytes();
    begin(first_byte(PacketType::Connect), remaining, [0, 4], sink);
    sink.array([b'M', b'Q', b'T', b'T', 4, flags, high, low]);
    field(packet.client_id.as_bytes(), sink);
    if let Some(will) = &packet.will {
        field(will.topic.as_str().as_bytes(), sink);
        field(will.message, sink);
    }
    if let Some(login) = &packet.login {
        field(login.username.as_bytes(), sink);
        if let Some(password) = login.password {
            field(password, sink);
        }
    }
    Ok(length)
}

fn subscribe<S: Sink>(packet: &Subscribe<'_>, sink: &mut S) -> Result<usize, EncodeError> {
    let remaining = subscribe_length(packet)?;
    let length = encoded_len(remaining);
    sink.make_room(length)?;
    begin(first_byte(PacketType::Subscribe), remaining, packet.id.get().to_be_bytes(), sink);
    subscriptions(&packet.filters, sink);
    Ok(length)
}

fn suback<S: Sink>(packet: &SubAck<'_>, sink: &mut S) -> Result<usize, EncodeError> {
    let remaining = limited(2 + packet.return_codes.len() as u64)?;
    let length = encoded_len(remaining);
    sink.make_room(length)?;
    begin(first_byte(PacketType::SubAck), remaining, packet.id.get().to_be_bytes(), sink);
    return_codes(&packet.return_codes, sink);
    Ok(length)
}

fn unsubscribe<S: Sink>(packet: &Unsubscribe<'_>, sink: &mut S) -> Result<usize, EncodeError> {
    let remaining = unsubscribe_length(packet)?;
    let length = encoded_len(remaining);
    sink.make_room(length)?;
    begin(first_byte(PacketType::Unsubscribe), remaining, packet.id.get().to_be_bytes(), sink);
    topic_filters(&packet.filters, sink);
    Ok(length)
}

/// Writes the payload of a SUBSCRIBE. A list that was decoded is in wire form already.
#[inline]
pub(crate) fn subscriptions<S: Sink>(list: &Subscriptions<'_>, sink: &mut S) {
    match list.0 {
        Entries::Wire { bytes, .. } => sink.bytes(bytes),
        Entries::Slice(entries) => {
            for (filter, qos) in entries {
                field(filter.as_str().as_bytes(), sink);
                sink.array([*qos as u8]);
            }
        }
    }
}

/// Writes the payload of a SUBACK.
#[inline]
pub(crate) fn return_codes<S: Sink>(list: &SubAckReturnCodes<'_>, sink: &mut S) {
    match list.0 {
        Entries::Wire { bytes, .. } => sink.bytes(bytes),
        Entries::Slice(codes) => {
            for code in codes {
                sink.array([u8::from(*code)]);
            }
        }
    }
}

/// Writes the payload of an UNSUBSCRIBE.
#[inline]
pub(crate) fn topic_filters<S: Sink>(list: &TopicFilters<'_>, sink: &mut S) {
    match list.0 {
        Entries::Wire { bytes, .. } => sink.bytes(bytes),
        Entries::Slice(filters) => {
            for filter in filters {
                field(filter.as_str().as_bytes(), sink);
            }
        }
    }
}

/// The first byte of every type but PUBLISH.
#[inline(always)]
const fn first_byte(packet_type: PacketType) -> u8 {
    let flags = match packet_type.fixed_flags() {
        Some(flags) => flags,
        None => 0,
    };
    (packet_type as u8) << 4 | flags
}

/// Writes the fixed header together with the two bytes behind it, which every packet of varying
/// length has (an identifier or the length of a text): one write instead of several.
#[inline(always)]
fn begin<S: Sink>(first: u8, remaining: u32, [high, low]: [u8; 2], sink: &mut S) {
    // Seven bits of the remaining length; all but the last byte have bit 7 set.
    let seven = |shift: u32| (remaining >> shift & 0x7F) as u8;
    match remaining {
        0..=0x7F => sink.array([first, seven(0), high, low]),
        0x80..=0x3FFF => sink.array([first, seven(0) | 0x80, seven(7), high, low]),
        0x4000..=0x1F_FFFF => {
            sink.array([first, seven(0) | 0x80, seven(7) | 0x80, seven(14), high, low]);
        }
        _ => {
            let length = [seven(0) | 0x80, seven(7) | 0x80, seven(14) | 0x80, seven(21)];
            sink.array([first, length[0], length[1], length[2], length[3], high, low]);
        }
    }
}

/// Writes bytes behind their length in two bytes.
#[inline(always)]
fn field<S: Sink>(bytes: &[u8], sink: &mut S) {
    sink.array(prefix(bytes));
    sink.bytes(bytes);
}

/// The length of a field that was checked to have one of two bytes.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "no field longer than 65,535 gets here")]
fn prefix(bytes: &[u8]) -> [u8; 2] {
    (bytes.len() as u16).to_be_bytes()
}
