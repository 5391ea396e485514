//! Whatever lies in its directory, opening a store ends without a panic: with an identity, or because
//! a file is another device's or a later version's. Looking and opening find the same; what could not
//! be read is still there; and the store can be written and opened again.
//!
//! Input: files, each a byte, a length (two bytes, big-endian), and a body. The low bits of the byte
//! choose the name; the highest puts the body under a checksum that fits.

#![no_main]

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use chacha20::ChaCha8Rng;
use chacha20::rand_core::SeedableRng;
use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};
use zerotouch_credentials::{KeyAlgorithm, PrivateKey};
use zerotouch_store::file::DamageReason;
use zerotouch_store::{Change, FileError, FileStore, Key, Store, StoreError};

const ID: &str = "press-7";
const NAMES: [&str; 8] = [
    "identity.json",
    "generation-1.pem",
    "generation-2.pem",
    "generation-3.pem",
    "pending-2.pem",
    "pending-3.pem",
    "damaged-generation-4.pem",
    ".tmp-0123",
];
const SEALED: u8 = 0x80;

/// A directory of this process, in memory where there is such a place.
static STATE: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.into() } else { std::env::temp_dir() };
    parent.join(format!("zerotouch-fuzz-{}", std::process::id()))
});

static KEY: LazyLock<Key> = LazyLock::new(|| {
    let mut rng = ChaCha8Rng::from_seed([7; 32]);
    PrivateKey::generate(KeyAlgorithm::EcdsaP256, &mut rng).expect("a key").into()
});

fuzz_target!(|input: &[u8]| {
    let files = files(input);
    lay_out(&files);
    let options = FileStore::options().pending_lifetime(std::time::Duration::MAX);
    let seen = options.inspect(&STATE, ID);
    let opened = options.open(&STATE, ID);
    let (seen, mut store) = match (seen, opened) {
        (Ok(seen), Ok(store)) => (seen, store),
        (Err(one), Err(StoreError::File(other))) => {
            for error in [one, other] {
                let expected = matches!(
                    error,
                    FileError::NewerFormat { .. } | FileError::OtherRegistration { .. }
                );
                assert!(expected, "{error}");
            }
            return;
        }
        other => panic!("looking and opening differ: {other:?}"),
    };
    let identity = store.load().expect("opened");
    assert_eq!(format!("{identity:?}"), format!("{:?}", seen.identity));
    assert_eq!(store.damage().len(), seen.damage.len());
    for damage in store.damage().iter().filter(|damage| damage.reason != DamageReason::Missing) {
        let kept = fs::read(&damage.path).expect("evidence");
        assert!(files.values().any(|bytes| *bytes == kept), "{damage}");
    }

    let begin = Change::Begin { key: KEY.clone(), request_id: "3f1c".into() };
    if identity.pending.is_some() {
        store.apply(&Change::DiscardPending).expect("a pending key");
    }
    match store.apply(&begin) {
        Ok(()) => {}
        // Numbers that nobody reaches by counting.
        Err(StoreError::File(FileError::Io { .. })) => return,
        Err(error) => panic!("{error}"),
    }
    let written = store.load().expect("opened");
    drop(store);
    let mut store = options.open(&STATE, ID).expect("written");
    assert_eq!(format!("{:?}", store.load().expect("opened")), format!("{written:?}"));
});

fn files(mut input: &[u8]) -> BTreeMap<&'static str, Vec<u8>> {
    let mut files = BTreeMap::new();
    while let [which, high, low, rest @ ..] = input {
        let len = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (body, rest) = rest.split_at(len);
        let name = NAMES[usize::from(which & !SEALED) % NAMES.len()];
        let body = if which & SEALED != 0 { sealed(body) } else { body.to_vec() };
        files.insert(name, body);
        input = rest;
    }
    files
}

fn sealed(body: &[u8]) -> Vec<u8> {
    let sum: String = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
    [format!("{{\n  \"sha256\": \"{sum}\",\n").as_bytes(), body].concat()
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
