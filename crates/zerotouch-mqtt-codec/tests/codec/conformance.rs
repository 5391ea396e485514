//! The normative statements of MQTT 3.1.1 that a codec can keep or break, one test each, named after
//! the statement. In the order of the standard.

use zerotouch_mqtt_codec::{
    ConnAck, Connect, ConnectRefusal, DecodeErrorKind as Kind, Decoder, Delivery, EncodeError,
    Field, Login, Packet, PacketIdentifier, PacketType, Publish, QoS, Sender, SubAck,
    SubAckReturnCode, SubAckReturnCodes, Subscribe, Subscriptions, Text, TextError, TopicError,
    TopicFilter, TopicFilters, TopicName, Unsubscribe, Will, decode,
};

use crate::{accept, encoded, hex, reject, rejects, text};

/// A packet with its remaining length filled in.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    assert!(body.len() < 128);
    [&[first, u8::try_from(body.len()).unwrap()], body].concat()
}

/// A CONNECT with these connect flags, keep alive 60 and this payload.
fn connect(flags: u8, payload: &str) -> Vec<u8> {
    packet(0x10, &[&hex("0004 4d515454 04")[..], &[flags], &hex("003c"), &hex(payload)].concat())
}

#[track_caller]
fn connect_rejects(flags: u8, payload: &str, kind: Kind) {
    assert_eq!(reject(&connect(flags, payload)).kind(), kind, "flags {flags:#010b}, {payload}");
}

/// Puts a packet around the bytes of one of its fields.
type Around = fn(&[u8]) -> Vec<u8>;

/// Every field of every packet that is text, with the packet around it.
fn texts() -> [(Field, Around); 6] {
    fn field(text: &[u8]) -> Vec<u8> {
        [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text].concat()
    }
    fn in_connect(flags: u8, before: &str, text: &[u8], behind: &str) -> Vec<u8> {
        let head = hex("0004 4d515454 04");
        let body = [&head[..], &[flags, 0, 60], &hex(before), &field(text), &hex(behind)].concat();
        packet(0x10, &body)
    }
    [
        (Field::ClientId, |text| in_connect(0x02, "", text, "")),
        (Field::WillTopic, |text| in_connect(0x06, "0001 64", text, "0001 6d")),
        (Field::UserName, |text| in_connect(0xC2, "0001 64", text, "0001 70")),
        (Field::TopicName, |text| packet(0x30, &[&field(text)[..], b"payload"].concat())),
        (Field::TopicFilter, |text| packet(0x82, &[&[0, 1], &field(text)[..], &[0]].concat())),
        (Field::TopicFilter, |text| packet(0xA2, &[&[0, 1], &field(text)[..]].concat())),
    ]
}

const ILL_FORMED: [&str; 14] = [
    "ff",
    "80",
    "61c3",
    "c328",
    "c080",
    "c1bf",
    "e08080",
    "eda080",
    "edbfbf",
    "eda080edb080",
    "e282",
    "f08080af",
    "f4908080",
    "f5808080",
];

#[test]
fn mqtt_1_5_3_1() {
    for (field, with) in texts() {
        for text in ILL_FORMED {
            let error = reject(&with(&hex(text)));
            assert_eq!(error.kind(), Kind::IllFormedUtf8(field), "{text}");
            assert_eq!(error.rule(), "[MQTT-1.5.3-1]");
        }
        // The first and last code points around what is forbidden.
        for text in ["c280", "dfbf", "e0a080", "ed9fbf", "ee8080", "f0908080", "f48fbfbf"] {
            accept(&with(&hex(text)));
        }
    }
    // The byte at fault, not the field's beginning.
    rejects("30 06 0004 6162 ff 63", Kind::IllFormedUtf8(Field::TopicName), 6);
}

