//! Telemetry on disk: through the end of a process, orderly or not.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

#[path = "../../zerotouch-driver/tests/support/queue.rs"]
mod queue;

use queue::{FullAtFirst, ID, Victim, arrived, away, config, emulator, state, tell, waiting};
use zerotouch_device::DropReason;
use zerotouch_hub::Telemetry;
use zerotouch_store::{FileQueue, MemoryStore};
use zerotouch_tls::Roots;
use zerotouch_tokio::{Device, SendError};

fn open(state: &std::path::Path) -> FileQueue {
    FileQueue::open(state, ID).unwrap()
}

// The hub is away while the process lives. The next one sends what waited, in order and before what is
// new, and then nothing waits any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_sent_after_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let builder = Device::builder(away()).roots(Roots::Pem(emulator(0).ca_pem().into()));
    let (device, _events) = builder.queue(open(state.path())).spawn(MemoryStore::new()).unwrap();
    for text in ["1", "2", "3"] {
        device.enqueue_telemetry(Telemetry::new(text).property("a", "b")).await.unwrap();
    }
    device.close().await;
    assert_eq!(waiting(state.path()), 3);

    let emulator = emulator(1);
    let builder = Device::builder(config(&emulator)).roots(Roots::Pem(emulator.ca_pem().into()));
    let (device, _events) = builder.queue(open(state.path())).spawn(MemoryStore::new()).unwrap();
    device.send_telemetry(Telemetry::new("new")).await.unwrap();
    assert_eq!(arrived(&emulator, 4), ["1", "2", "3", "new"]);
    device.close().await;
    assert_eq!(waiting(state.path()), 0);
}

// A message that is waited for when the device stops is told as dropped, and comes with the next start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_outlives_whoever_waits_for_it() {
    let state = tempfile::tempdir().unwrap();
    let builder = Device::builder(away()).roots(Roots::Pem(emulator(0).ca_pem().into()));
    let (device, _events) = builder.queue(open(state.path())).spawn(MemoryStore::new()).unwrap();
    let (sent, ()) = tokio::join!(device.send_telemetry(Telemetry::new("x")), device.close());
    assert!(matches!(sent, Err(SendError::Dropped(DropReason::Stopped))), "{sent:?}");
    assert_eq!(waiting(state.path()), 1);
}

// What does not come to the disk is refused and not sent; the next may be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_a_message() {
    let state = tempfile::tempdir().unwrap();
    let emulator = emulator(2);
    let builder = Device::builder(config(&emulator)).roots(Roots::Pem(emulator.ca_pem().into()));
    let queue = FullAtFirst { queue: open(state.path()), is_full: true };
    let (device, _events) = builder.queue(queue).spawn(MemoryStore::new()).unwrap();
    let refused = device.enqueue_telemetry(Telemetry::new("refused")).await;
    assert!(matches!(refused, Err(SendError::NotStored(_))), "{refused:?}");
    device.enqueue_telemetry(Telemetry::new("taken")).await.unwrap();
    assert_eq!(arrived(&emulator, 1), ["taken"]);
    device.close().await;
}

// SIGKILL in the midst: whatever was reported taken arrives, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_loses_nothing_that_was_taken() {
    let state = tempfile::tempdir().unwrap();
    for messages in [1, 10, 25] {
        let before = waiting(state.path());
        let taken = Victim::start("enqueues_until_killed", state.path()).kill_after(messages);
        let after = waiting(state.path());
        assert!((before + taken..=before + taken + 1).contains(&after), "{before} {taken} {after}");
    }
    let count = waiting(state.path());
    let emulator = emulator(3);
    let builder = Device::builder(config(&emulator)).roots(Roots::Pem(emulator.ca_pem().into()));
    let (device, _events) = builder.queue(open(state.path())).spawn(MemoryStore::new()).unwrap();
    let expected: Vec<_> = (0..count).map(|n| n.to_string()).collect();
    assert_eq!(arrived(&emulator, count), expected);
    device.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by a_killed_process_loses_nothing_that_was_taken"]
async fn enqueues_until_killed() {
    let first = waiting(&state());
    let builder = Device::builder(away()).roots(Roots::Pem(emulator(0).ca_pem().into()));
    let (device, _events) = builder.queue(open(&state())).spawn(MemoryStore::new()).unwrap();
    for n in first.. {
        device.enqueue_telemetry(Telemetry::new(n.to_string())).await.unwrap();
        tell();
    }
}
