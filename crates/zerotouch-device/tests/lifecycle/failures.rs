//! The rows of the failure table that are about a whole device; each test bears its row's number. The
//! others are tested where they arise: in the crates for TLS, DPS, the hub and the store.

use std::time::Duration;

use zerotouch_credentials::{ChainError, Finding, KeyAlgorithm, SymmetricKey};
use zerotouch_device::{
    Attestation, Config, Credential, Event, Failure, FailureClass, Layer, OnRefusal, Scope, State,
    TlsIdentity, TransportFailureKind as Kind,
};
use zerotouch_dps::RegistrationId;
use zerotouch_emulator::cloud::{Fault, FaultRule, Operation};
use zerotouch_hub::{MethodEvent, TwinEvent};
use zerotouch_mqtt_codec::{ConnectRefusal, TextError};
use zerotouch_mqtt_session::CloseReason;
use zerotouch_store::{Change, Identity};

use crate::bench::{Bench, ID, fixture};
use crate::{count, last_failure};

const CONNACK: u8 = 0x20;
const SUBACK: u8 = 0x90;
const MINUTE: Duration = Duration::from_secs(60);

fn connects(bench: &mut Bench) {
    bench.run_until(|bench| bench.device.state() == State::Connected);
}

/// A device of which a hub knows, about to dial it again.
fn returning() -> Bench {
    Bench::connected().restart(MINUTE)
}

fn dps_dials(bench: &Bench) -> usize {
    bench.dials.iter().filter(|dial| dial.host != "localhost").count()
}

/// Replaces the first packet of this type by another, every time.
fn instead_of(first: u8, other: &'static [u8]) -> Box<dyn FnMut(Vec<u8>) -> Vec<u8>> {
    Box::new(move |bytes| if bytes.first() == Some(&first) { other.to_vec() } else { bytes })
}

// A captive portal answers anybody with a page. It is no CONNACK, and nothing is concluded from it.
#[test]
fn row_02_bytes_that_are_no_mqtt_are_a_bad_network() {
    for portal in [&b"HTTP/1.1 302 Found\r\n\r\n"[..], b"\x20\x02\x07\x00", b"\0\0\0\0"] {
        let mut bench = returning();
        bench.garbles = Box::new(|_| portal.to_vec());
        bench.start();
        bench.run_until(|bench| !bench.events.is_empty());
        let (scope, credential, class, failure, _) = last_failure(&bench);
        assert_eq!((scope, credential), (Scope::Hub, Credential::Active));
        assert_eq!((class, failure.layer()), (FailureClass::Retryable, Layer::Mqtt), "{failure}");
        bench.garbles = Box::new(|bytes| bytes);
        connects(&mut bench);
        assert_eq!(dps_dials(&bench), 0);
    }
}

// A proxy that wants another password is waited for slowly; one that is busy, as any network.
#[test]
fn row_01_a_proxy_that_refuses_is_no_bad_network() {
    for (status, class, most) in
        [(407, FailureClass::Terminal, 300), (503, FailureClass::Retryable, 1)]
    {
        let mut bench = returning();
        bench.dial_fails = Box::new(move |_| Some(Kind::ProxyRefused { status }));
        bench.start();
        let (_, credential, found, failure, retry_in) = last_failure(&bench);
        assert_eq!((credential, found), (Credential::Active, class), "{status}");
        assert_eq!((failure.layer(), failure.code()), (Layer::Network, Some(status.into())));
        assert!(retry_in.unwrap() <= Duration::from_secs(most));
        bench.dial_fails = Box::new(|_| None);
        connects(&mut bench);
        assert_eq!((dps_dials(&bench), bench.generation()), (0, 1));
    }
}