#[test]
fn mqtt_1_5_3_2() {
    for (field, with) in texts() {
        for text in ["00", "6100", "0061", "61616161616161616100", "610061"] {
            assert_eq!(reject(&with(&hex(text))).kind(), Kind::NulCharacter(field), "{text}");
        }
        // Control characters and non-characters may be refused; here they are not.
        for text in ["01", "1f", "7f", "c280", "efb790", "efbfbe", "efbfbf", "f09fbfbf"] {
            accept(&with(&hex(text)));
        }
    }
    for (text, position) in [("\0", 0), ("a\0b", 1), ("sixteen letters,\0", 16)] {
        assert_eq!(Text::new(text), Err(TextError::Nul { position }), "{text:?}");
    }
    rejects("30 05 0003 610062", Kind::NulCharacter(Field::TopicName), 5);
    rejects("10 0f 0004 4d515454 04 02 003c 0003 610062", Kind::NulCharacter(Field::ClientId), 15);
}

#[test]
fn mqtt_1_5_3_3() {
    for (_, with) in texts() {
        for text in ["efbbbf", "efbbbf61", "61efbbbf"] {
            let bytes = with(&hex(text));
            assert_eq!(encoded(&accept(&bytes)), bytes);
        }
    }
    let name = TopicName::new("\u{FEFF}a").unwrap();
    assert!(!TopicFilter::new("a").unwrap().matches(name));
    assert!(TopicFilter::new("+").unwrap().matches(name));
}

