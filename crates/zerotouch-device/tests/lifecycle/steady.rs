//! Rows of the failure table about services that say what nobody asked for, or less, or something else.

use zerotouch_credentials::ChainError;
use zerotouch_device::{Event, Failure, FailureClass, RenewalFailure, Scope, State};
use zerotouch_dps::ConnectionProfile;
use zerotouch_emulator::cloud::{DpsSettings, Fixture};
use zerotouch_hub::RenewalError;
use zerotouch_mqtt_codec::{Decoded, Packet, Publish, decode};
use zerotouch_store::Identity;

use crate::bench::{Bench, ID, fixture};
use crate::last_failure;

const SUBACK: u8 = 0x90;

/// A device of which a hub knows, about to dial it again.
fn returning() -> Bench {
    Bench::connected().restart(std::time::Duration::from_secs(60))
}

fn connects(bench: &mut Bench) {
    bench.run_until(|bench| bench.device.state() == State::Connected);
}

// A hub for MQTT 5 alone is no hub for this device, and what it is called is told as it was written. (Row
// 23 is about clients that are attached beforehand; here the profile is judged before there is one.)
#[test]
fn row_22_23_an_unknown_profile_is_told_and_waited_out() {
    let profile = ConnectionProfile::Other("mqttV7".into());
    let dps = DpsSettings { connection_profile: profile, ..fixture().dps };
    let mut bench = Bench::with(Fixture { dps, ..fixture() }, Identity::default(), |config| {
        config.registration.api_version = "2026-11-01".into();
    });
    bench.start();
    bench.run_until(|bench| matches!(bench.device.state(), State::Waiting { .. }));
    let (scope, _, class, failure, _) = last_failure(&bench);
    assert_eq!((scope, class), (Scope::Dps, FailureClass::Terminal));
    assert!(
        matches!(&failure, Failure::UnsupportedProfile { profile } if profile == "mqttV7"),
        "{failure}"
    );
    assert!(bench.dials.iter().all(|dial| dial.host != "localhost"), "no hub is dialled");
}

// What is granted at QoS 0 was granted: messages come, if less surely.
#[test]
fn row_28_a_lower_quality_is_taken() {
    let mut bench = returning();
    bench.garbles = Box::new(|mut bytes| {
        if bytes.first() == Some(&SUBACK) {
            bytes[4..].fill(0);
        }
        bytes
    });
    bench.start();
    connects(&mut bench);
    assert!(bench.events.iter().all(|event| !matches!(event, Event::AttemptFailed { .. })));
}

// A topic of next year's is acknowledged and ignored, and so is a call that nobody takes.
#[test]
fn row_33_what_nobody_asked_for_is_acknowledged_and_ignored() {
    let topics = [format!("devices/{ID}/messages/future"), "$iothub/methods/POST/x/?$rid=1".into()];
    for topic in topics {
        let mut bench = returning();
        let unasked = [
            &[0x32, u8::try_from(topic.len() + 4).unwrap(), 0, u8::try_from(topic.len()).unwrap()],
            topic.as_bytes(),
            &[0, 9],
        ]
        .concat();
        bench.garbles = Box::new(move |bytes| match bytes.first() {
            Some(&SUBACK) => [bytes, unasked.clone()].concat(),
            _ => bytes,
        });
        bench.start();
        connects(&mut bench);
        bench.pump();
        assert_eq!(bench.device.state(), State::Connected);
        let acknowledged = |bytes: &[u8]| bytes.windows(4).any(|at| at == [0x40, 2, 0, 9]);
        assert!(bench.sent.iter().any(|(_, bytes)| acknowledged(bytes)), "{topic}");
    }
}

/// Puts another body into a hub's answer that brings a chain.
fn with_body(bytes: &[u8], body: &[u8]) -> Vec<u8> {
    let mut rest = bytes;
    let mut out = Vec::new();
    while let Ok(Decoded::Complete { packet, used }) = decode(rest) {
        rest = &rest[used..];
        let packet = match packet {
            Packet::Publish(publish)
                if publish.topic.as_str().starts_with("$iothub/credentials/res/200") =>
            {
                Publish { payload: body, ..publish }.into()
            }
            other => other,
        };
        packet.encode_to(&mut out).unwrap();
    }
    out
}

/// Base64 of each certificate: PEM without its armour.
fn texts(pem: &str) -> Vec<String> {
    let blocks = pem.split("-----END CERTIFICATE-----").filter(|block| block.contains("BEGIN"));
    blocks.map(|block| block.lines().filter(|line| !line.starts_with('-')).collect()).collect()
}

// None at all, something else, or the old one again: discarded, and the one in use stays.
#[test]
fn row_40_a_chain_that_is_not_ours_is_discarded() {
    for case in ["none", "not base64", "the old one"] {
        let mut bench = Bench::connected();
        let active = &bench.device.identity().active.as_ref().unwrap().chain;
        let chain = match case {
            "none" => Vec::new(),
            "the old one" => texts(&active.to_pem()),
            other => vec![other.into()],
        };
        let body = serde_json::json!({ "certificates": chain }).to_string();
        bench.garbles = Box::new(move |bytes| with_body(&bytes, body.as_bytes()));
        bench.device.renew(bench.now).unwrap();
        let refused = |event: &Event| match event {
            Event::RenewalFailed { failure, .. } => Some(failure.clone()),
            _ => None,
        };
        bench.run_until(|bench| bench.events.iter().any(|event| refused(event).is_some()));
        let failure = bench.events.iter().find_map(refused);
        let expected = match failure.unwrap() {
            RenewalFailure::Hub(RenewalError::Unreadable { .. }) => "none",
            RenewalFailure::Device(Failure::Chain(ChainError::NotBase64 { index: 0, .. })) => {
                "not base64"
            }
            RenewalFailure::Device(Failure::Chain(ChainError::StaleKey)) => "the old one",
            other => panic!("{case}: {other}"),
        };
        assert_eq!(case, expected);
        assert_eq!((bench.generation(), bench.device.state()), (1, State::Connected));
    }
}
