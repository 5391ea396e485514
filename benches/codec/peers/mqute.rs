//! mqute-codec: cuts a raw packet off, then decodes it.

use std::hint::black_box;
use std::time::Duration;

use bytes::BytesMut;
use mqute_codec::Error;
use mqute_codec::codec::PacketCodec;
use mqute_codec::protocol::v4::{Connect, Packet, PubAck, Publish, Subscribe, TopicQosFilter};
use mqute_codec::protocol::{Credentials, Flags, QoS};
use zerotouch_benches::Spec;

use crate::Peer;

pub struct Mqute;

fn qos(level: u8) -> QoS {
    level.try_into().unwrap()
}

impl Peer for Mqute {
    const NAME: &'static str = "mqute-codec 0.4.2";
    type Packet<'a> = Packet;
    type Output = BytesMut;
    type Input = BytesMut;

    fn packet(spec: &Spec) -> Option<Packet> {
        Some(match spec {
            Spec::Connect { client_id, username, password } => {
                let login = Credentials::full(username.clone(), password.clone());
                let keep_alive = Duration::from_secs(240);
                Packet::Connect(Connect::new(
                    client_id.clone(),
                    Some(login),
                    None,
                    keep_alive,
                    true,
                ))
            }
            Spec::Publish { topic, payload, qos: level, id } => {
                let flags = Flags::new(qos(*level));
                let id = if *level > 0 { *id } else { 0 };
                Packet::Publish(Publish::new(topic.clone(), id, payload.clone().into(), flags))
            }
            Spec::Subscribe { id, filters } => {
                let filter =
                    |(f, level): &(String, u8)| TopicQosFilter::new(f.clone(), qos(*level));
                Packet::Subscribe(Subscribe::new(*id, filters.iter().map(filter)))
            }
            Spec::PubAck { id } => Packet::PubAck(PubAck::new(*id)),
        })
    }

    fn encode(packet: &Packet, output: &mut BytesMut) {
        packet.encode(output).unwrap();
    }

    fn decode(input: &mut BytesMut, piece: &[u8]) -> usize {
        input.extend_from_slice(piece);
        let codec = PacketCodec::new(None, None);
        let mut count = 0;
        loop {
            match codec.try_decode(input) {
                Ok(raw) => drop(black_box(Packet::decode(raw).unwrap())),
                Err(Error::NotEnoughBytes(_)) => return count,
                Err(error) => panic!("{error}"),
            }
            count += 1;
        }
    }
}
