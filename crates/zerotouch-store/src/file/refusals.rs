//! What the file store refuses on a real file system, and with which words.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::format;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::string::{String, ToString};

use tempfile::TempDir;

use super::FileStore;
use super::directory::Directory;
use super::error::FileError;
use super::names::is_directory_name;
use super::os::{Checks, OsDirectory};
use super::tests::{ID, Place, mode, set_mode};
use crate::store::{Store, StoreError};
use crate::testing::{begin, key};

/// Puts something else in the place of a file, given where the file itself was moved.
type Replace = fn(file: &Path, aside: &Path);

// K3: nobody can lay something at the name of a temporary file, and what lies there is not used.
#[test]
fn k03_temporary_names_are_new_each_time() {
    let state = TempDir::new().unwrap();
    let mut directory = OsDirectory::make(state.path(), ID, Checks::Strict).unwrap();
    let names: BTreeSet<String> = (0..100).map(|_| directory.temporary_name()).collect();
    assert_eq!(names.len(), 100);
    let victim = state.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    for name in names.iter().take(2) {
        symlink(&victim, state.path().join(ID).join(name)).unwrap();
        assert!(directory.create_new(name).is_err());
        fs::remove_file(state.path().join(ID).join(name)).unwrap();
        directory.create_new(name).unwrap();
        assert!(directory.create_new(name).is_err());
    }
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
}

// K2: a key that others could read may have been read. The message holds the command that mends it,
// and nothing is mended silently. Who says so explicitly gets the identity all the same.
#[test]
fn k02_looser_modes_are_refused() {
    let lax = FileStore::options().insecure_permissions(true);
    for (name, wanted) in
        [("generation-2.pem", "600"), ("identity.json", "600"), ("lock", "600"), ("", "700")]
    {
        let place = Place::with_two_generations();
        let path = place.path(name);
        set_mode(&path, 0o750);
        let message = place.refused().to_string();
        assert!(message.contains("has mode 750"), "{message}");
        let command = format!("chmod {wanted} {}", path.display());
        assert!(message.ends_with(&command), "{message}");
        assert_eq!(mode(&path), 0o750, "it mended by itself");
        // Readers take no lock.
        assert_eq!(place.inspect().is_err(), name != "lock");

        let mut store = lax.open(place.state.path(), ID).unwrap();
        assert_eq!(store.load().unwrap().active.unwrap().number, 2);
        assert!(lax.inspect(place.state.path(), ID).is_ok());
        assert_eq!(mode(&path), 0o750, "it mended by itself");
    }
}

// K4: who can write to the directory above can put another one in place of ours; unless they may
// not touch what is not theirs, as in /tmp.
#[test]
fn k04_a_state_directory_that_others_write_to_is_refused() {
    let place = Place::with_two_generations();
    for (bits, loose) in [(0o770, true), (0o702, true), (0o1777, false), (0o755, false)] {
        set_mode(place.state.path(), bits);
        let opened = FileStore::open(place.state.path(), ID);
        if loose {
            let message = opened.unwrap_err().to_string();
            let command = format!("chmod go-w {}", place.state.path().display());
            assert!(message.ends_with(&command), "{message}");
            assert!(matches!(place.inspect(), Err(FileError::LooseParent { .. })));
            let lax = FileStore::options().insecure_permissions(true);
            lax.open(place.state.path(), ID).unwrap();
        } else {
            opened.unwrap();
        }
    }
}

// K4, K5: nothing is read or written through a link, and nothing that is no plain file is waited on.
#[test]
fn k05_links_and_special_files_are_refused() {
    let replace: [(&str, Replace); 4] = [
        ("symbolic link", |file, aside| symlink(aside, file).unwrap()),
        ("hard link", |file, aside| fs::hard_link(aside, file).unwrap()),
        ("FIFO", |file, _| {
            assert!(Command::new("mkfifo").arg(file).status().unwrap().success());
            set_mode(file, 0o600);
        }),
        ("directory", |file, _| {
            fs::create_dir(file).unwrap();
            set_mode(file, 0o600);
        }),
    ];
    for (kind, replace) in replace {
        for name in ["generation-2.pem", "identity.json", "lock"] {
            let place = Place::with_two_generations();
            let aside = place.state.path().join("aside");
            fs::rename(place.path(name), &aside).unwrap();
            replace(&place.path(name), &aside);
            let refused = place.refused();
            assert!(matches!(refused, FileError::NotAPlainFile { .. }), "{kind} {name}: {refused}");
            let command = format!("rm {}", place.path(name).display());
            assert!(refused.to_string().ends_with(&command), "{refused}");
            // Nor for those who do not care about modes.
            let lax = FileStore::options().insecure_permissions(true);
            assert!(lax.open(place.state.path(), ID).is_err(), "{kind} {name}");
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

// K20: whatever the state directory is called, it is used, or refused with its name.
#[test]
fn k20_any_path_is_used_or_named() {
    let state = TempDir::new().unwrap();
    let long = "x".repeat(300);
    for name in [&b"with space"[..], b"nul\0", b"\xff\xfe", b"a/../b", long.as_bytes(), b"\n"] {
        let path = state.path().join(OsStr::from_bytes(name));
        match FileStore::open(&path, ID) {
            Ok(_) => assert!(path.join(ID).is_dir(), "{name:?}"),
            Err(error) => {
                assert!(name == b"nul\0" || name == long.as_bytes(), "{error}");
                let shown = path.join(ID).display().to_string();
                assert!(error.to_string().contains(&shown), "{error}");
            }
        }
    }
}
