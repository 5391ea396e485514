//! The promise of the file store against real processes and a real system: one that is killed again
//! and again, several that want the same store, any umask, a full disk, a read-only one, a user who
//! may not.
//!
//! The processes are this test program once more, told to run one of the ignored tests.

use std::env;
use std::format;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::string::{String, ToString};
use std::thread;
use std::time::Duration;
use std::vec;
use std::vec::Vec;

use tempfile::TempDir;

use super::queue::FileQueue;
use super::{Condition, FileError, FileStore};
use crate::model::{Change, Identity};
use crate::queue::RecordQueue;
use crate::store::{Store, StoreError};
use crate::testing::{begin, key, stage};

const ID: &str = "press-7";
/// Names the state directory to the other process.
const STATE: &str = "ZEROTOUCH_TEST_STATE";
/// How often the first test kills; more in continuous integration.
const KILLS: &str = "ZEROTOUCH_TEST_KILLS";
/// The user that owns nothing.
const NOBODY: u32 = 65534;

/// This test program, about to run one of the ignored tests in `state`.
fn this_program(test: &str, state: &Path) -> Command {
    let mut command = Command::new("/proc/self/exe");
    if !Path::new("/proc/self/exe").exists() {
        command = Command::new(env::current_exe().unwrap());
    }
    command.args(arguments(test)).env(STATE, state);
    command
}

fn arguments(test: &str) -> Vec<String> {
    let test = format!("file::processes::{test}");
    ["--exact", &test, "--ignored", "--nocapture", "--quiet"].map(String::from).into()
}

fn spawn(test: &str, state: &Path) -> Child {
    this_program(test, state)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Runs a test of another process and shows what it says if it fails.
fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let shown = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&shown));
}

fn is_ci() -> bool {
    env::var_os("CI").is_some()
}

/// How many changes lead to `identity`, in a life that repeats begin, stage, activate.
fn step(identity: &Identity) -> u64 {
    match (&identity.pending, &identity.staged) {
        (Some(_), _) => 3 * identity.last_number + 1,
        (None, Some(_)) => 3 * identity.last_number - 1,
        (None, None) => 3 * identity.last_number,
    }
}

fn change_after(step: u64) -> Change {
    let key = key(step / 3);
    match step % 3 {
        0 => begin(&key),
        1 => stage(&key, None),
        _ => Change::Activate,
    }
}

