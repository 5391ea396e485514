//! Writes packets: measures and checks one, makes room for it, and then nothing can fail any more.

use super::EncodeError;
use super::length::{connect_length, encoded_len, list_length, publish_length};
use super::sink::{Few, Parts, Sink};
use crate::packet::{
    ConnAck, Connect, Delivery, Entries, Packet, PacketType, Publish, SubAckReturnCode,
};
use crate::topic::TopicFilter;
use crate::types::{PacketIdentifier, QoS};

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
        Packet::Subscribe(packet) => list(PacketType::Subscribe, packet.id, packet.filters.0, sink),
        Packet::SubAck(packet) => list(PacketType::SubAck, packet.id, packet.return_codes.0, sink),
        Packet::Unsubscribe(packet) => {
            list(PacketType::Unsubscribe, packet.id, packet.filters.0, sink)
        }
        Packet::PingReq => short([first_byte(PacketType::PingReq), 0], sink),
        Packet::PingResp => short([first_byte(PacketType::PingResp), 0], sink),
        Packet::Disconnect => short([first_byte(PacketType::Disconnect), 0], sink),
    }
}

#[inline(always)]
fn publish<S: Sink>(publish: &Publish<'_>, sink: &mut S) -> Result<usize, EncodeError> {
    let message = Parts { rest: publish.payload, ..before_payload(publish)? };
    if sink.in_one_step(&message) { Ok(message.len()) } else { in_parts(publish, true, sink) }
}

/// Writes everything of a PUBLISH before its payload and says how many bytes that has.
#[inline]
pub(super) fn publish_header<S: Sink>(
    publish: &Publish<'_>,
    sink: &mut S,
) -> Result<usize, EncodeError> {
    let message = before_payload(publish)?;
    if sink.in_one_step(&message) { Ok(message.len()) } else { in_parts(publish, false, sink) }
}

/// Writes a PUBLISH part by part. Begins anew, so that what was prepared for a single step need not leave
/// the registers.
#[inline(never)]
fn in_parts<S: Sink>(
    publish: &Publish<'_>,
    with_payload: bool,
    sink: &mut S,
) -> Result<usize, EncodeError> {
    let mut message = before_payload(publish)?;
    if with_payload {
        message.rest = publish.payload;
    }
    sink.make_room(message.len())?;
    message.append_to(sink);
    Ok(message.len())
}

/// A PUBLISH but for its payload.
#[inline(always)]
fn before_payload<'a>(publish: &Publish<'a>) -> Result<Parts<'a>, EncodeError> {
    let remaining = publish_length(publish)?;
    let topic = publish.topic.as_str().as_bytes();
    let (flags, behind) = match publish.delivery {
        Delivery::AtMostOnce => (0b0000, Few::NONE),
        Delivery::AtLeastOnce { id, dup } => (0b0010 | u8::from(dup) << 3, Few::u16(id.get())),
        Delivery::ExactlyOnce { id, dup } => (0b0100 | u8::from(dup) << 3, Few::u16(id.get())),
    };
    let first = (PacketType::Publish as u8) << 4 | flags | u8::from(publish.retain);
    let before = fixed_header(first, remaining).and(Few::u16(prefix(topic)));
    Ok(Parts { before, field: topic, behind, rest: &[] })
}

