//! ntex-mqtt: encodes to a list of pages, to which a large payload is appended uncopied. Pages are no
//! slice, so its encoding is measured in the vectored row alone. It takes packets by value, so a clone is
//! part of encoding.

use std::hint::black_box;
use std::num::NonZeroU16;

use ntex_bytes::{BytePages, Bytes, BytesMut};
use ntex_codec::{Decoder, Encoder};
use ntex_mqtt::v3::codec::{Codec, Decoded, Encoded, Publish, QoS};
use zerotouch_benches::Spec;

use crate::Peer;

pub struct NtexMqtt;

#[derive(Default)]
pub struct Reader {
    codec: Codec,
    buffer: BytesMut,
}

impl Peer for NtexMqtt {
    const NAME: &'static str = "ntex-mqtt 9.0.0";
    const ENCODES_WHOLE: bool = false;
    type Packet<'a> = Encoded;
    type Output = Vec<u8>;
    type Input = Reader;

    fn packet(spec: &Spec) -> Option<Encoded> {
        let Spec::Publish { topic, payload, qos, id } = spec else { return None };
        let publish = Publish {
            dup: false,
            retain: false,
            qos: QoS::try_from(*qos).unwrap(),
            topic: topic.clone().into(),
            packet_id: NonZeroU16::new(*id).filter(|_| *qos > 0),
            payload_size: payload.len() as u32,
        };
        Some(Encoded::Publish(publish, Some(Bytes::copy_from_slice(payload))))
    }

    fn encode(_: &Encoded, _: &mut Vec<u8>) {}

    fn pieces(packet: &Encoded, mut write: impl FnMut(&[u8])) -> bool {
        let mut pages = BytePages::default();
        Codec::new().encodev(packet.clone(), &mut pages).unwrap();
        while let Some(page) = pages.take() {
            write(&page);
        }
        true
    }

    fn decode(reader: &mut Reader, piece: &[u8]) -> usize {
        reader.buffer.extend_from_slice(piece);
        let mut count = 0;
        while let Some(found) = reader.codec.decode(&mut reader.buffer).unwrap() {
            match &found {
                Decoded::Packet(..) => count += 1,
                Decoded::Publish(publish, first, _) => {
                    count += usize::from(publish.payload_size as usize == first.len());
                }
                Decoded::PayloadChunk(_, last) => count += usize::from(*last),
            }
            black_box(found);
        }
        count
    }
}
