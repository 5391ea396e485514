//! A device whose enrolment issues no certificate: it shows its hub what it shows DPS.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::SeedableRng;
use zerotouch_credentials::{SasClaims, SymmetricKey};
use zerotouch_device::{
    Attestation, Config, Credential, Event, Failure, FailureClass, HubCredential, OnRefusal,
    RenewError, Scope, State, TlsIdentity,
};
use zerotouch_dps::RegistrationError;
use zerotouch_emulator::cloud::{self, CloudEvent, Fixture, IndividualEnrollment, SymmetricKeys};
use zerotouch_hub::{MethodEvent, Telemetry};
use zerotouch_store::Identity;

use crate::bench::{Bench, ID, fixture};
use crate::{count, last_failure};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const CONNACK: u8 = 0x20;
const PUBACK: u8 = 0x40;

/// A cloud that certifies nobody.
fn traditional() -> Fixture {
    let mut fixture = fixture();
    fixture.enrollment_groups[0].credential_policy = None;
    fixture
}

fn bootstrap(config: &mut Config) {
    config.hub.credential = HubCredential::Bootstrap;
}

fn connected(fixture: Fixture, change: impl FnOnce(&mut Config)) -> Bench {
    let mut bench = Bench::with(fixture, Identity::default(), |config| {
        bootstrap(config);
        change(config);
    });
    bench.start();
    connects(&mut bench);
    bench
}

fn connects(bench: &mut Bench) {
    bench.run_until(|bench| bench.device.state() == State::Connected);
}

fn again(bench: Bench, change: impl FnOnce(&mut Config)) -> Bench {
    bench.restart_with(
        MINUTE,
        |_| {},
        |config| {
            bootstrap(config);
            change(config);
        },
    )
}

fn hosts(bench: &Bench) -> Vec<&str> {
    bench.dials.iter().map(|dial| dial.host.as_str()).collect()
}

fn send(bench: &mut Bench, text: &str) {
    bench.device.send_telemetry(Telemetry::new(text), bench.now).unwrap();
    bench.pump();
}

fn arrived(bench: &mut Bench) -> Vec<String> {
    let payload = |event| match event {
        CloudEvent::Telemetry { payload, .. } => Some(String::from_utf8(payload).unwrap()),
        _ => None,
    };
    std::iter::from_fn(|| bench.cloud.poll_event()).filter_map(payload).collect()
}

/// The last second of each token that was sent to a hub, in order.
fn tokens(bench: &Bench) -> Vec<i64> {
    let token = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let token = &text[text.find("SharedAccessSignature ")?..];
        let claims = SasClaims::parse(token).unwrap();
        (claims.resource() == "localhost/devices/pump-17").then(|| claims.expiry().as_secs())
    };
    bench.sent.iter().filter_map(|(_, bytes)| token(bytes)).collect()
}

/// An enrolment of this device alone, and what a device shows that has the certificate it knows.
fn with_certificate() -> (Fixture, TlsIdentity) {
    let active = Bench::connected().device.identity().active.clone().unwrap();
    let chain = active.chain.clone();
    let enrollment = cloud::Attestation::X509 { certificates: vec![chain.leaf().clone()] };
    (individual(enrollment), TlsIdentity { signer: active.key.signer().unwrap(), chain })
}

fn individual(attestation: cloud::Attestation) -> Fixture {
    let enrollment = IndividualEnrollment {
        attestation,
        credential_policy: None,
        ..IndividualEnrollment::symmetric(ID)
    };
    Fixture { individual_enrollments: vec![enrollment], ..fixture() }
}

// No key, no request, no certificate: an assignment, and a token for each connection.
#[test]
fn a_key_is_enough() {
    let mut bench = connected(traditional(), |_| {});
    assert_eq!(bench.changes, ["assign"]);
    assert_eq!(hosts(&bench), ["global.azure-devices-provisioning.net", "localhost"]);
    assert!(bench.dials.iter().all(|dial| dial.identity.is_none()));
    assert!(matches!(
        bench.events.last(),
        Some(Event::Connected { credential: Credential::Bootstrap, thumbprint: None, .. })
    ));
    send(&mut bench, "hello");
    assert_eq!(arrived(&mut bench), ["hello"]);
    // Nobody is asked for certificates, nor listened to about them.
    let said = |word: &str| {
        bench.sent.iter().any(|(_, bytes)| String::from_utf8_lossy(bytes).contains(word))
    };
    assert!(said("devices/pump-17/messages/devicebound") && said("registrationId"));
    assert!(!said("csr") && !said("$iothub/credentials"));
    assert_eq!(bench.device.renew(bench.now), Err(RenewError::Bootstrap));

    // The next life needs no provisioning.
    let mut bench = again(bench, |_| {});
    bench.start();
    connects(&mut bench);
    assert_eq!((hosts(&bench), bench.changes.len()), (vec!["localhost"], 0));
}

