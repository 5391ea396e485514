//! rmqtt-codec: the codec of the RMQTT broker. It takes packets by value, so a clone is part of encoding.

use std::hint::black_box;
use std::num::NonZeroU16;

use bytes::BytesMut;
use rmqtt_codec::types::{Protocol, Publish};
use rmqtt_codec::v3::{Codec, Connect, Packet, QoS};
use tokio_util::codec::{Decoder, Encoder};
use zerotouch_benches::Spec;

use crate::Peer;

pub struct Rmqtt;

#[derive(Default)]
pub struct Reader {
    codec: Codec,
    buffer: BytesMut,
}

impl Peer for Rmqtt {
    const NAME: &'static str = "rmqtt-codec 0.3.1";
    type Packet<'a> = Packet;
    type Output = BytesMut;
    type Input = Reader;

    fn packet(spec: &Spec) -> Option<Packet> {
        let qos = |level: u8| QoS::try_from(level).unwrap();
        Some(match spec {
            Spec::Connect { client_id, username, password } => Packet::Connect(Box::new(Connect {
                protocol: Protocol(4),
                clean_session: true,
                keep_alive: 240,
                client_id: client_id.clone().into(),
                username: Some(username.clone().into()),
                password: Some(password.clone().into()),
                ..Connect::default()
            })),
            Spec::Publish { topic, payload, qos: level, id } => {
                Packet::Publish(Box::new(Publish {
                    dup: false,
                    retain: false,
                    qos: qos(*level),
                    topic: topic.clone().into(),
                    packet_id: NonZeroU16::new(*id).filter(|_| *level > 0),
                    payload: payload.clone().into(),
                    properties: None,
                }))
            }
            Spec::Subscribe { id, filters } => Packet::Subscribe {
                packet_id: NonZeroU16::new(*id).unwrap(),
                topic_filters: filters.iter().map(|(f, q)| (f.clone().into(), qos(*q))).collect(),
            },
            Spec::PubAck { id } => Packet::PublishAck { packet_id: NonZeroU16::new(*id).unwrap() },
        })
    }

    fn encode(packet: &Packet, output: &mut BytesMut) {
        Codec::default().encode(packet.clone(), output).unwrap();
    }

    fn decode(reader: &mut Reader, piece: &[u8]) -> usize {
        reader.buffer.extend_from_slice(piece);
        let mut count = 0;
        while let Some(packet) = reader.codec.decode(&mut reader.buffer).unwrap() {
            black_box(packet);
            count += 1;
        }
        count
    }
}
