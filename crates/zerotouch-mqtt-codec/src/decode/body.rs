//! What follows the fixed header, packet type by packet type (chapter 3).
//!
//! Written by hand rather than with the nom parser combinators. A plain nom 8 parser of the four most
//! used packets is a peer in the project's benchmarks: with a PUBLISH of 16 and 256 bytes, the hot path,
//! it takes 27 and 29 ns where this one takes 22, the copy to the receive buffer included.
//! And each field has a rule, an offset and a name to report, which combinators would have to be told.

use super::header::FixedHeader;
use super::reader::Reader;
use super::{DecodeError, DecodeErrorKind, Field};
use crate::packet::{
    ConnAck, Connect, ConnectRefusal, Delivery, Entries, Login, Packet, PacketType, Publish,
    SubAck, SubAckReturnCode, SubAckReturnCodes, Subscribe, Subscriptions, TopicFilters,
    Unsubscribe, Will,
};
use crate::types::QoS;

/// The protocol level of MQTT 3.1.1 (section 3.1.2.2).
const PROTOCOL_LEVEL: u8 = 4;

/// Decodes a packet whose fixed header has been judged; `body` is all that follows it.
///
/// What becomes of the packet is up to `found`, which each arm calls for itself: so the packet is
/// written where it is to be at once, rather than moved there, which for its hundred bytes takes longer
/// than decoding an acknowledgement.
#[inline(always)]
pub(crate) fn decode<'a, R>(
    header: &FixedHeader,
    body: &'a [u8],
    found: impl FnOnce(Packet<'a>) -> R,
) -> Result<R, DecodeError> {
    let mut reader = Reader::new(header.packet_type, header.packet_len, body);
    // The exact length of acknowledgements and empty packets was judged with the header.
    match header.packet_type {
        PacketType::Publish => Ok(found(Packet::Publish(publish(&mut reader, header.flags)?))),
        PacketType::PubAck => Ok(found(Packet::PubAck(reader.packet_identifier()?))),
        PacketType::PubRec => Ok(found(Packet::PubRec(reader.packet_identifier()?))),
        PacketType::PubRel => Ok(found(Packet::PubRel(reader.packet_identifier()?))),
        PacketType::PubComp => Ok(found(Packet::PubComp(reader.packet_identifier()?))),
        PacketType::Connect => connect(&mut reader, found),
        PacketType::ConnAck => apart(reader, connack, found),
        PacketType::Subscribe => apart(reader, subscribe, found),
        PacketType::SubAck => apart(reader, suback, found),
        PacketType::Unsubscribe => apart(reader, unsubscribe, found),
        PacketType::UnsubAck => apart(reader, unsuback, found),
        PacketType::PingReq => Ok(found(Packet::PingReq)),
        PacketType::PingResp => Ok(found(Packet::PingResp)),
        PacketType::Disconnect => Ok(found(Packet::Disconnect)),
    }
}

/// Decodes a packet that carries no message out of line, which keeps the way of those that do short.
#[inline(never)]
fn apart<'a, T: Into<Packet<'a>>, R>(
    mut reader: Reader<'a>,
    decode: impl FnOnce(&mut Reader<'a>) -> Result<T, DecodeError>,
    found: impl FnOnce(Packet<'a>) -> R,
) -> Result<R, DecodeError> {
    Ok(found(decode(&mut reader)?.into()))
}

#[inline(always)]
fn publish<'a>(reader: &mut Reader<'a>, flags: u8) -> Result<Publish<'a>, DecodeError> {
    let topic = reader.topic_name(Field::TopicName)?;
    let dup = flags & 0b1000 != 0;
    let delivery = match flags & 0b0110 {
        0b0000 => Delivery::AtMostOnce,
        0b0010 => Delivery::AtLeastOnce { id: reader.packet_identifier()?, dup },
        // QoS 3 was refused with the first byte.
        _ => Delivery::ExactlyOnce { id: reader.packet_identifier()?, dup },
    };
    Ok(Publish { topic, payload: reader.rest(), retain: flags & 0b0001 != 0, delivery })
}

/// The connect flags (section 3.1.2.3), whose rules are about bits that may not stand together.
struct ConnectFlags {
    clean_session: bool,
    /// QoS and RETAIN.
    will: Option<(QoS, bool)>,
    username: bool,
    password: bool,
}

impl ConnectFlags {
    fn new(flags: u8) -> Result<Self, DecodeErrorKind> {
        if flags & 0b0000_0001 != 0 {
            return Err(DecodeErrorKind::ReservedConnectFlag);
        }
        let will_qos = flags >> 3 & 0b11;
        let will_retain = flags & 0b0010_0000 != 0;
        let will = if flags & 0b0000_0100 != 0 {
            let qos = QoS::from_u8(will_qos).ok_or(DecodeErrorKind::InvalidWillQoS)?;
            Some((qos, will_retain))
        } else if will_qos != 0 {
            return Err(DecodeErrorKind::WillQoSWithoutWill);
        } else if will_retain {
            return Err(DecodeErrorKind::WillRetainWithoutWill);
        } else {
            None
        };
        let (username, password) = (flags & 0b1000_0000 != 0, flags & 0b0100_0000 != 0);
        if password && !username {
            return Err(DecodeErrorKind::PasswordWithoutUserName);
        }
        Ok(Self { clean_session: flags & 0b0000_0010 != 0, will, username, password })
    }
}

