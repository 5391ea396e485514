//! Any bytes mean the same to two codecs written by others, or the difference is a known fault of theirs.
//!
//! What we accept, both must accept, and find the same fields. What we refuse, neither may accept, unless
//! it is listed below as a rule that this codec does not know, with the statement of the standard that
//! decides. A packet that breaks such a rule is not shown to that codec at all: some make it panic.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use mqttbytes::v4 as theirs;
use mqttrs::QosPid;
use zerotouch_mqtt_codec::{ConnAck, DecodeErrorKind as Rule, Decoded, Packet, QoS, decode};

/// The rules that mqttrs 0.4.1 does not know.
fn unknown_to_mqttrs(rule: Rule) -> bool {
    match rule {
        // It reads beyond the packet's end, into the next one or to a panic (section 2.2.3: the remaining
        // length is what the packet has), and leaves what is behind the last field.
        Rule::Truncated(_) | Rule::ImpossibleLength { .. } | Rule::TrailingBytes { .. } => true,
        // It speaks MQTT 3.1 as well, whose name is "MQIsdp" [MQTT-3.1.2-1].
        Rule::InvalidProtocolName => true,
        // [MQTT-3.1.2-3], [MQTT-3.1.2-13], [MQTT-3.1.2-15], [MQTT-3.1.2-22]
        Rule::ReservedConnectFlag
        | Rule::WillQoSWithoutWill
        | Rule::WillRetainWithoutWill
        | Rule::PasswordWithoutUserName => true,
        // [MQTT-1.5.3-2], [MQTT-4.7.3-1], [MQTT-3.3.2-2], [MQTT-4.7.1-2], [MQTT-4.7.1-3]
        Rule::NulCharacter(_)
        | Rule::EmptyTopic(_)
        | Rule::WildcardInTopicName(_)
        | Rule::MisplacedMultiLevelWildcard
        | Rule::MisplacedSingleLevelWildcard => true,
        // [MQTT-3.3.1-2]
        Rule::DupOnQoS0 => true,
        // [MQTT-3.8.3-3], [MQTT-3.10.3-2], section 3.9.3
        Rule::NoTopicFilters { .. } | Rule::NoReturnCodes => true,
        // Section 3.2.2.1, [MQTT-3.2.2-4]
        Rule::ReservedAcknowledgeFlags(_) | Rule::SessionPresentOnRefusal => true,
        _ => false,
    }
}

/// The rules that mqttbytes 0.6.0 does not know.
fn unknown_to_mqttbytes(rule: Rule) -> bool {
    match rule {
        // It leaves what is behind the last field (section 2.2.3).
        Rule::ImpossibleLength { .. } | Rule::TrailingBytes { .. } => true,
        // [MQTT-2.2.2-2]
        Rule::ReservedFlags { .. } => true,
        // [MQTT-2.3.1-1], but for PUBLISH
        Rule::ZeroPacketIdentifier { .. } => true,
        // It takes a CONNECT of MQTT 5.0 for one of 3.1.1 [MQTT-3.1.2-2].
        Rule::UnsupportedProtocolLevel(5) => true,
        // [MQTT-3.1.2-3], [MQTT-3.1.2-22]
        Rule::ReservedConnectFlag | Rule::PasswordWithoutUserName => true,
        // [MQTT-1.5.3-2], [MQTT-4.7.3-1], [MQTT-3.3.2-2], [MQTT-4.7.1-2], [MQTT-4.7.1-3]
        Rule::NulCharacter(_)
        | Rule::EmptyTopic(_)
        | Rule::WildcardInTopicName(_)
        | Rule::MisplacedMultiLevelWildcard
        | Rule::MisplacedSingleLevelWildcard => true,
        // [MQTT-3.3.1-2]
        Rule::DupOnQoS0 => true,
        // [MQTT-3.8.3-4]: it looks at two bits of the byte.
        Rule::InvalidRequestedQoS(_) => true,
        // [MQTT-3.8.3-3], [MQTT-3.10.3-2]
        Rule::NoTopicFilters { .. } => true,
        // Section 3.2.2.1, [MQTT-3.2.2-4]
        Rule::ReservedAcknowledgeFlags(_) | Rule::SessionPresentOnRefusal => true,
        _ => false,
    }
}