// A setting may make a user name longer than MQTT can carry. Nothing is said to the server, the identity
// stays, and as only a person can mend it, it is tried again slowly.
#[test]
fn a_user_name_that_mqtt_cannot_carry_is_for_a_person_to_mend() {
    let long = "x".repeat(65_536);
    let at_dps = Bench::with(fixture(), Identity::default(), |config| {
        config.registration.client_version.clone_from(&long);
    });
    let model = |config: &mut Config| config.hub.model_id = Some(long.clone());
    let at_hub = Bench::connected().restart_with(MINUTE, |_| {}, model);
    for (mut bench, expected) in [(at_dps, Scope::Dps), (at_hub, Scope::Hub)] {
        bench.start();
        bench.run_until(|bench| !bench.events.is_empty());
        let (scope, _, class, failure, _) = last_failure(&bench);
        assert!(matches!(failure, Failure::Name(TextError::TooLong { .. })), "{failure}");
        assert_eq!((scope, class), (expected, FailureClass::Terminal));
        assert_eq!((failure.layer(), bench.sent.len()), (Layer::Mqtt, 0));
    }
}

// What a person or a clock has to mend is waited for, slowly, without a change of credential.
#[test]
fn row_03_05_06_tls_that_does_not_stand_is_no_matter_of_identity() {
    for (kind, class, most) in [
        (Kind::ServerCertificateDates, FailureClass::Terminal, 300),
        (Kind::Tls, FailureClass::Retryable, 1),
        (Kind::ServerUntrusted, FailureClass::Terminal, 300),
        (Kind::WrongHostName, FailureClass::Terminal, 300),
    ] {
        let mut bench = returning();
        bench.dial_fails = Box::new(move |_| Some(kind));
        bench.start();
        let (_, credential, found, failure, retry_in) = last_failure(&bench);
        assert_eq!((credential, found), (Credential::Active, class), "{kind:?}");
        assert_eq!(failure.layer(), Layer::Tls);
        assert!(retry_in.unwrap() <= Duration::from_secs(most));
        bench.dial_fails = Box::new(|_| None);
        connects(&mut bench);
        assert_eq!((dps_dials(&bench), bench.generation()), (0, 1));
    }
}

/// A device with an active and a previous certificate.
fn renewed() -> Bench {
    let mut bench = Bench::connected();
    bench.device.renew(bench.now).unwrap();
    bench.run_until(|bench| bench.generation() == 2);
    bench.restart(MINUTE)
}

// TLS names the certificate: the previous one at once, and when that is refused too, the bootstrap
// credential gets another.
#[test]
fn row_07_a_certificate_refused_in_tls_is_followed_by_the_next_and_then_by_dps() {
    let mut bench = renewed();
    bench.dial_fails =
        Box::new(|dial| dial.identity.as_ref().map(|_| Kind::ClientCertificateRefused));
    bench.start();
    let shown: Vec<_> = bench
        .events
        .iter()
        .filter_map(|event| match event {
            Event::AttemptFailed { credential, retry_in, .. } => Some((*credential, *retry_in)),
            _ => None,
        })
        .collect();
    assert_eq!(shown[0], (Credential::Active, Some(Duration::ZERO)));
    assert_eq!(shown[1].0, Credential::Previous);
    assert_eq!(shown.len(), 2, "one round is one attempt");
    bench.dial_fails = Box::new(|_| None);
    bench.run_until(|bench| dps_dials(bench) == 1);
    connects(&mut bench);
    assert_eq!(bench.dials.len(), 4, "both, DPS, and the new one");
}

// A revoked or replaced certificate may have a good predecessor: it becomes the active one again.
#[test]
fn row_41_the_previous_certificate_is_restored_where_it_is_accepted() {
    let mut bench = renewed();
    let active = bench.device.identity().active.clone().unwrap();
    let refused = active.chain.leaf().thumbprint();
    bench.dial_fails = Box::new(move |dial| {
        let leaf = dial.identity.as_ref()?.chain.leaf().thumbprint();
        (leaf == refused).then_some(Kind::ClientCertificateRefused)
    });
    bench.start();
    connects(&mut bench);
    assert_eq!(bench.generation(), 1);
    assert_eq!(bench.changes, ["roll back"]);
    assert_eq!(count(&bench, |event| matches!(event, Event::RolledBack { .. })), 1);
    assert_eq!(dps_dials(&bench), 0);
}

