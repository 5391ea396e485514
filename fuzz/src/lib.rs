//! What the targets share.

pub mod mqtt;
