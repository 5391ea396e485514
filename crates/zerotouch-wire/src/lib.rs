//! What the Azure device services (DPS and IoT Hub) share on the wire.
//!
//! Both answer on topics of one shape, `{prefix}{status}/?{properties}`, refuse with one JSON body,
//! and write properties as `name=value&name=value` with percent-encoding. This crate holds those
//! three shapes, for both ends: the device engines parse what the emulator writes.
//!
//! ```
//! use zerotouch_wire::ReplyTopic;
//!
//! let reply = ReplyTopic::parse(
//!     "$dps/registrations/res/",
//!     "$dps/registrations/res/202/?$rid=7&retry-after=3",
//! ).unwrap();
//! assert_eq!((reply.status, reply.get("$rid")), (202, Some("7")));
//! assert_eq!(reply.retry_after().unwrap().as_secs(), 3);
//! ```

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod error;
mod percent;
mod reply;

pub use error::ServiceError;
pub use percent::{PercentDecodeError, percent_decode, percent_encode, percent_encode_to};
pub use reply::{MAX_RETRY_AFTER, PropertyBag, ReplyTopic};
