//! What ends a device's connection without its doing.

use std::time::Duration;

use serde_json::{Value, json};
use zerotouch_credentials::SasToken;
use zerotouch_emulator::cloud::{CloudEvent, ConnectionId, Fixture};
use zerotouch_mqtt_codec::Packet;

use crate::service::Service;
use crate::support::{World, private_key};

/// The reasons in the log for which connections ended since this was last asked.
fn endings(world: &mut World) -> Vec<String> {
    let events = world.events().into_iter();
    let endings = events.filter_map(|event| match event {
        CloudEvent::Disconnected { reason, .. } => Some(reason),
        _ => None,
    });
    endings.collect()
}

/// A device that came with a token which is good for an hour.
fn with_token() -> (Service, ConnectionId) {
    let mut service = Service::new();
    let device = crate::https::json_of(&service.call("PUT", "/devices/d", &json!({})));
    let key = device["authentication"]["symmetricKey"]["primaryKey"].as_str().unwrap();
    let connection = service.connect("d", key);
    service.world.events();
    (service, connection)
}

/// For so long after its expiry a token is taken still, for devices whose clock is slow.
const SKEW: Duration = Duration::from_secs(300);

// A token is a lease: the last second in which it is taken is the connection's.
#[test]
fn a_connection_ends_with_its_token() {
    let (Service { mut world, .. }, connection) = with_token();
    for _ in 0..6 {
        world.wait(Duration::from_secs(600));
        world.send(connection, Packet::PingReq);
    }
    world.wait(SKEW);
    assert!(!world.is_closed(connection));
    world.wait(Duration::from_secs(1));
    assert!(world.is_closed(connection));
    assert_eq!(endings(&mut world), ["its token has expired"]);
    assert_eq!(world.cloud.poll_timeout(), None);
}

// Whoever sets the clock sees what it does.
#[test]
fn setting_the_clock_ends_what_has_grown_old() {
    let (Service { mut world, .. }, connection) = with_token();
    let identity = world.provision("certified", &private_key(1));
    let certified = world.connect_hub(&identity, true);
    world.events();
    for (forward, closed) in [(3600 + SKEW.as_secs(), false), (1, true)] {
        let time = world.cloud.time(world.now) + Duration::from_secs(forward);
        world.cloud.set_time(time, world.now);
        world.wait(Duration::ZERO);
        assert_eq!(world.is_closed(connection), closed);
    }
    assert_eq!(endings(&mut world), ["its token has expired"]);
    assert!(!world.is_closed(certified));
}

// The token of a connection is that connection's: the next one has its own.
#[test]
fn a_new_token_is_a_new_lease() {
    let (mut service, first) = with_token();
    service.world.wait(Duration::from_secs(1000));
    let device = crate::https::json_of(&service.call("GET", "/devices/d", &Value::Null));
    let key = device["authentication"]["symmetricKey"]["primaryKey"].as_str().unwrap();
    let second = service.connect("d", key);
    let mut world = service.world;
    assert!(world.is_closed(first));
    for _ in 0..3 {
        world.send(second, Packet::PingReq);
        world.wait(Duration::from_secs(1000));
    }
    assert!(!world.is_closed(second));
    world.send(second, Packet::PingReq);
    world.wait(Duration::from_secs(600) + SKEW);
    assert!(!world.is_closed(second));
    world.wait(Duration::from_secs(1));
    assert!(world.is_closed(second));
}

// A device whose clock is slow comes with a token that has expired: it is let in, and not thrown out at once.
#[test]
fn a_late_token_is_good_for_what_is_left_of_the_skew() {
    let (Service { mut world, .. }, first) = with_token();
    let time = world.cloud.time(world.now) + Duration::from_secs(3600 + 100);
    world.cloud.set_time(time, world.now);
    world.wait(Duration::ZERO);
    assert!(!world.is_closed(first));
    world.wait(Duration::from_secs(200));
    assert!(!world.is_closed(first));
    world.wait(Duration::from_secs(1));
    assert!(world.is_closed(first));
}

// What an operator changes about a device's identity, its connection does not survive.
#[test]
fn the_registry_ends_connections() {
    let (mut service, mut connection) = with_token();
    let read = |service: &mut Service| {
        crate::https::json_of(&service.call("GET", "/devices/d", &Value::Null))
    };
    let device = read(&mut service);
    let key = device["authentication"]["symmetricKey"]["primaryKey"].as_str().unwrap();
    // Nothing changed, nothing ended.
    service.call_if("*", "PUT", "/devices/d", &device);
    assert!(!service.world.is_closed(connection));
    for (what, change) in [
        ("another second key", json!({ "symmetricKey": { "primaryKey": key } })),
        (
            "thumbprints",
            json!({ "type": "selfSigned", "x509Thumbprint": {
            "primaryThumbprint": "00".repeat(32) } }),
        ),
    ] {
        let change = json!({ "authentication": change });
        assert_eq!(service.call_if("*", "PUT", "/devices/d", &change).status, 200, "{what}");
        service.world.drain();
        assert!(service.world.is_closed(connection), "{what}");
        assert_eq!(endings(&mut service.world), ["its credential was changed, or it was disabled"]);
        service.call_if("*", "PUT", "/devices/d", &device);
        connection = service.connect("d", key);
        service.world.events();
    }
    let disabled = json!({ "status": "disabled", "authentication": device["authentication"] });
    service.call_if("*", "PUT", "/devices/d", &disabled);
    service.world.drain();
    assert_eq!(endings(&mut service.world), ["its credential was changed, or it was disabled"]);

    service.call_if("*", "PUT", "/devices/d", &device);
    service.connect("d", key);
    service.call("DELETE", "/devices/d", &Value::Null);
    service.world.drain();
    assert_eq!(endings(&mut service.world), ["it is no longer registered"]);
}

// 1767 s, whatever the client asks for.
#[test]
fn silence_ends_a_connection() {
    let mut world = World::new(Fixture::default());
    let identity = world.provision("d", &private_key(1));
    let connection = world.connect_hub(&identity, true);
    world.wait(Duration::from_secs(1766));
    assert!(!world.is_closed(connection));
    world.send(connection, Packet::PingReq);
    world.wait(Duration::from_secs(1766));
    assert!(!world.is_closed(connection));
    world.wait(Duration::from_secs(1));
    assert!(world.is_closed(connection));
}

// A session of a device that is gone is not the next one's of its name.
#[test]
fn a_deleted_device_leaves_no_session() {
    let (mut service, _) = with_token();
    let make = |service: &mut Service| {
        let device = crate::https::json_of(&service.call("PUT", "/devices/e", &json!({})));
        let key = device["authentication"]["symmetricKey"]["primaryKey"].as_str().unwrap();
        let key = zerotouch_credentials::SymmetricKey::from_base64(key).unwrap();
        let expiry = service.world.wall() + Duration::from_secs(60);
        let token = SasToken::for_hub(&key, "localhost", "e", expiry);
        let username = "localhost/e/?api-version=2021-04-12";
        let world = &mut service.world;
        let connection = world.connect(Vec::new(), "e", username, Some(token.as_str()), false);
        let got = world.received(connection);
        world.subscribe(connection, "devices/e/messages/devicebound/#");
        (connection, got)
    };
    let (_, first) = make(&mut service);
    service.call("DELETE", "/devices/e", &Value::Null);
    service.world.drain();
    assert_eq!(make(&mut service).1, first, "no session present");
}
