#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![allow(clippy::doc_markdown, reason = "QoS is a word of the standard, not a name in code")]

extern crate alloc;
#[cfg(test)]
extern crate std;

#[cfg(target_has_atomic = "ptr")]
mod broker;
mod client;
mod closing;
mod connection;
mod identifiers;
mod incoming;
mod outbox;
mod outgoing;
#[cfg(target_has_atomic = "ptr")]
mod server;
mod trie;

#[cfg(target_has_atomic = "ptr")]
pub use broker::{
    Broker, ConnectionId, Deliveries, Message, PlainBroker, PlainBrokerConfig, Publication,
    SessionId, Verdict,
};
pub use client::{
    Client, ClientConfig, ClientEvent, ConnectError, SubscribeError, SubscribeHandle,
};
pub use closing::{CloseReason, Violation};
pub use connection::{ServerConfig, ServerConnection, ServerEvent, SessionState};
pub use outgoing::{PublishError, PublishHandle};
#[cfg(target_has_atomic = "ptr")]
pub use server::{BrokerEvent, OpenError, Server, ServerAction, ServerLimits};
pub use trie::{Matches, SubscriptionTrie, TooManyLevels};