// A bootstrap certificate that is over is not shown, either, and said so about once an hour.
#[test]
fn r7_row_08_an_expired_bootstrap_certificate_is_not_shown() {
    let active = Bench::connected().device.identity().active.clone().unwrap();
    let identity =
        TlsIdentity { signer: active.key.signer().unwrap(), chain: active.chain.clone() };
    let mut bench = Bench::with(fixture(), Identity::default(), |config| {
        config.attestation = Attestation::X509(identity);
    });
    bench.now.wall = Some(active.chain.leaf().not_after());
    bench.start();
    let (scope, credential, class, failure, retry_in) = last_failure(&bench);
    assert_eq!(
        (scope, credential, class),
        (Scope::Dps, Credential::Bootstrap, FailureClass::IdentityTerminal)
    );
    let expired = |failure: &Failure| match failure {
        Failure::Attestation(finding) => {
            matches!(**finding, Finding::Refused(ChainError::Expired { .. }))
        }
        _ => false,
    };
    assert!(expired(&failure), "{failure}");
    assert!(retry_in.unwrap() >= Duration::from_secs(3600));
    assert!(bench.dials.is_empty());
}

// A certificate that the service would refuse for what it is is not shown: the words here are better.
#[test]
fn row_44_a_bootstrap_certificate_for_another_name_is_not_shown() {
    let active = Bench::connected().device.identity().active.clone().unwrap();
    let identity =
        TlsIdentity { signer: active.key.signer().unwrap(), chain: active.chain.clone() };
    let mut bench = Bench::with(fixture(), Identity::default(), |config| {
        config.registration.registration_id = RegistrationId::new("pump-18").unwrap();
        config.attestation = Attestation::X509(identity);
    });
    bench.start();
    let (_, _, class, failure, _) = last_failure(&bench);
    assert_eq!((class, failure.layer()), (FailureClass::IdentityTerminal, Layer::Credentials));
    assert!(failure.to_string().contains("pump-17"), "{failure}");
    assert!(bench.dials.is_empty());
}

// Nor does it stand in the way of another bootstrap credential.
#[test]
fn row_08_an_unusable_bootstrap_certificate_is_followed_by_the_next_credential() {
    let active = Bench::connected().device.identity().active.clone().unwrap();
    let identity =
        TlsIdentity { signer: active.key.signer().unwrap(), chain: active.chain.clone() };
    let mut bench = Bench::with(fixture(), Identity::default(), |config| {
        let key = std::mem::replace(&mut config.attestation, Attestation::X509(identity));
        config.other_attestations = vec![key];
    });
    bench.now.wall = Some(active.chain.leaf().not_after());
    bench.start();
    assert_eq!(bench.dials.len(), 1, "the next one, at once");
    connects(&mut bench);
}

// CONNACK 1 is nobody's credential: slow, and no other certificate is shown.
#[test]
fn row_09_a_version_that_is_refused_is_waited_out() {
    let mut bench = renewed();
    bench.garbles = instead_of(CONNACK, &[CONNACK, 2, 0, 1]);
    bench.start();
    bench.run_until(|bench| !bench.events.is_empty());
    let (_, credential, class, failure, _) = last_failure(&bench);
    assert_eq!((credential, class), (Credential::Active, FailureClass::Terminal));
    assert_eq!((failure.code(), bench.dials.len()), (Some(1), 1));
}