// The certificate from the factory is the device's at its hub, too.
#[test]
fn a_certificate_is_enough() {
    let (fixture, identity) = with_certificate();
    let thumbprint = identity.chain.leaf().thumbprint();
    let bench = connected(fixture, |config| config.attestation = Attestation::X509(identity));
    assert_eq!(bench.changes, ["assign"]);
    let shown: Vec<_> = bench
        .dials
        .iter()
        .map(|dial| dial.identity.as_ref().map(|identity| identity.chain.leaf().thumbprint()))
        .collect();
    assert_eq!(shown, [Some(thumbprint), Some(thumbprint)]);
    assert!(matches!(
        bench.events.last(),
        Some(Event::Connected { credential: Credential::Bootstrap, thumbprint: Some(shown), .. })
            if *shown == thumbprint
    ));
    assert!(tokens(&bench).is_empty());
}

// One that is over is not shown to the hub either, but does not keep another from being shown.
#[test]
fn an_expired_bootstrap_certificate_is_not_shown_to_the_hub() {
    let (fixture, identity) = with_certificate();
    let over = identity.chain.leaf().not_after();
    let shown = identity.clone();
    let bench = connected(fixture, |config| config.attestation = Attestation::X509(shown));
    let shown = identity.clone();
    let mut bench = again(bench, |config| config.attestation = Attestation::X509(shown));
    bench.now.wall = Some(over);
    bench.start();
    let (scope, credential, class, failure, retry_in) = last_failure(&bench);
    assert_eq!(
        (scope, credential, class),
        (Scope::Hub, Credential::Bootstrap, FailureClass::IdentityTerminal)
    );
    assert!(matches!(failure, Failure::Attestation(_)), "{failure}");
    assert!(retry_in.unwrap() >= HOUR);
    assert!(bench.dials.is_empty());

    let mut bench = again(bench, |config| {
        let key = std::mem::replace(&mut config.attestation, Attestation::X509(identity));
        config.other_attestations = vec![key];
    });
    bench.start();
    assert_eq!(hosts(&bench), ["localhost"], "the key, at once");
    assert_eq!(tokens(&bench).len(), 1);
}

// A hub cuts a connection whose token is over. It does not come to that, for hours on end, and what is
// said meanwhile arrives once and in order.
#[test]
fn no_token_runs_out_in_use() {
    let mut bench = connected(traditional(), |_| {});
    bench.events.clear();
    let mut said = Vec::new();
    for n in 0..5 * 60 {
        bench.wait(MINUTE);
        let last = *tokens(&bench).last().unwrap();
        assert!(last > bench.now.wall.unwrap().as_secs() + 600, "minute {n}");
        send(&mut bench, &n.to_string());
        said.push(n.to_string());
    }
    connects(&mut bench);
    assert_eq!(arrived(&mut bench), said);
    assert_eq!(tokens(&bench).len(), 1 + 5 * 60 / 48, "each for four fifths of its hour");
    assert_eq!(count(&bench, |event| matches!(event, Event::AttemptFailed { .. })), 0);
    assert_eq!(hosts(&bench).iter().filter(|host| **host != "localhost").count(), 1);
}

// What is in flight when a token is due is waited for; what is not acknowledged by then is sent again.
#[test]
fn a_new_token_loses_nothing() {
    for lost in [false, true] {
        let mut bench = connected(traditional(), |config| config.sas_lifetime = 10 * MINUTE);
        bench.wait(Duration::from_secs(8 * 60 - 1));
        let held = Rc::new(RefCell::new(Vec::new()));
        let held_back = Rc::clone(&held);
        bench.garbles = Box::new(move |bytes| {
            if bytes[0] != PUBACK {
                return bytes;
            }
            held_back.replace(bytes);
            Vec::new()
        });
        send(&mut bench, "in flight");
        bench.wait(Duration::from_secs(2));
        assert_eq!(tokens(&bench).len(), 1, "it is waited for");
        send(&mut bench, "meanwhile");
        if !lost {
            bench.device.handle_bytes(bench.connection(), &held.take(), bench.now);
        }
        bench.garbles = Box::new(|bytes| bytes);
        bench.pump();
        connects(&mut bench);
        bench.wait(MINUTE);
        assert_eq!(tokens(&bench).len(), 2);
        assert_eq!(bench.device.queue().messages, 0);
        let twice: &[&str] = &["in flight", "in flight", "meanwhile"];
        assert_eq!(arrived(&mut bench), twice[usize::from(!lost)..]);
        assert_eq!(count(&bench, |event| matches!(event, Event::AttemptFailed { .. })), 0);
    }
}