/// A fixed header (section 2.2): seven bits of the remaining length a byte, the lowest first, bit 7 set in
/// all but the last.
#[inline(always)]
fn fixed_header(first: u8, remaining: u32) -> Few {
    let seven = |shift: u32| Few::one((remaining >> shift & 0x7F) as u8);
    let more = |shift: u32| Few::one((remaining >> shift & 0x7F) as u8 | 0x80);
    let first = Few::one(first);
    match remaining {
        0..=0x7F => first.and(seven(0)),
        0x80..=0x3FFF => first.and(more(0)).and(seven(7)),
        0x4000..=0x1F_FFFF => first.and(more(0)).and(more(7)).and(seven(14)),
        _ => first.and(more(0)).and(more(7)).and(more(14)).and(seven(21)),
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

#[inline(always)]
fn connect<S: Sink>(packet: &Connect<'_>, sink: &mut S) -> Result<usize, EncodeError> {
    let remaining = connect_length(packet)?;
    let length = encoded_len(remaining);
    let password = packet.login.and_then(|login| login.password).unwrap_or_default();
    let before = length - password.len();
    if sink.at_once(before, |room| before_password(packet, remaining, room)) {
        sink.bytes(password);
    } else {
        connect_in_parts(packet, remaining, password, sink)?;
    }
    Ok(length)
}

/// Writes a CONNECT part by part, out of line, so that the other way is the only one where it is called.
#[inline(never)]
fn connect_in_parts<S: Sink>(
    packet: &Connect<'_>,
    remaining: u32,
    password: &[u8],
    sink: &mut S,
) -> Result<(), EncodeError> {
    sink.make_room(encoded_len(remaining))?;
    before_password(packet, remaining, sink);
    sink.bytes(password);
    Ok(())
}

/// A CONNECT but for the bytes of its password, which come last and are the longest of its fields.
#[inline(always)]
fn before_password<S: Sink>(packet: &Connect<'_>, remaining: u32, sink: &mut S) {
    let mut flags = u8::from(packet.clean_session) << 1;
    if let Some(will) = &packet.will {
        flags |= 0b0000_0100 | (will.qos as u8) << 3 | u8::from(will.retain) << 5;
    }
    if let Some(login) = &packet.login {
        flags |= 0b1000_0000 | u8::from(login.password.is_some()) << 6;
    }
    let [high, low] = packet.keep_alive.to_be_bytes();
    let client_id = packet.client_id.as_str().as_bytes();
    let [length_high, length_low] = prefix(client_id).to_be_bytes();
    let header = [0, 4, b'M', b'Q', b'T', b'T', 4, flags, high, low, length_high, length_low];
    begin(first_byte(PacketType::Connect), remaining, header, sink);
    sink.bytes(client_id);
    if let Some(will) = &packet.will {
        field(will.topic.as_str().as_bytes(), sink);
        field(will.message, sink);
    }
    if let Some(login) = &packet.login {
        field(login.username.as_str().as_bytes(), sink);
        if let Some(password) = login.password {
            sink.array(prefix(password).to_be_bytes());
        }
    }
}

/// Writes a packet that has an identifier and a list.
#[inline(never)]
fn list<T: Entry, S: Sink>(
    packet_type: PacketType,
    id: PacketIdentifier,
    list: Entries<'_, T>,
    sink: &mut S,
) -> Result<usize, EncodeError> {
    let remaining = list_length(list)?;
    let length = encoded_len(remaining);
    let (first, id) = (first_byte(packet_type), id.get().to_be_bytes());
    let at_once = sink.at_once(length, |room| {
        begin(first, remaining, id, room);
        entries(list, room);
    });
    if !at_once {
        sink.make_room(length)?;
        begin(first, remaining, id, sink);
        entries(list, sink);
    }
    Ok(length)
}

/// Writes a list. One that was decoded is in wire form already.
#[inline(always)]
pub(crate) fn entries<T: Entry, S: Sink>(list: Entries<'_, T>, sink: &mut S) {
    match list {
        Entries::Wire { bytes, .. } => sink.bytes(bytes),
        Entries::Slice { entries, .. } => entries.iter().for_each(|entry| entry.write_to(sink)),
    }
}

/// An entry of a list.
pub(crate) trait Entry {
    fn write_to<S: Sink>(&self, sink: &mut S);
}

impl Entry for (TopicFilter<'_>, QoS) {
    #[inline(always)]
    fn write_to<S: Sink>(&self, sink: &mut S) {
        filter(self.0, Few::one(self.1 as u8), sink);
    }
}

impl Entry for TopicFilter<'_> {
    #[inline(always)]
    fn write_to<S: Sink>(&self, sink: &mut S) {
        filter(*self, Few::NONE, sink);
    }
}

impl Entry for SubAckReturnCode {
    #[inline(always)]
    fn write_to<S: Sink>(&self, sink: &mut S) {
        sink.array([u8::from(*self)]);
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

/// Writes the fixed header together with the bytes behind it whose number is known (an identifier, a
/// variable header): one write instead of several.
#[inline(always)]
fn begin<const N: usize, S: Sink>(first: u8, remaining: u32, behind: [u8; N], sink: &mut S) {
    // Seven bits of the remaining length; all but the last byte have bit 7 set.
    let seven = |shift: u32| (remaining >> shift & 0x7F) as u8;
    let more = |shift: u32| seven(shift) | 0x80;
    match remaining {
        0..=0x7F => sink.array([first, seven(0)]),
        0x80..=0x3FFF => sink.array([first, more(0), seven(7)]),
        0x4000..=0x1F_FFFF => sink.array([first, more(0), more(7), seven(14)]),
        _ => sink.array([first, more(0), more(7), more(14), seven(21)]),
    }
    sink.array(behind);
}

/// Writes bytes behind their length in two bytes.
#[inline(always)]
fn field<S: Sink>(bytes: &[u8], sink: &mut S) {
    sink.array(prefix(bytes).to_be_bytes());
    sink.bytes(bytes);
}

/// Writes a topic filter, and a few bytes behind it.
#[inline(always)]
fn filter<S: Sink>(filter: TopicFilter<'_>, behind: Few, sink: &mut S) {
    let bytes = filter.as_str().as_bytes();
    let parts = Parts { before: Few::u16(prefix(bytes)), field: bytes, behind, rest: &[] };
    parts.append_to(sink);
}

/// The length of a field that was checked to have one of two bytes.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "no field longer than 65,535 gets here")]
fn prefix(bytes: &[u8]) -> u16 {
    bytes.len() as u16
}
