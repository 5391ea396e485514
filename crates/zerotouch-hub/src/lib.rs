#![doc = include_str!("../README.md")]
//!
//! # Contents
//!
//! | | |
//! |---|---|
//! | [`username`] | who connects, with which api-version and model |
//! | [`Telemetry`] | a message to the cloud, and its topic |
//! | [`Inbound`] | what a message from the hub is about |
//! | [`CloudMessage`] | a message from the cloud |
//! | [`Methods`], [`MethodEvent`], [`MethodCall`] | calls that await an answer |
//! | [`Twin`], [`TwinEvent`], [`Properties`] | desired and reported properties |
//! | [`Renewal`], [`RenewalEvent`], [`RequestId`] | a certificate over the hub's connection |
//! | [`RenewalError`], [`Recovery`] | why there is none, and what may come of that |
//! | `FileUpload`, `HttpRequest` | a file over HTTPS (feature `file-upload`) |
//! | [`wire`] | topics, JSON and limits, for both ends |

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
#[cfg(feature = "file-upload")]
mod upload;
pub mod wire;

pub use inbound::Inbound;
pub use message::CloudMessage;
pub use method::{METHOD_NOT_IMPLEMENTED, MethodCall, MethodEvent, Methods, RespondError};
pub use renewal::{
    Recovery, Renewal, RenewalConfig, RenewalError, RenewalEvent, RequestId, RequestIdError,
};
pub use request::Request;
pub use telemetry::Telemetry;
pub use twin::merge::merge as merge_properties;
pub use twin::{Properties, ReportError, ReportHandle, Twin, TwinConfig, TwinError, TwinEvent};
#[cfg(feature = "file-upload")]
pub use upload::{
    FILE_UPLOAD_API_VERSION, FileUpload, HttpBody, HttpRequest, UploadError, UploadEvent,
    UploadStep,
};
pub use wire::{DEFAULT_API_VERSION, username};