/// Whether mqttbytes 0.6.0 refuses a packet that is good.
fn refused_by_mqttbytes(packet: &Packet<'_>) -> bool {
    let Packet::Connect(connect) = packet else { return false };
    let password = connect.login.and_then(|login| login.password);
    // A password is binary data (section 3.1.3.5); it asks for UTF-8.
    password.is_some_and(|password| str::from_utf8(password).is_err())
}

/// A packet, in terms that favour no codec.
#[derive(Debug, PartialEq)]
enum Meaning {
    Connect {
        client_id: String,
        clean_session: bool,
        keep_alive: u16,
        will: Option<(String, Vec<u8>, u8, bool)>,
        username: Option<String>,
        password: Option<Vec<u8>>,
    },
    /// Session present, return code.
    ConnAck(bool, u8),
    Publish {
        topic: String,
        payload: Vec<u8>,
        qos: u8,
        id: Option<u16>,
        dup: bool,
        retain: bool,
    },
    /// An acknowledgement, by the number of its type.
    Acknowledgement(u8, u16),
    Subscribe(u16, Vec<(String, u8)>),
    SubAck(u16, Vec<u8>),
    Unsubscribe(u16, Vec<String>),
    /// A packet without content, by the number of its type.
    Empty(u8),
}

fn ours(packet: &Packet<'_>) -> Meaning {
    let number = packet.packet_type() as u8;
    match packet {
        Packet::Connect(connect) => Meaning::Connect {
            client_id: connect.client_id.as_str().into(),
            clean_session: connect.clean_session,
            keep_alive: connect.keep_alive,
            will: connect.will.map(|will| {
                (will.topic.as_str().into(), will.message.into(), will.qos as u8, will.retain)
            }),
            username: connect.login.map(|login| login.username.as_str().into()),
            password: connect.login.and_then(|login| login.password.map(Vec::from)),
        },
        Packet::ConnAck(ConnAck::Accepted { session_present }) => {
            Meaning::ConnAck(*session_present, 0)
        }
        Packet::ConnAck(ConnAck::Refused(refusal)) => Meaning::ConnAck(false, *refusal as u8),
        Packet::Publish(publish) => Meaning::Publish {
            topic: publish.topic.as_str().into(),
            payload: publish.payload.into(),
            qos: publish.qos() as u8,
            id: publish.packet_identifier().map(u16::from),
            dup: publish.dup(),
            retain: publish.retain,
        },
        Packet::PubAck(id)
        | Packet::PubRec(id)
        | Packet::PubRel(id)
        | Packet::PubComp(id)
        | Packet::UnsubAck(id) => Meaning::Acknowledgement(number, id.get()),
        Packet::Subscribe(subscribe) => {
            let entry = |(filter, qos): (zerotouch_mqtt_codec::TopicFilter<'_>, QoS)| {
                (filter.as_str().into(), qos as u8)
            };
            Meaning::Subscribe(subscribe.id.get(), subscribe.filters.iter().map(entry).collect())
        }
        Packet::SubAck(suback) => {
            Meaning::SubAck(suback.id.get(), suback.return_codes.iter().map(u8::from).collect())
        }
        Packet::Unsubscribe(unsubscribe) => {
            let filters = unsubscribe.filters.iter().map(|filter| filter.as_str().into());
            Meaning::Unsubscribe(unsubscribe.id.get(), filters.collect())
        }
        Packet::PingReq | Packet::PingResp | Packet::Disconnect => Meaning::Empty(number),
    }
}