// CONNACK 2, 4 and 5 do not say why: by default the hub is tried again, slowly, with all there is; DPS is
// asked if that was chosen, or after fifty rounds; or the device ends.
#[test]
fn row_10_a_refused_identity_follows_the_policy() {
    for code in [2, 4, 5] {
        let refused: &'static [u8] = Vec::leak(vec![CONNACK, 2, 0, code]);
        let mut bench = renewed();
        bench.garbles = instead_of(CONNACK, refused);
        bench.start();
        bench.run_until(|bench| bench.dials.len() == 8);
        let credentials: Vec<_> = bench
            .events
            .iter()
            .filter_map(|event| match event {
                Event::AttemptFailed { credential, class, failure, retry_in, .. } => {
                    assert_eq!(*class, FailureClass::IdentityTerminal);
                    assert_eq!(failure.code(), Some(code.into()));
                    assert_eq!(
                        *retry_in == Some(Duration::ZERO),
                        *credential == Credential::Active,
                        "the next one at once, the round slowly"
                    );
                    Some(*credential)
                }
                _ => None,
            })
            .collect();
        assert_eq!(credentials[..4], [Credential::Active, Credential::Previous].repeat(2));
        assert_eq!(dps_dials(&bench), 0);
        // An enrolment that was disabled and is enabled again.
        bench.garbles = Box::new(|bytes| bytes);
        connects(&mut bench);
        assert_eq!(bench.generation(), 2);
    }
    let refused = |on_refusal| {
        let mut bench = Bench::with(fixture(), Identity::default(), |config| {
            config.retry.on_refusal = on_refusal;
        });
        bench.start();
        bench.run_until(|bench| bench.generation() == 1);
        assert!(bench.cloud.revoke_device(ID, false, bench.now));
        bench.pump();
        bench
    };
    let mut bench = refused(OnRefusal::Reprovision);
    bench.run_until(|bench| bench.generation() == 2 && bench.device.state() == State::Connected);
    assert_eq!(dps_dials(&bench), 2);

    let mut bench = refused(OnRefusal::Stop);
    bench.run_until(|bench| bench.device.state() == State::Stopped);
    assert_eq!(dps_dials(&bench), 1);
    assert_eq!(last_failure(&bench).4, None);

    let mut bench = refused(OnRefusal::RetryHub);
    bench.run_until_within(Duration::from_secs(50 * 3600), |bench| bench.generation() == 2);
    let refusals = |event: &Event| {
        matches!(
            event,
            Event::AttemptFailed { class: FailureClass::IdentityTerminal, scope: Scope::Hub, .. }
        )
    };
    assert!(count(&bench, refusals) >= 49, "{}", count(&bench, refusals));
}

// CONNACK 3, and none at all, are passing weather.
#[test]
fn row_11_12_a_server_that_is_unavailable_or_silent_is_tried_again() {
    let mut bench = returning();
    bench.garbles = instead_of(CONNACK, &[CONNACK, 2, 0, 3]);
    bench.start();
    bench.run_until(|bench| bench.events.len() == 3);
    assert!(bench.events.iter().all(|event| matches!(
        event,
        Event::AttemptFailed { class: FailureClass::Retryable, failure, .. }
            if matches!(failure, Failure::Mqtt(CloseReason::Refused(ConnectRefusal::ServerUnavailable)))
    )));
    bench.garbles = Box::new(|_| Vec::new());
    bench.run_until(|bench| bench.events.len() == 4);
    assert!(matches!(last_failure(&bench).3, Failure::Mqtt(CloseReason::HandshakeTimeout(_))));
    bench.garbles = Box::new(|bytes| bytes);
    connects(&mut bench);
}

// A code of CONNACK that nobody has defined is a fault of the server, and no more.
#[test]
fn row_11_an_unknown_refusal_is_tried_again() {
    let mut bench = returning();
    bench.garbles = instead_of(CONNACK, &[CONNACK, 2, 0, 77]);
    bench.start();
    bench.run_until(|bench| !bench.events.is_empty());
    assert_eq!(last_failure(&bench).2, FailureClass::Retryable);
}

