//! mqtt5-protocol: its packets for 3.1.1 are those of 5.0. Decodes what the caller has cut; measured at that
//! alone, since it encodes through a temporary `Vec`.

use std::hint::black_box;

use bytes::BytesMut;
use mqtt5_protocol::packet::{FixedHeader, Packet};
use zerotouch_benches::Spec;

use crate::Peer;
use crate::peers::frame_len;

pub struct Mqtt5Protocol;

impl Peer for Mqtt5Protocol {
    const NAME: &'static str = "mqtt5-protocol 0.16.2";
    type Packet<'a> = ();
    type Output = Vec<u8>;
    type Input = BytesMut;

    fn packet(_: &Spec) -> Option<()> {
        None
    }

    fn encode((): &(), _: &mut Vec<u8>) {}

    fn decode(input: &mut BytesMut, piece: &[u8]) -> usize {
        input.extend_from_slice(piece);
        let mut count = 0;
        while let Some(length) = frame_len(input).filter(|length| *length <= input.len()) {
            let mut frame = input.split_to(length).freeze();
            let header = FixedHeader::decode(&mut frame).unwrap();
            let packet_type = header.packet_type;
            let packet =
                Packet::decode_from_body_with_version(packet_type, &header, &mut frame, 4).unwrap();
            black_box(packet);
            count += 1;
        }
        count
    }
}
