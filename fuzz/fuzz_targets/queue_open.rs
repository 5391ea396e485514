//! Whatever lies in its directory, a queue opens without a panic, in order, and takes and gives on; what
//! was there and what is new are there when it is opened again.
//!
//! Input: files, each a byte, a length (two bytes, big-endian), and a body. The low bits of the byte
//! choose the name.

#![no_main]

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use zerotouch_store::{FileQueue, RecordQueue};

const ID: &str = "press-7";
const NAMES: [&str; 4] =
    ["queue-1.log", "queue-2.log", "queue-3.log", "queue-9007199254740990.log"];

/// A directory of this process, in memory where there is such a place.
static STATE: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.into() } else { std::env::temp_dir() };
    parent.join(format!("zerotouch-fuzz-queue-{}", std::process::id()))
});

fuzz_target!(|input: &[u8]| {
    lay_out(&files(input));
    let mut queue = FileQueue::open(&STATE, ID).expect("whatever is there");
    let before = queue.load().expect("opened").records;
    assert!(before.is_sorted_by(|(one, _), (two, _)| one < two));
    let new = queue.append(&[b"new".to_vec()]).expect("space").start;
    assert!(before.iter().all(|(number, _)| *number < new));
    if let Some((first, _)) = before.first() {
        queue.finish(&[*first]).expect("space");
    }
    drop(queue);
    let after = FileQueue::open(&STATE, ID).and_then(|mut queue| queue.load());
    let mut after = after.expect("written").records;
    // Finished, it may come again: a crash while it was moved has left a copy.
    after.retain(|(number, _)| before.first().is_none_or(|(first, _)| number != first));
    let mut expected: Vec<_> = before.into_iter().skip(1).collect();
    expected.push((new, b"new".to_vec()));
    assert_eq!(after, expected);
});

fn files(mut input: &[u8]) -> BTreeMap<&'static str, Vec<u8>> {
    let mut files = BTreeMap::new();
    while let [which, high, low, rest @ ..] = input {
        let len = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (body, rest) = rest.split_at(len);
        files.insert(NAMES[usize::from(*which) % NAMES.len()], body.to_vec());
        input = rest;
    }
    files
}

fn lay_out(files: &BTreeMap<&'static str, Vec<u8>>) {
    let directory = STATE.join(ID);
    let _ = fs::remove_dir_all(&*STATE);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).expect("a directory");
    for (name, bytes) in files {
        let mut file = OpenOptions::new();
        file.write(true).create_new(true).mode(0o600);
        let mut file = file.open(directory.join(name)).expect("a file");
        file.write_all(bytes).expect("a file");
    }
}