// Who waits for an answer gets it before the connection goes, if that does not take too long.
#[test]
fn a_new_token_waits_for_open_calls() {
    let mut bench = connected(traditional(), |config| config.hub.methods = true);
    bench.wait(47 * MINUTE);
    assert!(bench.cloud.invoke_method(ID, ("reboot", "m1"), b"{}", bench.now));
    bench.pump();
    let call = bench.events.iter().find_map(|event| match event {
        Event::Method(MethodEvent::Called { call, .. }) => Some(*call),
        _ => None,
    });
    bench.wait(MINUTE + Duration::from_secs(5));
    assert_eq!(tokens(&bench).len(), 1, "a call is open");
    bench.device.respond(call.unwrap(), 200, b"", bench.now).unwrap();
    bench.pump();
    assert_eq!(tokens(&bench).len(), 2, "it is answered");
    let abandoned = |event: &Event| matches!(event, Event::Method(MethodEvent::Abandoned(_)));
    assert_eq!(count(&bench, abandoned), 0);

    bench.wait(47 * MINUTE);
    assert!(bench.cloud.invoke_method(ID, ("reboot", "m2"), b"{}", bench.now));
    bench.pump();
    bench.wait(2 * MINUTE);
    assert_eq!((tokens(&bench).len(), count(&bench, abandoned)), (3, 1), "nobody answered");
}

// The credential that DPS took is the first that the hub sees; after a restart they are shown in turn,
// and the one that is good stays the first.
#[test]
fn row_10_the_other_bootstrap_credentials_are_shown_to_the_hub_in_turn() {
    let key = |seed| SymmetricKey::generate(&mut ChaCha20Rng::seed_from_u64(seed)).unwrap();
    let keys = SymmetricKeys { primary: Some(key(3)), ..SymmetricKeys::default() };
    let keyring = move |config: &mut Config| {
        config.attestation = Attestation::SymmetricKey(key(1));
        config.other_attestations = [2, 3].map(|seed| Attestation::SymmetricKey(key(seed))).into();
    };
    let bench = connected(individual(cloud::Attestation::SymmetricKeys(keys)), keyring);
    let failed = |bench: &Bench, scope| {
        let at = |event: &Event| {
            matches!(event, Event::AttemptFailed { scope: found, retry_in, .. }
                if *found == scope && *retry_in == Some(Duration::ZERO))
        };
        count(bench, at)
    };
    assert_eq!((failed(&bench, Scope::Dps), failed(&bench, Scope::Hub)), (2, 0));

    let mut bench = again(bench, keyring);
    bench.start();
    assert_eq!(bench.device.state(), State::Connected);
    assert_eq!((hosts(&bench).len(), failed(&bench, Scope::Hub)), (3, 2));
    bench.cut();
    connects(&mut bench);
    assert_eq!((hosts(&bench).len(), failed(&bench, Scope::Hub)), (4, 2));
    bench.cut();

    // It is refused: from there once around, and then slowly.
    bench.garbles = Box::new(|bytes| match bytes[0] {
        CONNACK => vec![CONNACK, 2, 0, 5],
        _ => bytes,
    });
    bench.events.clear();
    bench
        .run_until(|bench| count(bench, |event| matches!(event, Event::AttemptFailed { .. })) == 3);
    assert_eq!(failed(&bench, Scope::Hub), 2);
    let (_, credential, class, failure, _) = last_failure(&bench);
    assert_eq!(
        (credential, class, failure.code()),
        (Credential::Bootstrap, FailureClass::IdentityTerminal, Some(5))
    );
    assert!(matches!(bench.device.state(), State::Waiting { scope: Scope::Hub, .. }));
    bench.garbles = Box::new(|bytes| bytes);
    connects(&mut bench);
    assert_eq!(bench.changes.len(), 0, "by default DPS is not asked");
}