/// Out of line as well, but with the packet written to its place: it is the largest.
#[inline(never)]
fn connect<'a, R>(
    reader: &mut Reader<'a>,
    found: impl FnOnce(Packet<'a>) -> R,
) -> Result<R, DecodeError> {
    let start = reader.offset();
    if reader.binary(Field::ProtocolName)? != b"MQTT" {
        return Err(reader.error(DecodeErrorKind::InvalidProtocolName, start));
    }
    let level = reader.u8(Field::ProtocolLevel)?;
    if level != PROTOCOL_LEVEL {
        return Err(reader.error_before(DecodeErrorKind::UnsupportedProtocolLevel(level)));
    }
    let flags = ConnectFlags::new(reader.u8(Field::ConnectFlags)?)
        .map_err(|kind| reader.error_before(kind))?;
    let keep_alive = reader.u16(Field::KeepAlive)?;
    let client_id = reader.text(Field::ClientId)?;
    let will = match flags.will {
        Some((qos, retain)) => Some(Will {
            topic: reader.topic_name(Field::WillTopic)?,
            message: reader.binary(Field::WillMessage)?,
            qos,
            retain,
        }),
        None => None,
    };
    let login = if flags.username {
        let username = reader.text(Field::UserName)?;
        let password = if flags.password { Some(reader.binary(Field::Password)?) } else { None };
        Some(Login { username, password })
    } else {
        None
    };
    if !reader.rest().is_empty() {
        let kind = DecodeErrorKind::TrailingBytes { count: reader.rest().len() };
        return Err(reader.error(kind, reader.offset()));
    }
    let clean_session = flags.clean_session;
    Ok(found(Packet::Connect(Connect { client_id, clean_session, keep_alive, will, login })))
}

fn connack(reader: &mut Reader<'_>) -> Result<ConnAck, DecodeError> {
    // Two bytes, as the header's length was judged.
    let [flags, code] = reader.u16(Field::AcknowledgeFlags)?.to_be_bytes();
    let at_flags = reader.offset() - 2;
    let session_present = match flags {
        0 => false,
        1 => true,
        _ => {
            return Err(reader.error(DecodeErrorKind::ReservedAcknowledgeFlags(flags), at_flags));
        }
    };
    if code == 0 {
        return Ok(ConnAck::Accepted { session_present });
    }
    match ConnectRefusal::from_u8(code) {
        None => Err(reader.error_before(DecodeErrorKind::ReservedConnectReturnCode(code))),
        Some(_) if session_present => {
            Err(reader.error(DecodeErrorKind::SessionPresentOnRefusal, at_flags))
        }
        Some(refusal) => Ok(ConnAck::Refused(refusal)),
    }
}

fn subscribe<'a>(reader: &mut Reader<'a>) -> Result<Subscribe<'a>, DecodeError> {
    let id = reader.packet_identifier()?;
    let bytes = reader.rest();
    let mut count = 0;
    while !reader.rest().is_empty() {
        reader.topic_filter()?;
        let qos = reader.u8(Field::RequestedQoS)?;
        if QoS::from_u8(qos).is_none() {
            return Err(reader.error_before(DecodeErrorKind::InvalidRequestedQoS(qos)));
        }
        count += 1;
    }
    if count == 0 {
        return Err(no_filters(*reader, PacketType::Subscribe));
    }
    Ok(Subscribe { id, filters: Subscriptions(Entries::Wire { bytes, count }) })
}

fn unsubscribe<'a>(reader: &mut Reader<'a>) -> Result<Unsubscribe<'a>, DecodeError> {
    let id = reader.packet_identifier()?;
    let bytes = reader.rest();
    let mut count = 0;
    while !reader.rest().is_empty() {
        reader.topic_filter()?;
        count += 1;
    }
    if count == 0 {
        return Err(no_filters(*reader, PacketType::Unsubscribe));
    }
    Ok(Unsubscribe { id, filters: TopicFilters(Entries::Wire { bytes, count }) })
}

#[cold]
fn no_filters(reader: Reader<'_>, packet_type: PacketType) -> DecodeError {
    reader.error(DecodeErrorKind::NoTopicFilters { packet_type }, reader.offset())
}

fn suback<'a>(reader: &mut Reader<'a>) -> Result<SubAck<'a>, DecodeError> {
    let id = reader.packet_identifier()?;
    let bytes = reader.rest();
    if bytes.is_empty() {
        return Err(reader.error(DecodeErrorKind::NoReturnCodes, reader.offset()));
    }
    for (position, code) in bytes.iter().enumerate() {
        if SubAckReturnCode::from_u8(*code).is_none() {
            let kind = DecodeErrorKind::ReservedSubAckReturnCode(*code);
            return Err(reader.error(kind, reader.offset() + position));
        }
    }
    let return_codes = SubAckReturnCodes(Entries::Wire { bytes, count: bytes.len() });
    Ok(SubAck { id, return_codes })
}

fn unsuback<'a>(reader: &mut Reader<'a>) -> Result<Packet<'a>, DecodeError> {
    Ok(Packet::UnsubAck(reader.packet_identifier()?))
}
