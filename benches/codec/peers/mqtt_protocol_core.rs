//! mqtt-protocol-core: gathers packets and parses them by type, as its own connection does; encodes to a
//! list of slices.

use std::hint::black_box;

use mqtt_protocol_core::mqtt::common::Cursor;
use mqtt_protocol_core::mqtt::connection::{PacketBuildResult, PacketBuilder, PacketData};
use mqtt_protocol_core::mqtt::packet::v3_1_1::{Connect, Puback, Publish, Subscribe};
use mqtt_protocol_core::mqtt::packet::{GenericPacketTrait, Packet, Qos, SubEntry, SubOpts};
use zerotouch_benches::Spec;

use crate::Peer;

pub struct MqttProtocolCore;

pub struct Reader {
    builder: PacketBuilder,
    buffer: Vec<u8>,
}

impl Default for Reader {
    fn default() -> Self {
        Self { builder: PacketBuilder::new(), buffer: Vec::new() }
    }
}

impl Peer for MqttProtocolCore {
    const NAME: &'static str = "mqtt-protocol-core 0.7.9";
    type Packet<'a> = Packet;
    type Output = Vec<u8>;
    type Input = Reader;

    fn packet(spec: &Spec) -> Option<Packet> {
        let qos = |level: u8| Qos::try_from(level).unwrap();
        Some(match spec {
            Spec::Connect { client_id, username, password } => {
                let connect = Connect::builder().client_id(client_id).unwrap();
                let connect = connect.clean_session(true).keep_alive(240);
                let connect = connect.user_name(username).unwrap();
                let connect = connect.password(password.clone().into_bytes()).unwrap();
                connect.build().unwrap().into()
            }
            Spec::Publish { topic, payload, qos: level, id } => {
                let publish = Publish::builder().topic_name(topic).unwrap();
                let publish = publish.qos(qos(*level)).payload(payload.clone());
                let publish = if *level > 0 { publish.packet_id(*id) } else { publish };
                publish.build().unwrap().into()
            }
            Spec::Subscribe { id, filters } => {
                let options = |level| SubOpts::new().set_qos(qos(level));
                let entry = |(f, q): &(String, u8)| SubEntry::new(f, options(*q)).unwrap();
                let entries: Vec<_> = filters.iter().map(entry).collect();
                Subscribe::builder().packet_id(*id).entries(entries).build().unwrap().into()
            }
            Spec::PubAck { id } => Puback::builder().packet_id(*id).build().unwrap().into(),
        })
    }

    fn encode(packet: &Packet, output: &mut Vec<u8>) {
        for piece in packet.to_buffers() {
            output.extend_from_slice(&piece);
        }
    }

    fn pieces(packet: &Packet, mut write: impl FnMut(&[u8])) -> bool {
        for piece in packet.to_buffers() {
            write(&piece);
        }
        true
    }

    fn decode(reader: &mut Reader, piece: &[u8]) -> usize {
        let Reader { builder, buffer } = reader;
        buffer.clear();
        buffer.extend_from_slice(piece);
        let mut count = 0;
        let mut input = Cursor::new(&buffer[..]);
        loop {
            let raw = match builder.feed(&mut input) {
                PacketBuildResult::Complete(raw) => raw,
                PacketBuildResult::Incomplete => return count,
                PacketBuildResult::Error(error) => panic!("{error}"),
            };
            let packet: Packet = match (raw.packet_type(), &raw.data) {
                (3, PacketData::Publish(data)) => {
                    Publish::parse(raw.flags(), data.clone()).unwrap().0.into()
                }
                (1, _) => raw.parse_exact(Connect::parse).unwrap().into(),
                (4, _) => raw.parse_exact(Puback::parse).unwrap().into(),
                (8, _) => raw.parse_exact(Subscribe::parse).unwrap().into(),
                _ => unreachable!("not measured"),
            };
            black_box(packet);
            count += 1;
        }
    }
}
