//! Retained messages: the last one of each topic, for those who subscribe later.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::ops::Bound;

use zerotouch_mqtt_codec::{QoS, TopicFilter, TopicName};

use super::Message;

#[derive(Debug)]
pub(super) struct Retained {
    by_topic: BTreeMap<Box<str>, (Message, QoS)>,
    bytes: usize,
    max_messages: usize,
    max_bytes: usize,
}

impl Retained {
    pub(super) fn new(max_messages: usize, max_bytes: usize) -> Self {
        Self { by_topic: BTreeMap::new(), bytes: 0, max_messages, max_bytes }
    }

    /// Keeps a message instead of its topic's last [MQTT-3.3.1-5]; an empty one only removes that
    /// [MQTT-3.3.1-10], [MQTT-3.3.1-11]. `false`, and no change, if there is no room.
    pub(super) fn store(&mut self, message: &Message, qos: QoS) -> bool {
        let topic = message.topic().as_str();
        let before = self.by_topic.get(topic).map(|(message, _)| message.size());
        let bytes = self.bytes - before.unwrap_or(0);
        if message.payload().is_empty() {
            self.by_topic.remove(topic);
            self.bytes = bytes;
            return true;
        }
        let is_new = before.is_none();
        let bytes = bytes.saturating_add(message.size());
        if bytes > self.max_bytes || is_new && self.by_topic.len() >= self.max_messages {
            return false;
        }
        self.by_topic.insert(topic.into(), (message.clone(), qos));
        self.bytes = bytes;
        true
    }

    /// The retained messages a filter matches, in the order of their topics.
    pub(super) fn matching<'a>(
        &'a self,
        filter: TopicFilter<'a>,
    ) -> impl Iterator<Item = &'a (Message, QoS)> {
        let text = filter.as_str();
        let literal = text.find(['+', '#']).map_or(text, |wildcard| &text[..wildcard]);
        // `a/#` matches `a` too, so what all matches begin with ends before the slash.
        let prefix = if literal.len() < text.len() {
            literal.strip_suffix('/').unwrap_or(literal)
        } else {
            literal
        };
        self.by_topic
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(move |(topic, _)| topic.starts_with(prefix))
            .filter(move |(topic, _)| TopicName::new(topic).is_ok_and(|name| filter.matches(name)))
            .map(|(_, retained)| retained)
    }
}
