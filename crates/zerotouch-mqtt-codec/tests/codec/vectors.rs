//! The golden vectors: bytes from elsewhere, and what they mean.

use serde_json::{Map, Value, json};
use zerotouch_mqtt_codec::{
    ConnAck, Connect, Decoded, Delivery, Framer, Packet, Publish, SubAckReturnCode, TopicFilter,
    decode,
};

use crate::{decoder, encoded, hex};

/// The rows of a CSV file (RFC 4180, no line breaks in fields), without the heading.
pub(crate) fn rows(csv: &str) -> impl Iterator<Item = Vec<String>> {
    csv.lines().skip(1).map(|line| {
        let mut fields = vec![String::new()];
        let (mut quoted, mut characters) = (false, line.chars().peekable());
        while let Some(character) = characters.next() {
            match character {
                '"' if quoted && characters.next_if_eq(&'"').is_some() => {
                    fields.last_mut().unwrap().push('"');
                }
                '"' => quoted = !quoted,
                ',' if !quoted => fields.push(String::new()),
                other => fields.last_mut().unwrap().push(other),
            }
        }
        fields
    })
}

/// Name, bytes and meaning of each valid vector.
pub(crate) fn valid() -> impl Iterator<Item = (String, Vec<u8>, Value)> {
    rows(include_str!("../vectors/valid.csv")).map(|row| {
        let [name, bytes, meaning] = <[String; 3]>::try_from(row).unwrap();
        (name, hex(&bytes), serde_json::from_str(&meaning).unwrap())
    })
}

/// Name, bytes, direction, expectation and reason of each malformed vector.
pub(crate) fn malformed() -> impl Iterator<Item = (String, Vec<u8>, String, String, String)> {
    rows(include_str!("../vectors/malformed.csv")).map(|row| {
        let [name, bytes, direction, expect, reason] = <[String; 5]>::try_from(row).unwrap();
        (name, hex(&bytes), direction, expect, reason)
    })
}

/// A packet's meaning, as the vectors write it.
pub(crate) fn meaning(packet: &Packet<'_>) -> Value {
    let mut json = match packet {
        Packet::Connect(connect) => connect_meaning(connect),
        Packet::ConnAck(ConnAck::Accepted { session_present }) => {
            json!({ "session_present": session_present, "return_code": 0 })
        }
        Packet::ConnAck(ConnAck::Refused(refusal)) => {
            json!({ "session_present": false, "return_code": *refusal as u8 })
        }
        Packet::Publish(publish) => publish_meaning(publish),
        Packet::PubAck(id)
        | Packet::PubRec(id)
        | Packet::PubRel(id)
        | Packet::PubComp(id)
        | Packet::UnsubAck(id) => json!({ "packet_id": id.get() }),
        Packet::Subscribe(subscribe) => {
            let filters: Vec<_> =
                subscribe.filters.iter().map(|(f, qos)| json!([f.as_str(), qos as u8])).collect();
            json!({ "packet_id": subscribe.id.get(), "filters": filters })
        }
        Packet::SubAck(suback) => {
            let number = |code| match code {
                SubAckReturnCode::Granted(qos) => qos as u8,
                SubAckReturnCode::Failure => 128,
            };
            let codes: Vec<_> = suback.return_codes.iter().map(number).collect();
            json!({ "packet_id": suback.id.get(), "return_codes": codes })
        }
        Packet::Unsubscribe(unsubscribe) => {
            let filters: Vec<_> = unsubscribe.filters.iter().map(TopicFilter::as_str).collect();
            json!({ "packet_id": unsubscribe.id.get(), "filters": filters })
        }
        Packet::PingReq | Packet::PingResp | Packet::Disconnect => Value::Object(Map::new()),
    };
    json["type"] = packet.packet_type().name().into();
    json
}

