#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod disk;
mod factory;
mod fleet;
mod hunt;
mod invariants;
mod network;
mod node;
mod picture;
mod plan;
pub mod schedule;
mod signer;
mod trace;
mod unit;
mod world;

pub use fleet::{Curve, Outage, fleet};
pub use hunt::{Finding, judge, shrink};
pub use invariants::invariant_names;
pub use network::Weather;
pub use picture::{curves, timeline};
pub use plan::{At, Fault, Incident, Plan, Quotas, Service};
pub use unit::Mutant;
pub use world::{Milestones, Options, Story, Violation, World, WorldError, bound};
