//! MQTT 3.1.1 codecs side by side: the same work, on the same machine, in the same run.
//!
//! Decoding is measured as a connection sees it: the bytes are copied to where the codec reads them
//! from, as a socket read would, and packets are taken off until there is none. `memcpy` is that copy
//! (or, for encoding, the copy of the finished packet) and nothing else: the floor.

mod peers;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use zerotouch_benches::{Spec, Work, mixed, works};

/// A codec under measurement.
trait Peer {
    /// Its name, and version if it is somebody else's.
    const NAME: &'static str;
    /// Whether it finds packets at all.
    const DECODES: bool = true;
    /// Whether it encodes to one run of bytes.
    const ENCODES_WHOLE: bool = true;
    /// Its type of packet.
    type Packet<'a>;
    /// What it encodes to.
    type Output: Buffer;
    /// What it decodes from: the receive buffer, and its own state.
    type Input: Default;

    /// The packet in its own types; `None` if it cannot express or encode it.
    fn packet(spec: &Spec) -> Option<Self::Packet<'_>>;

    /// Encodes to the end of the output.
    fn encode(packet: &Self::Packet<'_>, output: &mut Self::Output);

    /// Encodes to pieces for a vectored write, of which the payload is one that is not copied; says whether
    /// it can.
    fn pieces(_packet: &Self::Packet<'_>, _write: impl FnMut(&[u8])) -> bool {
        false
    }

    /// Receives a piece of the stream, and says how many packets were decoded.
    fn decode(input: &mut Self::Input, piece: &[u8]) -> usize;
}

/// Enough for every row. A size that the allocator maps on its own, so that all buffers are aligned alike:
/// for small packets, how a copy is aligned counts for more than who makes it.
const CAPACITY: usize = 2 << 20;

/// Where packets are encoded to.
trait Buffer {
    /// With room for [`CAPACITY`] bytes.
    fn new() -> Self;
    fn clear(&mut self);
    fn bytes(&self) -> &[u8];
}

impl Buffer for Vec<u8> {
    fn new() -> Self {
        Self::with_capacity(CAPACITY)
    }

    fn clear(&mut self) {
        self.clear();
    }

    fn bytes(&self) -> &[u8] {
        self
    }
}

impl Buffer for bytes::BytesMut {
    fn new() -> Self {
        Self::with_capacity(CAPACITY)
    }

    fn clear(&mut self) {
        self.clear();
    }