// The policy for refused certificates is that for refused tokens.
#[test]
fn row_10_a_refused_bootstrap_credential_follows_the_policy() {
    for on_refusal in [OnRefusal::RetryHub, OnRefusal::Reprovision, OnRefusal::Stop] {
        let bench = connected(traditional(), |_| {});
        let mut bench = again(bench, |config| config.retry.on_refusal = on_refusal);
        bench.garbles = Box::new(|bytes| match bytes[0] {
            CONNACK => vec![CONNACK, 2, 0, 5],
            _ => bytes,
        });
        bench.start();
        bench.garbles = Box::new(|bytes| bytes);
        if on_refusal == OnRefusal::Stop {
            assert_eq!(bench.device.state(), State::Stopped);
            continue;
        }
        connects(&mut bench);
        let asks_dps = on_refusal == OnRefusal::Reprovision;
        assert_eq!(hosts(&bench).len(), if asks_dps { 3 } else { 2 });
        assert_eq!(bench.changes.len(), usize::from(asks_dps));
    }
}

// A hub that cannot be reached may be a hub the device no longer belongs to.
#[test]
fn after_fifty_failures_dps_is_asked() {
    let mut bench = again(connected(traditional(), |_| {}), |_| {});
    bench.dial_fails = Box::new(|dial| {
        (dial.host == "localhost").then_some(zerotouch_device::TransportFailureKind::Unreachable)
    });
    bench.start();
    bench.run_until(|bench| !bench.changes.is_empty());
    assert_eq!(hosts(&bench).iter().position(|host| *host != "localhost"), Some(50));
}

// A token needs the time. Nothing is sent without, and a clock that is set late is in time.
#[test]
fn without_a_clock_no_token_is_signed() {
    let mut bench = again(connected(traditional(), |_| {}), |_| {});
    let wall = bench.now.wall.take();
    bench.start();
    let (scope, _, _, failure, _) = last_failure(&bench);
    assert!(matches!((scope, failure), (Scope::Hub, Failure::ClockUnset)));
    assert!(bench.sent.is_empty());
    bench.now.wall = wall;
    connects(&mut bench);
}

// The rule that stands above convenience: who wants a certificate and gets none does not go to the hub
// with the credential from the factory, which it would take.
#[test]
fn row_20_a_missing_chain_is_no_reason_for_the_bootstrap_credential() {
    let mut bench = connected(traditional(), |_| {}).restart(MINUTE);
    bench.start();
    bench.run_until(|bench| bench.dials.len() == 3);
    let (scope, _, class, failure, _) = last_failure(&bench);
    assert_eq!((scope, class), (Scope::Dps, FailureClass::Retryable));
    assert!(matches!(failure, Failure::Registration(RegistrationError::ChainMissing)));
    assert!(!hosts(&bench).contains(&"localhost"));
    assert_eq!(bench.changes, ["begin"]);
}

// From one to the other and back: each goes by what it can show, and neither takes from the other.
#[test]
fn the_way_may_change_between_two_lives() {
    // An assignment, and no certificate.
    let mut bench = connected(traditional(), |_| {});
    bench.replace_cloud_by(fixture(), 9);
    let mut bench = bench.restart(MINUTE);
    bench.start();
    bench.run_until(|bench| bench.generation() == 1);
    assert_eq!(bench.changes, ["begin", "stage", "activate"]);

    // A certificate, and a hub that no longer wants one.
    bench.replace_cloud_by(traditional(), 10);
    let mut bench = again(bench, |config| config.retry.on_refusal = OnRefusal::Reprovision);
    let kept = bench.device.identity().active.clone().unwrap();
    bench.start();
    connects(&mut bench);
    assert!(bench.dials.iter().all(|dial| dial.identity.is_none()));
    assert_eq!(bench.changes, ["assign"]);
    let active = bench.device.identity().active.as_ref().unwrap();
    assert_eq!((active.number, active.chain.leaf()), (kept.number, kept.chain.leaf()));
    bench.wait(40 * 24 * HOUR);
    assert_eq!(count(&bench, |event| matches!(event, Event::CertificateExpiring { .. })), 0);

    // And back.
    let mut bench = bench.restart(MINUTE);
    bench.now.wall = Some(kept.chain.leaf().not_before());
    bench.start();
    assert!(bench.dials[0].identity.is_some());
}
