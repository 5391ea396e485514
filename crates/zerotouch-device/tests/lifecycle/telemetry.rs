//! Telemetry over good days and bad: kept, sent again, dropped, each told with its handle.

use std::time::Duration;

use zerotouch_device::{
    DropReason, Event, Failure, FailureClass, QueuePolicy, SendError, State, TelemetryHandle,
    WhenFull,
};
use zerotouch_emulator::cloud::{CloudEvent, Fault, FaultRule, Operation};
use zerotouch_hub::{Telemetry, TwinEvent};
use zerotouch_store::Identity;

use crate::bench::{Bench, fixture};

fn send(bench: &mut Bench, text: &str) -> Result<TelemetryHandle, SendError> {
    let sent = bench.device.send_telemetry(Telemetry::new(text), bench.now);
    bench.pump();
    sent
}

fn acknowledged(bench: &Bench) -> Vec<TelemetryHandle> {
    let handle = |event: &Event| match event {
        Event::TelemetryAcknowledged(handle) => Some(*handle),
        _ => None,
    };
    bench.events.iter().filter_map(handle).collect()
}

fn dropped(bench: &Bench) -> Vec<(TelemetryHandle, DropReason)> {
    let dropped = |event: &Event| match event {
        Event::TelemetryDropped { handle, reason } => Some((*handle, *reason)),
        _ => None,
    };
    bench.events.iter().filter_map(dropped).collect()
}

/// What the hub has, in the order of its arrival.
fn arrived(bench: &mut Bench) -> Vec<String> {
    let payload = |event| match event {
        CloudEvent::Telemetry { payload, .. } => Some(String::from_utf8(payload).unwrap()),
        _ => None,
    };
    std::iter::from_fn(|| bench.cloud.poll_event()).filter_map(payload).collect()
}

fn with(policy: QueuePolicy) -> Bench {
    let mut bench = Bench::with(fixture(), Identity::default(), |config| config.queue = policy);
    bench.start();
    bench
}

fn connect(bench: &mut Bench) {
    bench.run_until(|bench| bench.device.state() == State::Connected && bench.generation() == 1);
}

// A sensor does not wait for a network: what it says before there is a hub arrives, in order.
#[test]
fn telemetry_waits_for_the_hub() {
    let mut bench = Bench::new();
    let before = send(&mut bench, "before").unwrap();
    bench.start();
    let meanwhile = send(&mut bench, "meanwhile").unwrap();
    assert_eq!(bench.device.queue().messages, 2);
    connect(&mut bench);
    let after = send(&mut bench, "after").unwrap();
    assert_eq!(acknowledged(&bench), [before, meanwhile, after]);
    assert_eq!(arrived(&mut bench), ["before", "meanwhile", "after"]);
    assert_eq!(bench.device.queue(), zerotouch_device::QueueStatus::default());
}

// A connection that ends before the acknowledgement: again, in the old order, until it is acknowledged.
#[test]
fn what_was_not_acknowledged_is_sent_again_in_order() {
    let mut bench = Bench::connected();
    let telemetry = |n: u32| Telemetry::new(n.to_string());
    let sent: Vec<_> =
        (0..3).map(|n| bench.device.send_telemetry(telemetry(n), bench.now).unwrap()).collect();
    bench.cut();
    assert_eq!(bench.device.queue().messages, 3, "nothing had left");
    bench.run_until(|bench| bench.device.state() == State::Connected);
    assert_eq!(acknowledged(&bench), sent);
    assert_eq!(arrived(&mut bench), ["0", "1", "2"]);
    assert_eq!(dropped(&bench), []);
}

// A change of certificate is a change of connection too.
#[test]
fn r4_nothing_is_lost_when_the_certificate_changes() {
    let mut bench = Bench::connected();
    bench.device.renew(bench.now).unwrap();
    let mut sent = Vec::new();
    while bench.generation() == 1 {
        let text = sent.len().to_string();
        sent.push(send(&mut bench, &text).unwrap());
        bench.wait(Duration::from_millis(100));
        assert!(sent.len() < 1000, "no renewal");
    }
    send(&mut bench, "end").unwrap();
    assert_eq!(acknowledged(&bench).len(), sent.len() + 1);
    let expected = (0..sent.len()).map(|n| n.to_string()).chain(["end".to_owned()]);
    assert!(arrived(&mut bench).into_iter().eq(expected));
}

