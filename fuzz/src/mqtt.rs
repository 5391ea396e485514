//! MQTT packets out of a fuzzer's bytes.

use arbitrary::Arbitrary;
use zerotouch_mqtt_codec::{
    ConnAck, Connect, ConnectRefusal, Delivery, Login, Packet, PacketIdentifier, Publish, QoS,
    SubAck, SubAckReturnCode, SubAckReturnCodes, Subscribe, Subscriptions, Text, TopicFilter,
    TopicFilters, TopicName, Unsubscribe, Will,
};

/// The ingredients of a packet, valid or not.
#[derive(Arbitrary, Debug)]
pub struct Parts<'a> {
    kind: u8,
    number: u16,
    flags: [bool; 4],
    qos: u8,
    texts: [&'a str; 2],
    topic: &'a str,
    bytes: [&'a [u8]; 2],
    filters: Vec<(&'a str, u8)>,
}

impl Parts<'_> {
    /// Has `then` look at the packet made of these parts, if they make one.
    pub fn with_packet<R>(&self, then: impl FnOnce(&Packet<'_>) -> R) -> Option<R> {
        let id = PacketIdentifier::new(self.number)?;
        let qos = QoS::from_u8(self.qos % 3)?;
        let mut filters = Vec::new();
        for (filter, qos) in &self.filters {
            filters.push((TopicFilter::new(filter).ok()?, QoS::from_u8(qos % 3)?));
        }
        let names: Vec<_> = filters.iter().map(|(filter, _)| *filter).collect();
        let codes: Vec<_> =
            self.bytes[0].iter().filter_map(|code| SubAckReturnCode::from_u8(*code)).collect();
        let packet = match self.kind % 14 {
            0 => self.connect(qos)?.into(),
            1 => match ConnectRefusal::from_u8(self.qos) {
                Some(refusal) => ConnAck::Refused(refusal).into(),
                None => ConnAck::Accepted { session_present: self.flags[0] }.into(),
            },
            2 => self.publish(id, qos)?.into(),
            3 => Packet::PubAck(id),
            4 => Packet::PubRec(id),
            5 => Packet::PubRel(id),
            6 => Packet::PubComp(id),
            7 => Subscribe { id, filters: Subscriptions::new(&filters)? }.into(),
            8 => SubAck { id, return_codes: SubAckReturnCodes::new(&codes)? }.into(),
            9 => Unsubscribe { id, filters: TopicFilters::new(&names)? }.into(),
            10 => Packet::UnsubAck(id),
            11 => Packet::PingReq,
            12 => Packet::PingResp,
            _ => Packet::Disconnect,
        };
        Some(then(&packet))
    }

    fn connect(&self, qos: QoS) -> Option<Connect<'_>> {
        let [clean_session, retain, has_will, has_login] = self.flags;
        let topic = TopicName::new(self.topic).ok();
        let will = |topic| Will { topic, message: self.bytes[0], qos, retain };
        let password = (self.qos & 0x80 != 0).then_some(self.bytes[1]);
        Some(Connect {
            client_id: Text::new(self.texts[0]).ok()?,
            clean_session,
            keep_alive: self.number,
            will: if has_will { Some(will(topic?)) } else { None },
            login: if has_login {
                Some(Login { username: Text::new(self.texts[1]).ok()?, password })
            } else {
                None
            },
        })
    }

    fn publish(&self, id: PacketIdentifier, qos: QoS) -> Option<Publish<'_>> {
        let [retain, dup, ..] = self.flags;
        let delivery = match qos {
            QoS::AtMostOnce => Delivery::AtMostOnce,
            QoS::AtLeastOnce => Delivery::AtLeastOnce { id, dup },
            QoS::ExactlyOnce => Delivery::ExactlyOnce { id, dup },
        };
        let topic = TopicName::new(self.topic).ok()?;
        Some(Publish { topic, payload: self.bytes[0], retain, delivery })
    }
}
