//! What it costs to keep an identity, on a file system in memory and on a disk, beside the floor: the
//! same number of bytes written, synced, renamed and made durable by hand.
//!
//! `commit` is the certificate of a pending key (with the sweep of that key's file), `renewal` a key,
//! its certificate and its activation; the floors are one and three replacements of a file. `open`
//! includes the trial of whether the place can be written, `inspect` is a look without a lock. `enqueue`
//! takes a message and finishes it; its floor is the write of as many bytes to an open file, and a sync.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion};
use rcgen::{CertificateParams, KeyPair};
use zerotouch_credentials::{Certificate, CertificateChain, PrivateKey};
use zerotouch_store::{Change, FileQueue, FileStore, Key, RecordQueue, Store};

const ID: &str = "press-7";

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        measure(&mut criterion, "memory", memory);
    } else {
        println!("skipped: there is no file system in memory at {}", memory.display());
    }
    measure(&mut criterion, "disk", Path::new(env!("CARGO_TARGET_TMPDIR")));
    criterion.final_summary();
}

fn measure(criterion: &mut Criterion, place: &str, parent: &Path) {
    let state = parent.join(format!("zerotouch-bench-{}", std::process::id()));
    let (key, chain) = generation();
    let begin = Change::Begin { key, request_id: "3f1c".into() };
    let stage = Change::Stage { chain, assignment: None };
    let mut store = FileStore::open(&state, ID).expect("a store");
    for change in [&begin, &stage, &Change::Activate] {
        store.apply(change).expect("a change");
    }
    let bundle = fs::read(store.path().join("generation-1.pem")).expect("a bundle");

    let mut group = criterion.benchmark_group(format!("store-{place}"));
    let commit = |store: &mut FileStore| {
        store.apply(&begin).expect("a key");
        let started = Instant::now();
        store.apply(&stage).expect("a certificate");
        started.elapsed()
    };
    group.bench_function(BenchmarkId::from_parameter("commit"), |bencher| {
        bencher.iter_custom(|times| (0..times).map(|_| commit(&mut store)).sum());
    });
    group.bench_function(BenchmarkId::from_parameter("commit, floor"), |bencher| {
        bencher.iter(|| replace(&state, &bundle));
    });
    group.bench_function(BenchmarkId::from_parameter("renewal"), |bencher| {
        bencher.iter(|| {
            for change in [&begin, &stage, &Change::Activate] {
                store.apply(change).expect("a change");
            }
        });
    });
    group.bench_function(BenchmarkId::from_parameter("renewal, floor"), |bencher| {
        bencher.iter(|| (0..3).for_each(|_| replace(&state, &bundle)));
    });
    drop(store);
    group.bench_function(BenchmarkId::from_parameter("open"), |bencher| {
        bencher.iter(|| FileStore::open(&state, ID).expect("a store"));
    });
    group.bench_function(BenchmarkId::from_parameter("inspect"), |bencher| {
        bencher.iter(|| FileStore::options().inspect(&state, ID).expect("a store"));
    });
    measure_queue(&mut group, &state);
    group.finish();
    fs::remove_dir_all(&state).expect("what was made");
}

/// Messages of 256 bytes: one at a time and 64 at once, each until it is finished.
fn measure_queue(group: &mut BenchmarkGroup<'_, WallTime>, state: &Path) {
    let mut queue = FileQueue::open(state, ID).expect("a queue");
    let mut file = File::create(state.join("floor")).expect("a file");
    for (name, messages) in [("enqueue", 1), ("enqueue 64", 64)] {
        let records = vec![vec![b'x'; 256]; messages];
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| {
                let numbers: Vec<_> = queue.append(&records).expect("space").collect();
                queue.finish(&numbers).expect("space");
            });
        });
        let bytes = records.concat();
        group.bench_function(BenchmarkId::from_parameter(format!("{name}, floor")), |bencher| {
            bencher.iter(|| {
                file.write_all(&bytes).expect("space");
                file.sync_all().expect("a disk");
            });
        });
    }
}

/// The least that replaces a file durably.
fn replace(directory: &Path, bytes: &[u8]) {
    let (temporary, target) = (directory.join("temporary"), directory.join("target"));
    let mut file = File::create(&temporary).expect("a file");
    file.write_all(bytes).expect("space");
    file.sync_all().expect("a disk");
    fs::rename(&temporary, &target).expect("a name");
    File::open(directory).and_then(|directory| directory.sync_all()).expect("a disk");
}

/// A key and a chain of three certificates, as an authority would have issued it.
fn generation() -> (Key, CertificateChain) {
    let pairs = [(); 3].map(|()| KeyPair::generate().expect("a key"));
    let certificate = |pair: &KeyPair| {
        let params = CertificateParams::new([ID.to_string()]).expect("a name");
        let certificate = params.self_signed(pair).expect("a certificate");
        Certificate::from_der(certificate.der()).expect("a certificate")
    };
    let chain = CertificateChain::new(pairs.iter().map(certificate).collect());
    let key = PrivateKey::from_pem(&pairs[0].serialize_pem()).expect("a key");
    (key.into(), chain.expect("three certificates"))
}
