//! The engines as their users see them: bytes and times in, bytes and events out.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::doc_markdown, reason = "QoS is a word of the standard, not a name in code")]

mod allocations;
mod broker;
mod client;
mod conformance;
mod connection;
mod hostile;
mod invariants;
mod sequences;
mod support;
