//! The promise of the file store against real processes: one that is killed again and again, and two
//! that want the same store.
//!
//! The processes are this test program once more, told to run one of the ignored tests.

use std::env;
use std::format;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::FileStore;
use crate::model::{Change, Identity};
use crate::store::Store;
use crate::testing::{begin, key, stage};

const ID: &str = "press-7";
/// Names the state directory to the other process.
const STATE: &str = "ZEROTOUCH_TEST_STATE";
/// How often the first test kills; more in continuous integration.
const KILLS: &str = "ZEROTOUCH_TEST_KILLS";

fn spawn(test: &str, state: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", &format!("file::kills::{test}"), "--ignored", "--nocapture", "--quiet"])
        .env(STATE, state)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
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
    let kills: u32 = env::var(KILLS).map_or(20, |kills| kills.parse().unwrap());
    let mut reported = 0;
    for kill in 0..kills {
        let mut child = spawn("changes_until_killed", state.path());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Let it begin, then strike after a time that differs each time.
        let first = lines.find_map(|line| reported_step(&line.unwrap()));
        thread::sleep(Duration::from_micros(u64::from(kill * 7_919 % 20_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        let last = lines.map_while(Result::ok).filter_map(|line| reported_step(&line)).last();
        reported = last.or(first).expect("it reported nothing");

        let mut store = FileStore::open(state.path(), ID).unwrap();
        assert!(store.damage().is_empty(), "kill {kill}: {:?}", store.damage());
        let found = step(&store.load().unwrap());
        assert!((reported..=reported + 1).contains(&found), "kill {kill}: {reported} and {found}");
    }
    assert!(reported > u64::from(kills), "only {reported} changes in {kills} lives");
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

fn state() -> PathBuf {
    env::var_os(STATE).unwrap().into()
}
