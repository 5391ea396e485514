//! Cloud-to-device messages.

use alloc::string::String;
use alloc::vec::Vec;

use zerotouch_wire::{PropertyBag, percent_decode};

/// A message from the cloud to this device.
///
/// The hub keeps such messages while the device is away and delivers each at least once: it is
/// acknowledged with MQTT's own PUBACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudMessage {
    /// The body, at most 64 KiB.
    pub payload: Vec<u8>,
    /// Names and values in the order sent, decoded; `None` is a property without a value.
    pub properties: Vec<(String, Option<String>)>,
}

impl CloudMessage {
    /// Decodes the properties. What is no percent-encoding stands as it was written: a message is not
    /// lost over it.
    pub fn new(properties: PropertyBag<'_>, payload: &[u8]) -> Self {
        let decode = |text: &str| percent_decode(text).unwrap_or_else(|_| text.into());
        let properties =
            properties.iter().map(|(name, value)| (decode(name), value.map(decode))).collect();
        Self { payload: payload.into(), properties }
    }

    /// The value of the first property called `name`, unless it has none.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(key, _)| key == name)?.1.as_deref()
    }

    /// The message's id (`$.mid`).
    pub fn message_id(&self) -> Option<&str> {
        self.property("$.mid")
    }

    /// The id of the message this one answers (`$.cid`).
    pub fn correlation_id(&self) -> Option<&str> {
        self.property("$.cid")
    }

    /// The media type of the payload (`$.ct`).
    pub fn content_type(&self) -> Option<&str> {
        self.property("$.ct")
    }

    /// The encoding of the payload (`$.ce`).
    pub fn content_encoding(&self) -> Option<&str> {
        self.property("$.ce")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // As the service writes it, with the `$` encoded, and as a careless one might.
    #[test]
    fn properties_are_decoded_in_order() {
        let bag = PropertyBag::new(
            "%24.to=%2Fdevices%2Fd&%24.mid=m%201&iothub-ack=full&a%2Fb=&none&bad=%zz&b=1+2",
        );
        let message = CloudMessage::new(bag, b"go");
        assert_eq!(message.property("$.to"), Some("/devices/d"));
        assert_eq!(message.message_id(), Some("m 1"));
        assert_eq!((message.property("a/b"), message.property("none")), (Some(""), None));
        assert_eq!(message.properties[4], ("none".into(), None));
        assert_eq!((message.property("bad"), message.property("b")), (Some("%zz"), Some("1+2")));
    }

    // The same topic read by the vendor's clients. azure-iot-device 2.14.0 (PyPI) reads all of it so but the
    // second `=` (which ends the value there) and `%ff` (a replacement character there);
    // azure-iot-device-mqtt 1.16.4 (npm) reads a property without a value as "undefined" and loses
    // messages with `%zz`.
    #[test]
    fn reads_what_the_vendors_clients_read() {
        let bag = PropertyBag::new(
            "%24.mid=m%201&%24.to=%2Fdevices%2Fd%2Fmessages%2FdeviceBound&iothub-ack=full&a%2Fb=1+2\
             &empty=&null&bad=%zz&eq=1=2&%C3%BC=%ff",
        );
        let message = CloudMessage::new(bag, b"b");
        let read = |name| message.property(name);
        assert_eq!(message.message_id(), Some("m 1"));
        assert_eq!((read("iothub-ack"), read("a/b")), (Some("full"), Some("1+2")));
        assert_eq!((read("empty"), read("null"), read("bad")), (Some(""), None, Some("%zz")));
        assert_eq!((read("eq"), read("ü")), (Some("1=2"), Some("%ff")));
    }
}
