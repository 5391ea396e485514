#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod network;
mod node;
mod world;

pub use network::Faults;
pub use node::Node;
pub use world::{Stuck, World, WorldError};
