//! mqtt-codec-kit: decodes from a reader, encodes to a writer.

use std::hint::black_box;

use bytes::{Buf, BytesMut};
use mqtt_codec_kit::common::qos::QoSWithPacketIdentifier;
use mqtt_codec_kit::common::{Decodable, Encodable, QualityOfService, TopicFilter, TopicName};
use mqtt_codec_kit::v4::packet::{
    ConnectPacket, PubackPacket, PublishPacket, SubscribePacket, VariablePacket,
};
use zerotouch_benches::Spec;

use crate::Peer;
use crate::peers::frame_len;

pub struct MqttCodecKit;

impl Peer for MqttCodecKit {
    const NAME: &'static str = "mqtt-codec-kit 1.0.5";
    type Packet<'a> = VariablePacket;
    type Output = Vec<u8>;
    type Input = BytesMut;

    fn packet(spec: &Spec) -> Option<VariablePacket> {
        Some(match spec {
            Spec::Connect { client_id, username, password } => {
                let mut connect = ConnectPacket::new(client_id.clone());
                connect.set_clean_session(true);
                connect.set_keep_alive(240);
                connect.set_username(Some(username.clone()));
                connect.set_password(Some(password.clone()));
                connect.into()
            }
            Spec::Publish { topic, payload, qos, id } => {
                let qos = match qos {
                    0 => QoSWithPacketIdentifier::Level0,
                    1 => QoSWithPacketIdentifier::Level1(*id),
                    _ => QoSWithPacketIdentifier::Level2(*id),
                };
                let topic = TopicName::new(topic.clone()).unwrap();
                PublishPacket::new(topic, qos, payload.clone()).into()
            }
            Spec::Subscribe { id, filters } => {
                let filter = |filter: &String| {
                    (TopicFilter::new(filter.clone()).unwrap(), QualityOfService::Level1)
                };
                let filters = filters.iter().map(|(f, _)| filter(f)).collect();
                SubscribePacket::new(*id, filters).into()
            }
            Spec::PubAck { id } => PubackPacket::new(*id).into(),
        })
    }

    fn encode(packet: &VariablePacket, output: &mut Vec<u8>) {
        packet.encode(output).unwrap();
    }

    fn decode(input: &mut BytesMut, piece: &[u8]) -> usize {
        input.extend_from_slice(piece);
        let mut count = 0;
        while frame_len(input).is_some_and(|len| len <= input.len()) {
            black_box(VariablePacket::decode(&mut input.reader()).unwrap());
            count += 1;
        }
        count
    }
}
