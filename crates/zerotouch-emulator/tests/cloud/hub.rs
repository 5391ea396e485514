//! The hubs: whom they let in, and what those may do.

use std::time::Duration;

use serde_json::{Value, json};
use zerotouch_credentials::{SasToken, SymmetricKey};
use zerotouch_emulator::cloud::{CloudEvent, Fixture, HubSettings, Quota, TwinError};
use zerotouch_mqtt_codec::{
    Connect, Delivery, Login, Packet, PacketIdentifier, Publish, QoS, Subscribe, Subscriptions,
    Text, TopicFilter, TopicName, Will,
};

use crate::support::{Got, HUB_VERSION, Identity, World, private_key};

const DAY: Duration = Duration::from_secs(86_400);

fn provisioned() -> (World, Identity) {
    let mut world = World::new(Fixture::default());
    let identity = world.provision("d", &private_key(1));
    world.events();
    (world, identity)
}

/// Connects and expects CONNACK 5 and the end; yields the reason in the log.
fn is_refused(world: &mut World, identity: &Identity) -> String {
    let connection = world.try_hub(identity, HUB_VERSION, true);
    refusal(world, connection)
}

fn refusal(world: &mut World, connection: zerotouch_emulator::cloud::ConnectionId) -> String {
    assert_eq!(world.received(connection), [Got::Refused(5)]);
    assert!(world.is_closed(connection));
    match &world.events()[..] {
        [CloudEvent::HubRefused { device_id, reason }] if device_id == "d" => reason.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn lets_in_an_issued_certificate_with_or_without_its_chain() {
    let (mut world, mut identity) = provisioned();
    let connection = world.connect_hub(&identity, true);
    assert!(!world.is_closed(connection));
    let thumbprint = identity.chain.leaf().thumbprint();
    assert_eq!(
        world.events(),
        [CloudEvent::HubConnected {
            hub: "localhost".into(),
            device_id: "d".into(),
            thumbprint: Some(thumbprint)
        }]
    );
    // The hub has the issuing authority's certificate: the leaf alone will do.
    let pem = identity.chain.to_pem();
    let end = pem.find("-----END CERTIFICATE-----").unwrap() + 26;
    identity.chain = zerotouch_credentials::CertificateChain::from_pem(&pem[..end]).unwrap();
    assert_eq!(identity.chain.iter().count(), 1);
    assert_eq!(identity.chain.leaf().thumbprint(), thumbprint);
    world.connect_hub(&identity, true);
}

// Whoever comes when too many have come is told to come again, and not that it is the wrong one.
#[test]
fn takes_as_many_connections_as_its_quota_allows() {
    let period = Duration::from_secs(1);
    let hub =
        HubSettings { connections: Some(Quota { count: 2, period }), ..HubSettings::default() };
    let mut world = World::new(Fixture { hub, ..Fixture::default() });
    let identity = world.provision("d", &private_key(1));
    world.connect_hub(&identity, true);
    world.wait(Duration::from_millis(600));
    world.connect_hub(&identity, true);
    world.events();
    let connection = world.try_hub(&identity, HUB_VERSION, true);
    assert_eq!(world.received(connection), [Got::Refused(3)]);
    assert!(world.is_closed(connection));
    let [CloudEvent::HubRefused { reason, .. }] = &world.events()[..] else { panic!() };
    assert_eq!(reason, "the hub takes no connections for 400 ms more");
    world.wait(Duration::from_millis(400));
    world.connect_hub(&identity, true);
    let connection = world.try_hub(&identity, HUB_VERSION, true);
    assert_eq!(world.received(connection), [Got::Refused(3)]);
}

// The common misconfiguration: the issuing authority was never given to the hub.
#[test]
fn refuses_a_policy_that_was_not_synchronized() {
    let mut fixture = Fixture::default();
    fixture.credential_policies[0].synchronized = false;
    let mut world = World::new(fixture);
    let identity = world.provision("d", &private_key(1));
    world.events();
    let reason = is_refused(&mut world, &identity);
    assert!(reason.contains("has not been synchronized"), "{reason}");
    world.cloud.synchronize();
    world.connect_hub(&identity, true);
}

#[test]
fn refuses_an_expired_certificate_by_its_own_clock() {
    let (mut world, identity) = provisioned();
    world.wait(DAY * 29);
    let connection = world.connect_hub(&identity, true);
    world.cut(connection);
    world.events();
    world.wait(DAY);
    let reason = is_refused(&mut world, &identity);
    assert!(reason.contains("expired"), "{reason}");
}

#[test]
fn refuses_the_certificate_of_another_device() {
    let (mut world, _) = provisioned();
    let other = world.provision("other", &private_key(2));
    world.events();
    let disguised = Identity { device_id: "d".into(), ..other };
    let reason = is_refused(&mut world, &disguised);
    assert!(reason.contains("is for \"other\""), "{reason}");
}

// An authority of the same name and another key: names prove nothing.
#[test]
fn refuses_an_impostor_of_the_authority() {
    let (mut world, _) = provisioned();
    // The same seed makes the same keys, unless something else is drawn first.
    let mut fixture = Fixture::default();
    fixture.enrollment_groups.push(zerotouch_emulator::cloud::EnrollmentGroup::symmetric("more"));
    let mut elsewhere = World::new(fixture);
    let impostor = elsewhere.provision("d", &private_key(1));
    let reason = is_refused(&mut world, &impostor);
    assert!(reason.contains("certificate is refused"), "{reason}");
}

#[test]
fn revoking_a_device_ends_its_connection_and_its_certificates() {
    let (mut world, identity) = provisioned();
    let connection = world.connect_hub(&identity, true);
    world.events();
    assert!(world.cloud.revoke_device("D", false, world.now));
    world.drain();
    assert!(world.is_closed(connection));
    assert!(matches!(&world.events()[..], [CloudEvent::Disconnected { .. }]));
    let reason = is_refused(&mut world, &identity);
    assert!(reason.contains("revoked"), "{reason}");

    // Registering again brings a certificate with the new identifier.
    let identity = world.provision("d", &private_key(1));
    world.connect_hub(&identity, true);
    world.events();
    assert!(world.cloud.revoke_device("d", true, world.now));
    world.drain();
    world.events();
    assert!(is_refused(&mut world, &identity).contains("disabled"));
    assert!(!world.cloud.revoke_device("nobody", false, world.now));
}

#[test]
fn refuses_strangers_and_malformed_logins() {
    let (mut world, identity) = provisioned();
    let chain = || vec![identity.chain.leaf().as_der().to_vec()];
    for (username, client_id, password, chain, expected) in [
        ("elsewhere/d/?api-version=2021-04-12", "d", None, chain(), "no hub is called"),
        ("localhost/d/?api-version=2021-99-99", "d", None, chain(), "is not known"),
        ("localhost/d/", "d", None, chain(), "is not known"),
        ("localhost/d/?api-version=2021-04-12", "e", None, chain(), "is not the device id"),
        ("localhost/d/?api-version=2021-04-12", "d", None, Vec::new(), "neither a token"),
        ("localhost/d/?api-version=2021-04-12", "d", Some("x"), chain(), "no password"),
        ("localhost/d/?api-version=2021-04-12", "d", None, vec![b"x".to_vec()], "cannot be read"),
    ] {
        let connection = world.connect(chain, client_id, username, password, true);
        let reason = refusal(&mut world, connection);
        assert!(reason.contains(expected), "{username}: {reason}");
    }
    let unknown = Identity { device_id: "nobody".into(), ..identity };
    let connection = world.try_hub(&unknown, HUB_VERSION, true);
    assert_eq!(world.received(connection), [Got::Refused(5)]);
}

/// Registers without a request and connects with the same key, as SDKs do that know no requests.
#[test]
fn lets_in_the_key_a_device_registered_with() {
    let mut world = World::new(Fixture::default());
    let connection = world.connect_dps("d", "2019-03-31");
    world.register(connection, b"");
    let operation_id = world.message(connection).1["operationId"].as_str().unwrap().to_owned();
    world.poll(connection, &operation_id);
    world.message(connection);
    world.events();

    let expiry = world.wall() + Duration::from_secs(60);
    let token =
        |key: &SymmetricKey, host| SasToken::for_hub(key, host, "d", expiry).as_str().to_owned();
    let key = world.device_key("d");
    let username = "localhost/d/?api-version=2019-10-01&DeviceClientType=x";
    let good = token(&key, "localhost");
    let connection = world.connect(Vec::new(), "d", username, Some(&good), true);
    assert_eq!(world.received(connection), [Got::Accepted { session_present: false }]);
    world.events();

    let wrong_key = token(&world.device_key("e"), "localhost");
    let other_hub = token(&key, "elsewhere");
    for (password, expected) in
        [(wrong_key, "signature"), (other_hub, "elsewhere/devices/d"), ("?".into(), "refused")]
    {
        let connection = world.connect(Vec::new(), "d", username, Some(&password), true);
        let reason = refusal(&mut world, connection);
        assert!(reason.contains(expected), "{reason}");
    }
    world.wait(Duration::from_secs(60 + 301));
    world.events();
    let connection = world.connect(Vec::new(), "d", username, Some(&good), true);
    assert!(refusal(&mut world, connection).contains("expired"));
}

// A key is no way around a certificate: once certified, a device has to come with its certificate.
#[test]
fn a_certified_device_does_not_get_in_with_its_key() {
    let (mut world, _) = provisioned();
    let expiry = world.wall() + Duration::from_secs(60);
    let token = SasToken::for_hub(&world.device_key("d"), "localhost", "d", expiry);
    let username = "localhost/d/?api-version=2019-10-01";
    let connection = world.connect(Vec::new(), "d", username, Some(token.as_str()), true);
    assert!(refusal(&mut world, connection).contains("its certificate"));
}

#[test]
fn the_second_connection_of_a_device_ends_the_first() {
    let (mut world, identity) = provisioned();
    let first = world.connect_hub(&identity, true);
    let second = world.connect_hub(&identity, true);
    assert!(world.is_closed(first) && !world.is_closed(second));
    let told = world.events();
    assert!(told.iter().any(|event| matches!(event,
        CloudEvent::Disconnected { reason, .. } if reason.contains("took over"))));
    // The end of the first is no end of the second.
    world.cut(first);
    world.publish(second, "devices/d/messages/events/", b"1");
    assert_eq!(world.received(second).last(), Some(&Got::PubAck(77)));
}

#[test]
fn takes_telemetry_with_its_properties() {
    let (mut world, identity) = provisioned();
    let connection = world.connect_hub(&identity, true);
    world.received(connection);
    world.events();
    let topic = "devices/d/messages/events/%24.mid=1&$.ct=application%2Fjson&a%20b=%3D&null&empty=";
    world.publish(connection, topic, b"{}");
    let at_most_once = Publish {
        topic: TopicName::new("devices/d/messages/events").unwrap(),
        payload: b"0",
        retain: true,
        delivery: Delivery::AtMostOnce,
    };
    world.send(connection, at_most_once);
    assert_eq!(world.received(connection), [Got::PubAck(77)]);
    let [
        CloudEvent::Telemetry { properties: first, payload, .. },
        CloudEvent::Telemetry { properties: second, .. },
    ] = &world.events()[..]
    else {
        panic!()
    };
    let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        list.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect()
    };
    assert_eq!(payload, b"{}");
    assert_eq!(
        *first,
        pairs(&[
            ("$.mid", "1"),
            ("$.ct", "application/json"),
            ("a b", "="),
            ("null", ""),
            ("empty", "")
        ])
    );
    assert_eq!(*second, pairs(&[("mqtt-retain", "true")]));
}

// What IoT Hub answers by hanging up.
#[test]
fn hangs_up_on_what_is_not_its_protocol() {
    let (mut world, identity) = provisioned();
    let large = vec![b'x'; 256 * 1024 + 1];
    let id = PacketIdentifier::MIN;
    let exactly_once = Delivery::ExactlyOnce { id, dup: false };
    let once = Delivery::AtMostOnce;
    for (topic, payload, delivery) in [
        ("devices/d/messages/events/", &b"x"[..], exactly_once),
        ("devices/other/messages/events/", b"x", once),
        ("devices/d/messages/eventsX", b"x", once),
        ("anything", b"x", once),
        ("devices/d/messages/events/", &large, once),
    ] {
        let connection = world.connect_hub(&identity, true);
        let topic = TopicName::new(topic).unwrap();
        world.send(connection, Publish { topic, payload, retain: false, delivery });
        assert!(world.is_closed(connection), "{topic}");
    }
    assert!(!world.events().iter().any(|event| matches!(event, CloudEvent::Telemetry { .. })));
}

#[test]
fn grants_the_documented_filters_and_no_others() {
    let (mut world, identity) = provisioned();
    let connection = world.connect_hub(&identity, true);
    world.received(connection);
    let subscribe = |world: &mut World, filters: &[(&str, QoS)]| {
        let filters: Vec<_> =
            filters.iter().map(|(f, qos)| (TopicFilter::new(f).unwrap(), *qos)).collect();
        let filters = Subscriptions::new(&filters).unwrap();
        world.send(connection, Subscribe { id: PacketIdentifier::MIN, filters });
        world.received(connection)
    };
    let all = [
        ("devices/d/messages/devicebound/#", QoS::AtLeastOnce),
        ("$iothub/methods/POST/#", QoS::AtMostOnce),
        ("$iothub/twin/res/#", QoS::ExactlyOnce),
        ("$iothub/credentials/res/#", QoS::AtLeastOnce),
        ("#", QoS::AtMostOnce),
    ];
    assert_eq!(subscribe(&mut world, &all), [Got::SubAck(vec![1, 0, 1, 1, 0x80])]);
    let others = [
        ("devices/other/messages/devicebound/#", QoS::AtMostOnce),
        ("$iothub/credential/res/#", QoS::AtMostOnce),
    ];
    assert_eq!(subscribe(&mut world, &others), [Got::SubAck(vec![0x80, 0x80])]);
    let six = [("$iothub/methods/POST/#", QoS::AtMostOnce); 6];
    assert_eq!(subscribe(&mut world, &six), [Got::SubAck(vec![0x80; 6])]);
}

#[test]
fn a_twin_is_read_reported_and_desired() {
    let (mut world, identity) = provisioned();
    let connection = world.connect_hub(&identity, true);
    world.subscribe(connection, "$iothub/twin/res/#");
    world.subscribe(connection, "$iothub/twin/PATCH/properties/desired/#");
    world.received(connection);

    world.publish(connection, "$iothub/twin/GET/?$rid=1", b" ");
    let empty = json!({ "desired": { "$version": 1 }, "reported": { "$version": 1 } });
    assert_eq!(world.message(connection), ("$iothub/twin/res/200/?$rid=1".into(), empty));

    let report = "$iothub/twin/PATCH/properties/reported/?$rid=2";
    world.publish(connection, report, br#"{"a":1}"#);
    let answer = ("$iothub/twin/res/204/?$rid=2&$version=2".to_owned(), Value::Null);
    assert_eq!(world.message(connection), answer);
    world.publish(connection, report, b"[]");
    assert_eq!(world.message(connection).0, "$iothub/twin/res/400/?$rid=2");

    let Value::Object(patch) = json!({ "interval": 5 }) else { panic!() };
    assert_eq!(world.cloud.update_desired("d", patch.clone(), world.now), Ok(2));
    world.drain();
    assert_eq!(
        world.message(connection),
        (
            "$iothub/twin/PATCH/properties/desired/?$version=2".into(),
            json!({ "interval": 5, "$version": 2 })
        )
    );
    let nobody = world.cloud.update_desired("nobody", patch, world.now);
    assert_eq!(nobody, Err(TwinError::NoDevice));

    // The twin is the device's, not the connection's.
    let connection = world.connect_hub(&identity, true);
    world.subscribe(connection, "$iothub/twin/res/#");
    world.received(connection);
    world.publish(connection, "$iothub/twin/GET/?$rid=3", b"");
    let (_, twin) = world.message(connection);
    assert_eq!((&twin["desired"]["interval"], &twin["reported"]["a"]), (&json!(5), &json!(1)));
}

#[test]
fn methods_reach_a_device_that_listens() {
    let (mut world, identity) = provisioned();
    let now = world.now;
    let connection = world.connect_hub(&identity, true);
    world.received(connection);
    assert!(!world.cloud.invoke_method("d", ("reboot", "4"), b"{}", now), "it does not listen");

    world.subscribe(connection, "$iothub/methods/POST/#");
    world.received(connection);
    assert!(world.cloud.invoke_method("d", ("reboot", "4"), br#"{"in":1}"#, now));
    world.drain();
    assert_eq!(
        world.message(connection),
        ("$iothub/methods/POST/reboot/?$rid=4".into(), json!({ "in": 1 }))
    );
    world.events();
    world.publish(connection, "$iothub/methods/res/200/?$rid=4", br#"{"ok":true}"#);
    assert_eq!(
        world.events(),
        [CloudEvent::MethodAnswered {
            device_id: "d".into(),
            request_id: "4".into(),
            status: 200,
            payload: br#"{"ok":true}"#.to_vec()
        }]
    );
}

// Subscriptions outlive a connection if, and only if, the device wants them to; and only a session
// that was kept is present later, however the one before ended.
#[test]
fn a_session_is_kept_unless_it_is_clean() {
    let (mut world, identity) = provisioned();
    let connect = |world: &mut World, clean| {
        let connection = world.try_hub(&identity, HUB_VERSION, clean);
        let got = world.received(connection);
        let [Got::Accepted { session_present }] = got[..] else { panic!("{got:?}") };
        world.publish(connection, "$iothub/twin/GET/?$rid=1", b"");
        let listens = world.received(connection).len() == 2;
        (connection, session_present, listens)
    };
    let (connection, present, listens) = connect(&mut world, false);
    assert!(!present && !listens, "there was none before");
    world.subscribe(connection, "$iothub/twin/res/#");
    world.cut(connection);

    let (_, present, listens) = connect(&mut world, false);
    assert!(present && listens, "it was kept");
    let (connection, present, listens) = connect(&mut world, true);
    assert!(!present && !listens, "a clean one begins without");
    world.subscribe(connection, "$iothub/twin/res/#");
    let (connection, present, listens) = connect(&mut world, false);
    assert!(!present && !listens, "and ends with its connection, taken over or");
    world.cut(connection);
    let (connection, ..) = connect(&mut world, true);
    world.subscribe(connection, "$iothub/twin/res/#");
    world.cut(connection);
    let (_, present, listens) = connect(&mut world, false);
    assert!(!present && !listens, "cut");
}

// A device that vanishes has a last word; one that says goodbye has not.
#[test]
fn a_will_is_telemetry() {
    let (mut world, identity) = provisioned();
    for (goodbye, expected) in [(false, 1), (true, 0)] {
        let chain = vec![identity.chain.leaf().as_der().to_vec()];
        let connection = world.open(chain);
        let topic = TopicName::new("devices/d/messages/events/a=b").unwrap();
        let will = Will { topic, message: b"gone", qos: QoS::AtMostOnce, retain: false };
        let username = "localhost/d/?api-version=2021-04-12";
        let login = Some(Login { username: Text::new(username).unwrap(), password: None });
        let (client_id, clean_session, keep_alive) = (Text::new("d").unwrap(), true, 30);
        let connect = Connect { client_id, clean_session, keep_alive, will: Some(will), login };
        world.send(connection, connect);
        world.events();
        if goodbye {
            world.send(connection, Packet::Disconnect);
        } else {
            // Silence for one and a half times the keep-alive.
            world.wait(Duration::from_secs(44));
            assert!(!world.is_closed(connection));
            world.wait(Duration::from_secs(1));
        }
        assert!(world.is_closed(connection));
        let told = world.events();
        let wills = told.iter().filter(|event| {
            matches!(event, CloudEvent::Telemetry { properties, payload, .. }
                if payload == b"gone" && properties[1].1 == "Will")
        });
        assert_eq!(wills.count(), expected, "{told:?}");
    }
}
