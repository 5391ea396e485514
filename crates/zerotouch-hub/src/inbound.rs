//! What a message from the hub is about.

use zerotouch_wire::{PropertyBag, ReplyTopic};

use crate::wire::{CREDENTIAL_REPLY_PREFIX, DESIRED_PREFIX, METHOD_PREFIX, TWIN_REPLY_PREFIX};

/// A message from the hub, told by its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Inbound<'a> {
    /// A cloud-to-device message. Names and values are still percent-encoded.
    Command {
        /// System and application properties.
        properties: PropertyBag<'a>,
    },
    /// A direct method is called and awaits its answer.
    Method {
        /// Which method.
        name: &'a str,
        /// To be echoed in the answer.
        request_id: &'a str,
    },
    /// The answer to a twin request.
    TwinReply(ReplyTopic<'a>),
    /// Desired properties have changed.
    DesiredProperties {
        /// The version of the desired properties after the change, if the topic says.
        version: Option<u64>,
    },
    /// The answer to a credential request.
    CredentialReply(ReplyTopic<'a>),
}

impl<'a> Inbound<'a> {
    /// Parses a topic; `None` for one that is not part of the device protocol of `device_id`. Such a
    /// message is acknowledged and ignored.
    pub fn parse(device_id: &str, topic: &'a str) -> Option<Self> {
        if let Some(rest) = topic.strip_prefix("devices/") {
            let bag = rest.strip_prefix(device_id)?.strip_prefix("/messages/devicebound")?;
            // The filter takes the topic without a last level, too; the vendor's Python client does.
            let bag = if bag.is_empty() { bag } else { bag.strip_prefix('/')? };
            return Some(Self::Command { properties: PropertyBag::new(bag) });
        }
        if let Some(rest) = topic.strip_prefix(METHOD_PREFIX) {
            let (name, bag) = rest.split_once("/?")?;
            let request_id = PropertyBag::new(bag).get("$rid")?;
            return (!name.is_empty() && !name.contains('/'))
                .then_some(Self::Method { name, request_id });
        }
        if let Some(bag) = topic.strip_prefix(DESIRED_PREFIX) {
            let version = PropertyBag::new(bag).get("$version").and_then(|text| text.parse().ok());
            return Some(Self::DesiredProperties { version });
        }
        if let Some(reply) = ReplyTopic::parse(TWIN_REPLY_PREFIX, topic) {
            return Some(Self::TwinReply(reply));
        }
        ReplyTopic::parse(CREDENTIAL_REPLY_PREFIX, topic).map(Self::CredentialReply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The topics of the IoT Hub MQTT documentation, and near misses of each.
    #[test]
    fn tells_each_topic_by_its_shape() {
        let parse = |topic| Inbound::parse("d", topic);
        assert!(matches!(parse("devices/d/messages/devicebound/%24.to=%2Fdevices%2Fd&a=b"),
            Some(Inbound::Command { properties }) if properties.get("$.to").is_some()));
        for bare in ["devices/d/messages/devicebound", "devices/d/messages/devicebound/"] {
            assert!(matches!(parse(bare),
                Some(Inbound::Command { properties }) if properties.iter().next().is_none()));
        }
        assert_eq!(
            parse("$iothub/methods/POST/go/?$rid=a1"),
            Some(Inbound::Method { name: "go", request_id: "a1" })
        );
        assert!(matches!(parse("$iothub/twin/res/204/?$rid=1&$version=6"),
            Some(Inbound::TwinReply(r)) if r.status == 204 && r.get("$version") == Some("6")));
        assert_eq!(
            parse("$iothub/twin/PATCH/properties/desired/?$version=4"),
            Some(Inbound::DesiredProperties { version: Some(4) })
        );
        assert!(matches!(parse("$iothub/credentials/res/202/?$rid=r&$version=1"),
            Some(Inbound::CredentialReply(r)) if r.request_id() == Some("r")));
        for stranger in [
            "",
            "devices/e/messages/devicebound/",
            "devices/d2/messages/devicebound/",
            "devices/d/messages/devicebounds",
            "devices/d/messages/events/",
            "$iothub/methods/POST/?$rid=1",
            "$iothub/methods/POST//?$rid=1",
            "$iothub/methods/POST/go/?x=1",
            "$iothub/methods/POST/a/b/?$rid=1",
            "$iothub/credential/res/200/?$rid=1",
            "$iothub/twin/res/abc/?$rid=1",
        ] {
            assert_eq!(parse(stranger), None, "{stranger}");
        }
    }
}
