//! The file store on a real file system: what it writes, and what it refuses to read.

use std::format;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::string::{String, ToString};
use std::vec::Vec;

use tempfile::TempDir;
use zerotouch_credentials::Signer;

use super::error::{DamageReason, FileError};
use super::{FileStore, is_directory_name};
use crate::model::{Change, Identity};
use crate::store::{Store, StoreError};
use crate::testing::{begin, key, stage};

const ID: &str = "press-7";

struct Place {
    state: TempDir,
}

impl Place {
    /// A state directory whose identity has an active and a previous generation.
    fn with_two_generations() -> Self {
        let place = Self { state: TempDir::new().unwrap() };
        let mut store = place.open();
        for seed in [1, 2] {
            store.apply(&begin(&key(seed))).unwrap();
            store.apply(&stage(&key(seed), Some("contoso"))).unwrap();
            store.apply(&Change::Activate).unwrap();
        }
        place
    }

    fn open(&self) -> FileStore {
        FileStore::open(self.state.path(), ID).unwrap()
    }

    fn refused(&self) -> FileError {
        match FileStore::open(self.state.path(), ID) {
            Err(StoreError::File(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    fn identity(&self) -> Identity {
        self.open().load().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        let directory = self.state.path().join(ID);
        if name.is_empty() { directory } else { directory.join(name) }
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("")).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Puts something else in the place of a file, given where the file itself was moved.
type Replace = fn(file: &Path, aside: &Path);
/// Spoils a text.
type Spoil = fn(String) -> String;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn flip_a_bit(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

// What is stored comes back, and lies there as the documentation says, for its owner alone (K1).
#[test]
fn keeps_an_identity_across_openings() {
    let place = Place::with_two_generations();
    assert_eq!(place.names(), ["generation-1.pem", "generation-2.pem", "identity.json", "lock"]);
    assert_eq!(mode(&place.path("")), 0o700);
    for name in place.names() {
        assert_eq!(mode(&place.path(&name)), 0o600, "{name}");
    }
    let identity = place.identity();
    assert_eq!(identity.active.as_ref().unwrap().number, 2);
    assert_eq!(identity.active.unwrap().key.public_key(), key(2).public_key());
    assert_eq!(identity.previous.unwrap().key.public_key(), key(1).public_key());
    assert_eq!(identity.assignment.unwrap().assigned_hub, "contoso.azure-devices.net");
    assert_eq!(identity.last_number, 2);

    place.open().apply(&Change::Forget).unwrap();
    assert_eq!(place.names(), ["identity.json", "lock"]);
    assert_eq!(place.identity().last_number, 2, "a number is never used twice");
}

// C5, C9: the request's key and id are there for the process that comes after a crash.
#[test]
fn c05_a_pending_key_outlives_the_process() {
    let place = Place { state: TempDir::new().unwrap() };
    place.open().apply(&begin(&key(1))).unwrap();
    assert_eq!(place.names(), ["identity.json", "lock", "pending-1.pem"]);
    let pending = place.identity().pending.unwrap();
    assert_eq!((pending.key.public_key(), &*pending.request_id), (key(1).public_key(), "3f1c"));
}

// A person finds out what a device is with the tools they have.
#[test]
fn openssl_reads_a_bundle() {
    let place = Place::with_two_generations();
    let bundle = place.path("generation-2.pem");
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).arg("-in").arg(&bundle).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(openssl(&["x509", "-noout", "-subject"]).contains("press-7"));
    assert_eq!(openssl(&["pkey", "-pubout"]), openssl(&["x509", "-noout", "-pubkey"]));
}

// K2: a key that others could read may have been read. The message holds the command that mends it,
// and nothing is mended silently.
#[test]
fn k02_looser_modes_are_refused() {
    for (name, wanted) in [("generation-2.pem", "600"), ("identity.json", "600"), ("", "700")] {
        let place = Place::with_two_generations();
        let path = place.path(name);
        set_mode(&path, 0o750);
        let message = place.refused().to_string();
        assert!(message.contains("has mode 750"), "{message}");
        let command = format!("chmod {wanted} {}", path.display());
        assert!(message.ends_with(&command), "{message}");
        assert_eq!(mode(&path), 0o750, "it mended by itself");
    }
}

// K4, K5: nothing is read or written through a link, and nothing that is no plain file is waited on.
#[test]
fn k04_links_and_special_files_are_refused() {
    let replace: [(&str, Replace); 3] = [
        ("symbolic link", |file, aside| symlink(aside, file).unwrap()),
        ("hard link", |file, aside| fs::hard_link(aside, file).unwrap()),
        ("FIFO", |file, _| {
            assert!(Command::new("mkfifo").arg(file).status().unwrap().success());
            set_mode(file, 0o600);
        }),
    ];
    for (kind, replace) in replace {
        for name in ["generation-2.pem", "identity.json"] {
            let place = Place::with_two_generations();
            let aside = place.state.path().join("aside");
            fs::rename(place.path(name), &aside).unwrap();
            replace(&place.path(name), &aside);
            let refused = place.refused();
            assert!(matches!(refused, FileError::NotAPlainFile { .. }), "{kind} {name}: {refused}");
        }
    }
    let place = Place::with_two_generations();
    fs::rename(place.path(""), place.state.path().join("elsewhere")).unwrap();
    symlink(place.state.path().join("elsewhere"), place.path("")).unwrap();
    assert!(matches!(place.refused(), FileError::NotAPlainFile { .. }));
}

// K4: a link planted at the final name is replaced itself; what it points at stays untouched.
#[test]
fn k04_a_link_at_a_new_name_is_not_followed() {
    let place = Place { state: TempDir::new().unwrap() };
    let mut store = place.open();
    let victim = place.state.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    symlink(&victim, place.path("pending-1.pem")).unwrap();
    store.apply(&begin(&key(1))).unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
    drop(store);
    assert!(place.identity().pending.is_some());
}

// K12: one process at a time, and the message says which one has it.
#[test]
fn k12_the_lock_names_its_holder() {
    let place = Place::with_two_generations();
    let first = place.open();
    let refused = place.refused();
    let FileError::Locked { holder, .. } = &refused else { panic!("{refused}") };
    assert_eq!(*holder, Some(std::process::id()));
    assert!(refused.to_string().contains(&format!("process {}", std::process::id())));
    drop(first);
    place.open();
}

// K13: what a crash left is swept when the store is opened, and only what is the store's own.
#[test]
fn k13_leftovers_are_swept() {
    let place = Place::with_two_generations();
    for name in [".tmp-0123", "pending-3.pem", "generation-3.pem", "notes.txt"] {
        fs::write(place.path(name), "left over").unwrap();
    }
    place.open();
    assert_eq!(
        place.names(),
        ["generation-1.pem", "generation-2.pem", "identity.json", "lock", "notes.txt"]
    );
}

// K14: a damaged generation is reported, kept as evidence, and the previous one stands in.
#[test]
fn k14_damage_falls_back_and_is_kept() {
    for (spoil, reason) in [
        (flip_a_bit as fn(&Path), "the checksum does not match"),
        (|path| fs::write(path, "").unwrap(), "the checksum does not match"),
        (|path| fs::remove_file(path).unwrap(), "the file is missing"),
    ] {
        let place = Place::with_two_generations();
        spoil(&place.path("generation-2.pem"));
        let mut store = place.open();
        let [damage] = store.damage() else { panic!("{:?}", store.damage()) };
        assert_eq!(damage.reason.to_string(), reason);
        let kept = damage.path.clone();
        let identity = store.load().unwrap();
        assert_eq!(identity.active.unwrap().number, 1);
        assert!(identity.previous.is_none());

        // Life goes on, and the evidence stays.
        store.apply(&begin(&key(3))).unwrap();
        store.apply(&stage(&key(3), None)).unwrap();
        store.apply(&Change::Activate).unwrap();
        drop(store);
        let store = place.open();
        assert!(store.damage().is_empty());
        assert_eq!(kept.exists(), reason != "the file is missing");
        assert!(place.path("generation-3.pem").exists());
    }
}

// K15: with both generations lost the device is still told where it belonged, and provisions anew.
#[test]
fn k15_everything_damaged_leaves_no_generation() {
    let place = Place::with_two_generations();
    flip_a_bit(&place.path("generation-1.pem"));
    flip_a_bit(&place.path("generation-2.pem"));
    let mut store = place.open();
    assert_eq!(store.damage().len(), 2);
    let identity = store.load().unwrap();
    assert!(identity.active.is_none() && identity.previous.is_none());
    assert!(identity.assignment.is_some());
}

// X3: key files swapped under the store's feet. The checksums are made to fit, as a person who
// edits files would; the key must still sign for the certificate.
#[test]
fn x03_a_swapped_key_is_noticed() {
    let place = Place::with_two_generations();
    let read = |n: u32| fs::read_to_string(place.path(&format!("generation-{n}.pem"))).unwrap();
    let end = "-----END PRIVATE KEY-----\n";
    let (first, second) = (read(1), read(2));
    let swapped =
        [&first[..first.find(end).unwrap()], &second[second.find(end).unwrap()..]].concat();
    let pointer = fs::read_to_string(place.path("identity.json")).unwrap();
    let sum = super::bundle::checksum;
    let pointer = pointer.replace(&sum(second.as_bytes()), &sum(swapped.as_bytes()));
    fs::write(place.path("generation-2.pem"), swapped).unwrap();
    fs::write(place.path("identity.json"), pointer).unwrap();
    let store = place.open();
    let [damage] = store.damage() else { panic!("{:?}", store.damage()) };
    assert_eq!(damage.reason, DamageReason::KeyMismatch);
}

// K14, K16: a pointer that is not understood is refused and left exactly as it is.
#[test]
fn k16_a_pointer_that_is_not_understood_is_left_alone() {
    let cases: [(&str, Spoil); 4] = [
        ("corrupt", |text| text[..text.len() / 2].to_string()),
        ("newer than this software", |text| text.replace("\"format\": 1", "\"format\": 2")),
        ("another registration", |text| text.replace(ID, "press-8")),
        ("corrupt", |_| String::new()),
    ];
    for (expected, spoil) in cases {
        let place = Place::with_two_generations();
        let spoilt = spoil(fs::read_to_string(place.path("identity.json")).unwrap());
        fs::write(place.path("identity.json"), &spoilt).unwrap();
        let message = place.refused().to_string();
        assert!(message.contains(expected), "{message}");
        assert_eq!(fs::read_to_string(place.path("identity.json")).unwrap(), spoilt);
        assert!(place.path("generation-2.pem").exists());
    }
    let place = Place::with_two_generations();
    fs::remove_file(place.path("identity.json")).unwrap();
    assert!(matches!(place.refused(), FileError::Corrupt { .. }));
    assert!(place.path("generation-2.pem").exists());
}

// A later version may add members; an older one must not choke on them after a downgrade.
#[test]
fn unknown_members_are_ignored() {
    let place = Place::with_two_generations();
    let pointer = fs::read_to_string(place.path("identity.json")).unwrap();
    let pointer = pointer.replacen('{', "{ \"later\": [1],", 1);
    fs::write(place.path("identity.json"), pointer).unwrap();
    assert_eq!(place.identity().active.unwrap().number, 2);
}

// K8: found before a certificate is asked for that could not be kept.
#[test]
fn k08_a_place_that_cannot_be_written_is_refused() {
    let state = TempDir::new().unwrap();
    let file = state.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.as_path(), Path::new("/proc/zerotouch")] {
        match FileStore::open(path, ID) {
            Err(StoreError::File(error @ FileError::NotWritable { .. })) => {
                assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
            }
            other => panic!("{}: {other:?}", path.display()),
        }
    }
}

// K20: a registration id becomes part of a path.
#[test]
fn k20_only_harmless_ids_become_directories() {
    for id in ["press-7", "a", "SN:007_a.b-c", &"x".repeat(128)] {
        assert!(is_directory_name(id), "{id}");
    }
    let too_long = "x".repeat(129);
    for id in ["", ".", "..", ".hidden", "a/b", "../a", "a\0b", "a b", "ä", "a\\b", &too_long] {
        assert!(!is_directory_name(id), "{id:?}");
        let state = TempDir::new().unwrap();
        let refused = FileStore::open(state.path(), id);
        assert!(
            matches!(refused, Err(StoreError::File(FileError::RegistrationId { .. }))),
            "{id:?}: {refused:?}"
        );
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
    }
}

// C10: what a log shows of a store.
#[test]
fn c10_debug_shows_no_key() {
    let place = Place::with_two_generations();
    let shown = format!("{:?}", place.open());
    let pem = fs::read_to_string(place.path("generation-2.pem")).unwrap();
    let line = pem.lines().skip_while(|line| !line.contains("PRIVATE")).nth(1).unwrap();
    assert!(shown.contains("PrivateKey(ECDSA P-256, ..)"), "{shown}");
    assert!(!shown.contains(&line[..16]), "{shown}");
}