fn connect_meaning(connect: &Connect<'_>) -> Value {
    let mut json = json!({
        "keep_alive": connect.keep_alive,
        "clean_session": connect.clean_session,
        "client_id": connect.client_id.as_str(),
    });
    if let Some(will) = connect.will {
        json["will"] = json!({
            "topic": will.topic.as_str(),
            "message_hex": to_hex(will.message),
            "qos": will.qos as u8,
            "retain": will.retain,
        });
    }
    if let Some(login) = connect.login {
        json["username"] = login.username.as_str().into();
        if let Some(password) = login.password {
            json["password_hex"] = to_hex(password).into();
        }
    }
    json
}

fn publish_meaning(publish: &Publish<'_>) -> Value {
    let (qos, id, dup) = match publish.delivery {
        Delivery::AtMostOnce => (0, None, false),
        Delivery::AtLeastOnce { id, dup } => (1, Some(id), dup),
        Delivery::ExactlyOnce { id, dup } => (2, Some(id), dup),
    };
    let mut json = json!({
        "dup": dup,
        "qos": qos,
        "retain": publish.retain,
        "topic": publish.topic.as_str(),
        "payload_hex": to_hex(publish.payload),
    });
    if let Some(id) = id {
        json["packet_id"] = id.get().into();
    }
    json
}

fn to_hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(half.into(), 16).unwrap();
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xF]).map(digit).collect()
}

/// Each valid vector means what it says, field by field, and is encoded to the same bytes again.
#[test]
fn valid_vectors_decode_to_their_meaning_and_encode_to_their_bytes() {
    let mut count = 0;
    for (name, bytes, mut expected) in valid() {
        let direction = expected.as_object_mut().unwrap().remove("direction").unwrap();
        let decoder = decoder(direction.as_str().unwrap());
        let expected = match expected.get_mut("packets") {
            Some(packets) => packets.as_array().unwrap().clone(),
            None => vec![expected],
        };
        let (mut found, mut again, mut rest) = (Vec::new(), Vec::new(), &bytes[..]);
        while !rest.is_empty() {
            let Ok(Decoded::Complete { packet, used }) = decoder.decode(rest) else {
                panic!("{name}: {:?}", decoder.decode(rest));
            };
            found.push(meaning(&packet));
            again.extend(encoded(&packet));
            rest = &rest[used..];
        }
        assert_eq!(found, expected, "{name}");
        assert!(again == bytes, "{name}: encoded differently");
        count += 1;
    }
    assert_eq!(count, 32, "the file was read whole");
}

/// Each malformed vector is refused, waited on or accepted as it should be; and where its reason names
/// normative statements, the error names one of them.
#[test]
fn malformed_vectors_are_judged_as_expected() {
    let mut count = 0;
    for (name, bytes, direction, expect, reason) in malformed() {
        match (decoder(&direction).decode(&bytes), expect.as_str()) {
            (Ok(Decoded::Complete { packet, used }), "accept") => {
                assert_eq!(used, bytes.len(), "{name}");
                assert!(encoded(&packet) == bytes, "{name}: encoded differently");
            }
            (Ok(Decoded::Incomplete { needed }), "incomplete") => assert!(needed > 0, "{name}"),
            (Err(error), "reject") => {
                let statements = statements(&reason);
                // What any text must be, where the vector names the statement on that one field.
                let general = error.rule() == "[MQTT-1.5.3-1]" && reason.contains(".3-");
                assert!(
                    statements.is_empty()
                        || statements.iter().any(|it| error.rule() == format!("[{it}]"))
                        || general,
                    "{name}: {error}, expected {reason}"
                );
            }
            (judged, expect) => panic!("{name}: {judged:?}, expected {expect}: {reason}"),
        }
        count += 1;
    }
    assert_eq!(count, 111, "the file was read whole");
}

/// The statements at the start of a reason: `MQTT-3.1.2-11/-15` are two. (The standard itself prints
/// one of them as `MQTT-3-8.3-4`.)
fn statements(reason: &str) -> Vec<String> {
    let first = reason.split([' ', ':']).next().unwrap().replace("MQTT-3-8", "MQTT-3.8");
    let mut numbers = first.split('/');
    let Some(first) = numbers.next().filter(|first| first.starts_with("MQTT-")) else {
        return Vec::new();
    };
    let section = first.rsplit_once('-').unwrap().0;
    let more = numbers.map(|number| format!("{section}{number}"));
    [first.to_owned()].into_iter().chain(more).collect()
}

