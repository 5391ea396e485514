//! What the targets share.

pub mod mqtt;
pub mod steps;
