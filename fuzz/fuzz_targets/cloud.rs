//! The emulated cloud and whatever devices, services and time may do to it, with its faults on. It does
//! not panic, does not grow, and never waits for what has passed; what it answers over MQTT and HTTP can be
//! read; and another cloud made of its records has the same records.
//!
//! Input: steps, each a kind and a length byte; then three bytes that choose, and text.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use zerotouch_credentials::SasToken;
use zerotouch_emulator::cloud::{
    ChainFault, ConnectionId, Fault, FaultRule, Fixture, HttpRequest, Operation, SERVICE_POLICIES,
};
use zerotouch_fuzz::cloud::{DEVICES, FACTORY, HOOKED_GROUP, START, World, encoded};
use zerotouch_fuzz::steps::steps;
use zerotouch_mqtt_codec::{
    Connect, Delivery, Login, Packet, PacketIdentifier, Publish, QoS, Subscribe, Subscriptions,
    Text, TopicFilter, TopicFilters, TopicName, Unsubscribe, Will,
};
use zerotouch_time::UnixTime;

const VERSIONS: [&str; 4] =
    ["2025-07-01-preview", "2026-11-01", "2021-10-01", "2025-08-01-preview"];

const FILTERS: [&str; 8] = [
    "$dps/registrations/res/#",
    "devices/{d}/messages/devicebound/#",
    "$iothub/methods/POST/#",
    "$iothub/twin/res/#",
    "$iothub/twin/PATCH/properties/desired/#",
    "$iothub/credentials/res/#",
    "devices/{d}/messages/events/#",
    "{x}",
];

const TOPICS: [&str; 9] = [
    "$dps/registrations/PUT/iotdps-register/?$rid={n}",
    "$dps/registrations/GET/iotdps-get-operationstatus/?$rid={n}&operationId={o}",
    "devices/{d}/messages/events/{x}",
    "$iothub/twin/GET/?$rid={n}",
    "$iothub/twin/PATCH/properties/reported/?$rid={n}&{x}",
    "$iothub/methods/res/200/?$rid={r}",
    "$iothub/credentials/POST/issueCertificate/?$rid={n}",
    "{x}",
    "$dps/registrations/PUT/iotdps-register/?$rid={x}",
];

const BODIES: [&str; 20] = [
    "",
    "{x}",
    r#"{"registrationId":"{d}"}"#,
    r#"{"registrationId":"{d}","csr":"{csr}"}"#,
    r#"{"csr":"{csr}","payload":{x}}"#,
    r#"{"id":"{d}","csr":"{csr}"}"#,
    r#"{"id":"{d}","csr":"{csr}","replace":"*"}"#,
    r#"{"id":"{d}","csr":"{csr}","replace":"{n}"}"#,
    r#"{"speed":{n},"old":null}"#,
    r#"{"{x}":{"a":{"b":{n}}}}"#,
    r#"{"properties":{"desired":{"speed":{n},"x":{x}}},"tags":{"site":{n}}}"#,
    r#"{"registrationId":"{d}","attestation":{"type":"symmetricKey"},"credentialPolicyName":"default","etag":"{e}"}"#,
    r#"{"registrationId":"{d}","attestation":{"type":"x509","x509":{"clientCertificates":{"primary":{"certificate":"{pem}"}}}}}"#,
    r#"{"registrationId":"{d}","attestation":{"type":"tpm","tpm":{"endorsementKey":"AAAA"}},"deviceId":"d{n}"}"#,
    r#"{"enrollmentGroupId":"g{n}","attestation":{"type":"symmetricKey"},"allocationPolicy":"{x}","reprovisionPolicy":{"updateHubAssignment":true,"migrateDeviceData":false},"initialTwin":{"properties":{"desired":{"a":{n}}}}}"#,
    r#"{"mode":"create","enrollments":[{"registrationId":"{d}","attestation":{"type":"symmetricKey"}},{"registrationId":"b{n}","attestation":{"type":"symmetricKey"},"iotHubs":["127.0.0.2"]}]}"#,
    r#"{"mode":"delete","enrollments":[{"registrationId":"{d}"}]}"#,
    r#"{"deviceId":"{d}","status":"disabled","authentication":{"type":"sas"}}"#,
    r#"{"deviceId":"{d}","authentication":{"type":"certificateAuthority"}}"#,
    r#"{"deviceId":"{d}","authentication":{"type":"selfSigned","x509Thumbprint":{"primaryThumbprint":"{x}"}}}"#,
];

