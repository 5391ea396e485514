//! What the targets share.

pub mod cloud;
pub mod mqtt;
pub mod steps;
