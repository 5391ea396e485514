//! Device-to-cloud messages.

use alloc::string::String;
use alloc::vec::Vec;

use zerotouch_wire::{PropertyBag, percent_decode, percent_encode_to};

use crate::wire::telemetry_prefix;

/// One telemetry message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// The body, at most [`crate::wire::MAX_TELEMETRY_LENGTH`] bytes.
    pub payload: Vec<u8>,
    /// Names and values in the order they are sent; system properties begin with `$.`.
    properties: Vec<(String, String)>,
}

impl Telemetry {
    /// A message without properties.
    pub fn new(payload: impl Into<Vec<u8>>) -> Self {
        Self { payload: payload.into(), properties: Vec::new() }
    }

    /// Adds an application property. A name that begins with `$.` is a system property's: those that a
    /// device may set have methods of their own here.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }

    /// Names and values in the order they are sent; system properties begin with `$.`.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        self.properties.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The message's own id (`$.mid`).
    #[must_use]
    pub fn message_id(self, id: impl Into<String>) -> Self {
        self.property("$.mid", id)
    }

    /// The id of the message this one answers (`$.cid`).
    #[must_use]
    pub fn correlation_id(self, id: impl Into<String>) -> Self {
        self.property("$.cid", id)
    }

    /// Who or what the message is from, below the device (`$.uid`).
    #[must_use]
    pub fn user_id(self, id: impl Into<String>) -> Self {
        self.property("$.uid", id)
    }

    /// When what it tells was so (`$.ctime`), RFC 3339.
    #[must_use]
    pub fn creation_time(self, time: impl Into<String>) -> Self {
        self.property("$.ctime", time)
    }

    /// The component of the device's model that it is from (`$.sub`).
    #[must_use]
    pub fn component(self, name: impl Into<String>) -> Self {
        self.property("$.sub", name)
    }

    /// The media type of the payload (`$.ct`), as `application/json`: the hub routes by content only
    /// with this and the encoding set.
    #[must_use]
    pub fn content_type(self, media_type: impl Into<String>) -> Self {
        self.property("$.ct", media_type)
    }

    /// The encoding of the payload (`$.ce`), as `utf-8`.
    #[must_use]
    pub fn content_encoding(self, encoding: impl Into<String>) -> Self {
        self.property("$.ce", encoding)
    }

    /// The topic to publish under. Names and values are percent-encoded, the `$` of a system property
    /// too, as the vendor's clients do; the device id is not.
    pub fn topic(&self, device_id: &str) -> String {
        let mut topic = telemetry_prefix(device_id);
        self.write_properties(&mut topic);
        topic
    }

    /// The message as bytes, for whoever keeps it: its properties as in the topic, a line feed, and the
    /// payload.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut properties = String::new();
        self.write_properties(&mut properties);
        let mut bytes = properties.into_bytes();
        bytes.push(b'\n');
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// The message of [`Telemetry::to_bytes`]; `None` if it is none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let bag = core::str::from_utf8(&bytes[..end]).ok()?;
        let mut telemetry = Self::new(&bytes[end + 1..]);
        for (name, value) in PropertyBag::new(bag).iter() {
            let [name, value] = [name, value?].map(percent_decode);
            telemetry.properties.push((name.ok()?, value.ok()?));
        }
        Some(telemetry)
    }

    fn write_properties(&self, topic: &mut String) {
        for (index, (name, value)) in self.properties.iter().enumerate() {
            if index > 0 {
                topic.push('&');
            }
            percent_encode_to(topic, name);
            topic.push('=');
            percent_encode_to(topic, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A property may hold any text; the topic must not gain a level, a wildcard or a second property.
    #[test]
    fn properties_cannot_escape_the_bag() {
        let telemetry = Telemetry::new("x").property("a/b&c", "#=+ü/").message_id("1&$.to=/evil");
        assert_eq!(
            telemetry.topic("d"),
            "devices/d/messages/events/a%2Fb%26c=%23%3D%2B%C3%BC%2F&%24.mid=1%26%24.to%3D%2Fevil"
        );
    }

    // What is kept comes back as it was, whatever was in it.
    #[test]
    fn bytes_and_back() {
        let rich =
            Telemetry::new("\n{}\n").message_id("1").property("a&b=\n?", "").property("ü", "=&%0A");
        for telemetry in [Telemetry::new(""), Telemetry::new("x"), rich] {
            assert_eq!(Telemetry::from_bytes(&telemetry.to_bytes()), Some(telemetry));
        }
        for nonsense in [&b""[..], b"no line", b"a=%zz\n", b"a\n", b"\xff=\n"] {
            assert_eq!(Telemetry::from_bytes(nonsense), None);
        }
    }

    // The names as the vendor's clients write them.
    #[test]
    fn system_properties_have_their_short_names() {
        let telemetry = Telemetry::new("x")
            .message_id("1")
            .correlation_id("2")
            .user_id("3")
            .creation_time("2026-01-31T12:52:20Z")
            .component("thermostat")
            .content_type("application/json")
            .content_encoding("utf-8");
        assert_eq!(
            telemetry.topic("d"),
            "devices/d/messages/events/%24.mid=1&%24.cid=2&%24.uid=3\
             &%24.ctime=2026-01-31T12%3A52%3A20Z&%24.sub=thermostat&%24.ct=application%2Fjson\
             &%24.ce=utf-8"
        );
    }

    // What azure-iot-device 2.14.0 (PyPI) writes for the same message, to the letter; azure-iot-device-mqtt
    // 1.16.4 (npm) differs in leaving `!'()*` as they are.
    #[test]
    fn writes_what_the_vendors_python_client_writes() {
        let telemetry = Telemetry::new("b")
            .message_id("m/1 +&")
            .correlation_id("c=~")
            .user_id("ü")
            .content_type("application/json")
            .content_encoding("utf-8")
            .property("a/b c", "#=+ü/!'()*~")
            .property("z$", "");
        assert_eq!(
            telemetry.topic("d"),
            "devices/d/messages/events/%24.mid=m%2F1%20%2B%26&%24.cid=c%3D~&%24.uid=%C3%BC\
             &%24.ct=application%2Fjson&%24.ce=utf-8\
             &a%2Fb%20c=%23%3D%2B%C3%BC%2F%21%27%28%29%2A~&z%24="
        );
    }

    #[test]
    fn without_properties_the_topic_ends_with_a_slash() {
        assert_eq!(Telemetry::new("").topic("d"), "devices/d/messages/events/");
    }
}
