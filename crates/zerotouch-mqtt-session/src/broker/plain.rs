//! A plain broker in memory: routes by subscription and keeps retained messages.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};

use zerotouch_mqtt_codec::{Connect, ConnectRefusal, QoS, SubAckReturnCode, TopicFilter};

use super::retained::Retained;
use super::{Broker, ConnectionId, Deliveries, Publication, SessionId, Verdict};
use crate::trie::{Matches, SubscriptionTrie};

/// Limits of a plain broker.
#[derive(Clone, Debug)]
pub struct PlainBrokerConfig {
    /// The greatest quality of service that is granted to a subscription; default 2.
    pub max_qos: QoS,
    /// How many subscriptions a session may have; what goes beyond is answered with 0x80; default
    /// 1,000.
    pub max_subscriptions: usize,
    /// How many levels the filter of a subscription may have; deeper ones are answered with 0x80;
    /// default 200.
    pub max_levels: usize,
    /// How many messages are retained; whoever wants another one kept is disconnected; default 10,000.
    pub max_retained: usize,
    /// How many bytes of topic and payload the retained messages may have together; likewise; default
    /// 64 MiB.
    pub max_retained_bytes: usize,
    /// Filters that nobody may subscribe to, to the letter: they are answered with 0x80; default none.
    pub refused_filters: BTreeSet<Box<str>>,
}

impl Default for PlainBrokerConfig {
    fn default() -> Self {
        Self {
            max_qos: QoS::ExactlyOnce,
            max_subscriptions: 1_000,
            max_levels: 200,
            max_retained: 10_000,
            max_retained_bytes: 64 * 1024 * 1024,
            refused_filters: BTreeSet::new(),
        }
    }
}

/// A policy that lets everyone in and connects everyone with everyone, as the standard describes.
///
/// Overlapping subscriptions of a client bring it one copy of a message, with the greatest quality of
/// service of those that match (section 3.3.5 leaves the choice).
#[derive(Debug)]
pub struct PlainBroker {
    config: PlainBrokerConfig,
    subscriptions: SubscriptionTrie<SessionId>,
    /// The filters of each session that has any.
    filters: BTreeMap<SessionId, BTreeSet<Box<str>>>,
    retained: Retained,
    matches: Matches<SessionId>,
}

impl PlainBroker {
    /// Without subscriptions and retained messages.
    pub fn new(config: PlainBrokerConfig) -> Self {
        Self {
            subscriptions: SubscriptionTrie::new(config.max_levels),
            filters: BTreeMap::new(),
            retained: Retained::new(config.max_retained, config.max_retained_bytes),
            matches: Matches::default(),
            config,
        }
    }
}

impl Default for PlainBroker {
    fn default() -> Self {
        Self::new(PlainBrokerConfig::default())
    }
}

impl Broker for PlainBroker {
    fn connect(&mut self, _: ConnectionId, _: &Connect<'_>) -> Result<(), ConnectRefusal> {
        Ok(())
    }

    fn subscribe(
        &mut self,
        session: SessionId,
        filter: TopicFilter<'_>,
        qos: QoS,
        deliveries: &mut Deliveries,
    ) -> SubAckReturnCode {
        if self.config.refused_filters.contains(filter.as_str()) {
            return SubAckReturnCode::Failure;
        }
        let granted = qos.min(self.config.max_qos);
        let filters = self.filters.entry(session).or_default();
        if !filters.contains(filter.as_str()) && filters.len() >= self.config.max_subscriptions {
            return SubAckReturnCode::Failure;
        }
        if self.subscriptions.insert(filter, session, granted).is_err() {
            return SubAckReturnCode::Failure;
        }
        filters.insert(filter.as_str().into());
        // Also for a subscription that replaces the same one [MQTT-3.8.4-3].
        for (message, qos) in self.retained.matching(filter) {
            deliveries.deliver(session, message, granted.min(*qos), true);
        }
        SubAckReturnCode::Granted(granted)
    }

    fn unsubscribe(&mut self, session: SessionId, filter: TopicFilter<'_>) {
        self.subscriptions.remove(filter, session);
        if let Some(filters) = self.filters.get_mut(&session) {
            filters.remove(filter.as_str());
        }
    }

    fn publish(
        &mut self,
        _: SessionId,
        publication: &Publication,
        deliveries: &mut Deliveries,
    ) -> Verdict {
        let Publication { message, qos, retain } = publication;
        // Refused before anyone has it: its sender may send it again.
        if *retain && !self.retained.store(message, *qos) {
            return Verdict::Refuse;
        }
        for (session, granted) in self.subscriptions.find(message.topic(), &mut self.matches) {
            deliveries.deliver(*session, message, *qos.min(granted), false);
        }
        Verdict::Accept
    }

    fn session_ended(&mut self, session: SessionId) {
        for filter in self.filters.remove(&session).unwrap_or_default() {
            if let Ok(filter) = TopicFilter::new(&filter) {
                self.subscriptions.remove(filter, session);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use zerotouch_mqtt_codec::TopicName;

    use super::*;

    // Sessions come and go for years: what they subscribed to must go with them.
    #[test]
    fn a_session_takes_its_subscriptions_along() {
        let mut broker = PlainBroker::default();
        let mut deliveries = Deliveries::default();
        let (gone, stays) = (SessionId(1), SessionId(2));
        for session in [gone, stays] {
            for filter in ["a/+", "#"] {
                let filter = TopicFilter::new(filter).unwrap();
                broker.subscribe(session, filter, QoS::AtMostOnce, &mut deliveries);
            }
        }
        broker.session_ended(gone);
        assert!(broker.filters.keys().eq([&stays]));
        let name = TopicName::new("a/b").unwrap();
        assert_eq!(
            broker.subscriptions.find(name, &mut broker.matches),
            [(stays, QoS::AtMostOnce)]
        );
    }
}