// 401 at DPS: the next bootstrap credential at once, as the enrolment's secondary key; then slowly.
#[test]
fn row_15_the_other_bootstrap_credentials_are_shown_in_turn() {
    let wrong = || {
        Attestation::SymmetricKey(
            SymmetricKey::from_base64("BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=").unwrap(),
        )
    };
    let mut good = None;
    let mut bench = Bench::with(fixture(), Identity::default(), |config| {
        good = Some(std::mem::replace(&mut config.attestation, wrong()));
        config.other_attestations = vec![wrong(), good.take().unwrap()];
    });
    bench.start();
    connects(&mut bench);
    let failed = |event: &Event| {
        matches!(
            event,
            Event::AttemptFailed { scope: Scope::Dps, retry_in: Some(Duration::ZERO), .. }
        )
    };
    assert_eq!((count(&bench, failed), dps_dials(&bench)), (2, 3));

    let mut bench = Bench::with(fixture(), Identity::default(), |config| {
        config.attestation = wrong();
        config.other_attestations = vec![wrong()];
    });
    bench.start();
    bench.run_until(|bench| bench.events.len() >= 4);
    let (_, _, class, failure, _) = last_failure(&bench);
    assert_eq!((class, failure.layer()), (FailureClass::IdentityTerminal, Layer::Provisioning));
    assert!(failure.code().is_some() && failure.service_error().unwrap().tracking_id.is_some());
}

// A subscription that DPS or the hub refuses makes the connection useless: not announced, tried again.
#[test]
fn row_18_25_a_required_subscription_that_is_refused_fails_the_connection() {
    for (mut bench, scope) in [(Bench::new(), Scope::Dps), (returning(), Scope::Hub)] {
        bench.garbles = Box::new(|mut bytes| {
            if bytes.first() == Some(&SUBACK) {
                bytes[4] = 0x80;
            }
            bytes
        });
        bench.start();
        bench.run_until(|bench| {
            count(bench, |event| matches!(event, Event::AttemptFailed { .. })) == 2
        });
        let (found, _, class, failure, _) = last_failure(&bench);
        assert_eq!((found, class), (scope, FailureClass::Retryable));
        assert!(matches!(failure, Failure::SubscriptionRefused { .. }), "{failure}");
        assert_eq!(count(&bench, |event| matches!(event, Event::Connected { .. })), 0);
        bench.garbles = Box::new(|bytes| bytes);
        connects(&mut bench);
    }
}

// The answers to certificate requests are one feature: without them the rest works, and DPS renews.
#[test]
fn row_26_a_refused_feature_costs_that_feature_alone() {
    let mut bench = returning();
    bench.garbles = Box::new(|mut bytes| {
        if bytes.first() == Some(&SUBACK)
            && let Some(last) = bytes.get_mut(5)
        {
            *last = 0x80;
        }
        bytes
    });
    bench.start();
    connects(&mut bench);
    bench.device.renew(bench.now).unwrap();
    bench.pump();
    assert_eq!(count(&bench, |event| matches!(event, Event::RenewalFailed { .. })), 1);
    assert_eq!(bench.device.state(), State::Connected);
}

// No SUBACK: not announced, tried again.
#[test]
fn row_27_a_subscription_that_is_not_answered_is_not_waited_for_without_end() {
    let mut bench = returning();
    bench.garbles =
        Box::new(|bytes| if bytes.first() == Some(&SUBACK) { Vec::new() } else { bytes });
    bench.start();
    bench.run_until(|bench| !bench.events.is_empty());
    let (_, _, class, failure, _) = last_failure(&bench);
    assert_eq!(class, FailureClass::Retryable);
    assert!(matches!(failure, Failure::SubscriptionTimeout { after, .. } if after == MINUTE));
}