/// One packet of every type.
fn one_of_each() -> [(PacketType, Vec<u8>); 14] {
    let topic = TopicName::new("t").unwrap();
    let filter = TopicFilter::new("f").unwrap();
    let id = PacketIdentifier::MIN;
    let login = Some(Login { username: text("u"), password: Some(b"p") });
    let will = Some(Will { topic, message: b"m", qos: QoS::AtLeastOnce, retain: true });
    let connect =
        Connect { client_id: text("c"), clean_session: true, keep_alive: 60, will, login };
    let publish = Publish { topic, payload: b"x", retain: false, delivery: Delivery::AtMostOnce };
    let filters = [(filter, QoS::ExactlyOnce)];
    let subscribe = Subscribe { id, filters: Subscriptions::new(&filters).unwrap() };
    let suback =
        SubAck { id, return_codes: SubAckReturnCodes::new(&[SubAckReturnCode::Failure]).unwrap() };
    let names = [filter];
    let unsubscribe = Unsubscribe { id, filters: TopicFilters::new(&names).unwrap() };
    [
        connect.into(),
        ConnAck::Accepted { session_present: true }.into(),
        publish.into(),
        Packet::PubAck(id),
        Packet::PubRec(id),
        Packet::PubRel(id),
        Packet::PubComp(id),
        subscribe.into(),
        suback.into(),
        unsubscribe.into(),
        Packet::UnsubAck(id),
        Packet::PingReq,
        Packet::PingResp,
        Packet::Disconnect,
    ]
    .map(|packet: Packet<'_>| (packet.packet_type(), encoded(&packet)))
}

/// The first bytes of Table 2.1 and Table 2.2.
const FIRST_BYTES: [u8; 14] =
    [0x10, 0x20, 0x30, 0x40, 0x50, 0x62, 0x70, 0x82, 0x90, 0xA2, 0xB0, 0xC0, 0xD0, 0xE0];

#[test]
fn mqtt_2_2_2_1() {
    for ((_, bytes), first) in one_of_each().iter().zip(FIRST_BYTES) {
        assert_eq!(bytes[0], first);
        accept(bytes);
    }
}

#[test]
fn mqtt_2_2_2_2() {
    let mut refused = 0;
    for (packet_type, mut bytes) in one_of_each() {
        let Some(required) = packet_type.fixed_flags() else { continue };
        for found in (0..16).filter(|found| *found != required) {
            bytes[0] = (packet_type as u8) << 4 | found;
            let error = reject(&bytes);
            assert_eq!(error.kind(), Kind::ReservedFlags { packet_type, found, required });
            assert_eq!((error.offset(), error.packet_type()), (0, Some(packet_type)));
            // And at once, not when the packet is all there.
            assert_eq!(decode(&bytes[..1]), Err(error));
            refused += 1;
        }
    }
    assert_eq!(refused, 13 * 15);
}

#[test]
fn mqtt_2_3_1_1() {
    for (packet_type, bytes, offset) in [
        (PacketType::Publish, "32 05 0001 61 0000", 5),
        (PacketType::Publish, "34 05 0001 61 0000", 5),
        (PacketType::PubAck, "40 02 0000", 2),
        (PacketType::PubRec, "50 02 0000", 2),
        (PacketType::PubRel, "62 02 0000", 2),
        (PacketType::PubComp, "70 02 0000", 2),
        (PacketType::Subscribe, "82 06 0000 0001 61 00", 2),
        (PacketType::SubAck, "90 03 0000 00", 2),
        (PacketType::Unsubscribe, "a2 05 0000 0001 61", 2),
        (PacketType::UnsubAck, "b0 02 0000", 2),
    ] {
        rejects(bytes, Kind::ZeroPacketIdentifier { packet_type }, offset);
    }
    for bytes in
        ["32 03 0001 61", "32 04 0001 61 00", "34 03 0001 61", "82 01 00", "90 00", "a2 00"]
    {
        assert_eq!(reject(&hex(bytes)).kind(), Kind::Truncated(Field::PacketIdentifier), "{bytes}");
    }
    assert_eq!(PacketIdentifier::new(0), None);
}

#[test]
fn mqtt_2_3_1_5() {
    let bytes = hex("30 05 0001 61 0000");
    let Packet::Publish(publish) = accept(&bytes) else { panic!() };
    assert_eq!((publish.payload, publish.packet_identifier()), (&[0, 0][..], None));
    assert_eq!(encoded(&publish.into()), bytes);
}

#[test]
fn mqtt_3_1_2_1() {
    // The name of MQTT 3.1, other cases, cut short, too long, none.
    for name in [
        "0006 4d5149736470",
        "0004 6d717474",
        "0004 4d515458",
        "0003 4d5154",
        "0005 4d51545454",
        "0000",
    ] {
        let bytes = packet(0x10, &[hex(name), hex("04 02 003c 0001 64")].concat());
        let error = reject(&bytes);
        assert_eq!((error.kind(), error.offset()), (Kind::InvalidProtocolName, 2), "{name}");
    }
    rejects("10 05 00c8 4d5154", Kind::Truncated(Field::ProtocolName), 2);
    rejects("10 01 00", Kind::Truncated(Field::ProtocolName), 2);
    rejects("10 00", Kind::Truncated(Field::ProtocolName), 2);
}

#[test]
fn mqtt_3_1_2_2() {
    for level in (0..=255).filter(|level| *level != 4) {
        let body = [&hex("0004 4d515454")[..], &[level], &hex("02 003c 0001 64")].concat();
        let error = reject(&packet(0x10, &body));
        assert_eq!((error.kind(), error.offset()), (Kind::UnsupportedProtocolLevel(level), 8));
    }
    rejects("10 06 0004 4d515454", Kind::Truncated(Field::ProtocolLevel), 8);
}

#[test]
fn mqtt_3_1_2_3() {
    for flags in [0x01, 0x03, 0x07, 0xC3, 0xFF] {
        connect_rejects(flags, "0001 64", Kind::ReservedConnectFlag);
    }
    rejects("10 07 0004 4d515454 04", Kind::Truncated(Field::ConnectFlags), 9);
}

#[test]
fn mqtt_3_1_2_9() {
    connect_rejects(0x06, "0001 64", Kind::Truncated(Field::WillTopic));
    connect_rejects(0x06, "0001 64 00", Kind::Truncated(Field::WillTopic));
    connect_rejects(0x06, "0001 64 0002 77", Kind::Truncated(Field::WillTopic));
    connect_rejects(0x06, "0001 64 0001 77", Kind::Truncated(Field::WillMessage));
    connect_rejects(0x06, "0001 64 0001 77 0002 6d", Kind::Truncated(Field::WillMessage));
    for (flags, qos, retain) in
        [(0x06, 0, false), (0x0E, 1, false), (0x16, 2, false), (0x36, 2, true)]
    {
        let bytes = connect(flags, "0001 64 0001 77 0000");
        let Packet::Connect(Connect { will: Some(will), .. }) = accept(&bytes) else { panic!() };
        assert_eq!((will.qos as u8, will.retain, will.message), (qos, retain, &b""[..]));
    }
}

#[test]
fn mqtt_3_1_2_11() {
    connect_rejects(0x0A, "0001 64", Kind::WillQoSWithoutWill);
    connect_rejects(0x22, "0001 64", Kind::WillRetainWithoutWill);
    connect_rejects(0x02, "0001 64 0001 77 0001 6d", Kind::TrailingBytes { count: 6 });
}

#[test]
fn mqtt_3_1_2_13() {
    for flags in [0x08, 0x0A, 0x10, 0x12, 0x18, 0x1A, 0x2A, 0xCA] {
        connect_rejects(flags, "0001 64", Kind::WillQoSWithoutWill);
    }
}

#[test]
fn mqtt_3_1_2_14() {
    for flags in [0x1C, 0x1E, 0x3E, 0xFE] {
        connect_rejects(flags, "0001 64 0001 77 0001 6d 0001 75 0001 70", Kind::InvalidWillQoS);
    }
}

#[test]
fn mqtt_3_1_2_15() {
    for flags in [0x20, 0x22, 0xE2] {
        connect_rejects(flags, "0001 64 0001 75 0001 70", Kind::WillRetainWithoutWill);
    }
}

#[test]
fn mqtt_3_1_2_18() {
    connect_rejects(0x02, "0001 64 0001 75", Kind::TrailingBytes { count: 3 });
    connect_rejects(0x02, "0001 64 00", Kind::TrailingBytes { count: 1 });
}

#[test]
fn mqtt_3_1_2_19() {
    for payload in ["0001 64", "0001 64 00", "0001 64 0001", "0001 64 0005 75"] {
        connect_rejects(0x82, payload, Kind::Truncated(Field::UserName));
    }
    accept(&connect(0x82, "0001 64 0000"));
}

#[test]
fn mqtt_3_1_2_20() {
    connect_rejects(0x82, "0001 64 0001 75 0001 70", Kind::TrailingBytes { count: 3 });
}

#[test]
fn mqtt_3_1_2_21() {
    for payload in ["0001 64 0001 75", "0001 64 0001 75 00", "0001 64 0001 75 012c 70"] {
        connect_rejects(0xC2, payload, Kind::Truncated(Field::Password));
    }
    let bytes = connect(0xC2, "0001 64 0001 75 0000");
    let Packet::Connect(Connect { login: Some(login), .. }) = accept(&bytes) else { panic!() };
    assert_eq!(login.password, Some(&b""[..]), "empty is not absent");
}

/// On the way out, a password without a user name cannot be expressed: it is inside [`Login`].
#[test]
fn mqtt_3_1_2_22() {
    for flags in [0x40, 0x42, 0x46, 0x66] {
        let payload = "0001 64 0001 77 0001 6d 0001 70";
        connect_rejects(flags, payload, Kind::PasswordWithoutUserName);
    }
}

#[test]
fn mqtt_3_1_3_1() {
    let connect = Connect {
        client_id: text("id"),
        clean_session: true,
        keep_alive: 258,
        will: Some(Will {
            topic: TopicName::new("topic").unwrap(),
            message: b"message",
            qos: QoS::AtLeastOnce,
            retain: false,
        }),
        login: Some(Login { username: text("user"), password: Some(b"password") }),
    };
    let expected = b"\x10\x2E\0\x04MQTT\x04\xCE\x01\x02\
        \0\x02id\0\x05topic\0\x07message\0\x04user\0\x08password";
    assert_eq!(encoded(&connect.into()), expected);
    assert_eq!(accept(expected), connect.into());
}

#[test]
fn mqtt_3_1_3_3() {
    connect_rejects(0x02, "", Kind::Truncated(Field::ClientId));
    connect_rejects(0x02, "00", Kind::Truncated(Field::ClientId));
    connect_rejects(0x02, "0002 64", Kind::Truncated(Field::ClientId));
    rejects("10 08 0004 4d515454 04 02", Kind::Truncated(Field::KeepAlive), 10);
    rejects("10 09 0004 4d515454 04 02 00", Kind::Truncated(Field::KeepAlive), 10);
}

#[test]
fn mqtt_3_1_3_4() {
    connect_rejects(0x02, "0001 ff", Kind::IllFormedUtf8(Field::ClientId));
}

/// A client cannot encode it; a server can decode it.
#[test]
fn mqtt_3_1_3_7() {
    let bytes = hex("10 0c 0004 4d515454 04 02 003c 0000");
    assert_eq!(encoded(&accept(&bytes)), bytes);
    let bytes = hex("10 0c 0004 4d515454 04 00 003c 0000");
    let kept = accept(&bytes);
    assert_eq!(kept.encode_to(&mut Vec::new()), Err(EncodeError::EmptyClientId));
}

#[test]
fn mqtt_3_1_3_10() {
    for (topic, kind) in [
        ("0001 ff", Kind::IllFormedUtf8(Field::WillTopic)),
        ("0001 00", Kind::NulCharacter(Field::WillTopic)),
        ("0000", Kind::EmptyTopic(Field::WillTopic)),
        ("0001 23", Kind::WildcardInTopicName(Field::WillTopic)),
        ("0003 2b2f61", Kind::WildcardInTopicName(Field::WillTopic)),
    ] {
        connect_rejects(0x06, &format!("0001 64 {topic} 0001 6d"), kind);
    }
}

#[test]
fn mqtt_3_1_3_11() {
    connect_rejects(0x82, "0001 64 0001 ff", Kind::IllFormedUtf8(Field::UserName));
    // Password and will message are binary.
    let bytes = connect(0xC6, "0001 64 0001 77 0003 ff00c0 0001 75 0003 ff0080");
    let Packet::Connect(connect) = accept(&bytes) else { panic!() };
    assert_eq!(connect.will.unwrap().message, [0xFF, 0x00, 0xC0]);
    assert_eq!(connect.login.unwrap().password, Some(&[0xFF, 0x00, 0x80][..]));
    assert_eq!(encoded(&connect.into()), bytes);
}

#[test]
fn mqtt_3_1_4_1() {
    // The server's part is to close; the codec's to refuse, at the first byte too many.
    rejects("10 0e 0004 4d515454 04 02 003c 0001 64 00", Kind::TrailingBytes { count: 1 }, 15);
}

/// On the way out, a refusal with a session cannot be expressed: see [`ConnAck`].
#[test]
fn mqtt_3_2_2_4() {
    for code in 1..=5 {
        let error = reject(&[0x20, 2, 1, code]);
        assert_eq!((error.kind(), error.offset()), (Kind::SessionPresentOnRefusal, 2));
        let refused = ConnAck::Refused(ConnectRefusal::from_u8(code).unwrap());
        assert_eq!(accept(&[0x20, 2, 0, code]), refused.into());
        assert_eq!(encoded(&refused.into()), [0x20, 2, 0, code]);
    }
}

#[test]
fn mqtt_3_2_2_6() {
    for code in 6..=255 {
        let error = reject(&[0x20, 2, 0, code]);
        assert_eq!((error.kind(), error.offset()), (Kind::ReservedConnectReturnCode(code), 3));
    }
    for flags in 2..=255 {
        let error = reject(&[0x20, 2, flags, 0]);
        assert_eq!((error.kind(), error.offset()), (Kind::ReservedAcknowledgeFlags(flags), 2));
    }
}

#[test]
fn mqtt_3_3_1_2() {
    rejects("38 03 0001 61", Kind::DupOnQoS0, 0);
    rejects("39 03 0001 61", Kind::DupOnQoS0, 0);
    for first in [0x3A, 0x3B, 0x3C, 0x3D] {
        let bytes = [&[first, 5][..], &hex("0001 61 0007")].concat();
        let Packet::Publish(publish) = accept(&bytes) else { panic!() };
        assert!(publish.dup());
        assert_eq!(encoded(&publish.into()), bytes);
    }
}

#[test]
fn mqtt_3_3_1_4() {
    for first in [0x36, 0x37, 0x3E, 0x3F] {
        for body in ["0001 61", "0001 61 0001", ""] {
            let error = reject(&packet(first, &hex(body)));
            assert_eq!((error.kind(), error.offset()), (Kind::InvalidQoS, 0));
        }
    }
}

#[test]
fn mqtt_3_3_2_1() {
    for (bytes, offset) in
        [("30 00", 2), ("30 01 00", 2), ("30 02 0001", 2), ("30 04 0005 6162", 2)]
    {
        rejects(bytes, Kind::Truncated(Field::TopicName), offset);
    }
    // A topic that would reach into the next packet is as short as one that would reach into nothing.
    let bytes = hex("30 04 0005 6162 4002 0001");
    assert_eq!(decode(&bytes).unwrap_err().kind(), Kind::Truncated(Field::TopicName));
    let bytes = hex("32 04 0001 61 00 0140 0200 01");
    assert_eq!(decode(&bytes).unwrap_err().kind(), Kind::Truncated(Field::PacketIdentifier));
}

#[test]
fn mqtt_3_3_2_2() {
    for (bytes, offset) in [
        ("30 03 0001 2b", 4),
        ("30 03 0001 23", 4),
        ("30 05 0003 612f23", 6),
        ("30 0d 000b 6161616161616161 2b 6161", 12),
    ] {
        rejects(bytes, Kind::WildcardInTopicName(Field::TopicName), offset);
    }
}

/// What follows by type is in `mqtt_2_2_2_2` for every flag; these are the statements of their own.
fn flags_are_0010(first: u8, body: &str, rule: &str) {
    for flags in 0..16 {
        let bytes = packet(first | flags, &hex(body));
        match flags {
            0b0010 => assert_eq!(encoded(&accept(&bytes)), bytes),
            _ => assert_eq!(reject(&bytes).rule(), rule),
        }
    }
}

#[test]
fn mqtt_3_6_1_1() {
    flags_are_0010(0x60, "0001", "[MQTT-3.6.1-1]");
}

#[test]
fn mqtt_3_8_1_1() {
    flags_are_0010(0x80, "0001 0001 61 00", "[MQTT-3.8.1-1]");
}

#[test]
fn mqtt_3_8_3_1() {
    rejects("82 08 0001 0003 eda080 00", Kind::IllFormedUtf8(Field::TopicFilter), 6);
    // In any entry, not the first alone.
    rejects("82 0a 0001 0001 61 00 0001 ff 00", Kind::IllFormedUtf8(Field::TopicFilter), 10);
}

#[test]
fn mqtt_3_8_3_3() {
    let packet_type = PacketType::Subscribe;
    rejects("82 02 0001", Kind::NoTopicFilters { packet_type }, 4);
    assert!(Subscriptions::new(&[]).is_none());
    // Half an entry is none.
    rejects("82 03 0001 00", Kind::Truncated(Field::TopicFilter), 4);
    rejects("82 05 0001 0001 61", Kind::Truncated(Field::RequestedQoS), 7);
    rejects("82 07 0001 0001 61 00 00", Kind::Truncated(Field::TopicFilter), 8);
    rejects("82 06 0001 0009 61 00", Kind::Truncated(Field::TopicFilter), 4);
}

#[test]
fn mqtt_3_8_3_4() {
    for qos in 0..=255 {
        let first = packet(0x82, &[&hex("0001 0001 61")[..], &[qos]].concat());
        let second = packet(0x82, &[&hex("0001 0001 61 00 0001 62")[..], &[qos]].concat());
        if qos <= 2 {
            accept(&first);
            accept(&second);
        } else {
            assert_eq!(reject(&first).kind(), Kind::InvalidRequestedQoS(qos));
            assert_eq!(reject(&second).offset(), 11);
        }
    }
}

#[test]
fn mqtt_3_8_4_5() {
    rejects("90 02 0001", Kind::NoReturnCodes, 4);
    assert!(SubAckReturnCodes::new(&[]).is_none());
}

#[test]
fn mqtt_3_9_3_2() {
    for code in 0..=255 {
        let bytes = [0x90, 4, 0, 1, 0, code];
        if matches!(code, 0 | 1 | 2 | 0x80) {
            assert_eq!(encoded(&accept(&bytes)), bytes);
        } else {
            let error = reject(&bytes);
            assert_eq!((error.kind(), error.offset()), (Kind::ReservedSubAckReturnCode(code), 5));
        }
    }
}

#[test]
fn mqtt_3_10_1_1() {
    flags_are_0010(0xA0, "0001 0001 61", "[MQTT-3.10.1-1]");
}

#[test]
fn mqtt_3_10_3_1() {
    rejects("a2 06 0001 0001 61 00", Kind::Truncated(Field::TopicFilter), 7);
    rejects("a2 05 0001 0009 61", Kind::Truncated(Field::TopicFilter), 4);
    rejects("a2 05 0001 0001 ff", Kind::IllFormedUtf8(Field::TopicFilter), 6);
}

#[test]
fn mqtt_3_10_3_2() {
    rejects("a2 02 0001", Kind::NoTopicFilters { packet_type: PacketType::Unsubscribe }, 4);
    assert!(TopicFilters::new(&[]).is_none());
}

#[test]
fn mqtt_3_14_1_1() {
    for first in 0xE1..=0xEF {
        assert_eq!(reject(&[first, 0]).rule(), "[MQTT-3.14.1-1]");
    }
    // The form of MQTT 5.0, with a reason.
    let impossible = Kind::ImpossibleLength { found: 1, least: 0, most: 0 };
    rejects("e0 01 00", impossible, 1);
}

#[test]
fn mqtt_4_7_1_1() {
    for name in ["+", "#", "a/+", "a/#", "a+b", "a#"] {
        assert!(matches!(TopicName::new(name), Err(TopicError::WildcardInName { .. })), "{name}");
        accept(&connect(0x06, "0001 64 0001 77 0001 6d"));
    }
    rejects("30 03 0001 2b", Kind::WildcardInTopicName(Field::TopicName), 4);
}

#[test]
fn mqtt_4_7_1_2() {
    for filter in ["#", "a/#", "/#", "+/#", "a/b/#"] {
        assert!(TopicFilter::new(filter).is_ok(), "{filter}");
    }
    for filter in ["a#", "#/a", "a/#/b", "##", "/##", "a/b#", "#a", "#/"] {
        let error = TopicFilter::new(filter);
        assert!(matches!(error, Err(TopicError::MultiLevelWildcard { .. })), "{filter}");
    }
    rejects("82 09 0001 0004 612f2323 00", Kind::MisplacedMultiLevelWildcard, 8);
    rejects("a2 06 0001 0002 6123", Kind::MisplacedMultiLevelWildcard, 7);
}

#[test]
fn mqtt_4_7_1_3() {
    for filter in ["+", "+/a", "a/+", "a/+/b", "+/+", "/+", "+/", "//+//"] {
        assert!(TopicFilter::new(filter).is_ok(), "{filter}");
    }
    for filter in ["a+", "+a", "a/b+", "a/+b", "++", "a/+b/c"] {
        let error = TopicFilter::new(filter);
        assert!(matches!(error, Err(TopicError::SingleLevelWildcard { .. })), "{filter}");
    }
    rejects("82 07 0001 0002 612b 00", Kind::MisplacedSingleLevelWildcard, 7);
    rejects("a2 06 0001 0002 2b61", Kind::MisplacedSingleLevelWildcard, 6);
}

#[test]
fn mqtt_4_7_2_1() {
    for (filter, name) in [("#", "$dps/x"), ("+/x", "$iothub/x"), ("+/#", "$SYS"), ("+", "$a")] {
        let filter = TopicFilter::new(filter).unwrap();
        assert!(!filter.matches(TopicName::new(name).unwrap()), "{filter} {name}");
    }
    let filter = TopicFilter::new("$dps/#").unwrap();
    assert!(filter.matches(TopicName::new("$dps/registrations/res/202").unwrap()));
}

#[test]
fn mqtt_4_7_3_1() {
    rejects("30 02 0000", Kind::EmptyTopic(Field::TopicName), 4);
    rejects("82 05 0001 0000 00", Kind::EmptyTopic(Field::TopicFilter), 6);
    rejects("82 09 0001 0001 61 00 0000 00", Kind::EmptyTopic(Field::TopicFilter), 10);
    rejects("a2 04 0001 0000", Kind::EmptyTopic(Field::TopicFilter), 6);
    connect_rejects(0x06, "0001 64 0000 0001 6d", Kind::EmptyTopic(Field::WillTopic));
    assert_eq!(TopicName::new(""), Err(TopicError::Empty));
    assert_eq!(TopicFilter::new(""), Err(TopicError::Empty));
}

#[test]
fn mqtt_4_7_3_2() {
    assert_eq!(TopicName::new("a\0b"), Err(TopicError::Nul { position: 1 }));
    assert_eq!(TopicFilter::new("a\0/+"), Err(TopicError::Nul { position: 1 }));
    assert_eq!(TopicFilter::new("+/a\0"), Err(TopicError::Nul { position: 3 }));
}

#[test]
fn mqtt_4_7_3_3() {
    let longest = "x".repeat(65_535);
    let topic = TopicName::new(&longest).unwrap();
    let publish = Publish { topic, payload: b"p", retain: false, delivery: Delivery::AtMostOnce };
    assert_eq!(accept(&encoded(&publish.into())), publish.into());
    let longer = "x".repeat(65_536);
    assert_eq!(TopicName::new(&longer), Err(TopicError::TooLong { length: 65_536 }));
    assert_eq!(TopicFilter::new(&longer), Err(TopicError::TooLong { length: 65_536 }));
}

#[test]
fn mqtt_4_7_3_4() {
    for (filter, name) in
        [("\u{E9}", "e\u{301}"), ("A", "a"), ("a/", "a"), ("a", "/a"), ("a", "a ")]
    {
        let filter = TopicFilter::new(filter).unwrap();
        assert!(!filter.matches(TopicName::new(name).unwrap()), "{filter} {name}");
    }
}

/// Table 2.1 has no numbered statement: types 0 and 15, and the direction of each type.
#[test]
fn table_2_1() {
    for first in (0x00..=0x0F).chain(0xF0..=0xFF) {
        let error = reject(&[first]);
        assert_eq!(error.kind(), Kind::ReservedPacketType(first >> 4));
        assert_eq!((error.offset(), error.packet_type()), (0, None));
    }
    let clients = [1, 3, 4, 5, 6, 7, 8, 10, 12, 14];
    let servers = [2, 3, 4, 5, 6, 7, 9, 11, 13];
    for (packet_type, bytes) in one_of_each() {
        for (sender, theirs) in [(Sender::Client, &clients[..]), (Sender::Server, &servers[..])] {
            let judged = Decoder::from_sender(sender).decode(&bytes);
            if theirs.contains(&(packet_type as u8)) {
                assert!(judged.is_ok(), "{packet_type}");
            } else {
                let kind = Kind::WrongDirection(sender);
                assert_eq!(judged.unwrap_err().kind(), kind, "{packet_type}");
                let first = Decoder::from_sender(sender).decode(&bytes[..1]);
                assert_eq!(first.unwrap_err().kind(), kind, "{packet_type}: at once");
            }
        }
    }
}

/// Section 2.2.3: four bytes at most, and no type longer than it can be, however much is claimed.
#[test]
fn section_2_2_3() {
    for bytes in ["30 80808080", "30 ffffffff7f", "30 8080808000", "d0 ffffffff", "10 80808080 01"]
    {
        rejects(bytes, Kind::RemainingLengthTooLong, 4);
    }
    for (first, length) in [
        (0x20, 2),
        (0x40, 2),
        (0x50, 2),
        (0x62, 2),
        (0x70, 2),
        (0xB0, 2),
        (0xC0, 0),
        (0xD0, 0),
        (0xE0, 0),
    ] {
        for found in (0..=127).filter(|found| *found != length) {
            let kind = Kind::ImpossibleLength {
                found: found.into(),
                least: length.into(),
                most: length.into(),
            };
            let error = reject(&[first, found]);
            assert_eq!((error.kind(), error.offset()), (kind, 1));
        }
        let error = reject(&[first, 0xFF, 0xFF, 0xFF, 0x7F]);
        assert!(matches!(error.kind(), Kind::ImpossibleLength { found: 268_435_455, .. }));
    }
    // 10 bytes and five fields of 65,537 at most.
    let kind = Kind::ImpossibleLength { found: 327_696, least: 0, most: 327_695 };
    rejects("10 90 80 14", kind, 1);
    assert!(decode(&hex("10 8f 80 14")).is_ok());
    // More bytes than needed are not forbidden in this version.
    assert_eq!(accept(&hex("d0 80 00")), Packet::PingResp);
    assert_eq!(
        accept(&hex("40 82 80 80 00 0007")),
        Packet::PubAck(PacketIdentifier::new(7).unwrap())
    );
}
