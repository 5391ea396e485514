//! What a device means by the topics and filters it uses: only the documented ones exist.

use zerotouch_hub::wire::{
    CREDENTIALS, DESIRED_PROPERTIES, ISSUE_CERTIFICATE_PREFIX, METHOD_REPLY_PREFIX, METHODS,
    TWIN_GET_PREFIX, TWIN_REPORT_PREFIX, TWIN_RESPONSES, commands_filter, telemetry_prefix,
};
use zerotouch_wire::{PropertyBag, ReplyTopic, percent_decode};

use crate::cloud::fault::Operation;

/// What a device may subscribe to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cloud) enum Feature {
    Commands,
    Methods,
    TwinResponses,
    DesiredProperties,
    Credentials,
}

impl Feature {
    /// Which feature a filter asks for; only the documented filters exist.
    pub(super) fn of(filter: &str, device_id: &str) -> Option<Self> {
        match filter {
            METHODS => Some(Self::Methods),
            TWIN_RESPONSES => Some(Self::TwinResponses),
            DESIRED_PROPERTIES => Some(Self::DesiredProperties),
            CREDENTIALS => Some(Self::Credentials),
            _ => (filter == commands_filter(device_id)).then_some(Self::Commands),
        }
    }
}

/// What a device publishes, told by its topic.
pub(super) enum Request<'a> {
    Telemetry(&'a str),
    TwinGet(PropertyBag<'a>),
    TwinReport(PropertyBag<'a>),
    MethodReply(ReplyTopic<'a>),
    IssueCertificate(PropertyBag<'a>),
}

impl<'a> Request<'a> {
    /// What can go wrong with it on demand.
    pub(super) const fn operation(&self) -> Option<Operation> {
        match self {
            Self::Telemetry(_) => Some(Operation::Telemetry),
            Self::TwinGet(_) => Some(Operation::TwinGet),
            Self::TwinReport(_) => Some(Operation::TwinReport),
            Self::IssueCertificate(_) => Some(Operation::Renew),
            Self::MethodReply(_) => None,
        }
    }

    pub(super) fn of(topic: &'a str, device_id: &str) -> Option<Self> {
        let bag = |prefix| topic.strip_prefix(prefix).map(PropertyBag::new);
        if let Some(events) = topic.strip_prefix(telemetry_prefix(device_id).trim_end_matches('/'))
        {
            return (events.is_empty() || events.starts_with('/'))
                .then(|| Self::Telemetry(events.trim_start_matches('/')));
        }
        bag(TWIN_GET_PREFIX)
            .map(Self::TwinGet)
            .or_else(|| bag(TWIN_REPORT_PREFIX).map(Self::TwinReport))
            .or_else(|| bag(ISSUE_CERTIFICATE_PREFIX).map(Self::IssueCertificate))
            .or_else(|| ReplyTopic::parse(METHOD_REPLY_PREFIX, topic).map(Self::MethodReply))
    }
}

/// Names and values, decoded; what cannot be decoded stays as it was sent, null is empty.
pub(super) fn decode_properties(bag: &str) -> Vec<(String, String)> {
    let decode = |text: &str| percent_decode(text).unwrap_or_else(|_| text.into());
    PropertyBag::new(bag)
        .iter()
        .map(|(name, value)| (decode(name), decode(value.unwrap_or_default())))
        .collect()
}