// A link that is dead without a word is found by the keep-alive; what waited for it is told.
#[test]
fn row_29_a_silent_link_is_given_up_and_what_waited_is_told() {
    let mut bench = Bench::with(fixture(), Identity::default(), |config| {
        config.hub.twin = true;
        config.hub.methods = true;
    });
    bench.start();
    bench.run_until(|bench| bench.device.twin().is_current() && bench.generation() == 1);
    assert!(bench.cloud.invoke_method(ID, ("reboot", "m1"), b"{}", bench.now));
    bench.pump();
    let called = bench.events.iter().find_map(|event| match event {
        Event::Method(MethodEvent::Called { call, .. }) => Some(*call),
        _ => None,
    });
    bench.garbles = Box::new(|_| Vec::new());
    let patch = serde_json::from_str(r#"{"a":1}"#).unwrap();
    let report = bench.device.report_properties(&patch, bench.now).unwrap();
    bench.run_until(|bench| bench.device.state() != State::Connected);
    assert!(bench.events.iter().any(|event| matches!(event,
        Event::Twin(TwinEvent::ReportFailed { handle, .. }) if *handle == report)));
    assert!(bench.events.iter().any(|event| matches!(event,
        Event::Method(MethodEvent::Abandoned(call)) if Some(*call) == called)));
    let (_, _, class, failure, _) = last_failure(&bench);
    assert_eq!(class, FailureClass::Retryable);
    assert!(matches!(failure, Failure::Mqtt(CloseReason::KeepAliveTimeout)), "{failure}");
}

// Two devices with one identity throw each other out without a word. After three such endings it is
// said, and the quarrel becomes slow; one long connection ends the suspicion.
#[test]
fn k17_row_30_a_device_suspects_another_with_its_identity() {
    let mut bench = Bench::connected();
    for _ in 0..2 {
        bench.wait(Duration::from_secs(5));
        bench.cut();
        assert_eq!(last_failure(&bench).2, FailureClass::Retryable);
        connects(&mut bench);
    }
    bench.wait(Duration::from_secs(5));
    bench.cut();
    let suspected = |event: &Event| matches!(event, Event::TakeoverSuspected { connections: 3 });
    assert_eq!(count(&bench, suspected), 1);
    let (_, _, class, failure, _) = last_failure(&bench);
    assert_eq!(class, FailureClass::Terminal);
    assert!(matches!(failure, Failure::IdentityInUse { connections: 3 }));
    connects(&mut bench);
    bench.wait(Duration::from_secs(600));
    bench.cut();
    assert_eq!(last_failure(&bench).2, FailureClass::Retryable);
}

// A hub that is away for long: after fifty rounds DPS is asked, in case the device was moved; and while
// DPS is of no help, the hub.
#[test]
fn a_hub_that_stays_away_leads_to_dps_and_back() {
    let mut bench = returning();
    bench.dial_fails = Box::new(|_| Some(Kind::Unreachable));
    bench.start();
    bench.run_until(|bench| dps_dials(bench) == 1);
    assert_eq!(bench.dials.len(), 51);
    bench.run_until(|bench| dps_dials(bench) == 2);
    assert_eq!(bench.dials.len(), 102, "the hub again in between");
    bench.dial_fails = Box::new(|_| None);
    connects(&mut bench);
    assert_eq!(bench.generation(), 1);
}

// The same with a certificate that no hub has seen yet: it does not bind the device to a hub that is gone.
#[test]
fn a_hub_that_was_never_there_leads_to_dps() {
    let mut bench = Bench::with(fixture(), Identity::default(), |_| {});
    bench.dial_fails = Box::new(|dial| (dial.host == "localhost").then_some(Kind::Unreachable));
    bench.start();
    bench.run_until(|bench| dps_dials(bench) == 2);
    assert_eq!(bench.dials.len(), 52);
    bench.dial_fails = Box::new(|_| None);
    connects(&mut bench);
}

// What the provisioning service asks for is not forgotten with the connection on which it said so.
#[test]
fn retry_after_outlives_its_connection() {
    let mut bench = Bench::with(fixture(), Identity::default(), |_| {});
    let busy = Fault::Error { status: 429, error_code: None, retry_after: Some(60), message: None };
    let rule = FaultRule { count: Some(1), ..FaultRule::new(Operation::Register, busy) };
    bench.cloud.add_fault(rule).unwrap();
    bench.start();
    bench.run_until(|bench| count(bench, |event| matches!(event, Event::Throttled { .. })) == 1);
    let said = bench.now.monotonic;
    bench.cut();
    bench.run_until(|bench| dps_dials(bench) == 2);
    assert!(bench.now.monotonic - said >= MINUTE);
    connects(&mut bench);
}

// A fleet whose power returns at once does not come at once, if it was told so.
#[test]
fn the_start_is_spread_if_wanted() {
    let spread = Duration::from_secs(600);
    let mut bench = Bench::with(fixture(), Identity::default(), |config| {
        config.retry.connect_spread = spread;
    });
    bench.start();
    assert!(bench.dials.is_empty() && bench.changes.is_empty());
    let due = bench.device.poll_timeout().unwrap();
    assert!(due - bench.now.monotonic <= spread);
    connects(&mut bench);
}

// Nor does one whose hub hangs up on all at once. Each try is spread, also the first, which comes within a
// second without; and success starts no ladder anew that would be narrower.
#[test]
fn every_try_is_spread_if_wanted() {
    let spread = Duration::from_secs(600);
    let mut bench = Bench::with(fixture(), Identity::default(), |config| {
        config.retry.connect_spread = spread;
    });
    bench.start();
    let waits: Vec<Duration> = (0..12)
        .map(|_| {
            connects(&mut bench);
            bench.cut();
            last_failure(&bench).4.unwrap()
        })
        .collect();
    assert!(waits.iter().all(|wait| *wait <= spread), "{waits:?}");
    let long = waits.iter().filter(|wait| **wait > spread / 2).count();
    assert!((3..=9).contains(&long), "{waits:?}");
}

// The activation of a restored certificate that the store does not take is made up for, as any.
#[test]
fn a_roll_back_that_cannot_be_stored_is_made_up_for() {
    let mut bench = renewed();
    let refused = bench.device.identity().active.as_ref().unwrap().chain.leaf().thumbprint();
    let fails = move |dial: &zerotouch_device::Dial| {
        let leaf = dial.identity.as_ref()?.chain.leaf().thumbprint();
        (leaf == refused).then_some(Kind::ClientCertificateRefused)
    };
    bench.dial_fails = Box::new(fails);
    bench.store_fails = Box::new(|change| matches!(change, Change::RollBack));
    bench.start();
    connects(&mut bench);
    assert_eq!((bench.generation(), &bench.changes[..]), (2, &[][..]));
    let mut bench = bench.restart(MINUTE);
    bench.dial_fails = Box::new(fails);
    bench.start();
    connects(&mut bench);
    assert_eq!((bench.generation(), &bench.changes[..]), (1, &["roll back"][..]));
}

// X27: a good chain that the hub refuses all the same. The certificate in use serves; there is one switch
// for each try, and the tries are few.
#[test]
fn x27_a_certificate_that_only_the_hub_refuses_starts_no_ping_pong() {
    let mut bench = Bench::connected();
    let first = bench.device.identity().active.as_ref().unwrap().chain.leaf().thumbprint();
    bench.dial_fails = Box::new(move |dial| {
        let leaf = dial.identity.as_ref()?.chain.leaf().thumbprint();
        (leaf != first).then_some(Kind::ClientCertificateRefused)
    });
    bench.wait(Duration::from_secs(27 * 24 * 3600));
    let issued = count(&bench, |event| matches!(event, Event::CertificateIssued(_))) - 1;
    let rolled_back = count(&bench, |event| matches!(event, Event::RolledBack { .. }));
    assert_eq!(rolled_back, issued);
    // Due for a third of 30 days; with a cap of 6 h and full jitter, about eight a day.
    assert!((10..=120).contains(&issued), "{issued}");
    assert_eq!((bench.device.state(), bench.generation()), (State::Connected, 1));
}

// C6: the key that waits is the key of every try; the next certificate is for the next key.
#[test]
fn c6_a_key_is_made_for_a_certificate_not_for_a_try() {
    let mut bench = Bench::new();
    let mut failures = 3;
    bench.dial_fails = Box::new(move |_| {
        failures -= 1;
        (failures >= 0).then_some(Kind::Unreachable)
    });
    bench.start();
    connects(&mut bench);
    assert_eq!(bench.changes.iter().filter(|change| **change == "begin").count(), 1);
    bench.run_until(|bench| bench.generation() == 1);
    let first = bench.device.identity().active.clone().unwrap();
    bench.device.renew(bench.now).unwrap();
    bench.run_until(|bench| bench.generation() == 2);
    let second = bench.device.identity().active.clone().unwrap();
    assert_ne!(first.chain.leaf().public_key(), second.chain.leaf().public_key());
}

// S3: a token is made for each connection to DPS and is good for an hour from then.
#[test]
fn s3_tokens_are_made_anew_and_expire_in_whole_seconds() {
    let mut bench = Bench::new();
    bench.garbles = instead_of(CONNACK, &[CONNACK, 2, 0, 3]);
    bench.start();
    bench.wait(Duration::from_secs(120));
    let expiries: Vec<_> = bench
        .sent
        .iter()
        .filter_map(|(at, bytes)| {
            let text = String::from_utf8_lossy(bytes);
            let expiry: String =
                text.split_once("&se=")?.1.chars().take_while(char::is_ascii_digit).collect();
            Some(expiry.parse::<i64>().unwrap() - at.as_secs())
        })
        .collect();
    assert!(expiries.len() >= 3, "{expiries:?}");
    assert!(expiries.iter().all(|lifetime| *lifetime == 3600), "{expiries:?}");
}

// S4: a clock that is two hours behind makes tokens that have expired. The service's answer tells its own
// time: the clock is named, and tokens are not made in a hot loop.
#[test]
fn s4_a_refused_token_and_another_time_blame_the_clock() {
    let mut bench = Bench::new();
    bench.ahead = -7200;
    bench.start();
    bench.wait(Duration::from_secs(6 * 3600));
    let (scope, _, class, failure, _) = last_failure(&bench);
    assert_eq!((scope, class, failure.layer()), (Scope::Dps, FailureClass::Terminal, Layer::Clock));
    assert!(
        matches!(failure, Failure::ClockSuspect { ours, theirs } if theirs.since(ours).as_secs() >= 7190),
        "{failure}"
    );
    assert!(bench.dials.len() < 40, "{}", bench.dials.len());
    bench.ahead = 0;
    connects(&mut bench);
}

// R9: the issuing authority is another one by now. It is accepted: what is pinned, if anything, is a root.
#[test]
fn r9_another_authority_is_accepted() {
    let mut bench = Bench::connected();
    let issuer = |bench: &Bench| {
        let active = bench.device.identity().active.clone().unwrap();
        active.chain.iter().nth(1).unwrap().public_key().to_vec()
    };
    let before = issuer(&bench);
    bench.replace_cloud(99);
    bench.cut();
    bench.run_until_within(Duration::from_secs(60 * 3600), |bench| {
        bench.generation() == 2 && bench.device.state() == State::Connected
    });
    assert_ne!(issuer(&bench), before);
}

// What the book says of the load that a device is to services while something lasts.
#[test]
fn the_load_on_the_services_is_bounded() {
    let hours = |bench: &mut Bench, count: u32| {
        // The ladders' first steps apart.
        bench.wait(Duration::from_secs(3 * 3600));
        let before = bench.dials.len();
        bench.wait(Duration::from_secs(3600) * count);
        f64::from(u32::try_from(bench.dials.len() - before).unwrap()) / f64::from(count)
    };
    let mut hub_is_down = returning();
    hub_is_down.dial_fails = Box::new(|_| Some(Kind::Unreachable));
    hub_is_down.start();
    let mut refused = returning();
    refused.garbles = instead_of(CONNACK, &[CONNACK, 2, 0, 5]);
    refused.start();
    let mut disabled = Bench::with(
        {
            let mut fixture = fixture();
            fixture.enrollment_groups[0].enabled = false;
            fixture
        },
        Identity::default(),
        |config| config.key_algorithm = KeyAlgorithm::EcdsaP256,
    );
    disabled.start();
    let mut untrusted = returning();
    untrusted.dial_fails = Box::new(|_| Some(Kind::ServerUntrusted));
    untrusted.start();
    for (name, bench, at_most) in [
        ("down", &mut hub_is_down, 140.0),
        ("refused", &mut refused, 6.0),
        ("disabled", &mut disabled, 140.0),
        ("untrusted", &mut untrusted, 6.0),
    ] {
        let per_hour = hours(bench, 4);
        assert!((0.5..=at_most).contains(&per_hour), "{name}: {per_hour} attempts in an hour");
    }
}
