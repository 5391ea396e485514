//! rumqttc: the most used client.

use std::hint::black_box;

use bytes::BytesMut;
use rumqttc_up::mqttbytes::v4::{Connect, Packet, PubAck, Publish, Subscribe, SubscribeFilter};
use rumqttc_up::mqttbytes::{Error, QoS, qos};
use zerotouch_benches::Spec;

use crate::Peer;

pub struct Rumqttc;

impl Peer for Rumqttc {
    const NAME: &'static str = "rumqttc 0.25.1";
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
            Spec::Publish { topic, payload, qos: level, id } => {
                let level = qos(*level).unwrap();
                let mut publish = Publish::new(topic.clone(), level, payload.clone());
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
        packet.write(output, usize::MAX).unwrap();
    }

    fn decode(input: &mut BytesMut, piece: &[u8]) -> usize {
        input.extend_from_slice(piece);
        let mut count = 0;
        loop {
            match Packet::read(input, usize::MAX) {
                Ok(packet) => drop(black_box(packet)),
                Err(Error::InsufficientBytes(_)) => return count,
                Err(error) => panic!("{error}"),
            }
            count += 1;
        }
    }
}
