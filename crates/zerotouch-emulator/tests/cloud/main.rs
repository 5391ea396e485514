//! The cloud engine in virtual time, driven by raw MQTT, and by what a device's engines make of it.

#![allow(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

mod allocation;
mod attestation;
mod authority;
mod commands;
mod enrollments;
mod faults;
mod hostile;
mod https;
mod hub;
mod lookup;
mod namespace;
mod provisioning;
mod records;
mod renewal;
mod renewing;
mod service;
mod sessions;
mod support;
