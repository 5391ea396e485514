//! mqttbytes: the codec of rumqttc's older releases, as a crate. Its packets encode one by one.

use std::hint::black_box;

use bytes::BytesMut;
use mqttbytes::v4::{Connect, Packet, PubAck, Publish, Subscribe, SubscribeFilter, read};
use mqttbytes::{Error, QoS};
use zerotouch_benches::Spec;

use crate::Peer;

pub struct MqttBytes;

impl Peer for MqttBytes {
    const NAME: &'static str = "mqttbytes 0.6.0";
    type Packet<'a> = Packet;
    type Output = BytesMut;
    type Input = BytesMut;

    fn packet(spec: &Spec) -> Option<Packet> {
        Some(match spec {
            Spec::Connect { client_id, username, password } => {
                let mut connect = Connect::new(client_id.clone());
                connect.keep_alive = 240;
                connect.set_login(username.clone(), password.clone());
                Packet::Connect(connect)
            }
            Spec::Publish { topic, payload, qos, id } => {
                let qos = mqttbytes::qos(*qos).unwrap();
                let mut publish = Publish::new(topic.clone(), qos, payload.clone());
                publish.pkid = *id;
                Packet::Publish(publish)
            }
            Spec::Subscribe { id, filters } => {
                let filter = |f: &String| SubscribeFilter::new(f.clone(), QoS::AtLeastOnce);
                let mut subscribe = Subscribe::new_many(filters.iter().map(|(f, _)| filter(f)));
                subscribe.pkid = *id;
                Packet::Subscribe(subscribe)
            }
            Spec::PubAck { id } => Packet::PubAck(PubAck::new(*id)),
        })
    }

    fn encode(packet: &Packet, output: &mut BytesMut) {
        match packet {
            Packet::Connect(connect) => connect.write(output),
            Packet::Publish(publish) => publish.write(output),
            Packet::Subscribe(subscribe) => subscribe.write(output),
            Packet::PubAck(puback) => puback.write(output),
            _ => unreachable!("not measured"),
        }
        .unwrap();
    }

    fn decode(input: &mut BytesMut, piece: &[u8]) -> usize {
        input.extend_from_slice(piece);
        let mut count = 0;
        loop {
            match read(input, usize::MAX) {
                Ok(packet) => drop(black_box(packet)),
                Err(Error::InsufficientBytes(_)) => return count,
                Err(error) => panic!("{error}"),
            }
            count += 1;
        }
    }
}
