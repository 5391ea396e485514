//! MQTT 3.1.1 connections as sans-IO engines: a client and a server side.
//!
//! An engine is fed bytes and the time and drained of bytes, events and its next deadline. It opens no
//! socket and reads no clock, so the same code serves an async runtime, a blocking thread, a bare
//! loop, and a test that lets a year pass in a millisecond.
//!
//! ```text
//!             bytes ─► handle_bytes ──► events        poll_transmit ─► bytes
//!   transport ended ─► handle_closed                  poll_event ────► events of time and endings
//!              time ─► handle_timeout                 poll_timeout ──► when to call it next
//!   publish, subscribe, … ─► handles
//! ```
//!
//! [`Client::handle_bytes`] takes at most one packet per call and yields what it meant, borrowed from
//! the input: a received message costs no allocation. A command returns a handle, and the event that
//! completes the command carries it.
//!
//! ```
//! use zerotouch_mqtt_codec::{Connect, QoS, TopicName};
//! use zerotouch_mqtt_session::{Client, ClientConfig, ClientEvent};
//! use zerotouch_time::Instant;
//!
//! let now = Instant::ZERO;
//! let mut client = Client::new(ClientConfig::default());
//! client.connect(&Connect { client_id: "c", clean_session: true, keep_alive: 30, will: None, login: None }, now)?;
//! let sent = client.poll_transmit().unwrap().len();       // to the socket
//! client.handle_transmitted(sent);
//!
//! let mut input: &[u8] = &[0x20, 2, 0, 0];                // from the socket: CONNACK
//! while let Some(event) = client.handle_bytes(&mut input, now) {
//!     assert!(matches!(event, ClientEvent::Connected { session_present: false }));
//! }
//! let topic = TopicName::new("t")?;
//! let handle = client.publish(topic, b"hello", QoS::AtLeastOnce, false, now)?;
//! let mut input: &[u8] = &[0x40, 2, 0, 1];                // PUBACK
//! while let Some(event) = client.handle_bytes(&mut input, now) {
//!     assert!(matches!(event, ClientEvent::Published(acknowledged) if Some(acknowledged) == handle));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![no_std]
#![forbid(unsafe_code)]

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
