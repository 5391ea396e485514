//! No codec: the copy that nobody can do without.

use std::hint::black_box;

use zerotouch_benches::Spec;

use crate::Peer;

pub struct Memcpy;

/// A finished packet whose payload is aligned as that of the others is, which is not as it will be in the
/// output: where both are aligned alike, a copy takes a third less.
pub struct Finished {
    bytes: Vec<u8>,
    start: usize,
}

impl Finished {
    fn new(spec: &Spec) -> Self {
        const ALIGNED: usize = 16;
        let wire = spec.wire();
        let start = match spec {
            Spec::Publish { payload, .. } => {
                (payload.len() + ALIGNED - wire.len() % ALIGNED) % ALIGNED
            }
            _ => 0,
        };
        Self { bytes: [&vec![0; start][..], &wire].concat(), start }
    }
}

impl Peer for Memcpy {
    const NAME: &'static str = "memcpy";
    const DECODES: bool = false;
    type Packet<'a> = Finished;
    type Output = Vec<u8>;
    type Input = Vec<u8>;

    fn packet(spec: &Spec) -> Option<Finished> {
        Some(Finished::new(spec))
    }

    fn encode(Finished { bytes, start }: &Finished, output: &mut Vec<u8>) {
        output.extend_from_slice(&bytes[*start..]);
    }

    fn decode(input: &mut Vec<u8>, piece: &[u8]) -> usize {
        input.clear();
        input.extend_from_slice(piece);
        black_box(&input);
        0
    }
}