// K11: SIGKILL at any instant, on a real file system. What the process reported as done is there,
// or one change more; and the store opens, whole.
#[test]
fn k11_a_killed_process_leaves_a_whole_identity() {
    let state = TempDir::new().unwrap();
    let kills = if is_ci() { 500 } else { 20 };
    let kills: u32 = env::var(KILLS).map_or(kills, |kills| kills.parse().unwrap());
    let mut reported = 0;
    for kill in 0..kills {
        let mut child = spawn("changes_until_killed", state.path());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Let it begin, then strike after a time that differs each time.
        let first = lines.find_map(|line| reported_step(&line.unwrap()));
        thread::sleep(Duration::from_micros(u64::from(kill * 7_919 % 12_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        let last = lines.map_while(Result::ok).filter_map(|line| reported_step(&line)).last();
        reported = last.or(first).expect("it reported nothing");

        // K12: whoever is dead holds no lock, whatever number it left in it.
        let holder = fs::read_to_string(state.path().join(ID).join("lock")).unwrap();
        assert_eq!(holder.trim(), child.id().to_string());
        let seen = FileStore::options().inspect(state.path(), ID).unwrap();
        assert_eq!(seen.condition(), Condition::Whole, "kill {kill}: {:?}", seen.damage);
        let mut store = FileStore::open(state.path(), ID).unwrap();
        assert_eq!(store.condition(), Condition::Whole, "kill {kill}: {:?}", store.damage());
        assert_eq!(step(&store.load().unwrap()), step(&seen.identity));
        let found = step(&store.load().unwrap());
        assert!((reported..=reported + 1).contains(&found), "kill {kill}: {reported} and {found}");
    }
    // Each life has reported at least one change, and none was lost.
    assert!(reported >= u64::from(kills), "only {reported} changes in {kills} lives");
}

fn reported_step(line: &str) -> Option<u64> {
    line.strip_prefix("step ")?.parse().ok()
}

#[test]
#[ignore = "run by k11_a_killed_process_leaves_a_whole_identity"]
fn changes_until_killed() {
    let mut store = FileStore::open(&state(), ID).unwrap();
    let mut out = std::io::stdout();
    loop {
        let before = step(&store.load().unwrap());
        store.apply(&change_after(before)).unwrap();
        writeln!(out, "step {}", before + 1).unwrap();
    }
}

// K12: of several processes that open the store at once, one has it and the others are told so.
#[test]
fn k12_of_racing_processes_one_has_the_store() {
    let state = TempDir::new().unwrap();
    let mut racers: [Child; 4] = core::array::from_fn(|_| spawn("opens_and_holds", state.path()));
    // The winner holds the store until its input ends, which is when all have told.
    let mut told = racers.each_mut().map(|racer| {
        let lines = BufReader::new(racer.stdout.take().unwrap()).lines();
        let outcome = lines.map_while(Result::ok).find(|line| line.starts_with("outcome "));
        outcome.unwrap()
    });
    for mut racer in racers {
        drop(racer.stdin.take());
        racer.wait().unwrap();
    }
    told.sort();
    assert_eq!(told, ["outcome has it", "outcome locked", "outcome locked", "outcome locked"]);
}

#[test]
#[ignore = "run by k12_of_racing_processes_one_has_the_store"]
fn opens_and_holds() {
    let opened = FileStore::open(&state(), ID);
    let outcome = match &opened {
        Ok(_) => "has it",
        Err(error) if format!("{error}").contains("is in use by") => "locked",
        Err(error) => panic!("{error}"),
    };
    // A line of its own, whatever the test harness has printed before.
    std::println!("\noutcome {outcome}");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
}

// K12: readers look while another process changes the identity as fast as it can, and never see
// anything but a whole one.
#[test]
fn k12_readers_see_a_whole_identity_at_any_time() {
    let state = TempDir::new().unwrap();
    let mut child = spawn("changes_until_killed", state.path());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.find_map(|line| reported_step(&line.unwrap())).unwrap();
    // What it has to say it can say, whether or not we listen.
    let listener = thread::spawn(move || lines.map_while(Result::ok).count());
    let mut last = 0;
    for look in 0..100 {
        let seen = FileStore::options().inspect(state.path(), ID).unwrap();
        assert_eq!(seen.condition(), Condition::Whole, "look {look}: {:?}", seen.damage);
        let found = step(&seen.identity);
        assert!(found >= last, "look {look}: {found} after {last}");
        last = found;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    listener.join().unwrap();
}

// K1: created as they stay, whatever the umask lets through.
#[test]
fn k01_modes_are_right_under_any_umask() {
    for umask in ["000", "022", "027", "077", "002"] {
        let place = TempDir::new().unwrap();
        let state = place.path().join("made").join("here");
        let script = format!("umask {umask}; exec \"$@\"");
        let program = env::current_exe().unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, "sh"]).arg(program).args(arguments("lives_a_little"));
        run(shell.env(STATE, &state));
        let directory = state.join(ID);
        for (path, wanted) in [
            (state.parent().unwrap(), 0o700),
            (&*state, 0o700),
            (&*directory, 0o700),
            (&*directory.join("generation-1.pem"), 0o600),
            (&*directory.join("pending-2.pem"), 0o600),
            (&*directory.join("identity.json"), 0o600),
            (&*directory.join("reserve"), 0o600),
            (&*directory.join("lock"), 0o600),
        ] {
            let mode = fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, wanted, "{} under umask {umask}", path.display());
        }
    }
}

#[test]
#[ignore = "run by k01_modes_are_right_under_any_umask"]
fn lives_a_little() {
    let mut store = FileStore::open(&state(), ID).unwrap();
    for change in [begin(&key(1)), stage(&key(1), None), Change::Activate, begin(&key(2))] {
        store.apply(&change).unwrap();
    }
}

// K7, K8, K21 on a real disk that is full, and then read-only. Mounting one takes a user namespace
// or root.
#[test]
fn k07_a_real_disk_that_is_full_or_read_only() {
    let mounts = ["unshare", "--mount", "--map-root-user"];
    let may = Command::new(mounts[0])
        .args(&mounts[1..])
        .args(["mount", "-t", "tmpfs", "none", "/mnt"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !may {
        assert!(!is_ci(), "skipped: this system does not let a process mount a disk of its own");
        std::eprintln!("skipped: this system does not let a process mount a disk of its own");
        return;
    }
    let place = TempDir::new().unwrap();
    let script =
        "mount -t tmpfs -o size=256k,mode=700 none \"$ZEROTOUCH_TEST_STATE\" && exec \"$@\"";
    let program = env::current_exe().unwrap();
    let mut unshare = Command::new(mounts[0]);
    unshare.args(&mounts[1..]).args(["sh", "-c", script, "sh"]).arg(program);
    run(unshare.args(arguments("lives_on_a_small_disk")).env(STATE, place.path()));
}

#[test]
#[ignore = "run by k07_a_real_disk_that_is_full_or_read_only"]
fn lives_on_a_small_disk() {
    let state = state();
    let filler = state.join("filler");
    let fill = || {
        let mut file = File::options().create(true).append(true).open(&filler).unwrap();
        // Page by page: a larger write that does not fit is not begun.
        while file.write_all(&[7; 4096]).is_ok() {}
    };
    let is_full = |result: Result<(), StoreError>| match result {
        Err(StoreError::File(
            FileError::Io { source, .. } | FileError::NotWritable { source, .. },
        )) => assert_eq!(source.kind(), ErrorKind::StorageFull),
        other => panic!("{other:?}"),
    };
    let mut store = FileStore::open(&state, ID).unwrap();
    for change in [begin(&key(1)), stage(&key(1), None), Change::Activate] {
        store.apply(&change).unwrap();
    }

    // Full before: no key, so nothing is asked for.
    fill();
    is_full(store.apply(&begin(&key(2))));
    is_full(store.apply(&Change::Assign(crate::testing::assignment("second"))));
    assert!(store.load().unwrap().pending.is_none());
    drop(store);
    is_full(FileStore::open(&state, ID).map(drop));
    let seen = FileStore::options().inspect(&state, ID).unwrap();
    assert_eq!((seen.condition(), step(&seen.identity)), (Condition::Whole, 3));
    for entry in fs::read_dir(state.join(ID)).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.starts_with('.') && name != "reserve", "{name} was left behind");
    }

    // Space again, nobody cleans up; full after the certificate was asked for: there is room for it.
    fs::remove_file(&filler).unwrap();
    let mut store = FileStore::open(&state, ID).unwrap();
    store.apply(&begin(&key(2))).unwrap();
    fill();
    store.apply(&stage(&key(2), None)).unwrap();
    store.apply(&Change::Activate).unwrap();
    drop(store);

    // Read-only: what is there can be looked at, and no certificate is asked for.
    fs::remove_file(&filler).unwrap();
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(&state).status().unwrap();
    assert!(remounted.success());
    match FileStore::open(&state, ID) {
        Err(StoreError::File(FileError::NotWritable { source, .. })) => {
            assert_eq!(source.kind(), ErrorKind::ReadOnlyFilesystem);
        }
        other => panic!("{other:?}"),
    }
    let seen = FileStore::options().inspect(&state, ID).unwrap();
    assert_eq!((seen.condition(), step(&seen.identity)), (Condition::Whole, 6));
}

// K2, K8: a user who may not write there, and one to whom it does not belong.
#[test]
fn k08_another_user_is_refused() {
    let place = TempDir::new().unwrap();
    let state = place.path().join("state");
    let mut store = FileStore::open(&state, ID).unwrap();
    store.apply(&begin(&key(1))).unwrap();
    drop(store);
    let is_root = fs::metadata(place.path()).unwrap().uid() == 0;
    if !is_root {
        assert!(!is_ci(), "skipped: only root can become another user");
        std::eprintln!("skipped: only root can become another user");
        return;
    }
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // A state directory of somebody else, who could put another identity in place of this one.
    chown(&state, Some(NOBODY), None).unwrap();
    let refused = FileStore::open(&state, ID).unwrap_err();
    assert!(refused.to_string().contains("belongs to user 65534"), "{refused}");
    FileStore::options().insecure_permissions(true).open(&state, ID).unwrap();
    chown(&state, Some(0), None).unwrap();
    // First it may not even look; then it may, and it is not its own.
    for mode in [0o700, 0o755] {
        fs::set_permissions(&state, fs::Permissions::from_mode(mode)).unwrap();
        run(this_program("may_not", &state).uid(NOBODY).gid(NOBODY));
    }
}

#[test]
#[ignore = "run by k08_another_user_is_refused"]
fn may_not() {
    let state = state();
    let may_look = fs::read_dir(&state).is_ok();
    let refused = match FileStore::open(&state, ID) {
        Err(StoreError::File(error)) => error,
        other => panic!("{other:?}"),
    };
    match (&refused, may_look) {
        (FileError::NotWritable { source, .. }, false) => {
            assert_eq!(source.kind(), ErrorKind::PermissionDenied);
        }
        (FileError::ForeignOwner { owner: 0, user, .. }, true) => {
            assert_eq!(*user, NOBODY);
            let command = format!("chown -R {NOBODY} {}", state.join(ID).display());
            assert!(refused.to_string().contains(&command), "{refused}");
        }
        (other, _) => panic!("{other:?}"),
    }
    // A name that is new, in a place that is not ours.
    assert!(FileStore::open(&state.join("..").join("new"), ID).is_err());
}

fn state() -> PathBuf {
    env::var_os(STATE).unwrap().into()
}

// A queue whose process is killed at any instant, again and again: whatever it reported as taken and not
// as finished is there, in order, and only what was being finished may come again.
#[test]
fn a_killed_process_leaves_what_its_queue_has_taken() {
    let state = TempDir::new().unwrap();
    let kills = if is_ci() { 200 } else { 20 };
    let mut reported = 0;
    for kill in 0..kills {
        let mut child = spawn("queues_until_killed", state.path());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.find_map(|line| reported_step(&line.unwrap()));
        thread::sleep(Duration::from_micros(kill * 7_919 % 12_000));
        child.kill().unwrap();
        child.wait().unwrap();
        let last = lines.map_while(Result::ok).filter_map(|line| reported_step(&line)).last();
        reported = last.or(first).expect("it reported nothing");

        let waiting = FileQueue::open(state.path(), ID).unwrap().load().unwrap();
        let bodies: Vec<u64> = waiting
            .records
            .iter()
            .map(|(_, body)| u64::from_be_bytes(body[..8].try_into().unwrap()))
            .collect();
        let (first, last) = (bodies[0], *bodies.last().unwrap());
        assert_eq!(bodies, (first..=last).collect::<Vec<_>>(), "kill {kill}");
        assert_eq!(waiting.lost, 0);
        // One batch may have been taken and not reported.
        assert!((reported..=reported + 4).contains(&last), "kill {kill}: {reported} and {last}");
        assert!(last - first < 64 + 8, "kill {kill}: {first} has been finished");
    }
    assert!(reported > kills, "only {reported} messages in {kills} lives");
}

#[test]
#[ignore = "run by a_killed_process_leaves_what_its_queue_has_taken"]
fn queues_until_killed() {
    let mut queue = FileQueue::open(&state(), ID).unwrap();
    let mut waiting: Vec<(u64, u64)> = Vec::new();
    for (number, body) in queue.load().unwrap().records {
        waiting.push((number, u64::from_be_bytes(body[..8].try_into().unwrap())));
    }
    let mut next = waiting.last().map_or(1, |(_, last)| last + 1);
    let mut out = std::io::stdout();
    loop {
        let batch = [next, next + 1, next + 2, next + 3];
        // Long enough that files are filled, moved and removed.
        let records = batch.map(|n| [&n.to_be_bytes()[..], &vec![b'x'; 20_000]].concat());
        let numbers = queue.append(&records).unwrap();
        waiting.extend(numbers.zip(batch));
        next += 4;
        writeln!(out, "step {}", next - 1).unwrap();
        if waiting.len() > 64 {
            let finished: Vec<u64> =
                waiting.drain(..waiting.len() - 64).map(|(number, _)| number).collect();
            queue.finish(&finished).unwrap();
        }
    }
}

// One process at a time, beside the store of an identity in the same directory.
#[test]
fn a_queue_has_one_process() {
    let state = TempDir::new().unwrap();
    let _store = FileStore::open(state.path(), ID).unwrap();
    let queue = FileQueue::open(state.path(), ID).unwrap();
    let refused = FileQueue::open(state.path(), ID).unwrap_err();
    assert!(matches!(refused, StoreError::File(FileError::Locked { .. })), "{refused}");
    drop(queue);
    FileQueue::open(state.path(), ID).unwrap();
}
