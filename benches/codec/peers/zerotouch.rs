//! Ours.

use std::hint::black_box;
use std::sync::OnceLock;

use zerotouch_benches::Spec;
use zerotouch_mqtt_codec::{
    Connect, Decoder, Delivery, Framer, Login, Packet, PacketIdentifier, Publish, QoS, Subscribe,
    Subscriptions, Text, TopicFilter, TopicName,
};

use crate::Peer;

/// A packet, or the header of a PUBLISH with its payload left where it is.
pub struct ZeroTouch;

pub struct Reader(Framer);

impl Default for Reader {
    fn default() -> Self {
        Self(Framer::new(Decoder::new()))
    }
}

impl Peer for ZeroTouch {
    const NAME: &'static str = "zerotouch";
    type Packet<'a> = Packet<'a>;
    type Output = Vec<u8>;
    type Input = Reader;

    fn packet(spec: &Spec) -> Option<Packet<'_>> {
        Some(packet(spec))
    }

    fn encode(packet: &Packet<'_>, output: &mut Vec<u8>) {
        packet.encode_to(output).unwrap();
    }

    fn pieces(packet: &Packet<'_>, mut write: impl FnMut(&[u8])) -> bool {
        let Packet::Publish(publish) = packet else { return false };
        let mut header = [0; 64];
        let length = publish.encode_header(&mut header).unwrap();
        write(&header[..length]);
        write(publish.payload);
        true
    }

    fn decode(reader: &mut Reader, mut piece: &[u8]) -> usize {
        let Reader(framer) = reader;
        let mut count = 0;
        // As from a socket: as much as there is room for, then the packets in it.
        while !piece.is_empty() {
            let room = framer.unfilled();
            let (read, rest) = piece.split_at(piece.len().min(room.len()));
            match (&mut *room, read) {
                ([room, ..], [byte]) => *room = *byte,
                _ => room[..read.len()].copy_from_slice(read),
            }
            framer.advance(read.len());
            piece = rest;
            while let Ok(Some(ref packet)) = framer.next_packet(&mut &[][..]) {
                if let Packet::Subscribe(subscribe) = packet {
                    for filter in subscribe.filters.iter() {
                        black_box(filter);
                    }
                }
                black_box(packet);
                count += 1;
            }
        }
        count
    }
}

fn packet(spec: &Spec) -> Packet<'_> {
    match spec {
        Spec::Connect { client_id, username, password } => {
            let login = Login { username: text(username), password: Some(password.as_bytes()) };
            let (clean_session, keep_alive) = (true, 240);
            let client_id = text(client_id);
            Connect { client_id, clean_session, keep_alive, will: None, login: Some(login) }.into()
        }
        Spec::Publish { .. } => publish(spec).unwrap().into(),
        Spec::Subscribe { id, filters } => {
            // The list is borrowed; a benchmark has one, for as long as it runs.
            static FILTERS: OnceLock<Vec<(TopicFilter<'static>, QoS)>> = OnceLock::new();
            let filters = FILTERS.get_or_init(|| {
                let filter = |filter: &String| TopicFilter::new(filter.clone().leak()).unwrap();
                filters.iter().map(|(f, qos)| (filter(f), QoS::from_u8(*qos).unwrap())).collect()
            });
            Subscribe { id: identifier(*id), filters: Subscriptions::new(filters).unwrap() }.into()
        }
        Spec::PubAck { id } => Packet::PubAck(identifier(*id)),
    }
}

fn publish(spec: &Spec) -> Option<Publish<'_>> {
    let Spec::Publish { topic, payload, qos, id } = spec else { return None };
    let id = identifier(*id);
    let delivery = match qos {
        0 => Delivery::AtMostOnce,
        1 => Delivery::AtLeastOnce { id, dup: false },
        _ => Delivery::ExactlyOnce { id, dup: false },
    };
    Some(Publish { topic: TopicName::new(topic).unwrap(), payload, retain: false, delivery })
}

fn text(text: &str) -> Text<'_> {
    Text::new(text).unwrap()
}

fn identifier(number: u16) -> PacketIdentifier {
    PacketIdentifier::new(number).unwrap()
}
