//! The device's renewal engine against this hub, in the recorded scenarios that take two: by their numbers,
//! as in `renewal.rs`.

use std::time::Duration;

use zerotouch_credentials::CertificateRequest;
use zerotouch_emulator::cloud::{CloudEvent, ConnectionId, Fault, Fixture, Operation};
use zerotouch_hub::wire::{CREDENTIALS, CertificateRequestAccepted};
use zerotouch_hub::{
    Inbound, Recovery, Renewal, RenewalConfig, RenewalError, RenewalEvent, RequestId,
};

use crate::support::{Got, Identity, World, faulty, private_key};

/// Longer than the fixture's delay from 202 to 200.
const LONG_ENOUGH: Duration = Duration::from_millis(300);

struct Bench {
    world: World,
    identity: Identity,
    connection: ConnectionId,
    renewal: Renewal,
    events: Vec<RenewalEvent>,
}

impl Bench {
    fn new(fixture: Fixture) -> Self {
        let mut world = World::new(fixture);
        let identity = world.provision("d", &private_key(1));
        let connection = world.connect_hub(&identity, false);
        let renewal = renewal("request-1");
        let mut bench = Self { world, identity, connection, renewal, events: Vec::new() };
        bench.subscribe();
        bench.world.events();
        bench
    }

    /// Publishes and delivers until nothing moves.
    fn step(&mut self) {
        loop {
            let request = self.renewal.poll_request();
            if let Some(request) = &request {
                self.world.publish(self.connection, &request.topic, &request.payload);
            }
            let got = self.world.received(self.connection);
            let idle = request.is_none() && got.is_empty();
            for got in got {
                let Got::Message { topic, payload, .. } = got else { continue };
                let Some(Inbound::CredentialReply(reply)) = Inbound::parse("d", &topic) else {
                    panic!("{topic}")
                };
                self.renewal.handle_reply(&reply, &payload, self.world.now.monotonic);
                self.events.extend(self.renewal.poll_event());
            }
            if idle {
                return;
            }
        }
    }

    /// Subscribes, and takes what the hub has kept for whoever does.
    fn subscribe(&mut self) {
        self.world.subscribe(self.connection, CREDENTIALS);
        self.step();
    }

    fn start(&mut self) {
        self.renewal.start(self.world.now);
        self.step();
    }

    fn wait(&mut self) {
        self.world.wait(LONG_ENOUGH);
        self.step();
    }

    fn reconnect(&mut self, clean_session: bool) {
        self.world.cut(self.connection);
        self.renewal.interrupt();
        self.connection = self.world.connect_hub(&self.identity, clean_session);
        self.step();
    }

    fn accepted(&mut self) -> CertificateRequestAccepted {
        match self.events.drain(..).next() {
            Some(RenewalEvent::Accepted(accepted)) => accepted,
            other => panic!("{other:?}"),
        }
    }

    /// The chain that was issued, which has to be ours; and the hub has issued no other.
    fn issued(&mut self) {
        let events: Vec<_> = self.events.drain(..).collect();
        let Some(RenewalEvent::Issued(chain)) = events.last() else { panic!("{events:?}") };
        self.world.accept("d", chain, &private_key(2));
        let told = self.world.events();
        let issued = told.iter().filter(|e| matches!(e, CloudEvent::CertificateIssued { .. }));
        assert_eq!(issued.count(), 1, "{told:?}");
    }
}

fn renewal(id: &str) -> Renewal {
    let csr = CertificateRequest::new(&private_key(2), "d").unwrap().to_base64();
    renewal_for(id, csr)
}

fn renewal_for(id: &str, csr: String) -> Renewal {
    Renewal::new(RenewalConfig::default(), "d", RequestId::new(id).unwrap(), csr).unwrap()
}

// In both shapes of the body, and with the member that some topics have behind the id.
#[test]
fn s015_a_certificate_is_issued() {
    let others = faulty([
        (Operation::Renew, Fault::VersionSuffix),
        (Operation::RenewalResult, Fault::VersionSuffix),
        (Operation::RenewalResult, Fault::BareArray),
    ]);
    for fixture in [Fixture::default(), others] {
        let mut bench = Bench::new(fixture);
        bench.start();
        assert!(bench.accepted().expires().is_some_and(|at| at > bench.world.wall()));
        bench.wait();
        bench.issued();
    }
}

// What is base64 and no request passes the local checks; the hub takes it and refuses it then.
#[test]
fn s012_a_bad_request_is_refused_after_it_was_accepted() {
    let mut bench = Bench::new(Fixture::default());
    bench.renewal = renewal_for("request-1", "AAAA".into());
    bench.start();
    bench.accepted();
    bench.wait();
    let Some(RenewalEvent::Failed(error)) = bench.events.pop() else { panic!() };
    assert!(matches!(error, RenewalError::Refused { status: 400, .. }), "{error}");
    assert_eq!(error.recovery(), Recovery::NewRequest);
}

// What the hub has kept comes with the subscription. A client that asks before it has read that has a second
// certificate issued, which changes nothing: the first answer is the last.
#[test]
fn s017_s018_unsubscribed_and_subscribed_again() {
    for reads_first in [true, false] {
        let mut bench = Bench::new(Fixture::default());
        bench.start();
        bench.accepted();
        bench.world.unsubscribe(bench.connection, CREDENTIALS);
        bench.renewal.interrupt();
        bench.wait();
        assert_eq!(bench.events, []);
        bench.world.subscribe(bench.connection, CREDENTIALS);
        if reads_first {
            bench.step();
        }
        bench.start();
        if reads_first {
            bench.issued();
        } else {
            assert!(matches!(bench.events[..], [RenewalEvent::Issued(_)]));
            bench.wait();
            assert_eq!(bench.events.len(), 1, "{:?}", bench.events);
        }
    }
}

// The session brings the certificate before anybody has asked for it again: one is issued, not two.
#[test]
fn s019_the_session_brings_the_answer() {
    let mut bench = Bench::new(Fixture::default());
    bench.start();
    bench.accepted();
    bench.world.cut(bench.connection);
    bench.world.wait(LONG_ENOUGH);
    bench.reconnect(false);
    bench.start();
    bench.wait();
    bench.issued();
}

// A new session, early (the operation is under way, and the conflict is with ourselves) and late (its
// result waits for a subscription).
#[test]
fn s020_s021_a_new_session_asks_the_same() {
    for late in [false, true] {
        let mut bench = Bench::new(Fixture::default());
        bench.start();
        bench.accepted();
        bench.reconnect(true);
        if late {
            bench.wait();
        }
        assert_eq!(bench.events, [], "nothing comes without a subscription");
        bench.subscribe();
        bench.start();
        bench.wait();
        bench.issued();
    }
}

#[test]
fn s022_one_after_the_other() {
    let mut bench = Bench::new(Fixture::default());
    for id in ["request-1", "request-2"] {
        bench.renewal = renewal(id);
        bench.start();
        bench.wait();
        bench.issued();
    }
}

// A key was lost with the operation that was for it: what is in the way is replaced, and a lost
// connection afterwards does not have us replace our own.
#[test]
fn s023_s024_s025_the_operation_in_the_way_is_replaced() {
    let mut bench = Bench::new(Fixture::default());
    bench.start();
    bench.accepted();
    bench.renewal = renewal("request-2");
    bench.start();
    bench.accepted();
    bench.reconnect(true);
    bench.subscribe();
    bench.start();
    bench.wait();
    bench.issued();
}
