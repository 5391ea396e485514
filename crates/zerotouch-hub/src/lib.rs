//! The device protocol of Azure IoT Hub over MQTT 3.1.1: topics, payloads, and certificate renewal,
//! without sockets and over any MQTT client.
//!
//! ```text
//!   CONNECT    client id = device id, user name = username(…)
//!   SUBSCRIBE  wire::{COMMANDS…, METHODS, TWIN_RESPONSES, DESIRED_PROPERTIES, CREDENTIALS}
//!   PUBLISH ◄─ Telemetry::topic, Renewal::poll_request      PUBLISH from the hub ─► Inbound::parse
//! ```
//!
//! ```
//! use zerotouch_hub::{Inbound, Telemetry, username};
//!
//! let telemetry = Telemetry::new(br#"{"celsius":21}"#.as_slice())
//!     .content_type("application/json")
//!     .property("alarm", "no");
//! assert_eq!(
//!     telemetry.topic("pump-17"),
//!     "devices/pump-17/messages/events/$.ct=application%2Fjson&alarm=no",
//! );
//!
//! let Some(Inbound::Method { name, request_id }) =
//!     Inbound::parse("pump-17", "$iothub/methods/POST/reboot/?$rid=4") else { panic!() };
//! assert_eq!((name, request_id), ("reboot", "4"));
//! ```

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod inbound;
mod message;
mod method;
mod renewal;
mod request;
mod telemetry;
mod twin;
pub mod wire;

pub use inbound::Inbound;
pub use message::CloudMessage;
pub use method::{METHOD_NOT_IMPLEMENTED, MethodCall, MethodEvent, Methods, RespondError};
pub use renewal::{
    Recovery, Renewal, RenewalConfig, RenewalError, RenewalEvent, RequestId, RequestIdError,
};
pub use request::Request;
pub use telemetry::Telemetry;
pub use twin::{Properties, ReportError, ReportHandle, Twin, TwinConfig, TwinError, TwinEvent};
pub use wire::{DEFAULT_API_VERSION, username};
