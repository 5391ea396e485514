//! How a fleet comes back after an outage.

use std::time::Duration;

use zerotouch_emulator::cloud::Quota;

use crate::network::Weather;
use crate::plan::{At, Fault, Incident, Plan, Quotas, Service};
use crate::world::{Options, World, WorldError};

/// What went out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// The power of all, which returns in one instant.
    Power,
    /// The hub.
    Hub,
}

/// When connections reached the hub after the outage.
#[derive(Clone, Debug)]
pub struct Curve {
    /// What it is called in a picture.
    pub name: String,
    /// How many in each second.
    pub per_second: Vec<u32>,
    /// How many of all of them the hub has refused.
    pub turned_away: usize,
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
/// What the services take of all (Azure docs, "Azure subscription and service limits", of DPS, and "IoT Hub
/// quotas and throttling", of a hub of tier S1).
const QUOTAS: Quotas = Quotas {
    registrations: Quota { count: 1000, period: Duration::from_secs(60) },
    connections: Quota { count: 100, period: Duration::from_secs(1) },
};

/// Provisions a fleet, lets the outage pass, and watches who comes when. `spread` is each device's
/// `Config::retry.connect_spread`.
pub fn fleet(
    seed: u64,
    devices: usize,
    outage: Outage,
    spread: Duration,
) -> Result<Curve, WorldError> {
    let (fault, service, what) = match outage {
        Outage::Power => (Fault::PowerCut, None, "power"),
        Outage::Hub => (Fault::Partition, Some(Service::Hub), "the hub"),
    };
    let incident = Incident { service, ..Incident::new(At::Millis(BEGINS), LASTS, fault) };
    // All at one hub: the other is gone from the beginning.
    let incidents = vec![Incident::new(At::Millis(0), 0, Fault::Failover), incident];
    let plan = Plan { devices, minutes: 0, quotas: Some(QUOTAS), incidents, ..Plan::calm(seed) };
    let weather = Weather { pieces: false, ..Weather::default() };
    let options = Options { weather, connect_spread: spread, ..Options::default() };
    let mut world = World::new(&plan, options)?;
    let back = Duration::from_millis(BEGINS + LASTS);
    world.run_until(back, |_| false)?;
    let refused = world.refusals();
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
    let name = format!("{what} returns, connect_spread {} s", spread.as_secs());
    Ok(Curve { name, per_second, turned_away: world.refusals() - refused })
}
