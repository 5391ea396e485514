//! How a fleet comes back after an outage.

use std::time::Duration;

use crate::network::Weather;
use crate::plan::{At, Fault, Incident, Plan, Service};
use crate::world::{Options, World, WorldError};

/// What went out, and how devices come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// The power of all, which returns in one instant; devices wait up to so long before they dial.
    Power {
        /// `Config::retry.start_spread`.
        start_spread: Duration,
    },
    /// The way to the hub: devices wait on their ladders.
    Hub,
}

/// When devices were accepted by their hub after the outage.
#[derive(Clone, Debug)]
pub struct Curve {
    /// What it is called in a picture.
    pub name: String,
    /// How many in each second.
    pub per_second: Vec<u32>,
}

impl Curve {
    /// The most in one second.
    pub fn peak(&self) -> u32 {
        self.per_second.iter().copied().max().unwrap_or(0)
    }

    /// All.
    pub fn total(&self) -> u32 {
        self.per_second.iter().sum()
    }
}

/// When the outage begins: every device has its certificate by then, whatever the provisioning service's
/// quota.
const BEGINS: u64 = 3_600_000;
/// How long it lasts.
const LASTS: u64 = 600_000;

/// Provisions a fleet, lets the outage pass, and watches who comes when.
pub fn fleet(seed: u64, devices: usize, outage: Outage) -> Result<Curve, WorldError> {
    let (fault, service, start_spread, name) = match outage {
        Outage::Power { start_spread } if start_spread.is_zero() => {
            (Fault::PowerCut, None, start_spread, "power returns, no spread".to_owned())
        }
        Outage::Power { start_spread } => {
            let name = format!("power returns, start_spread {} s", start_spread.as_secs());
            (Fault::PowerCut, None, start_spread, name)
        }
        Outage::Hub => {
            let name = "hub returns, ladders with full jitter".to_owned();
            (Fault::Partition, Some(Service::Hub), Duration::ZERO, name)
        }
    };
    let incident = Incident { service, ..Incident::new(At::Millis(BEGINS), LASTS, fault) };
    let plan = Plan { devices, minutes: 0, incidents: vec![incident], ..Plan::calm(seed) };
    let weather = Weather { pieces: false, ..Weather::default() };
    let options = Options { weather, start_spread, ..Options::default() };
    let mut world = World::new(&plan, options)?;
    let back = Duration::from_millis(BEGINS + LASTS);
    world.run_until(back, |_| false)?;
    let mut per_second = Vec::new();
    for second in 0..3600_usize {
        world.run_until(Duration::from_secs(1), |_| false)?;
        if second % 15 == 0 && world.all_connected() {
            break;
        }
    }
    for (at, service) in world.arrivals() {
        if service == Service::Hub && at >= back {
            let second = usize::try_from(at.saturating_sub(back).as_secs()).unwrap_or(usize::MAX);
            if per_second.len() <= second {
                per_second.resize(second + 1, 0);
            }
            per_second[second] += 1;
        }
    }
    Ok(Curve { name, per_second })
}
