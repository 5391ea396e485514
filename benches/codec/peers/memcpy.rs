//! No codec: the copy that nobody can do without.

use std::hint::black_box;

use zerotouch_benches::Spec;

use crate::Peer;

pub struct Memcpy;

impl Peer for Memcpy {
    const NAME: &'static str = "memcpy";
    const DECODES: bool = false;
    type Packet<'a> = Vec<u8>;
    type Output = Vec<u8>;
    type Input = Vec<u8>;

    fn packet(spec: &Spec) -> Option<Vec<u8>> {
        Some(spec.wire())
    }

    fn encode(packet: &Vec<u8>, output: &mut Vec<u8>) {
        output.extend_from_slice(packet);
    }

    fn decode(input: &mut Vec<u8>, piece: &[u8]) -> usize {
        input.clear();
        input.extend_from_slice(piece);
        black_box(&input);
        0
    }
}