/// Method, path and query, body; or none, and then one of those above.
const REQUESTS: [(&str, &str, &str); 60] = [
    ("PUT", "/0neEMULATOR/registrations/{d}/register?api-version={v}", ""),
    (
        "PUT",
        "/0neEMULATOR/registrations/{d}/register?api-version={v}",
        r#"{"registrationId":"{d}","csr":"{csr}"}"#,
    ),
    ("GET", "/0neEMULATOR/registrations/{d}/operations/{o}?api-version={v}", ""),
    ("POST", "/0neEMULATOR/registrations/{d}?api-version={v}", r#"{"registrationId":"{d}"}"#),
    ("GET", "/enrollments/{d}?api-version={v}", ""),
    (
        "PUT",
        "/enrollments/{d}?api-version={v}",
        r#"{"registrationId":"{d}","attestation":{"type":"symmetricKey"}}"#,
    ),
    ("PUT", "/enrollments/{d}?api-version={v}", ""),
    ("DELETE", "/enrollments/{d}?api-version={v}", ""),
    ("POST", "/enrollments/{d}/attestationmechanism?api-version={v}", ""),
    ("POST", "/enrollments/query?api-version={v}", r#"{"query":"SELECT * FROM enrollments"}"#),
    ("POST", "/enrollments/query?api-version={v}", r#"{"query":"{x}"}"#),
    ("POST", "/enrollments?api-version={v}", ""),
    ("GET", "/enrollmentGroups/g{n}?api-version={v}", ""),
    (
        "PUT",
        "/enrollmentGroups/g{n}?api-version={v}",
        r#"{"enrollmentGroupId":"g{n}","attestation":{"type":"symmetricKey"}}"#,
    ),
    ("PUT", "/enrollmentGroups/g{n}?api-version={v}", ""),
    (
        "PUT",
        "/enrollmentGroups/default-group?api-version={v}",
        r#"{"enrollmentGroupId":"default-group","attestation":{"type":"symmetricKey"},"provisioningStatus":"disabled","etag":"{e}"}"#,
    ),
    (
        "PUT",
        "/enrollmentGroups/x509-group?api-version={v}",
        r#"{"enrollmentGroupId":"x509-group","attestation":{"type":"x509","x509":{"signingCertificates":{"primary":{"certificate":"{pem}"}}}},"etag":"{e}"}"#,
    ),
    ("DELETE", "/enrollmentGroups/default-group?api-version={v}", ""),
    ("GET", "/enrollmentGroups/default-group?api-version={v}", ""),
    ("POST", "/enrollmentGroups/default-group/attestationmechanism?api-version={v}", ""),
    (
        "POST",
        "/enrollmentGroups/query?api-version={v}",
        r#"{"query":"select * from enrollmentGroups"}"#,
    ),
    ("GET", "/registrations/{d}?api-version={v}", ""),
    ("DELETE", "/registrations/{d}?api-version={v}", ""),
    ("POST", "/registrations/default-group/query?api-version={v}", ""),
    ("GET", "/devices?top={n}&api-version={v}", ""),
    ("GET", "/devices/{d}?api-version={v}", ""),
    ("PUT", "/devices/{d}?api-version={v}", r#"{"deviceId":"{d}"}"#),
    ("PUT", "/devices/{d}?api-version={v}", ""),
    ("DELETE", "/devices/{d}?api-version={v}", ""),
    ("POST", "/devices/query?api-version={v}", r#"{"query":"SELECT * FROM devices"}"#),
    ("POST", "/devices/query?api-version={v}", r#"{"query":"{x}"}"#),
    ("POST", "/devices/{d}/messages/devicebound?api-version={v}", "{x}"),
    ("POST", "/messages/devicebound?api-version={v}", "{x}"),
    ("DELETE", "/devices/{d}/commands?api-version={v}", ""),
    (
        "POST",
        "/twins/{d}/methods?api-version={v}",
        r#"{"methodName":"m","payload":{n},"responseTimeoutInSeconds":5}"#,
    ),
    ("POST", "/twins/{d}/methods?api-version={v}", r#"{"methodName":"{x}"}"#),
    ("GET", "/twins/{d}?api-version={v}", ""),
    ("PATCH", "/twins/{d}?api-version={v}", ""),
    ("PUT", "/twins/{d}?api-version={v}", ""),
    ("GET", "/statistics/devices?api-version={v}", ""),
    ("GET", "/statistics/service?api-version={v}", ""),
    ("POST", "/devices/{d}/files?api-version={v}", r#"{"blobName":"{x}"}"#),
    ("PUT", "/$uploads/{d}/{x}?{t}", "{x}"),
    (
        "POST",
        "/devices/{d}/files/notifications?api-version={v}",
        r#"{"correlationId":"{c}","isSuccess":true,"statusCode":200,"statusDescription":"{x}"}"#,
    ),
    ("GET", "/$emulator/faults", ""),
    (
        "POST",
        "/$emulator/faults",
        r#"{"device":"{d}","operation":"register","fault":{x},"count":2}"#,
    ),
    ("POST", "/$emulator/faults", "{x}"),
    ("DELETE", "/$emulator/faults/{n}", ""),
    ("POST", "/$emulator/clock", r#"{"advance":"{n}days"}"#),
    ("POST", "/$emulator/clock", "{x}"),
    ("GET", "/$emulator/events?device={x}&event=telemetry", ""),
    ("GET", "/$emulator/namespace/credential", ""),
    ("POST", "/$emulator/namespace/credential/synchronize", ""),
    ("GET", "/$emulator/namespace/policies", ""),
    ("PUT", "/$emulator/namespace/policies/p{n}", r#"{"externalRoot":true}"#),
    ("DELETE", "/$emulator/namespace/policies/default", ""),
    ("POST", "/$emulator/namespace/policies/default/revokeIssuer", ""),
    (
        "POST",
        "/$emulator/namespace/policies/p{n}/activateBringYourOwnRoot",
        r#"{"certificateChain":"{pem}"}"#,
    ),
    (
        "PATCH",
        "/$emulator/namespace/devices/{d}",
        r#"{"attributes":{"a":{n}},"tags":{"t":{x}},"enabled":true}"#,
    ),
    ("POST", "/$emulator/namespace/devices/{d}/revoke", r#"{"disable":false}"#),
];

const OPERATIONS: [Operation; 10] = [
    Operation::DpsConnect,
    Operation::Register,
    Operation::Status,
    Operation::Assign,
    Operation::HubConnect,
    Operation::Telemetry,
    Operation::TwinGet,
    Operation::TwinReport,
    Operation::Renew,
    Operation::RenewalResult,
];

const CHAIN_FAULTS: [ChainFault; 8] = [
    ChainFault::Missing,
    ChainFault::Empty,
    ChainFault::Reordered,
    ChainFault::Foreign,
    ChainFault::Oversized,
    ChainFault::Pem,
    ChainFault::Expired,
    ChainFault::Revoked,
];

fn fault(which: u8, number: u8, text: &str) -> Fault {
    let interval = Duration::from_micros(u64::from(number) * 1000);
    match which % 16 {
        0 => Fault::Refuse { code: number },
        1 => Fault::Error {
            status: u16::from(number) + 400,
            error_code: None,
            retry_after: (number % 2 == 0).then_some(u64::from(number)),
            message: Some(text.into()),
        },
        2 => Fault::Stuck,
        3 => Fault::Outcome { status: text.into(), error_code: None, message: None },
        4 | 5 => Fault::Chain(CHAIN_FAULTS[usize::from(number) % 8]),
        6 => Fault::DocumentedCodes,
        7 => Fault::VersionSuffix,
        8 => Fault::BareArray,
        9 => Fault::DropBeforeAcknowledgement,
        10 => Fault::DropAfterAcknowledgement,
        11 => Fault::WrongRequestId,
        12 => {
            if number % 2 == 0 {
                Fault::Garbage
            } else {
                Fault::Silence
            }
        }
        13 => Fault::Duplicate,
        14 => Fault::Delay(interval),
        _ => Fault::Trickle(interval),
    }
}

struct Fuzz {
    world: World,
    /// Which byte of the next packet is changed, and how.
    mangle: Option<(u8, u8)>,
}

/// What a step has to choose with.
#[derive(Clone, Copy)]
struct Choice<'a> {
    a: u8,
    b: u8,
    c: u8,
    text: &'a str,
}

impl Choice<'_> {
    const fn device(self) -> usize {
        self.a as usize % DEVICES.len()
    }

    const fn version(self) -> &'static str {
        VERSIONS[self.c as usize / 64]
    }
}

fuzz_target!(|input: &[u8]| {
    let mut fuzz = Fuzz { world: World::default(), mangle: None };
    for (kind, bytes) in steps(input) {
        let byte = |index: usize| bytes.get(index).copied().unwrap_or_default();
        let rest = bytes.get(3..).unwrap_or_default();
        let text = String::from_utf8_lossy(rest);
        let choice = Choice { a: byte(0), b: byte(1), c: byte(2), text: &text };
        fuzz.step(kind, choice, rest);
    }
    // It takes longer than all the rest.
    if input.len() % 4 == 0 {
        fuzz.world.restart();
    }
});

impl Fuzz {
    fn step(&mut self, kind: u8, choice: Choice<'_>, bytes: &[u8]) {
        let Choice { a, b, c, text } = choice;
        match kind % 16 {
            0 => self.connect_dps(choice),
            1 | 2 => self.connect_hub(choice),
            3 => self.subscribe(choice),
            4 | 5 => self.publish(choice),
            6 => {
                let Some((connection, _)) = self.world.connection(a) else { return };
                match b % 6 {
                    0 => self.world.send(connection, bytes),
                    1 => self.world.close(connection),
                    2 => self.send(connection, &Packet::Disconnect),
                    3 => self.send(connection, &Packet::PingReq),
                    4 => self.mangle = Some((b, c)),
                    _ => {
                        if let Some(id) = PacketIdentifier::new(c.into()) {
                            self.send(connection, &Packet::PubAck(id));
                        }
                    }
                }
            }
            7 => {
                let unit = [1, 1000, 60_000, 3_600_000][usize::from(b) % 4];
                self.world.wait(Duration::from_millis(unit * u64::from(a)));
            }
            8..=10 => self.request(choice),
            11 => self.world.restart(),
            12 => {
                let operation = OPERATIONS[usize::from(a) % OPERATIONS.len()];
                let mut rule = FaultRule::new(operation, fault(b, c, text));
                rule.count = (a / 16 % 2 == 0).then_some(u32::from(a / 32));
                rule.after = u32::from(b / 128);
                let _ = self.world.cloud.add_fault(rule);
            }
            13 => self.operate(choice),
            14 => {
                let Some(question) = self.world.webhooks.pop() else { return };
                let body = match b % 3 {
                    0 => r#"{"iotHubHostName":"localhost"}"#.to_owned(),
                    1 => format!(r#"{{"iotHubHostName":"127.0.0.2","payload":{text}}}"#),
                    _ => text.to_owned(),
                };
                let status = if c < 128 { 200 } else { u16::from(c) };
                let result = if c == 255 { Err(body) } else { Ok((status, body.into_bytes())) };
                let now = self.world.now;
                self.world.cloud.handle_webhook(&question.id, result, now);
                self.world.drain();
            }
            _ => match b % 3 {
                0 => self.world.acknowledge = a % 2 == 0,
                1 => self.world.now.wall = None,
                _ => self.world.now.wall = Some(UnixTime::from_secs(START)),
            },
        }
    }

    /// What an operator of the cloud does within its process.
    fn operate(&mut self, choice: Choice<'_>) {
        let Choice { b, c, text, .. } = choice;
        let (World { cloud, now, .. }, device) = (&mut self.world, DEVICES[choice.device()]);
        match b % 7 {
            0 => {
                cloud.revoke_device(device, c % 2 == 0, *now);
            }
            1 => {
                let patch = serde_json::from_str(text).unwrap_or_default();
                let _ = cloud.update_desired(device, patch, *now);
            }
            2 => {
                cloud.invoke_method(device, (text, "1"), text.as_bytes(), *now);
            }
            3 => {
                let _ = cloud.send_command(device, &[("$.mid", text)], text.as_bytes(), *now);
            }
            4 => {
                let _ = cloud.send_command(device, &[(text, text)], text.as_bytes(), *now);
            }
            5 => cloud.synchronize(),
            _ => {
                let seconds = START - 864_000 + i64::from(c) * 86_400;
                cloud.set_time(UnixTime::from_secs(seconds), *now);
            }
        }
        self.world.drain();
    }

    fn send(&mut self, connection: ConnectionId, packet: &Packet<'_>) {
        let mut bytes = encoded(packet);
        if let Some((index, change)) = self.mangle.take() {
            let index = usize::from(index) % bytes.len().max(1);
            bytes.get_mut(index).into_iter().for_each(|byte| *byte ^= change);
        }
        self.world.send(connection, &bytes);
    }

    fn connect_dps(&mut self, choice: Choice<'_>) {
        let device = choice.device();
        let (id, scope) = (DEVICES[device], self.world.cloud.id_scope().to_owned());
        let expiry = self.expiry(choice);
        let token = self.dps_token(device, expiry).filter(|_| choice.b % 4 < 2);
        let chain = if choice.b % 4 == 2 { FACTORY[device].chain.clone() } else { Vec::new() };
        let version = choice.version();
        let username = format!("{scope}/registrations/{id}/api-version={version}");
        self.connect(choice, chain, &username, token.as_ref());
    }

    fn connect_hub(&mut self, choice: Choice<'_>) {
        let device = choice.device();
        let host = self.host(device, choice.b & 4 == 0);
        let expiry = self.expiry(choice);
        let known = &self.world.known[device];
        let (chain, key) = match choice.b % 4 {
            0 | 1 => (known.chain.clone(), None),
            2 => (FACTORY[device].chain.clone(), None),
            _ => (Vec::new(), known.key.as_ref()),
        };
        let token = key.map(|key| SasToken::for_hub(key, &host, DEVICES[device], expiry));
        let version = if choice.c < 192 { VERSIONS[3] } else { "2021-04-12" };
        let username = format!("{host}/{}/?api-version={version}", DEVICES[device]);
        self.connect(choice, chain, &username, token.as_ref());
    }

    /// Where a device is, or where it is not.
    fn host(&self, device: usize, is_there: bool) -> String {
        let is_second = self.world.known[device].hub == "127.0.0.2";
        if is_second == is_there { "127.0.0.2".into() } else { "localhost".into() }
    }

    /// A group's key, or the device's own.
    fn dps_token(&self, device: usize, expiry: UnixTime) -> Option<SasToken> {
        let (id, cloud) = (DEVICES[device], &self.world.cloud);
        let group = if id == "hooked" { HOOKED_GROUP } else { Fixture::DEFAULT_GROUP };
        let of_group = cloud.group_key(group).map(|key| key.derive(id));
        let own = self.world.known[device].key.as_ref().filter(|_| id == "enrolled");
        let key = own.or(of_group.as_ref())?;
        Some(SasToken::for_dps(key, cloud.id_scope(), id, expiry))
    }

    fn expiry(&mut self, choice: Choice<'_>) -> UnixTime {
        let now = self.world.now;
        self.world.cloud.time(now) + Duration::from_secs(u64::from(choice.c) * 60)
    }

    fn connect(
        &mut self,
        choice: Choice<'_>,
        chain: Vec<Vec<u8>>,
        username: &str,
        token: Option<&SasToken>,
    ) {
        let device = choice.device();
        let connection = self.world.open(device, chain);
        let password = token.map(|token| token.as_str().as_bytes());
        let topic = format!("devices/{}/messages/events/", DEVICES[device]);
        let topic = TopicName::new(&topic).ok().filter(|_| choice.b & 8 != 0);
        let will = topic.map(|topic| Will {
            topic,
            message: choice.text.as_bytes(),
            qos: QoS::AtLeastOnce,
            retain: choice.b & 64 != 0,
        });
        let (Ok(client_id), Ok(username)) = (Text::new(DEVICES[device]), Text::new(username))
        else {
            return;
        };
        let connect = Connect {
            client_id,
            clean_session: choice.b & 16 == 0,
            keep_alive: u16::from(choice.b & 32),
            will,
            login: Some(Login { username, password }),
        };
        self.send(connection, &connect.into());
    }

    fn subscribe(&mut self, choice: Choice<'_>) {
        let Some((connection, device)) = self.world.connection(choice.a) else { return };
        let filter = self.filled(FILTERS[usize::from(choice.b) % FILTERS.len()], device, choice);
        let Ok(filter) = TopicFilter::new(&filter) else { return };
        let id = PacketIdentifier::MIN;
        let qos = QoS::from_u8(choice.c % 3).unwrap_or(QoS::AtMostOnce);
        if choice.c & 128 != 0 {
            let filters = [filter];
            let filters = TopicFilters::new(&filters).expect("one");
            self.send(connection, &Unsubscribe { id, filters }.into());
        } else {
            let filters = [(filter, qos)];
            let filters = Subscriptions::new(&filters).expect("one");
            self.send(connection, &Subscribe { id, filters }.into());
        }
    }

    fn publish(&mut self, choice: Choice<'_>) {
        let Some((connection, device)) = self.world.connection(choice.a) else { return };
        let topic = self.filled(TOPICS[usize::from(choice.b) % TOPICS.len()], device, choice);
        let payload = self.filled(BODIES[usize::from(choice.c) % BODIES.len()], device, choice);
        let Ok(topic) = TopicName::new(&topic) else { return };
        let id = PacketIdentifier::new(77).expect("not zero");
        let delivery = match choice.a / 64 {
            0 => Delivery::AtMostOnce,
            3 => Delivery::ExactlyOnce { id, dup: false },
            which => Delivery::AtLeastOnce { id, dup: which == 2 },
        };
        let (payload, retain) = (payload.as_bytes(), choice.a & 32 != 0);
        self.send(connection, &Publish { topic, payload, retain, delivery }.into());
    }

    fn request(&mut self, choice: Choice<'_>) {
        let Choice { b, c, text, .. } = choice;
        let (method, target, body) = REQUESTS[usize::from(b) % REQUESTS.len()];
        let device = choice.device();
        let body = if body.is_empty() { BODIES[usize::from(c) % BODIES.len()] } else { body };
        let target = self.filled(target, device, choice);
        // What is no request target HTTP does not let through.
        let Ok(target) = target.parse::<http::Uri>() else { return };
        let target = target.path_and_query().map(ToString::to_string).unwrap_or_default();
        let body = self.filled(body, device, choice);
        let host = self.host(device, c & 32 == 0) + [":8883", ""][usize::from(c & 1)];
        let expiry = self.expiry(Choice { c: 60, ..choice });
        let known = &self.world.known[device];
        let token = if target.starts_with("/0ne") {
            self.dps_token(device, expiry)
        } else if target.contains("/files") {
            let host = host.trim_end_matches(":8883");
            known.key.as_ref().map(|key| SasToken::for_hub(key, host, DEVICES[device], expiry))
        } else {
            let key = self.world.cloud.service_key();
            Some(SasToken::for_service(key, &host, SERVICE_POLICIES[0], expiry))
        };
        let headers = [("iothub-to", format!("/devices/{}/messages/devicebound", DEVICES[device]))];
        let headers =
            headers.into_iter().chain((c & 64 != 0).then(|| ("iothub-app-x", text.into())));
        let request = HttpRequest {
            method: method.into(),
            target,
            host,
            authorization: token.map(|token| token.as_str().into()),
            if_match: (choice.a & 32 != 0).then(|| self.world.etag.clone()),
            headers: headers.map(|(name, value)| (name.to_owned(), value)).collect(),
            body: body.into_bytes(),
            client_chain: match choice.a / 64 {
                0 => Vec::new(),
                1 => known.chain.clone(),
                _ => FACTORY[device].chain.clone(),
            },
        };
        self.world.request(device, &request);
    }

    /// A template with what there is for its places.
    fn filled(&self, template: &str, device: usize, choice: Choice<'_>) -> String {
        if template == "{x}" {
            return choice.text.into();
        }
        let (world, known) = (&self.world, &self.world.known[device]);
        let number = (choice.c % 8).to_string();
        let pem = FACTORY[device].pem.replace('\n', "\\n");
        [
            ("{d}", DEVICES[device]),
            ("{v}", choice.version()),
            ("{n}", &number),
            ("{o}", &known.operation_id),
            ("{r}", &known.method_rid),
            ("{csr}", &FACTORY[device].request),
            ("{e}", world.etag.trim_matches('"')),
            ("{c}", &world.upload.0),
            ("{t}", world.upload.1.trim_start_matches('?')),
            ("{pem}", &pem),
            ("{x}", choice.text),
        ]
        .into_iter()
        .fold(template.to_owned(), |text, (place, value)| {
            if text.contains(place) { text.replace(place, value) } else { text }
        })
    }
}