// At the limits, by policy, and visibly.
#[test]
fn a_full_queue_does_as_it_was_told() {
    let policy = QueuePolicy { max_messages: 2, max_bytes: 8, ..QueuePolicy::default() };
    let mut bench = with(policy);
    send(&mut bench, "1234").unwrap();
    assert_eq!(send(&mut bench, "56789"), Err(SendError::QueueFull), "bytes");
    send(&mut bench, "5").unwrap();
    assert_eq!(send(&mut bench, "6"), Err(SendError::QueueFull), "messages");
    connect(&mut bench);
    assert_eq!(arrived(&mut bench), ["1234", "5"]);

    let mut bench = with(QueuePolicy { when_full: WhenFull::DropNewest, ..policy });
    let sent = ["1", "2", "3"].map(|text| send(&mut bench, text).unwrap());
    assert_eq!(dropped(&bench), [(sent[2], DropReason::QueueFull)]);
    connect(&mut bench);
    assert_eq!(arrived(&mut bench), ["1", "2"]);

    let mut bench = with(QueuePolicy { when_full: WhenFull::DropOldest, ..policy });
    let sent = ["1", "2", "3", "4567890"].map(|text| send(&mut bench, text).unwrap());
    assert_eq!(dropped(&bench), [0, 1].map(|n| (sent[n], DropReason::QueueFull)));
    let too_much = send(&mut bench, "123456789").unwrap();
    assert_eq!(bench.device.queue().dropped, 3, "it fits nowhere, and took others with it");
    assert_eq!(dropped(&bench).last(), Some(&(too_much, DropReason::QueueFull)));
}

// Some news is none after a while; what is on its way already is not called back.
#[test]
fn telemetry_lives_no_longer_than_it_may() {
    let time_to_live = Some(Duration::from_secs(60));
    let mut bench = with(QueuePolicy { time_to_live, ..QueuePolicy::default() });
    bench.dial_fails = Box::new(|_| Some(zerotouch_device::TransportFailureKind::Unreachable));
    bench.run_until(|bench| matches!(bench.device.state(), State::Waiting { .. }));
    let old = send(&mut bench, "old").unwrap();
    bench.wait(Duration::from_secs(30));
    send(&mut bench, "young").unwrap();
    bench.wait(Duration::from_secs(29));
    assert_eq!(dropped(&bench), []);
    bench.wait(Duration::from_secs(1));
    assert_eq!(dropped(&bench), [(old, DropReason::Expired)]);
    bench.dial_fails = Box::new(|_| None);
    bench.cloud.poll_event();
    bench.run_until(|bench| {
        bench.device.state() == State::Connected || bench.device.queue().messages == 0
    });
    assert_eq!(bench.device.queue().dropped + arrived(&mut bench).len() as u64, 2);
}

// What waited in an earlier life comes before what is new, needs no room, and is no younger for it.
#[test]
fn telemetry_of_an_earlier_life_keeps_its_place_and_its_age() {
    let policy = QueuePolicy { max_messages: 1, ..QueuePolicy::default() };
    let time_to_live = Some(Duration::from_secs(60));
    let mut bench = Bench::with(fixture(), Identity::default(), |config| {
        config.queue = QueuePolicy { time_to_live, ..policy };
    });
    let restored = [0, 50, 70].map(|age| {
        let telemetry = Telemetry::new(age.to_string());
        bench.device.restore_telemetry(telemetry, Duration::from_secs(age), bench.now)
    });
    let refused = bench.device.check_telemetry(&Telemetry::new("x"));
    assert_eq!(refused, Err(SendError::QueueFull));
    assert_eq!(send(&mut bench, "x"), refused.map(|()| restored[0]));
    bench.dial_fails = Box::new(|_| Some(zerotouch_device::TransportFailureKind::Unreachable));
    bench.start();
    bench.wait(Duration::from_secs(1));
    assert_eq!(dropped(&bench), [(restored[2], DropReason::Expired)]);
    bench.wait(Duration::from_secs(9));
    assert_eq!(dropped(&bench).last(), Some(&(restored[1], DropReason::Expired)));
    bench.dial_fails = Box::new(|_| None);
    connect(&mut bench);
    assert_eq!(arrived(&mut bench), ["0"]);
}