    fn bytes(&self) -> &[u8] {
        self
    }
}

/// How each decoding row cuts its bytes.
fn decodings() -> Vec<(String, Work, usize)> {
    let mut rows: Vec<_> = works()
        .into_iter()
        .map(|work| (format!("decode-{}", work.name), work, usize::MAX))
        .collect();
    rows.push(("decode-mixed-1000-in-1460".into(), mixed(), 1460));
    rows.push(("decode-mixed-1000-in-1".into(), mixed(), 1));
    rows.push(("decode-publish-64k-in-1460".into(), large(), 1460));
    rows
}

fn large() -> Work {
    let large = works().into_iter().find(|work| work.name == "publish-64k");
    large.expect("there is such a row")
}

/// One peer's share of a row.
fn measure<P: Peer, R>(
    criterion: &mut Criterion,
    row: &str,
    work: &Work,
    mut run: impl FnMut() -> R,
) {
    let mut group = criterion.benchmark_group(row);
    group.throughput(Throughput::Elements(work.packets.len() as u64));
    group.bench_function(BenchmarkId::from_parameter(P::NAME), |bencher| bencher.iter(&mut run));
}

fn encode<P: Peer>(criterion: &mut Criterion, work: &Work) {
    if !P::ENCODES_WHOLE {
        return;
    }
    let wire: Vec<u8> = work.packets.iter().flat_map(Spec::wire).collect();
    let Some(packets) = work.packets.iter().map(P::packet).collect::<Option<Vec<_>>>() else {
        return;
    };
    let run = |output: &mut P::Output| {
        output.clear();
        for packet in black_box(&packets) {
            P::encode(packet, output);
        }
        // The output, not its bytes: a slice of them would be made by one load of what was just stored as
        // two, which waits for all stores before, and that for longer than a packet takes.
        _ = black_box(output);
    };
    let mut output = P::Output::new();
    run(&mut output);
    assert!(output.bytes() == wire, "{} encodes {} differently", P::NAME, work.name);
    measure::<P, _>(criterion, &format!("encode-{}", work.name), work, || run(&mut output));
}

fn encode_in_pieces<P: Peer>(criterion: &mut Criterion, work: &Work) {
    let spec = &work.packets[0];
    let Some(packet) = P::packet(spec) else { return };
    let mut bytes = Vec::new();
    if !P::pieces(&packet, |piece| bytes.extend_from_slice(piece)) {
        return;
    }
    assert!(bytes == spec.wire(), "{} encodes {} differently in pieces", P::NAME, work.name);
    measure::<P, _>(criterion, &format!("encode-{}-in-pieces", work.name), work, || {
        P::pieces(black_box(&packet), |piece| _ = black_box(piece))
    });
}

/// The same bytes at four places, a quarter of a page apart and each aligned in another of the four ways in which
/// allocators align: a copy takes three times as long where source and destination differ by next to nothing but
/// whole pages, and a third more where they do not by whole cache lines, and chance would decide whom that
/// befalls. A stream of more than 128 KiB is at one place: at four it would not stay in the cache.
fn places(wire: &[u8]) -> (Vec<u8>, Vec<usize>) {
    const PAGE: usize = 4096;
    const ALIGNED: usize = 16;
    let places = if wire.len() > 32 * PAGE { 1 } else { 4 };
    let apart = wire.len().next_multiple_of(PAGE) + PAGE / places + ALIGNED;
    let starts: Vec<usize> = (0..places).map(|place| place * apart).collect();
    let mut bytes = Vec::with_capacity(CAPACITY);
    for start in &starts {
        bytes.resize(*start, 0);
        bytes.extend_from_slice(wire);
    }
    (bytes, starts)
}

fn decode<P: Peer>(criterion: &mut Criterion, (row, work, size): &(String, Work, usize)) {
    let wire: Vec<u8> = work.packets.iter().flat_map(Spec::wire).collect();
    let (bytes, starts) = places(&wire);
    let mut turns = starts.iter().cycle();
    let mut input = P::Input::default();
    let mut run = || -> usize {
        let start = turns.next().copied().unwrap_or_default();
        let wire = black_box(&bytes[start..start + wire.len()]);
        wire.chunks(*size).map(|piece| P::decode(&mut input, piece)).sum()
    };
    // Twice: the second run begins with what the first left behind.
    for _ in 0..2 {
        let count = if P::DECODES { work.packets.len() } else { 0 };
        assert_eq!(run(), count, "{} decodes {row} differently", P::NAME);
    }
    measure::<P, _>(criterion, row, work, run);
}

fn main() {
    let criterion = &mut Criterion::default()
        .warm_up_time(Duration::from_millis(50))
        .measurement_time(Duration::from_millis(150))
        .sample_size(20)
        .nresamples(1001)
        .configure_from_args();
    // Row by row, as the speed of a machine may change while all of them are measured.
    macro_rules! row {
        ($function:ident, $work:expr) => {
            row!($function, $work, Memcpy, ZeroTouch, Nom, Mqttrs, MqttCodecKit, MqttBytes, Rumqttc,
                RumqttcNext, Mqute, Rmqtt, NtexMqtt, Mqtt5Protocol, MqttProtocolCore)
        };
        ($function:ident, $work:expr, $($peer:ident),*) => {
            $($function::<peers::$peer>(criterion, $work);)*
        };
    }
    for work in &works() {
        row!(encode, work);
    }
    row!(encode_in_pieces, &large());
    for decoding in &decodings() {
        row!(decode, decoding);
    }
    criterion.final_summary();
}
