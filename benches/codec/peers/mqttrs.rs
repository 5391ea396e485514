//! mqttrs: decodes from a slice without saying how much it took, encodes to a slice.

use std::hint::black_box;

use mqttrs::{Connect, Packet, Pid, Protocol, Publish, QoS, QosPid, Subscribe, SubscribeTopic};
use zerotouch_benches::Spec;

use crate::peers::frame_len;
use crate::{Buffer, CAPACITY, Peer};

pub struct Mqttrs;

#[derive(Default)]
pub struct Received {
    bytes: Vec<u8>,
    start: usize,
}

/// A slice and how much of it is written.
pub struct Output {
    bytes: Vec<u8>,
    len: usize,
}

impl Buffer for Output {
    fn new() -> Self {
        Self { bytes: vec![0; CAPACITY], len: 0 }
    }

    fn clear(&mut self) {
        self.len = 0;
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Peer for Mqttrs {
    const NAME: &'static str = "mqttrs 0.4.1";
    type Packet<'a> = Packet<'a>;
    type Output = Output;
    type Input = Received;

    fn packet(spec: &Spec) -> Option<Packet<'_>> {
        let pid = |id: &u16| Pid::try_from(*id).unwrap();
        Some(match spec {
            Spec::Connect { client_id, username, password } => Packet::Connect(Connect {
                protocol: Protocol::MQTT311,
                keep_alive: 240,
                client_id,
                clean_session: true,
                last_will: None,
                username: Some(username),
                password: Some(password.as_bytes()),
            }),
            Spec::Publish { topic, payload, qos, id } => Packet::Publish(Publish {
                dup: false,
                qospid: match qos {
                    0 => QosPid::AtMostOnce,
                    1 => QosPid::AtLeastOnce(pid(id)),
                    _ => QosPid::ExactlyOnce(pid(id)),
                },
                retain: false,
                topic_name: topic,
                payload,
            }),
            Spec::Subscribe { id, filters } => {
                let topic = |filter: &String| SubscribeTopic {
                    topic_path: filter.as_str().into(),
                    qos: QoS::AtLeastOnce,
                };
                let topics = filters.iter().map(|(filter, _)| topic(filter)).collect();
                Packet::Subscribe(Subscribe { pid: pid(id), topics })
            }
            Spec::PubAck { id } => Packet::Puback(pid(id)),
        })
    }

    fn encode(packet: &Packet<'_>, output: &mut Output) {
        output.len += mqttrs::encode_slice(packet, &mut output.bytes[output.len..]).unwrap();
    }

    fn decode(received: &mut Received, piece: &[u8]) -> usize {
        let Received { bytes, start } = received;
        if *start == bytes.len() {
            bytes.clear();
            *start = 0;
        }
        bytes.extend_from_slice(piece);
        let mut count = 0;
        while let Ok(Some(ref packet)) = mqttrs::decode_slice(&bytes[*start..]) {
            black_box(packet);
            // It does not say how much it took.
            *start += frame_len(&bytes[*start..]).unwrap();
            count += 1;
        }
        count
    }
}
