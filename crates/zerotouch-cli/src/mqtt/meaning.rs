//! The meaning of a packet, as the codec's golden vectors write it in JSON.

use std::fmt;

use serde::{Serialize, Serializer};
use zerotouch_mqtt_codec::{
    ConnAck, Connect, Packet, PacketIdentifier, Publish, SubAck, Subscribe, TopicFilter,
    Unsubscribe, Will,
};

/// A packet on its line. Written from where its bytes lie: however large it is, no second copy is made.
#[derive(Serialize)]
pub(crate) struct Line<'a> {
    direction: &'static str,
    #[serde(rename = "type")]
    packet_type: &'static str,
    #[serde(flatten)]
    members: Members<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Members<'a> {
    Connect {
        keep_alive: u16,
        clean_session: bool,
        client_id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        will: Option<WillMembers<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        username: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        password_hex: Option<Hex<'a>>,
    },
    ConnAck {
        session_present: bool,
        return_code: u8,
    },
    Publish {
        dup: bool,
        qos: u8,
        retain: bool,
        topic: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        packet_id: Option<u16>,
        payload_hex: Hex<'a>,
    },
    Subscribe {
        packet_id: u16,
        filters: Vec<(&'a str, u8)>,
    },
    SubAck {
        packet_id: u16,
        return_codes: Vec<u8>,
    },
    Unsubscribe {
        packet_id: u16,
        filters: Vec<&'a str>,
    },
    Acknowledgement {
        packet_id: u16,
    },
    None {},
}

#[derive(Serialize)]
struct WillMembers<'a> {
    topic: &'a str,
    message_hex: Hex<'a>,
    qos: u8,
    retain: bool,
}

/// Bytes, in lower-case hexadecimal.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |half: u8| DIGITS[usize::from(half)];
        let mut text = [0; 128];
        for chunk in self.0.chunks(text.len() / 2) {
            for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(chunk) {
                *pair = [digit(byte >> 4), digit(byte & 0xF)];
            }
            f.write_str(str::from_utf8(&text[..chunk.len() * 2]).unwrap_or_default())?;
        }
        Ok(())
    }
}

impl Serialize for Hex<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'a> Line<'a> {
    pub(crate) fn new(direction: &'static str, packet: &'a Packet<'a>) -> Self {
        Self {
            direction,
            packet_type: packet.packet_type().name(),
            members: match packet {
                Packet::Connect(connect) => Members::connect(connect),
                Packet::ConnAck(ConnAck::Accepted { session_present }) => {
                    Members::ConnAck { session_present: *session_present, return_code: 0 }
                }
                Packet::ConnAck(ConnAck::Refused(refusal)) => {
                    Members::ConnAck { session_present: false, return_code: *refusal as u8 }
                }
                Packet::Publish(publish) => Members::publish(publish),
                Packet::PubAck(id)
                | Packet::PubRec(id)
                | Packet::PubRel(id)
                | Packet::PubComp(id)
                | Packet::UnsubAck(id) => Members::Acknowledgement { packet_id: id.get() },
                Packet::Subscribe(Subscribe { id, filters }) => Members::Subscribe {
                    packet_id: id.get(),
                    filters: filters.iter().map(|(it, qos)| (it.as_str(), qos as u8)).collect(),
                },
                Packet::SubAck(SubAck { id, return_codes }) => Members::SubAck {
                    packet_id: id.get(),
                    return_codes: return_codes.iter().map(u8::from).collect(),
                },
                Packet::Unsubscribe(Unsubscribe { id, filters }) => Members::Unsubscribe {
                    packet_id: id.get(),
                    filters: filters.iter().map(TopicFilter::as_str).collect(),
                },
                Packet::PingReq | Packet::PingResp | Packet::Disconnect => Members::None {},
            },
        }
    }
}

impl<'a> Members<'a> {
    fn connect(connect: &Connect<'a>) -> Self {
        Self::Connect {
            keep_alive: connect.keep_alive,
            clean_session: connect.clean_session,
            client_id: connect.client_id.as_str(),
            will: connect.will.map(|Will { topic, message, qos, retain }| WillMembers {
                topic: topic.as_str(),
                message_hex: Hex(message),
                qos: qos as u8,
                retain,
            }),
            username: connect.login.map(|login| login.username.as_str()),
            password_hex: connect.login.and_then(|login| login.password).map(Hex),
        }
    }

    fn publish(publish: &Publish<'a>) -> Self {
        Self::Publish {
            dup: publish.dup(),
            qos: publish.qos() as u8,
            retain: publish.retain,
            topic: publish.topic.as_str(),
            packet_id: publish.packet_identifier().map(PacketIdentifier::get),
            payload_hex: Hex(publish.payload),
        }
    }
}
