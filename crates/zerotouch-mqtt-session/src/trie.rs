//! Subscriptions of many, by topic filter: which of them a topic name concerns.
//!
//! A tree whose edges are levels of filters, wildcards among them. A name is followed level by level
//! along three edges at most (the level itself, `+`, `#`), with the set of nodes reached so far in a
//! vector: no recursion, whatever the filters and names of strangers look like.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use thiserror::Error;
use zerotouch_mqtt_codec::{QoS, TopicFilter, TopicName};

/// Subscriptions by topic filter.
///
/// ```
/// use zerotouch_mqtt_codec::{QoS, TopicFilter, TopicName};
/// use zerotouch_mqtt_session::{Matches, SubscriptionTrie};
///
/// let mut trie = SubscriptionTrie::new(32);
/// trie.insert(TopicFilter::new("plant/+/status")?, "anna", QoS::AtMostOnce)?;
/// trie.insert(TopicFilter::new("plant/7/#")?, "anna", QoS::AtLeastOnce)?;
/// trie.insert(TopicFilter::new("plant/8/#")?, "ben", QoS::AtLeastOnce)?;
///
/// let mut matches = Matches::default();
/// let found = trie.find(TopicName::new("plant/7/status")?, &mut matches);
/// assert_eq!(found, [("anna", QoS::AtLeastOnce)], "once, with the stronger promise");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct SubscriptionTrie<S> {
    /// The root is the first; a node is named by its place.
    nodes: Vec<Node<S>>,
    /// Places of nodes that are no more.
    free: Vec<usize>,
    max_levels: usize,
}

#[derive(Clone, Debug)]
struct Node<S> {
    children: BTreeMap<Box<str>, usize>,
    subscribers: BTreeMap<S, QoS>,
}

/// Why a filter was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a topic filter of more than {limit} levels")]
pub struct TooManyLevels {
    /// The most levels that are taken.
    pub limit: usize,
}

/// What [`SubscriptionTrie::find`] works with. Kept from one call to the next, it saves allocations.
#[derive(Clone, Debug)]
pub struct Matches<S> {
    reached: Vec<usize>,
    next: Vec<usize>,
    found: Vec<(S, QoS)>,
}

impl<S> Default for Matches<S> {
    fn default() -> Self {
        Self { reached: Vec::new(), next: Vec::new(), found: Vec::new() }
    }
}

const ROOT: usize = 0;

impl<S: Copy + Ord> SubscriptionTrie<S> {
    /// No subscriptions. Filters of more than `max_levels` levels will be refused: a filter costs a
    /// node for each.
    pub fn new(max_levels: usize) -> Self {
        Self { nodes: vec![Node::new()], free: Vec::new(), max_levels }
    }

    /// Subscribes; replaces the quality of service of the same subscription, and yields the one
    /// before.
    pub fn insert(
        &mut self,
        filter: TopicFilter<'_>,
        subscriber: S,
        qos: QoS,
    ) -> Result<Option<QoS>, TooManyLevels> {
        if filter.as_str().split('/').nth(self.max_levels).is_some() {
            return Err(TooManyLevels { limit: self.max_levels });
        }
        let mut node = ROOT;
        for level in filter.as_str().split('/') {
            node = match self.nodes[node].children.get(level) {
                Some(child) => *child,
                None => self.add_child(node, level),
            };
        }
        Ok(self.nodes[node].subscribers.insert(subscriber, qos))
    }

    /// Ends a subscription; `false` if there was none. Filters are compared character by character
    /// `[MQTT-3.10.4-1]`.
    pub fn remove(&mut self, filter: TopicFilter<'_>, subscriber: S) -> bool {
        let mut path = Vec::new();
        let mut node = ROOT;
        for level in filter.as_str().split('/') {
            let Some(child) = self.nodes[node].children.get(level) else { return false };
            path.push((node, level));
            node = *child;
        }
        let existed = self.nodes[node].subscribers.remove(&subscriber).is_some();
        while let Some((parent, level)) = path.pop()
            && self.nodes[node].is_empty()
        {
            self.nodes[parent].children.remove(level);
            self.free.push(node);
            node = parent;
        }
        existed
    }

    /// Whom a message of that name concerns: each subscriber once, with the greatest quality of
    /// service of its matching subscriptions `[MQTT-3.3.5-1]`, in the order of subscribers.
    pub fn find<'m>(&self, name: TopicName<'_>, matches: &'m mut Matches<S>) -> &'m [(S, QoS)] {
        let Matches { reached, next, found } = matches;
        found.clear();
        reached.clear();
        reached.push(ROOT);
        // Wildcards do not match the first level of a name that begins with `$` [MQTT-4.7.2-1].
        let mut wildcards = !name.as_str().starts_with('$');
        for level in name.as_str().split('/') {
            next.clear();
            for node in reached.drain(..) {
                let children = &self.nodes[node].children;
                next.extend(children.get(level));
                if wildcards {
                    next.extend(children.get("+"));
                    self.collect(children.get("#"), found);
                }
            }
            wildcards = true;
            core::mem::swap(reached, next);
        }
        for node in reached.drain(..) {
            self.collect(Some(&node), found);
            // `a/#` concerns `a` itself (section 4.7.1.2).
            self.collect(self.nodes[node].children.get("#"), found);
        }
        // The strongest promise of each subscriber comes first, and is what is left of it.
        found.sort_unstable_by(|(a, a_qos), (b, b_qos)| a.cmp(b).then(b_qos.cmp(a_qos)));
        found.dedup_by_key(|(subscriber, _)| *subscriber);
        found
    }

    fn collect(&self, node: Option<&usize>, found: &mut Vec<(S, QoS)>) {
        if let Some(node) = node {
            found.extend(self.nodes[*node].subscribers.iter().map(|(s, qos)| (*s, *qos)));
        }
    }

    fn add_child(&mut self, parent: usize, level: &str) -> usize {
        let place = if let Some(place) = self.free.pop() {
            place
        } else {
            self.nodes.push(Node::new());
            self.nodes.len() - 1
        };
        self.nodes[parent].children.insert(level.into(), place);
        place
    }
}

impl<S> Node<S> {
    const fn new() -> Self {
        Self { children: BTreeMap::new(), subscribers: BTreeMap::new() }
    }

    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.subscribers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Clients come and go for years: what they subscribed to must not stay behind.
    #[test]
    fn nodes_come_back() {
        let mut trie = SubscriptionTrie::new(8);
        let filters = ["a/b/c", "a/+/c", "a/#", "/", "a"].map(|f| TopicFilter::new(f).unwrap());
        let mut nodes = 0;
        for round in 0..3 {
            for filter in filters {
                assert_eq!(trie.insert(filter, round, QoS::AtMostOnce), Ok(None));
            }
            if round > 0 {
                assert_eq!(trie.nodes.len(), nodes, "places are used again");
            }
            nodes = trie.nodes.len();
            for filter in filters {
                assert!(trie.remove(filter, round));
                assert!(!trie.remove(filter, round));
            }
            assert!(trie.nodes[ROOT].is_empty());
            assert_eq!(trie.free.len(), nodes - 1);
        }
    }
}
