//! The work that is measured, in a form that favours no codec.

/// A packet to be expressed in each codec's own types.
#[derive(Clone, Debug)]
pub enum Spec {
    /// A CONNECT with credentials, keep alive 240, clean session.
    Connect { client_id: String, username: String, password: String },
    /// A PUBLISH; `id` counts for QoS 1 and 2.
    Publish { topic: String, payload: Vec<u8>, qos: u8, id: u16 },
    /// A SUBSCRIBE.
    Subscribe { id: u16, filters: Vec<(String, u8)> },
    /// A PUBACK.
    PubAck { id: u16 },
}

/// Packets that are encoded, or decoded, in one go.
pub struct Work {
    /// The name of its row.
    pub name: &'static str,
    /// The packets.
    pub packets: Vec<Spec>,
}

const TOPIC: &str = "devices/device-0001/messages/events/";

fn publish(size: usize) -> Spec {
    Spec::Publish { topic: TOPIC.into(), payload: vec![7; size], qos: 1, id: 10 }
}

/// Every row but the pieces.
pub fn works() -> Vec<Work> {
    let one = |name, packet| Work { name, packets: vec![packet] };
    vec![
        one("connect", connect()),
        one("publish-16", publish(16)),
        one("publish-256", publish(256)),
        one("publish-4k", publish(4 << 10)),
        one("publish-64k", publish(64 << 10)),
        one("subscribe-4", subscribe()),
        Work { name: "puback", packets: (1..=1000).map(|id| Spec::PubAck { id }).collect() },
        mixed(),
    ]
}

fn connect() -> Spec {
    Spec::Connect {
        client_id: "device-0001".into(),
        username: "example-hub.azure-devices.net/device-0001/?api-version=2021".into(),
        password: format!(
            "SharedAccessSignature sr=example-hub.azure-devices.net%2Fdevices%2Fdevice-0001\
             &sig={}&se=1700000000",
            "A".repeat(36)
        ),
    }
}

fn subscribe() -> Spec {
    let filters = [
        "$iothub/twin/res/#",
        "$iothub/twin/PATCH/properties/desired/#",
        "$iothub/methods/POST/#",
        "devices/device-0001/messages/devicebound/#",
    ];
    Spec::Subscribe { id: 10, filters: filters.map(|filter| (filter.into(), 1)).into() }
}

/// 1,000 messages as a hub might see them: half up to 64 bytes, most of the rest up to 512, one in a
/// hundred 16 KiB; 40 % QoS 0, 50 % QoS 1, 10 % QoS 2. The same on every run.
pub fn mixed() -> Work {
    // Numerical Recipes' linear congruential generator: any fixed sequence will do.
    let mut state = 1_u32;
    let mut below = |limit: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % limit
    };
    let mut packet = |id| {
        let size = match below(100) {
            0..50 => below(65),
            50..85 => 64 + below(449),
            85..99 => 512 + below(3585),
            _ => 16 << 10,
        };
        let qos = match below(10) {
            0..4 => 0,
            4..9 => 1,
            _ => 2,
        };
        Spec::Publish { topic: TOPIC.into(), payload: vec![7; size as usize], qos, id }
    };
    Work { name: "mixed-1000", packets: (1..=1000).map(&mut packet).collect() }
}

impl Spec {
    /// The packet on the wire, put together by hand: what every encoder must write.
    pub fn wire(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let first = match self {
            Self::Connect { client_id, username, password } => {
                body.extend(b"\0\x04MQTT\x04\xC2\0\xF0");
                for text in [client_id, username, password] {
                    field(text, &mut body);
                }
                0x10
            }
            Self::Publish { topic, payload, qos, id } => {
                field(topic, &mut body);
                if *qos > 0 {
                    body.extend(id.to_be_bytes());
                }
                body.extend(payload);
                0x30 | qos << 1
            }
            Self::Subscribe { id, filters } => {
                body.extend(id.to_be_bytes());
                for (filter, qos) in filters {
                    field(filter, &mut body);
                    body.push(*qos);
                }
                0x82
            }
            Self::PubAck { id } => {
                body.extend(id.to_be_bytes());
                0x40
            }
        };
        let mut packet = vec![first];
        let mut remaining = body.len();
        while remaining > 0x7F {
            packet.push((remaining & 0x7F) as u8 | 0x80);
            remaining >>= 7;
        }
        packet.push(remaining as u8);
        packet.extend(body);
        packet
    }
}

fn field(text: &str, body: &mut Vec<u8>) {
    body.extend((text.len() as u16).to_be_bytes());
    body.extend(text.as_bytes());
}
