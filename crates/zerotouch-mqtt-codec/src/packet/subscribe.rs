//! SUBSCRIBE, SUBACK and UNSUBSCRIBE (sections 3.8 to 3.10) and the lists they carry.
//!
//! A list is either a slice of the caller's, on its way out, or the bytes of a packet that came in,
//! checked when it was decoded and read again entry by entry: neither needs an allocation.

use core::fmt;
use core::hash::{Hash, Hasher};

use crate::scan;
use crate::topic::TopicFilter;
use crate::types::{PacketIdentifier, QoS};

/// SUBSCRIBE: a client subscribes (section 3.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subscribe<'a> {
    /// What SUBACK will carry.
    pub id: PacketIdentifier,
    /// To what, and how the client would have it delivered.
    pub filters: Subscriptions<'a>,
}

/// SUBACK: the server's answer to SUBSCRIBE (section 3.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubAck<'a> {
    /// The identifier of the SUBSCRIBE.
    pub id: PacketIdentifier,
    /// One code for each of its filters, in their order.
    pub return_codes: SubAckReturnCodes<'a>,
}

/// UNSUBSCRIBE: a client ends subscriptions (section 3.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Unsubscribe<'a> {
    /// What UNSUBACK will carry.
    pub id: PacketIdentifier,
    /// Which ones.
    pub filters: TopicFilters<'a>,
}

/// What became of one filter of a SUBSCRIBE (section 3.9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubAckReturnCode {
    /// The client is subscribed; messages come with this quality of service at most.
    Granted(QoS),
    /// The server refused this filter.
    Failure,
}

impl SubAckReturnCode {
    /// The return code of that number; `None` for those reserved `[MQTT-3.9.3-2]`.
    #[inline]
    pub const fn from_u8(code: u8) -> Option<Self> {
        match code {
            0x80 => Some(Self::Failure),
            _ => match QoS::from_u8(code) {
                Some(qos) => Some(Self::Granted(qos)),
                None => None,
            },
        }
    }
}

impl From<SubAckReturnCode> for u8 {
    #[inline]
    fn from(code: SubAckReturnCode) -> Self {
        match code {
            SubAckReturnCode::Granted(qos) => qos as Self,
            SubAckReturnCode::Failure => 0x80,
        }
    }
}

/// A list's entries: the caller's, with the length of their wire form, or `count` entries of a decoded
/// packet in that form.
pub(crate) enum Entries<'a, T> {
    Slice { entries: &'a [T], wire_len: usize },
    Wire { bytes: &'a [u8], count: usize },
}

impl<T> Clone for Entries<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Entries<'_, T> {}

impl<T> Entries<'_, T> {
    fn len(&self) -> usize {
        match self {
            Self::Slice { entries, .. } => entries.len(),
            Self::Wire { count, .. } => *count,
        }
    }

    /// The length of the wire form.
    pub(crate) const fn wire_len(&self) -> usize {
        match self {
            Self::Slice { wire_len, .. } => *wire_len,
            Self::Wire { bytes, .. } => bytes.len(),
        }
    }
}

/// An entry that can be read from a decoded packet.
trait Wire<'a>: Copy {
    /// The first entry and the bytes behind it.
    fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])>;
}

impl<'a> Wire<'a> for TopicFilter<'a> {
    fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (length, rest) = bytes.split_first_chunk()?;
        let (filter, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        // Without `unsafe`, a `str` takes this much checking again.
        Some((Self::checked_before(scan::text(filter).ok()?), rest))
    }
}

impl<'a> Wire<'a> for (TopicFilter<'a>, QoS) {
    fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (filter, rest) = TopicFilter::read(bytes)?;
        let (qos, rest) = rest.split_first()?;
        Some(((filter, QoS::from_u8(*qos)?), rest))
    }
}

impl<'a> Wire<'a> for SubAckReturnCode {
    fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (code, rest) = bytes.split_first()?;
        Some((Self::from_u8(*code)?, rest))
    }
}

/// Walks a list. The entries of a decoded packet were all checked before, so reading ends only where
/// the list does.
struct Iter<'a, T>(Entries<'a, T>);

impl<T> Clone for Iter<'_, T> {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

impl<'a, T: Wire<'a>> Iterator for Iter<'a, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        match &mut self.0 {
            Entries::Slice { entries, .. } => {
                let (first, rest) = entries.split_first()?;
                *entries = rest;
                Some(*first)
            }
            Entries::Wire { bytes, count } => {
                let (first, rest) = T::read(bytes)?;
                (*bytes, *count) = (rest, *count - 1);
                Some(first)
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0.len(), Some(self.0.len()))
    }
}

impl<'a, T: Wire<'a>> ExactSizeIterator for Iter<'a, T> {}

macro_rules! list {
    ($(#[$docs:meta])* $list:ident of $entry:ty, each |$one:ident| $wire_len:expr) => {
        $(#[$docs])*
        #[derive(Clone, Copy)]
        pub struct $list<'a>(pub(crate) Entries<'a, $entry>);

        impl<'a> $list<'a> {
            /// A list of the caller's; `None` if it is empty, which the packet may not be.
            pub const fn new(entries: &'a [$entry]) -> Option<Self> {
                let mut wire_len: usize = 0;
                let mut rest = entries;
                while let Some(($one, behind)) = rest.split_first() {
                    wire_len = wire_len.saturating_add($wire_len);
                    rest = behind;
                }
                if entries.is_empty() {
                    None
                } else {
                    Some(Self(Entries::Slice { entries, wire_len }))
                }
            }

            /// The entries, in order.
            pub fn iter(&self) -> impl ExactSizeIterator<Item = $entry> + Clone + use<'a> {
                Iter(self.0)
            }

            /// How many entries there are: at least one.
            #[expect(clippy::len_without_is_empty, reason = "it never is")]
            pub fn len(&self) -> usize {
                self.0.len()
            }
        }

        // Equal lists have equal entries, whether they come in or go out.
        impl PartialEq for $list<'_> {
            fn eq(&self, other: &Self) -> bool {
                self.len() == other.len() && self.iter().eq(other.iter())
            }
        }

        impl Eq for $list<'_> {}

        impl Hash for $list<'_> {
            fn hash<H: Hasher>(&self, state: &mut H) {
                state.write_usize(self.len());
                self.iter().for_each(|entry| entry.hash(state));
            }
        }

        impl fmt::Debug for $list<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_list().entries(self.iter()).finish()
            }
        }
    };
}

list! {
    /// What a client subscribes to: topic filters, each with the quality of service asked for. Never
    /// empty `[MQTT-3.8.3-3]`.
    Subscriptions of (TopicFilter<'a>, QoS), each |entry| 3 + entry.0.as_str().len()
}

list! {
    /// What a client unsubscribes from. Never empty `[MQTT-3.10.3-2]`.
    TopicFilters of TopicFilter<'a>, each |filter| 2 + filter.as_str().len()
}

list! {
    /// What became of each filter of a SUBSCRIBE. Never empty `[MQTT-3.8.4-5]`.
    SubAckReturnCodes of SubAckReturnCode, each |_code| 1
}
