//! The file store on a real file system: what it writes, and what it makes of what it finds.

use std::collections::BTreeMap;
use std::format;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::string::{String, ToString};
use std::time::{Duration, SystemTime};
use std::vec::Vec;

use tempfile::TempDir;
use zerotouch_credentials::Signer;

use super::bundle;
use super::directory::Directory;
use super::error::{Condition, DamageReason, FileError};
use super::os::{Checks, OsDirectory};
use super::record::{Record, reseal};
use super::{FileStore, FileStoreOptions, Inspection};
use crate::model::{Change, Identity};
use crate::store::{Store, StoreError};
use crate::testing::{begin, fingerprint, key, stage};

pub(super) const ID: &str = "press-7";

pub(super) struct Place {
    pub(super) state: TempDir,
}

impl Place {
    /// A state directory whose identity has an active and a previous generation.
    pub(super) fn with_two_generations() -> Self {
        let place = Self { state: TempDir::new().unwrap() };
        let mut store = place.open();
        for seed in [1, 2] {
            store.apply(&begin(&key(seed))).unwrap();
            store.apply(&stage(&key(seed), Some("contoso"))).unwrap();
            store.apply(&Change::Activate).unwrap();
        }
        place
    }

    pub(super) fn open(&self) -> FileStore {
        FileStore::open(self.state.path(), ID).unwrap()
    }

