//! SUBSCRIBE, SUBACK and UNSUBSCRIBE on shared bytes: their lists are kept in wire form.

use alloc::vec::Vec;

use bytes::Bytes;

use super::share;
use crate::encode::write;
use crate::packet::{
    Entries, SubAck, SubAckReturnCodes, Subscribe, Subscriptions, TopicFilters, Unsubscribe,
};
use crate::types::PacketIdentifier;

macro_rules! owned_list_packet {
    ($(#[$docs:meta])* $owned:ident of $packet:ident, $method:ident,
     $list:ident in $field:ident) => {
        $(#[$docs])*
        #[derive(Clone)]
        pub struct $owned {
            /// The packet identifier.
            pub id: PacketIdentifier,
            bytes: Bytes,
            count: usize,
        }

        impl $owned {
            /// Keeps a packet: what lies in `source` is shared with it, the rest is copied.
            pub fn new(packet: &$packet<'_>, source: &Bytes) -> Self {
                let bytes = match packet.$field.0 {
                    Entries::Wire { bytes, .. } => share(bytes, source),
                    list @ Entries::Slice { .. } => {
                        let mut bytes = Vec::new();
                        write::entries(list, &mut bytes);
                        bytes.into()
                    }
                };
                Self { id: packet.id, bytes, count: packet.$field.len() }
            }

            /// The packet, borrowed.
            pub fn $method(&self) -> $packet<'_> {
                let entries = Entries::Wire { bytes: &self.bytes, count: self.count };
                $packet { id: self.id, $field: $list(entries) }
            }
        }
    };
}

owned_list_packet! {
    /// A [`Subscribe`] that owns its bytes.
    OwnedSubscribe of Subscribe, as_subscribe, Subscriptions in filters
}

owned_list_packet! {
    /// A [`SubAck`] that owns its bytes.
    OwnedSubAck of SubAck, as_suback, SubAckReturnCodes in return_codes
}

owned_list_packet! {
    /// An [`Unsubscribe`] that owns its bytes.
    OwnedUnsubscribe of Unsubscribe, as_unsubscribe, TopicFilters in filters
}