/// What mqttrs makes of a packet: `None` if it wants more, an error if it refuses.
fn by_mqttrs(bytes: &[u8]) -> Result<Option<Meaning>, mqttrs::Error> {
    use mqttrs::Packet;

    let Some(packet) = mqttrs::decode_slice(bytes)? else { return Ok(None) };
    Ok(Some(match packet {
        Packet::Connect(connect) => Meaning::Connect {
            client_id: connect.client_id.into(),
            clean_session: connect.clean_session,
            keep_alive: connect.keep_alive,
            will: connect
                .last_will
                .map(|will| (will.topic.into(), will.message.into(), will.qos as u8, will.retain)),
            username: connect.username.map(String::from),
            password: connect.password.map(Vec::from),
        },
        Packet::Connack(connack) => Meaning::ConnAck(connack.session_present, connack.code as u8),
        Packet::Publish(publish) => {
            let (qos, id) = match publish.qospid {
                QosPid::AtMostOnce => (0, None),
                QosPid::AtLeastOnce(id) => (1, Some(id.get())),
                QosPid::ExactlyOnce(id) => (2, Some(id.get())),
            };
            Meaning::Publish {
                topic: publish.topic_name.into(),
                payload: publish.payload.into(),
                qos,
                id,
                dup: publish.dup,
                retain: publish.retain,
            }
        }
        Packet::Puback(id) => Meaning::Acknowledgement(4, id.get()),
        Packet::Pubrec(id) => Meaning::Acknowledgement(5, id.get()),
        Packet::Pubrel(id) => Meaning::Acknowledgement(6, id.get()),
        Packet::Pubcomp(id) => Meaning::Acknowledgement(7, id.get()),
        Packet::Subscribe(subscribe) => {
            let entries = subscribe.topics.into_iter().map(|t| (t.topic_path, t.qos as u8));
            Meaning::Subscribe(subscribe.pid.get(), entries.collect())
        }
        Packet::Suback(suback) => {
            let code = |code| match code {
                mqttrs::SubscribeReturnCodes::Success(qos) => qos as u8,
                mqttrs::SubscribeReturnCodes::Failure => 0x80,
            };
            Meaning::SubAck(suback.pid.get(), suback.return_codes.into_iter().map(code).collect())
        }
        Packet::Unsubscribe(unsubscribe) => {
            Meaning::Unsubscribe(unsubscribe.pid.get(), unsubscribe.topics)
        }
        Packet::Unsuback(id) => Meaning::Acknowledgement(11, id.get()),
        Packet::Pingreq => Meaning::Empty(12),
        Packet::Pingresp => Meaning::Empty(13),
        Packet::Disconnect => Meaning::Empty(14),
    }))
}