    pub(super) fn refused(&self) -> FileError {
        match FileStore::open(self.state.path(), ID) {
            Err(StoreError::File(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn inspect(&self) -> Result<Inspection, FileError> {
        FileStore::options().inspect(self.state.path(), ID)
    }

    pub(super) fn identity(&self) -> Identity {
        self.open().load().unwrap()
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
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

    fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let read = |name: String| (name.clone(), fs::read(self.path(&name)).unwrap());
        self.names().into_iter().map(read).collect()
    }
}

/// Spoils a text.
type Spoil = fn(String) -> String;

pub(super) fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

pub(super) fn set_mode(path: &Path, mode: u32) {
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
    assert_eq!(identity.previous[0].key.public_key(), key(1).public_key());
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
    assert_eq!(place.names(), ["lock", "pending-1.pem", "reserve"]);
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

// K12: readers wait for nobody, and leave no trace.
#[test]
fn k12_a_look_needs_no_lock_and_writes_nothing() {
    let place = Place::with_two_generations();
    let mut store = place.open();
    store.apply(&begin(&key(3))).unwrap();
    let before = place.contents();
    let seen = place.inspect().unwrap();
    assert_eq!(seen.condition(), Condition::Whole);
    assert_eq!(fingerprint(&seen.identity), fingerprint(&store.load().unwrap()));
    assert_eq!(place.contents(), before);

    flip_a_bit(&place.path("generation-2.pem"));
    let before = place.contents();
    let seen = place.inspect().unwrap();
    assert_eq!(seen.condition(), Condition::Damaged);
    assert_eq!(seen.damage[0].path, place.path("generation-2.pem"));
    assert_eq!(seen.identity.active.unwrap().number, 1);
    assert_eq!(place.contents(), before);

    let nowhere = FileStore::options().inspect(place.state.path(), "press-8");
    assert!(nowhere.unwrap_err().is_not_found());
    assert!(!place.state.path().join("press-8").exists());
}

// K13: what a crash left is swept when the store is opened, and only what is the store's own.
#[test]
fn k13_leftovers_are_swept() {
    let place = Place::with_two_generations();
    // A generation that was rolled back, whose removal a crash has undone.
    let mut store = place.open();
    store.apply(&begin(&key(3))).unwrap();
    store.apply(&stage(&key(3), None)).unwrap();
    let staged = fs::read(place.path("generation-3.pem")).unwrap();
    store.apply(&Change::DiscardStaged).unwrap();
    drop(store);
    for (name, content) in
        [(".tmp-0123", &b"left over"[..]), ("generation-3.pem", &staged), ("notes.txt", b"mine")]
    {
        fs::write(place.path(name), content).unwrap();
        set_mode(&place.path(name), 0o600);
    }
    assert_eq!(place.open().condition(), Condition::Whole);
    assert_eq!(
        place.names(),
        ["generation-1.pem", "generation-2.pem", "identity.json", "lock", "notes.txt"]
    );
}

// K13: nobody answers a request of long ago; its key is given up. A clock that is behind does not
// make a key old.
#[test]
fn k13_an_old_pending_key_is_discarded() {
    let hour = Duration::from_secs(3600);
    for (age, kept) in [(0, true), (23, true), (25, false), (-1000, true)] {
        let place = Place::with_two_generations();
        place.open().apply(&begin(&key(3))).unwrap();
        let file = fs::File::open(place.path("pending-3.pem")).unwrap();
        let (now, by) = (SystemTime::now(), hour * i32::unsigned_abs(age));
        file.set_modified(if age < 0 { now + by } else { now - by }).unwrap();
        assert!(place.inspect().unwrap().identity.pending.is_some());
        let identity = place.identity();
        assert_eq!(identity.pending.is_some(), kept, "{age} hours");
        assert_eq!(place.path("pending-3.pem").exists(), kept, "{age} hours");
        assert_eq!(identity.active.unwrap().number, 2);

        let never = FileStoreOptions::new().pending_lifetime(Duration::ZERO);
        file.set_modified(now - hour).unwrap();
        let mut store = never.open(place.state.path(), ID).unwrap();
        assert!(store.load().unwrap().pending.is_none());
    }
}

// Who wants to go back further keeps more; the rest goes with the next activation.
#[test]
fn previous_generations_are_kept_as_configured() {
    let place = Place::with_two_generations();
    for (retained, seed, kept) in [(3, 3, 3), (3, 4, 4), (3, 5, 4), (0, 6, 1)] {
        let options = FileStore::options().retained(retained);
        let mut store = options.open(place.state.path(), ID).unwrap();
        store.apply(&begin(&key(seed))).unwrap();
        store.apply(&stage(&key(seed), None)).unwrap();
        store.apply(&Change::Activate).unwrap();
        let bundles = place.names().iter().filter(|name| name.contains("generation")).count();
        assert_eq!(bundles, kept, "{retained} {seed}");
        drop(store);
        let identity = options.inspect(place.state.path(), ID).unwrap().identity;
        assert_eq!((identity.previous.len() + 1, identity.retained), (kept, retained));
    }
}

// K14: a damaged generation is reported, kept as evidence, and the previous one stands in.
#[test]
fn k14_damage_falls_back_and_is_kept() {
    for (spoil, reason) in [
        (flip_a_bit as fn(&Path), "the checksum does not match"),
        (|path| fs::write(path, "").unwrap(), "the checksum does not match"),
        (|path| fs::remove_file(path).unwrap(), "the file is missing"),
        (
            |path| fs::File::options().write(true).open(path).unwrap().set_len(1 << 30).unwrap(),
            "it cannot be read (file too large)",
        ),
    ] {
        let place = Place::with_two_generations();
        spoil(&place.path("generation-2.pem"));
        let mut store = place.open();
        let [damage] = store.damage() else { panic!("{:?}", store.damage()) };
        assert_eq!(damage.reason.to_string(), reason);
        assert_eq!(store.condition(), Condition::Damaged);
        let kept = damage.path.clone();
        let identity = store.load().unwrap();
        assert_eq!(identity.active.unwrap().number, 1);
        assert!(identity.previous.is_empty());

        // Life goes on, and the evidence stays.
        store.apply(&begin(&key(3))).unwrap();
        store.apply(&stage(&key(3), None)).unwrap();
        store.apply(&Change::Activate).unwrap();
        drop(store);
        let store = place.open();
        assert_eq!(store.condition(), Condition::Whole);
        assert_eq!(kept.exists(), reason != "the file is missing");
        assert!(place.path("generation-3.pem").exists());
    }
}

// K14: the record of the last change is lost; the one before it, in the newest bundle, counts. The
// certificate that had been activated is tried anew.
#[test]
fn k14_without_the_last_record_the_one_before_counts() {
    for spoil in [flip_a_bit as fn(&Path), |path| fs::remove_file(path).unwrap()] {
        let place = Place::with_two_generations();
        spoil(&place.path("identity.json"));
        let mut store = place.open();
        let identity = store.load().unwrap();
        assert_eq!(identity.staged.unwrap().number, 2);
        assert_eq!(identity.active.unwrap().number, 1);
        assert_eq!(identity.assignment.unwrap().assigned_hub, "contoso.azure-devices.net");
        store.apply(&Change::Activate).unwrap();
        drop(store);
        assert_eq!(place.identity().active.unwrap().number, 2);
    }
}

// K15: with everything lost the device provisions anew, and is told so in a word of its own. What
// it has used up it does not use again.
#[test]
fn k15_everything_damaged_leaves_no_generation() {
    let place = Place::with_two_generations();
    flip_a_bit(&place.path("generation-1.pem"));
    flip_a_bit(&place.path("generation-2.pem"));
    let mut store = place.open();
    assert_eq!(store.damage().len(), 2);
    assert_eq!(store.condition(), Condition::Lost);
    let identity = store.load().unwrap();
    assert!(identity.active.is_none() && identity.previous.is_empty());
    assert!(identity.assignment.is_some());
    drop(store);

    flip_a_bit(&place.path("identity.json"));
    let mut store = place.open();
    assert_eq!(store.condition(), Condition::Lost);
    assert_eq!(store.load().unwrap().last_number, 2);
    store.apply(&begin(&key(3))).unwrap();
    store.apply(&stage(&key(3), None)).unwrap();
    drop(store);
    assert_eq!(place.open().condition(), Condition::Whole);
    for name in ["generation-1.pem", "generation-2.pem", "identity.json"] {
        assert!(place.path(&format!("damaged-{name}")).exists(), "{name}");
    }
}

// X3: key files swapped under the store's feet. The checksum is made to fit, as a person who edits
// files would; the key must still sign for the certificate.
#[test]
fn x03_a_swapped_key_is_noticed() {
    let place = Place::with_two_generations();
    let read = |n: u32| fs::read_to_string(place.path(&format!("generation-{n}.pem"))).unwrap();
    let (begin, end) = ("-----BEGIN PRIVATE KEY-----\n", "-----END PRIVATE KEY-----\n");
    let (first, second) = (read(1), read(2));
    let swapped = [
        &second[..second.find(begin).unwrap()],
        &first[first.find(begin).unwrap()..first.find(end).unwrap()],
        &second[second.find(end).unwrap()..],
    ];
    fs::write(place.path("generation-2.pem"), reseal(&swapped.concat())).unwrap();
    let store = place.open();
    let [damage] = store.damage() else { panic!("{:?}", store.damage()) };
    assert_eq!(damage.reason, DamageReason::KeyMismatch);
}

// A file copied over another is whole, and yet not what belongs there.
#[test]
fn a_file_under_another_name_is_noticed() {
    let place = Place::with_two_generations();
    fs::copy(place.path("generation-1.pem"), place.path("generation-2.pem")).unwrap();
    let store = place.open();
    let [damage] = store.damage() else { panic!("{:?}", store.damage()) };
    assert_eq!(damage.reason, DamageReason::OtherFile);
}

// K16: what a later version has written, or another device, is refused and left exactly as it is.
#[test]
fn k16_what_is_not_ours_to_judge_is_left_alone() {
    let cases: [(&str, Spoil); 2] = [
        ("newer than this software", |text| text.replace("\"format\": 1", "\"format\": 2")),
        ("belongs to the registration \"press-8\"", |text| text.replace(ID, "press-8")),
    ];
    for (expected, spoil) in cases {
        for name in ["identity.json", "generation-2.pem"] {
            let place = Place::with_two_generations();
            let text = fs::read_to_string(place.path(name)).unwrap();
            fs::write(place.path(name), reseal(&spoil(text))).unwrap();
            let before = place.contents();
            let message = place.refused().to_string();
            assert!(message.contains(expected), "{message}");
            assert!(place.inspect().unwrap_err().to_string().contains(expected));
            assert_eq!(place.contents(), before);
        }
    }
}

// K16: a newer number is not believed of a file that is damaged.
#[test]
fn k16_a_damaged_format_is_damage() {
    let place = Place::with_two_generations();
    let text = fs::read_to_string(place.path("identity.json")).unwrap();
    let text = text.replace("\"format\": 1", "\"format\": 3");
    fs::write(place.path("identity.json"), text).unwrap();
    let store = place.open();
    assert_eq!(store.damage()[0].reason, DamageReason::Checksum);
}

// A later version may add members; an older one must not choke on them after a downgrade.
#[test]
fn unknown_members_are_ignored() {
    let place = Place::with_two_generations();
    let text = fs::read_to_string(place.path("identity.json")).unwrap();
    let text = text.replacen("  \"format\"", "  \"later\": [1],\n  \"format\"", 1);
    fs::write(place.path("identity.json"), reseal(&text)).unwrap();
    assert_eq!(place.identity().active.unwrap().number, 2);
    assert_eq!(place.open().condition(), Condition::Whole);
}

// The documentation tells a person how to check a file by hand.
#[test]
fn the_checksum_can_be_checked_by_hand() {
    let place = Place::with_two_generations();
    for name in ["identity.json", "generation-2.pem"] {
        let script = "tail -n +3 \"$0\" | sha256sum | cut -c1-64";
        let output = Command::new("sh").args(["-c", script]).arg(place.path(name)).output();
        let sum = String::from_utf8(output.unwrap().stdout).unwrap();
        let text = fs::read_to_string(place.path(name)).unwrap();
        assert!(text.contains(&format!("\"sha256\": \"{}\"", sum.trim())), "{name}: {sum}");
    }
}

// K19: what has held a key wipes itself: the text that is written, and the bytes that are read.
#[test]
fn k19_buffers_with_keys_wipe_themselves() {
    fn wipes<T: zeroize::ZeroizeOnDrop>(_: &T) {}

    let body = bundle::encode(&key(1).into(), None).unwrap();
    wipes(&body);
    wipes(&Record::new(ID, 1, 0).encode(&body).unwrap());
    let place = Place::with_two_generations();
    let directory = OsDirectory::open(place.state.path(), ID, Checks::Strict).unwrap();
    wipes(&directory.read("generation-2.pem").unwrap().unwrap());
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
