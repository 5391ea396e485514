#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![allow(
    clippy::inline_always,
    reason = "measured, on the way of a message: a call hands its result over through memory"
)]
#![allow(clippy::doc_markdown, reason = "QoS is a word of the standard, not a name in code")]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod decode;
mod encode;
#[cfg(feature = "alloc")]
mod framer;
#[cfg(feature = "bytes")]
pub mod owned;
mod packet;
mod scan;
mod text;
mod topic;
mod types;

pub use self::decode::{
    DecodeError, DecodeErrorKind, Decoded, Decoder, Field, MAX_PACKET_SIZE, decode,
};
pub use self::encode::EncodeError;
#[cfg(feature = "alloc")]
pub use self::framer::Framer;
pub use self::packet::{
    ConnAck, Connect, ConnectRefusal, Delivery, Login, Packet, PacketType, Publish, Sender, SubAck,
    SubAckReturnCode, SubAckReturnCodes, Subscribe, Subscriptions, TopicFilters, Unsubscribe, Will,
};
pub use self::text::{Text, TextError};
pub use self::topic::{MAX_TOPIC_LEN, TopicError, TopicFilter, TopicName};
pub use self::types::{PacketIdentifier, QoS};
