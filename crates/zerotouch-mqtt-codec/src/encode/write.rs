//! Writes packets that were checked, into room that was made.

use super::sink::Sink;
use crate::packet::{
    ConnAck, Connect, Delivery, Entries, Packet, PacketType, Publish, SubAck, SubAckReturnCodes,
    Subscribe, Subscriptions, TopicFilters, Unsubscribe,
};
use crate::types::PacketIdentifier;

/// Writes a packet of that remaining length.
#[inline]
pub(super) fn packet<S: Sink>(packet: &Packet<'_>, remaining: u32, sink: &mut S) {
    match packet {
        Packet::Publish(publish) => {
            publish_header(publish, remaining, sink);
            sink.bytes(publish.payload);
        }
        Packet::PubAck(id) => acknowledgement(PacketType::PubAck, *id, sink),
        Packet::PubRec(id) => acknowledgement(PacketType::PubRec, *id, sink),
        Packet::PubRel(id) => acknowledgement(PacketType::PubRel, *id, sink),
        Packet::PubComp(id) => acknowledgement(PacketType::PubComp, *id, sink),
        Packet::UnsubAck(id) => acknowledgement(PacketType::UnsubAck, *id, sink),
        Packet::Connect(packet) => connect(packet, remaining, sink),
        Packet::ConnAck(packet) => connack(*packet, sink),
        Packet::Subscribe(packet) => subscribe(packet, remaining, sink),
        Packet::SubAck(packet) => suback(packet, remaining, sink),
        Packet::Unsubscribe(packet) => unsubscribe(packet, remaining, sink),
        Packet::PingReq => sink.array([first_byte(PacketType::PingReq), 0]),
        Packet::PingResp => sink.array([first_byte(PacketType::PingResp), 0]),
        Packet::Disconnect => sink.array([first_byte(PacketType::Disconnect), 0]),
    }
}

/// Writes everything of a PUBLISH before its payload.
#[inline]
pub(super) fn publish_header<S: Sink>(publish: &Publish<'_>, remaining: u32, sink: &mut S) {
    let topic = publish.topic.as_str();
    let flags = match publish.delivery {
        Delivery::AtMostOnce => 0b0000,
        Delivery::AtLeastOnce { dup: false, .. } => 0b0010,
        Delivery::AtLeastOnce { dup: true, .. } => 0b1010,
        Delivery::ExactlyOnce { dup: false, .. } => 0b0100,
        Delivery::ExactlyOnce { dup: true, .. } => 0b1100,
    };
    let first = (PacketType::Publish as u8) << 4 | flags | u8::from(publish.retain);
    begin(first, remaining, prefix(topic.as_bytes()), sink);
    sink.bytes(topic.as_bytes());
    if let Some(id) = publish.packet_identifier() {
        sink.array(id.get().to_be_bytes());
    }
}

#[inline]
fn acknowledgement<S: Sink>(packet_type: PacketType, id: PacketIdentifier, sink: &mut S) {
    let [high, low] = id.get().to_be_bytes();
    sink.array([first_byte(packet_type), 2, high, low]);
}

fn connack<S: Sink>(packet: ConnAck, sink: &mut S) {
    let (flags, code) = match packet {
        ConnAck::Accepted { session_present } => (u8::from(session_present), 0),
        ConnAck::Refused(refusal) => (0, refusal as u8),
    };
    sink.array([first_byte(PacketType::ConnAck), 2, flags, code]);
}

fn connect<S: Sink>(packet: &Connect<'_>, remaining: u32, sink: &mut S) {
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
}

fn subscribe<S: Sink>(packet: &Subscribe<'_>, remaining: u32, sink: &mut S) {
    begin(first_byte(PacketType::Subscribe), remaining, packet.id.get().to_be_bytes(), sink);
    subscriptions(&packet.filters, sink);
}

fn suback<S: Sink>(packet: &SubAck<'_>, remaining: u32, sink: &mut S) {
    begin(first_byte(PacketType::SubAck), remaining, packet.id.get().to_be_bytes(), sink);
    return_codes(&packet.return_codes, sink);
}

fn unsubscribe<S: Sink>(packet: &Unsubscribe<'_>, remaining: u32, sink: &mut S) {
    begin(first_byte(PacketType::Unsubscribe), remaining, packet.id.get().to_be_bytes(), sink);
    topic_filters(&packet.filters, sink);
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
#[inline]
const fn first_byte(packet_type: PacketType) -> u8 {
    let flags = match packet_type.fixed_flags() {
        Some(flags) => flags,
        None => 0,
    };
    (packet_type as u8) << 4 | flags
}

/// Writes the fixed header together with the two bytes behind it, which every packet of varying
/// length has (an identifier or the length of a text): one write instead of several.
#[inline]
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
#[inline]
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
