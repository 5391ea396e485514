//! Any packet that can be expressed.

use proptest::collection::vec;
use proptest::prelude::*;
use zerotouch_mqtt_codec::{
    ConnAck, Connect, ConnectRefusal, Delivery, Login, Packet, PacketIdentifier, Publish, QoS,
    SubAck, SubAckReturnCode, SubAckReturnCodes, Subscribe, Subscriptions, Text, TopicFilter,
    TopicFilters, TopicName, Unsubscribe, Will,
};

/// What a packet borrows, for it to be made of.
#[derive(Debug)]
pub(crate) struct Parts {
    kind: u8,
    id: PacketIdentifier,
    number: u16,
    flags: [bool; 5],
    qos: QoS,
    texts: [String; 2],
    name: String,
    bytes: [Vec<u8>; 2],
    filters: Vec<(String, QoS)>,
    codes: Vec<SubAckReturnCode>,
}

/// Everything a packet borrows, and every choice in it.
pub(crate) fn parts() -> impl Strategy<Value = Parts> {
    let text = || "[^\\x00]{0,40}";
    let bytes = || vec(any::<u8>(), 0..300);
    (
        1_u8..=14,
        (1_u16..).prop_map(|number| PacketIdentifier::new(number).unwrap()),
        any::<u16>(),
        any::<[bool; 5]>(),
        qos(),
        [text(), text()],
        topic_name(),
        [bytes(), bytes()],
        vec((topic_filter(), qos()), 1..5),
        vec(return_code(), 1..5),
    )
        .prop_map(|(kind, id, number, flags, qos, texts, name, bytes, filters, codes)| Parts {
            kind,
            id,
            number,
            flags,
            qos,
            texts,
            name,
            bytes,
            filters,
            codes,
        })
}

pub(crate) fn topic_name() -> impl Strategy<Value = String> {
    "[^\\x00+#]{1,40}|\\$?[ab/]{1,6}"
}

pub(crate) fn topic_filter() -> impl Strategy<Value = String> {
    let level = prop_oneof!["[^\\x00+#/]{0,5}", Just("+".to_owned())];
    (vec(level, 1..5), any::<bool>())
        .prop_map(|(mut levels, multi)| {
            if multi {
                levels.push("#".to_owned());
            }
            levels.join("/")
        })
        .prop_filter("not empty", |filter| !filter.is_empty())
}

fn qos() -> impl Strategy<Value = QoS> {
    (0_u8..=2).prop_map(|number| QoS::from_u8(number).unwrap())
}

fn return_code() -> impl Strategy<Value = SubAckReturnCode> {
    prop_oneof![qos().prop_map(SubAckReturnCode::Granted), Just(SubAckReturnCode::Failure)]
}

impl Parts {
    /// Makes the packet and has `then` look at it.
    pub(crate) fn with_packet<R>(&self, then: impl FnOnce(&Packet<'_>) -> R) -> R {
        let filters: Vec<_> =
            self.filters.iter().map(|(f, qos)| (TopicFilter::new(f).unwrap(), *qos)).collect();
        let names: Vec<_> = filters.iter().map(|(filter, _)| *filter).collect();
        let id = self.id;
        then(&match self.kind {
            1 => self.connect().into(),
            2 => self.connack().into(),
            3 => self.publish().into(),
            4 => Packet::PubAck(id),
            5 => Packet::PubRec(id),
            6 => Packet::PubRel(id),
            7 => Packet::PubComp(id),
            8 => Subscribe { id, filters: Subscriptions::new(&filters).unwrap() }.into(),
            9 => SubAck { id, return_codes: SubAckReturnCodes::new(&self.codes).unwrap() }.into(),
            10 => Unsubscribe { id, filters: TopicFilters::new(&names).unwrap() }.into(),
            11 => Packet::UnsubAck(id),
            12 => Packet::PingReq,
            13 => Packet::PingResp,
            _ => Packet::Disconnect,
        })
    }

    fn topic(&self) -> TopicName<'_> {
        TopicName::new(&self.name).unwrap()
    }

    fn connect(&self) -> Connect<'_> {
        let [clean_session, has_will, retain, has_login, has_password] = self.flags;
        let will = Will { topic: self.topic(), message: &self.bytes[0], qos: self.qos, retain };
        let password = has_password.then_some(&self.bytes[1][..]);
        let [client_id, username] = [0, 1].map(|text| Text::new(&self.texts[text]).unwrap());
        Connect {
            client_id,
            clean_session: clean_session || self.texts[0].is_empty(),
            keep_alive: self.number,
            will: has_will.then_some(will),
            login: has_login.then_some(Login { username, password }),
        }
    }

    fn connack(&self) -> ConnAck {
        match ConnectRefusal::from_u8((self.number % 6) as u8) {
            Some(refusal) => ConnAck::Refused(refusal),
            None => ConnAck::Accepted { session_present: self.flags[0] },
        }
    }

    fn publish(&self) -> Publish<'_> {
        let [retain, dup, ..] = self.flags;
        let id = self.id;
        let delivery = match self.qos {
            QoS::AtMostOnce => Delivery::AtMostOnce,
            QoS::AtLeastOnce => Delivery::AtLeastOnce { id, dup },
            QoS::ExactlyOnce => Delivery::ExactlyOnce { id, dup },
        };
        Publish { topic: self.topic(), payload: &self.bytes[0], retain, delivery }
    }
}