// What the hub refuses does not reach it.
#[test]
fn what_the_hub_would_refuse_is_refused_here() {
    let mut bench = Bench::new();
    let large = Telemetry::new(vec![0; 256 * 1024 + 1]);
    let sent = bench.device.send_telemetry(large, bench.now);
    assert_eq!(sent, Err(SendError::TooLarge { length: 256 * 1024 + 1 }));
    let long = Telemetry::new("").property("p", "x".repeat(65_500));
    let sent = bench.device.send_telemetry(long, bench.now);
    assert!(matches!(sent, Err(SendError::PropertiesTooLarge { .. })), "{sent:?}");
}

// Closing sends what waits, as long as that takes no longer than it may; what is left is told.
#[test]
fn closing_sends_what_waits() {
    let mut bench = Bench::connected();
    for n in 0..100 {
        bench.device.send_telemetry(Telemetry::new(n.to_string()), bench.now).unwrap();
    }
    bench.device.close(bench.now);
    assert_eq!(bench.device.state(), State::Closing);
    let late = bench.device.send_telemetry(Telemetry::new("late"), bench.now);
    assert_eq!(late, Err(SendError::Stopped));
    bench.pump();
    assert_eq!(bench.device.state(), State::Stopped);
    assert_eq!((acknowledged(&bench).len(), dropped(&bench).len()), (100, 0));

    let mut bench = Bench::connected();
    let sent = bench.device.send_telemetry(Telemetry::new("x"), bench.now).unwrap();
    bench.device.close(bench.now);
    bench.cut();
    assert_eq!(bench.device.state(), State::Stopped);
    assert_eq!(dropped(&bench), [(sent, DropReason::Stopped)]);
}

// A request that there is no room for waits for its turn, and none is lost on the way.
#[test]
fn requests_wait_for_room() {
    let mut bench = Bench::with(fixture(), Identity::default(), |config| {
        config.hub.twin = true;
        config.mqtt.max_in_flight = 1;
    });
    bench.start();
    connect(&mut bench);
    let report = |bench: &mut Bench, n: u32| {
        let patch = serde_json::from_str(&format!(r#"{{"n":{n}}}"#)).unwrap();
        bench.device.report_properties(&patch, bench.now).unwrap()
    };
    let reports: Vec<_> = (0..4).map(|n| report(&mut bench, n)).collect();
    bench.pump();
    let taken = bench.events.iter().filter_map(|event| match event {
        Event::Twin(TwinEvent::Reported { handle, .. }) => Some(*handle),
        _ => None,
    });
    assert_eq!(taken.collect::<Vec<_>>(), reports);
}

// A hub that answers pings and no message would hold up telemetry for ever: on a connection that stands
// nothing is sent again. The connection is made anew.
#[test]
fn a_hub_that_acknowledges_nothing_is_connected_to_anew() {
    let mut bench = Bench::connected();
    let silence = FaultRule::new(Operation::Telemetry, Fault::Silence);
    bench.cloud.add_fault(FaultRule { count: Some(1), ..silence }).unwrap();
    let handle = send(&mut bench, "once").unwrap();
    bench.run_until(|bench| acknowledged(bench) == [handle]);
    let (_, _, class, failure, _) = crate::last_failure(&bench);
    assert_eq!(class, FailureClass::Retryable);
    assert!(matches!(failure, Failure::AcknowledgementTimeout { after } if after.as_secs() == 300));
    assert_eq!(arrived(&mut bench), ["once", "once"]);
}
