//! Events as they are sent to whoever listens over HTTP.

use std::io::{Read, Write};
use std::time::Duration;

use rustls::version::TLS13;
use serde_json::{Value, json};
use zerotouch_emulator::Emulator;
use zerotouch_mqtt_codec::QoS;

use crate::client::Client;
use crate::https::read_head;
use crate::{emulator, private_key, provision, service_token};

struct Listener {
    client: Client,
    /// What has come of the next event.
    text: String,
}

impl Listener {
    fn request(emulator: &Emulator, target: &str) -> (Client, String) {
        let mut client = Client::dial(emulator, "localhost", &TLS13, None).unwrap();
        let token = service_token(emulator);
        let head =
            format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\n\r\n");
        client.stream.write_all(head.as_bytes()).unwrap();
        client.stream.flush().unwrap();
        let head = read_head(&mut client);
        (client, head)
    }

    fn open(emulator: &Emulator, target: &str) -> Self {
        let (client, head) = Self::request(emulator, target);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.contains("content-type: text/event-stream\r\n"), "{head}");
        Self { client, text: String::new() }
    }

    /// One chunk of the body.
    fn chunk(&mut self) -> String {
        let mut byte = [0];
        let mut line = String::new();
        while !line.ends_with("\r\n") {
            self.client.stream.read_exact(&mut byte).unwrap();
            line.push(byte[0].into());
        }
        let length = usize::from_str_radix(line.trim(), 16).unwrap();
        let mut chunk = vec![0; length + 2];
        self.client.stream.read_exact(&mut chunk).unwrap();
        String::from_utf8(chunk[..length].into()).unwrap()
    }

    /// The next event: its id, its name and its data. Comments are passed over.
    fn next(&mut self) -> (Option<u64>, String, Value) {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name| event.lines().find_map(|line| line.strip_prefix(name));
                if let Some(data) = field("data: ") {
                    let id = field("id: ").map(|id| id.parse().unwrap());
                    let name = field("event: ").unwrap().into();
                    return (id, name, serde_json::from_str(data).unwrap());
                }
                continue;
            }
            let chunk = self.chunk();
            self.text.push_str(&chunk);
        }
    }

    /// The names of the events up to and with one.
    fn until(&mut self, wanted: &str) -> Vec<String> {
        let mut names = Vec::new();
        while names.last().is_none_or(|name| name != wanted) {
            names.push(self.next().1);
        }
        names
    }
}

// All who listen hear the same, filtered as each wants, and whoever asks the handle hears it, too.
#[test]
fn events_are_told_to_all_who_listen() {
    let emulator = emulator();
    let mut all = Listener::open(&emulator, "/$emulator/events");
    let mut one =
        Listener::open(&emulator, "/$emulator/events?device=pump-*&event=deviceRegistered");
    provision(&emulator, "valve-1", &private_key(), &TLS13);
    provision(&emulator, "pump-1", &private_key(), &TLS13);
    for id in ["valve-1", "pump-1"] {
        let (first, name, data) = all.next();
        assert_eq!((&*name, &data["event"]), ("deviceRegistered", &json!("deviceRegistered")));
        assert_eq!(data["deviceId"], id);
        let (second, name, _) = all.next();
        assert_eq!((second, &*name), (first.map(|first| first + 1), "certificateIssued"));
    }
    let (id, name, data) = one.next();
    assert_eq!((id, &*name, &data["deviceId"]), (Some(3), "deviceRegistered", &json!("pump-1")));
    let told = std::iter::from_fn(|| emulator.next_event(Duration::ZERO)).count();
    assert_eq!(told, 4, "nobody has taken them away");
}

// Who does not read loses events, is told so, and slows nobody down.
#[test]
fn who_reads_too_slowly_is_told_what_was_missed() {
    let emulator = emulator();
    let key = private_key();
    let chain = provision(&emulator, "d", &key, &TLS13);
    let mut slow = Listener::open(&emulator, "/$emulator/events");
    let mut quick = Listener::open(&emulator, "/$emulator/events?event=disconnected");
    let mut hub = Client::dial(&emulator, "localhost", &TLS13, Some((&chain, &key))).unwrap();
    hub.connect("d", "localhost/d/?api-version=2021-04-12", None);
    // 48 MB: more than is kept for a reader, and than sockets hold.
    let payload = vec![b'x'; 240 * 1024];
    for _ in 0..200 {
        hub.publish("devices/d/messages/events/", &payload, QoS::AtMostOnce).unwrap();
    }
    drop(hub);
    quick.next();
    let mut telemetry = 0;
    let missed = loop {
        match slow.next() {
            (_, name, _) if name == "telemetry" => telemetry += 1,
            (None, name, data) if name == "missed" => break data["count"].as_u64().unwrap(),
            (_, name, _) => assert_eq!(name, "hubConnected"),
        }
    };
    assert!(missed > 0);
    let rest = slow.until("disconnected");
    assert_eq!(telemetry + missed + rest.len() as u64 - 1, 200);
}

// A place is for who listens: whoever has gone gives it up.
#[test]
fn few_may_listen_at_once() {
    let emulator = emulator();
    let mut listeners: Vec<_> =
        (0..16).map(|_| Listener::open(&emulator, "/$emulator/events")).collect();
    let (_, head) = Listener::request(&emulator, "/$emulator/events");
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    listeners.pop();
    // Its end is noticed when it is.
    let patience = std::time::Instant::now() + crate::PATIENCE;
    while Listener::request(&emulator, "/$emulator/events").1.starts_with("HTTP/1.1 503 ") {
        assert!(std::time::Instant::now() < patience, "the place was not given up");
        std::thread::sleep(Duration::from_millis(10));
    }
}
