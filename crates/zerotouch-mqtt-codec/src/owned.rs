//! Packets that own their bytes, for those who keep them: queues, retained messages, other tasks.
//!
//! They share the `Bytes` that the packet was decoded from, so keeping one copies nothing (and keeps
//! that buffer alive). Each goes back to its borrowed form for reading and encoding.
//!
//! ```
//! use bytes::Bytes;
//! use zerotouch_mqtt_codec::owned::OwnedPacket;
//! use zerotouch_mqtt_codec::{Decoded, Packet, decode};
//!
//! let input = Bytes::from_static(b"\x30\x0A\x00\x03a/bhello");
//! let Decoded::Complete { packet, .. } = decode(&input)? else { panic!("incomplete") };
//!
//! let OwnedPacket::Publish(kept) = OwnedPacket::new(&packet, &input) else { panic!() };
//! assert_eq!(kept.payload.as_ptr(), input[7..].as_ptr(), "the same bytes, not a copy");
//! assert_eq!(Packet::Publish(kept.as_publish()), packet);
//! # Ok::<(), zerotouch_mqtt_codec::DecodeError>(())
//! ```

mod connect;
mod subscribe;
mod text;

use core::fmt;

use bytes::Bytes;

pub use self::connect::{OwnedConnect, OwnedLogin, OwnedWill};
pub use self::subscribe::{OwnedSubAck, OwnedSubscribe, OwnedUnsubscribe};
pub use self::text::{OwnedText, OwnedTopicName};
use crate::packet::{ConnAck, Delivery, Packet, Publish};
use crate::types::PacketIdentifier;

/// A control packet that owns its bytes: see [`Packet`] for the variants.
#[derive(Clone)]
#[expect(missing_docs, reason = "documented on `Packet`")]
pub enum OwnedPacket {
    Connect(OwnedConnect),
    ConnAck(ConnAck),
    Publish(OwnedPublish),
    PubAck(PacketIdentifier),
    PubRec(PacketIdentifier),
    PubRel(PacketIdentifier),
    PubComp(PacketIdentifier),
    Subscribe(OwnedSubscribe),
    SubAck(OwnedSubAck),
    Unsubscribe(OwnedUnsubscribe),
    UnsubAck(PacketIdentifier),
    PingReq,
    PingResp,
    Disconnect,
}

impl OwnedPacket {
    /// Keeps a packet: what lies in `source` is shared with it, the rest is copied.
    pub fn new(packet: &Packet<'_>, source: &Bytes) -> Self {
        match packet {
            Packet::Connect(connect) => Self::Connect(OwnedConnect::new(connect, source)),
            Packet::ConnAck(connack) => Self::ConnAck(*connack),
            Packet::Publish(publish) => Self::Publish(OwnedPublish::new(publish, source)),
            Packet::PubAck(id) => Self::PubAck(*id),
            Packet::PubRec(id) => Self::PubRec(*id),
            Packet::PubRel(id) => Self::PubRel(*id),
            Packet::PubComp(id) => Self::PubComp(*id),
            Packet::Subscribe(subscribe) => Self::Subscribe(OwnedSubscribe::new(subscribe, source)),
            Packet::SubAck(suback) => Self::SubAck(OwnedSubAck::new(suback, source)),
            Packet::Unsubscribe(unsubscribe) => {
                Self::Unsubscribe(OwnedUnsubscribe::new(unsubscribe, source))
            }
            Packet::UnsubAck(id) => Self::UnsubAck(*id),
            Packet::PingReq => Self::PingReq,
            Packet::PingResp => Self::PingResp,
            Packet::Disconnect => Self::Disconnect,
        }
    }

    /// The packet, borrowed.
    pub fn as_packet(&self) -> Packet<'_> {
        match self {
            Self::Connect(connect) => Packet::Connect(connect.as_connect()),
            Self::ConnAck(connack) => Packet::ConnAck(*connack),
            Self::Publish(publish) => Packet::Publish(publish.as_publish()),
            Self::PubAck(id) => Packet::PubAck(*id),
            Self::PubRec(id) => Packet::PubRec(*id),
            Self::PubRel(id) => Packet::PubRel(*id),
            Self::PubComp(id) => Packet::PubComp(*id),
            Self::Subscribe(subscribe) => Packet::Subscribe(subscribe.as_subscribe()),
            Self::SubAck(suback) => Packet::SubAck(suback.as_suback()),
            Self::Unsubscribe(unsubscribe) => Packet::Unsubscribe(unsubscribe.as_unsubscribe()),
            Self::UnsubAck(id) => Packet::UnsubAck(*id),
            Self::PingReq => Packet::PingReq,
            Self::PingResp => Packet::PingResp,
            Self::Disconnect => Packet::Disconnect,
        }
    }
}

/// A [`Publish`] that owns its bytes.
#[derive(Clone)]
pub struct OwnedPublish {
    /// What it is published to.
    pub topic: OwnedTopicName,
    /// Its content.
    pub payload: Bytes,
    /// As in [`Publish::retain`].
    pub retain: bool,
    /// How it is delivered.
    pub delivery: Delivery,
}

impl OwnedPublish {
    /// Keeps a message: what lies in `source` is shared with it, the rest is copied.
    pub fn new(publish: &Publish<'_>, source: &Bytes) -> Self {
        Self {
            topic: OwnedTopicName::new(publish.topic, source),
            payload: share(publish.payload, source),
            retain: publish.retain,
            delivery: publish.delivery,
        }
    }

    /// The message, borrowed.
    pub fn as_publish(&self) -> Publish<'_> {
        Publish {
            topic: self.topic.as_topic_name(),
            payload: &self.payload,
            retain: self.retain,
            delivery: self.delivery,
        }
    }
}

/// A part of `source` as a handle on it, or a copy if it lies elsewhere.
fn share(part: &[u8], source: &Bytes) -> Bytes {
    let (whole, part_range) = (source.as_ptr_range(), part.as_ptr_range());
    if whole.start <= part_range.start && part_range.end <= whole.end {
        source.slice_ref(part)
    } else {
        Bytes::copy_from_slice(part)
    }
}

/// Owned packets are equal, and look in logs, as their borrowed forms do.
macro_rules! as_borrowed {
    ($($owned:ident by $borrow:ident),* $(,)?) => {$(
        impl PartialEq for $owned {
            fn eq(&self, other: &Self) -> bool {
                self.$borrow() == other.$borrow()
            }
        }

        impl Eq for $owned {}

        impl fmt::Debug for $owned {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.$borrow().fmt(f)
            }
        }
    )*};
}

as_borrowed!(
    OwnedPacket by as_packet,
    OwnedConnect by as_connect,
    OwnedWill by as_will,
    OwnedLogin by as_login,
    OwnedPublish by as_publish,
    OwnedSubscribe by as_subscribe,
    OwnedSubAck by as_suback,
    OwnedUnsubscribe by as_unsubscribe,
    OwnedTopicName by as_topic_name,
    OwnedText by as_text,
);