/// A packet cut anywhere is incomplete, never an error, and says how much is missing.
#[test]
fn every_cut_of_a_valid_vector_is_incomplete() {
    for (name, bytes, _) in valid().filter(|(name, ..)| name != "two_packets_back_to_back") {
        for cut in 0..bytes.len() {
            let Ok(Decoded::Incomplete { needed }) = decode(&bytes[..cut]) else {
                panic!("{name} cut at {cut}: {:?}", decode(&bytes[..cut]));
            };
            let missing = bytes.len() - cut;
            assert!((1..=missing).contains(&needed), "{name} cut at {cut}");
            let header_is_there =
                cut > 0 && bytes[1..cut].iter().take(4).any(|byte| byte & 0x80 == 0);
            assert!(needed == missing || !header_is_there, "{name} cut at {cut}");
        }
    }
}

/// Every vector in every two pieces, and byte by byte, gives what it gives whole.
#[test]
fn every_split_of_every_vector_through_the_framer_is_the_same_as_whole() {
    let valid = valid().map(|(name, bytes, json)| (name, bytes, json["direction"].to_string()));
    let malformed = malformed().map(|(name, bytes, direction, ..)| (name, bytes, direction));
    for (name, bytes, direction) in valid.chain(malformed) {
        let decoder = decoder(direction.trim_matches('"'));
        let run = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let (mut framer, mut packets) = (Framer::new(decoder), Vec::new());
            for mut piece in pieces {
                loop {
                    match framer.next_packet(&mut piece) {
                        Ok(Some(packet)) => packets.push(encoded(&packet)),
                        Ok(None) => break assert!(piece.is_empty(), "{name}: bytes left behind"),
                        Err(error) => return (packets, Err(error)),
                    }
                }
            }
            (packets, Ok(framer.is_mid_packet()))
        };
        let whole = run(&mut [&bytes[..]].into_iter());
        assert_eq!(run(&mut bytes.chunks(1)), whole, "{name} byte by byte");
        // For the one vector of 16 KiB, the splits around its fields and its end are enough.
        let splits = (0..bytes.len()).filter(|at| *at < 300 || bytes.len() - at < 10);
        for split in splits {
            let (first, second) = bytes.split_at(split);
            assert_eq!(run(&mut [first, second].into_iter()), whole, "{name} split at {split}");
        }
    }
}

/// What is accepted is encoded to the same bytes again: with any byte of any vector replaced by any
/// value, nothing is overlooked, reinterpreted or added.
#[test]
fn whatever_is_accepted_encodes_to_the_same_bytes() {
    let malformed = malformed().map(|(name, bytes, ..)| (name, bytes));
    let vectors = valid().map(|(name, bytes, _)| (name, bytes)).chain(malformed);
    let mut accepted = 0;
    for (name, bytes) in vectors.filter(|(_, bytes)| bytes.len() < 400) {
        for position in 0..bytes.len() {
            let mut bytes = bytes.clone();
            for value in 0..=255 {
                bytes[position] = value;
                let Ok(Decoded::Complete { packet, used }) = decode(&bytes) else { continue };
                let mut again = Vec::new();
                match packet.encode_to(&mut again) {
                    Ok(_) if again == bytes[..used] => accepted += 1,
                    // A longer remaining length than needed is accepted, never written.
                    Ok(_) if again.len() < used && bytes[1] & 0x80 != 0 => {}
                    // For a server to answer, not for a client to send [MQTT-3.1.3-7].
                    Err(zerotouch_mqtt_codec::EncodeError::EmptyClientId) => {}
                    other => {
                        panic!("{name}: {:02x?} became {again:02x?} ({other:?})", &bytes[..used])
                    }
                }
            }
        }
    }
    assert!(accepted > 10_000, "only {accepted}");
}