/// What mqttbytes makes of a packet: `None` if it wants more, an error if it refuses.
fn by_mqttbytes(bytes: &[u8]) -> Result<Option<Meaning>, mqttbytes::Error> {
    use mqttbytes::Error;
    use theirs::Packet;

    let packet = match theirs::read(&mut BytesMut::from(bytes), usize::MAX) {
        Ok(packet) => packet,
        Err(Error::InsufficientBytes(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some(match packet {
        Packet::Connect(connect) => Meaning::Connect {
            client_id: connect.client_id,
            clean_session: connect.clean_session,
            keep_alive: connect.keep_alive,
            will: connect
                .last_will
                .map(|will| (will.topic, will.message.into(), will.qos as u8, will.retain)),
            username: connect.login.as_ref().map(|login| login.username.clone()),
            password: connect.login.map(|login| login.password.into_bytes()),
        },
        Packet::ConnAck(connack) => Meaning::ConnAck(connack.session_present, connack.code as u8),
        Packet::Publish(publish) => Meaning::Publish {
            topic: publish.topic,
            payload: publish.payload.into(),
            qos: publish.qos as u8,
            // QoS 0 has no identifier [MQTT-2.3.1-5]; it has the number 0 for that.
            id: Some(publish.pkid).filter(|_| publish.qos != mqttbytes::QoS::AtMostOnce),
            dup: publish.dup,
            retain: publish.retain,
        },
        Packet::PubAck(ack) => Meaning::Acknowledgement(4, ack.pkid),
        Packet::PubRec(ack) => Meaning::Acknowledgement(5, ack.pkid),
        Packet::PubRel(ack) => Meaning::Acknowledgement(6, ack.pkid),
        Packet::PubComp(ack) => Meaning::Acknowledgement(7, ack.pkid),
        Packet::Subscribe(subscribe) => {
            let entries = subscribe.filters.into_iter().map(|f| (f.path, f.qos as u8));
            Meaning::Subscribe(subscribe.pkid, entries.collect())
        }
        Packet::SubAck(suback) => {
            let code = |code| match code {
                theirs::SubscribeReasonCode::Success(qos) => qos as u8,
                theirs::SubscribeReasonCode::Failure => 0x80,
            };
            Meaning::SubAck(suback.pkid, suback.return_codes.into_iter().map(code).collect())
        }
        Packet::Unsubscribe(unsubscribe) => {
            Meaning::Unsubscribe(unsubscribe.pkid, unsubscribe.topics)
        }
        Packet::UnsubAck(ack) => Meaning::Acknowledgement(11, ack.pkid),
        Packet::PingReq => Meaning::Empty(12),
        Packet::PingResp => Meaning::Empty(13),
        Packet::Disconnect => Meaning::Empty(14),
    }))
}

/// What is left of a packet in the types of mqttbytes 0.6.0.
fn without_what_mqttbytes_loses(mut meaning: Meaning) -> Meaning {
    if let Meaning::Connect { username, password, .. } = &mut meaning {
        // It has no place for whether there is a password (section 3.1.2.9), and takes a user name and a
        // password that are both empty for none (section 3.1.3.4 allows either to be so).
        if username.as_ref().is_some_and(String::is_empty)
            && password.as_ref().is_none_or(Vec::is_empty)
        {
            (*username, *password) = (None, None);
        } else if username.is_some() {
            password.get_or_insert_default();
        }
    }
    meaning
}

/// The first packet alone: neither says how much it took, and what follows is not in question.
fn first_packet(bytes: &[u8]) -> &[u8] {
    let mut remaining = 0;
    for (position, byte) in bytes.iter().enumerate().skip(1).take(4) {
        remaining |= usize::from(byte & 0x7F) << (7 * (position - 1));
        if byte & 0x80 == 0 {
            return bytes.get(..1 + position + remaining).unwrap_or(bytes);
        }
    }
    bytes
}

fuzz_target!(|bytes: &[u8]| {
    let bytes = first_packet(bytes);
    match decode(bytes) {
        Ok(Decoded::Complete { packet, used }) => {
            assert_eq!(used, bytes.len());
            let meaning = ours(&packet);
            assert_eq!(by_mqttrs(bytes).unwrap().as_ref(), Some(&meaning), "mqttrs");
            if !refused_by_mqttbytes(&packet) {
                let meaning = without_what_mqttbytes_loses(meaning);
                assert_eq!(by_mqttbytes(bytes).unwrap(), Some(meaning), "mqttbytes");
            }
        }
        Ok(Decoded::Incomplete { .. }) => {
            assert_eq!(by_mqttrs(bytes).unwrap(), None, "mqttrs");
            assert_eq!(by_mqttbytes(bytes).unwrap(), None, "mqttbytes");
        }
        Err(error) => {
            if !unknown_to_mqttrs(error.kind()) {
                // A packet may also be too short, but what we refused comes first. So that mqttrs gets there
                // rather than to a panic, there is something beyond the packet's end to read.
                let bytes = [bytes, &[0; 16]].concat();
                assert!(!matches!(by_mqttrs(&bytes), Ok(Some(_))), "mqttrs accepts: {error}");
            }
            if !unknown_to_mqttbytes(error.kind()) {
                assert!(!matches!(by_mqttbytes(bytes), Ok(Some(_))), "mqttbytes accepts: {error}");
            }
        }
    }
});
