//! What goes wrong, begins and ends here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::SeedableRng;
use zerotouch_credentials::SasToken;
use zerotouch_emulator::cloud::{self, Cloud, CloudEvent, Fixture, HttpRequest, HttpResponse};
use zerotouch_store::file::simulation::Fault as FileFault;
use zerotouch_time::UnixTime;

use super::{HUBS, World, WorldError, fixture, millis};
use crate::disk::Worked;
use crate::invariants::Seen;
use crate::network::{Due, LinkId};
use crate::node::Node;
use crate::plan::{Fault, Incident, Plan};
use crate::signer;
use crate::trace;

/// After which time a process is started again that could not open its store.
const START_AGAIN: Duration = Duration::from_secs(30);

/// Within which time a device is back once its faults have ceased.
///
/// | after | bound | made of |
/// |---|---|---|
/// | what a device sees for itself | 2 h 30 min | two rounds of the slow ladder, 1 h each at most, and the way |
/// | a hub that is gone | 4 h | and fifty rounds with it: dials of 60 s, waits of up to 60 s |
/// | certificates, or devices, that no hub knows any more | 54 h | fifty rounds of the slow ladder |
/// | an authority made while the cloud's clock was ahead | and by how much | what it issues is not valid before |
pub fn bound(plan: &Plan) -> Duration {
    const HOUR: Duration = Duration::from_secs(3600);
    let of = |incident: &Incident| match incident.fault {
        Fault::Revoke | Fault::RevokeIssuer | Fault::CloudRestart { forgets: true } => HOUR * 54,
        Fault::Failover => HOUR * 4,
        _ => HOUR * 5 / 2,
    };
    let incidents = || plan.incidents.iter();
    let ahead = incidents().filter_map(|incident| match incident.fault {
        Fault::CloudClock { seconds } => u64::try_from(seconds).ok(),
        _ => None,
    });
    let has_new_authority =
        incidents().any(|incident| matches!(incident.fault, Fault::RevokeIssuer));
    let ahead = ahead.max().filter(|_| has_new_authority).unwrap_or(0);
    incidents().map(of).max().unwrap_or(HOUR * 5 / 2) + Duration::from_secs(ahead)
}

impl World {
    fn targets(&self, incident: &Incident) -> Vec<usize> {
        (0..self.plan.devices)
            .filter(|device| incident.device.is_none_or(|one| one == *device))
            .collect()
    }

    pub(crate) fn boot(&mut self, device: usize) -> Result<(), WorldError> {
        let now = self.clocks(device);
        let manners = self.manners.clone();
        let node = &mut self.nodes[device];
        let Worked { result, cut } = node.disk.open();
        let damage = node.disk.damage().first().map(ToString::to_string);
        if let Some(damage) = damage {
            return Err(self.violation("store", format!("device-{device}: {damage}")));
        }
        if let Some(incident) = cut {
            self.cut_at_file(device, incident);
            return Ok(());
        }
        if let Err(error) = result {
            self.note(|| format!("device-{device} ⏻ does not start: {error}"));
            if !std::mem::replace(&mut self.nodes[device].starts_later, true) {
                self.network.schedule(self.now + START_AGAIN, Due::Start(device));
            }
            return Ok(());
        }
        self.nodes[device].boot(device, &manners, now)?;
        self.note(|| format!("device-{device} ⏻ starts"));
        self.see(device, &Seen::Booted)?;
        self.pump(device)
    }

    /// Whoever supervises the process starts it.
    pub(super) fn start(&mut self, device: usize) -> Result<(), WorldError> {
        let node = &mut self.nodes[device];
        node.starts_later = false;
        if node.unit.is_none() && node.off.is_empty() { self.boot(device) } else { Ok(()) }
    }

    /// The power goes in the middle of an operation on a file.
    pub(super) fn cut_at_file(&mut self, device: usize, number: usize) {
        self.note(|| format!("device-{device} ⏻ power cut at a file"));
        let state = match self.plan.incidents[number].fault {
            Fault::PowerCutAtStore { state, .. } => state,
            _ => 0,
        };
        self.power_off(device, number, Some(state));
    }

    /// The engine is gone, and what it held with it. Where it is the power that goes, the network does not
    /// notice, and the disk is left in one of its states.
    pub(super) fn power_off(&mut self, device: usize, number: usize, power: Option<u64>) {
        let node = &mut self.nodes[device];
        node.off.insert(number);
        node.unit = None;
        match power {
            Some(state) => node.disk.lose_power(state),
            None => node.disk.close(),
        }
        if let Some(id) = node.link.take() {
            self.network.let_go(id, power.is_some(), self.now);
            self.decoders.remove(&id);
        }
        if let Some(at) = self.timer_of[device].take() {
            self.timers.remove(&(at, device));
        }
    }

    pub(super) fn begin(&mut self, number: usize) -> Result<(), WorldError> {
        let incident = self.plan.incidents[number].clone();
        let until = self.now + millis(incident.lasts);
        self.calm = self.calm.max(until);
        self.network.schedule(until, Due::Over(number));
        self.note(|| format!("FAULT {}", trace::incident(&incident)));
        self.network.begin(&incident, self.now);
        self.network.troubles.insert(number, (incident.clone(), until));
        let now = self.truth();
        for device in self.targets(&incident) {
            let since = self.now;
            let node = &mut self.nodes[device];
            match incident.fault {
                Fault::PowerCut => {
                    let state = self.plan.seed ^ self.steps;
                    self.power_off(device, number, Some(state));
                }
                Fault::Exit => self.power_off(device, number, None),
                Fault::PowerCutAtStore { operations, .. } => {
                    node.disk.arm(number, operations, FileFault::Crash);
                }
                Fault::DiskFull { operations } => {
                    node.disk.arm(number, operations, FileFault::Full);
                }
                Fault::DiskFails { operations, late } => {
                    let fault = if late { FileFault::FailLate } else { FileFault::Fail };
                    node.disk.arm(number, operations, fault);
                }
                Fault::ClockUnset => node.clock.unset += 1,
                Fault::ClockStep { seconds } => node.clock.ahead += seconds,
                Fault::ClockDrift { ppm } => {
                    node.clock.drift.insert(number, (ppm, since));
                }
                Fault::Twin => {
                    let slots = node.slots.as_ref().map(|slots| Arc::new(slots.copy()));
                    let mut twin = Node::new(node.name.clone(), Some(device), node.disk.copy());
                    twin.slots = slots;
                    let twin = self.add(twin);
                    self.boot_twin(twin)?;
                }
                Fault::Revoke => {
                    let name = node.name.clone();
                    self.cloud.revoke_device(&name, false, now);
                }
                _ => {}
            }
        }
        match &incident.fault {
            Fault::Rule(rule) => {
                if let Ok(id) = self.cloud.add_fault(rule.clone()) {
                    self.rules.insert(number, id);
                }
            }
            Fault::CloudRestart { forgets } => self.restart_cloud(*forgets)?,
            Fault::RevokeIssuer => {
                let namespace = "/$emulator/namespace";
                let policy = Fixture::DEFAULT_POLICY;
                self.operate("POST", &format!("{namespace}/policies/{policy}/revokeIssuer"), "")?;
                self.operate("POST", &format!("{namespace}/credential/synchronize"), "")?;
            }
            Fault::Failover => self.fail_over()?,
            Fault::CloudClock { seconds } => {
                let time = self.cloud.time(now);
                self.cloud.set_time(UnixTime::from_secs(time.as_secs() + seconds), now);
            }
            _ => {}
        }
        self.pump_cloud()
    }

    pub(super) fn over(&mut self, number: usize) -> Result<(), WorldError> {
        let incident = self.plan.incidents[number].clone();
        self.open.remove(&number);
        self.network.troubles.remove(&number);
        if incident.lasts > 0 {
            self.note(|| format!("OVER {}", trace::incident(&incident)));
        }
        let now = self.truth();
        for device in self.targets(&incident) {
            let node = &mut self.nodes[device];
            match incident.fault {
                Fault::PowerCut | Fault::Exit | Fault::PowerCutAtStore { .. } => {
                    node.disk.disarm(number);
                    if node.off.remove(&number) && node.off.is_empty() {
                        self.boot(device)?;
                    }
                }
                Fault::DiskFull { .. } | Fault::DiskFails { .. } => node.disk.disarm(number),
                Fault::ClockUnset => node.clock.unset -= 1,
                Fault::ClockStep { seconds } => node.clock.ahead -= seconds,
                Fault::ClockDrift { .. } => {
                    node.clock.drift.remove(&number);
                }
                Fault::Twin => {
                    let twins = 0..self.nodes.len();
                    let twins: Vec<usize> =
                        twins.filter(|one| self.nodes[*one].twin_of == Some(device)).collect();
                    for twin in twins {
                        self.power_off(twin, number, None);
                    }
                }
                _ => {}
            }
        }
        match incident.fault {
            Fault::Rule(_) => {
                if let Some(id) = self.rules.remove(&number) {
                    self.cloud.remove_fault(id);
                }
            }
            Fault::CloudClock { .. } => self.cloud.set_time(self.wall(), now),
            _ => {}
        }
        self.pump_cloud()
    }

    fn boot_twin(&mut self, twin: usize) -> Result<(), WorldError> {
        // What the original has had accepted its copy may believe: also what it could not store as active.
        if let Some(device) = self.nodes[twin].twin_of {
            let identity = self.nodes[device].disk.identity().clone();
            for one in identity.active.iter().chain(&identity.staged) {
                let event = CloudEvent::HubConnected {
                    hub: String::new(),
                    device_id: String::new(),
                    thumbprint: Some(one.chain.leaf().thumbprint()),
                };
                self.see(twin, &Seen::Cloud(&event))?;
            }
        }
        self.boot(twin)
    }

    pub(super) fn commit(&mut self) {
        while let Some(record) = self.cloud.poll_record() {
            let key = (record.table, record.key);
            match record.value {
                Some(value) => self.records.insert(key, value),
                None => self.records.remove(&key),
            };
        }
    }

    /// Another cloud in the place of this one; all connections are gone.
    fn restart_cloud(&mut self, forgets: bool) -> Result<(), WorldError> {
        self.commit();
        let records = match &self.committed {
            Some(committed) if forgets && !committed.is_empty() => committed.clone(),
            _ => self.records.clone(),
        };
        let rules: Vec<_> = self.cloud.faults().to_vec();
        let now = self.truth();
        let rng =
            |salt| ChaCha20Rng::seed_from_u64(self.plan.seed.wrapping_add(self.steps << 20) ^ salt);
        let fixture = fixture(&self.plan);
        let mut cloud = Cloud::with_signer(fixture, signer::of_authority, rng(0), self.wall())?;
        let entries = records.iter().map(|((table, key), value)| (*table, &**key, &**value));
        cloud.restore(entries, rng(1 << 63), now)?;
        let mut renumbered = BTreeMap::new();
        for active in rules {
            let mut rule = active.rule;
            rule.after = rule.after.saturating_sub(active.matched);
            rule.count = rule.count.map(|count| count.saturating_sub(active.struck).max(1));
            if let Ok(id) = cloud.add_fault(rule) {
                renumbered.insert(active.id, id);
            }
        }
        self.rules.values_mut().for_each(|id| *id = renumbered.get(id).copied().unwrap_or(*id));
        self.cloud = cloud;
        for id in self.network.cloud_links() {
            if let Some(link) = self.network.link_mut(id) {
                link.cloud_holds = false;
            }
            self.network.reset(id, self.now);
        }
        self.records = records;
        self.nodes.iter_mut().for_each(|node| node.wishes.restart_cloud(forgets));
        // What it has forgotten of its hubs its operator tells it anew.
        if self.dead_hubs.is_empty() { Ok(()) } else { self.fail_over() }
    }

    fn fail_over(&mut self) -> Result<(), WorldError> {
        let [dead, other] = HUBS;
        self.dead_hubs.insert(dead.to_owned());
        let links: Vec<LinkId> = self
            .nodes
            .iter()
            .filter(|node| node.host == dead)
            .filter_map(|node| node.link)
            .collect();
        for id in links {
            self.network.reset(id, self.now);
        }
        for group in fixture(&self.plan).enrollment_groups {
            let path = format!("/enrollmentGroups/{}?api-version=2025-07-01-preview", group.id);
            let group = self.operate("GET", &path, "")?;
            let mut group: serde_json::Value =
                serde_json::from_slice(&group.body).unwrap_or_default();
            group["iotHubs"] = serde_json::json!([other]);
            self.operate("PUT", &path, &group.to_string())?;
        }
        Ok(())
    }

    /// The operator of the cloud asks something of it.
    fn operate(
        &mut self,
        method: &str,
        target: &str,
        body: &str,
    ) -> Result<HttpResponse, WorldError> {
        let expiry = UnixTime::from_secs(i64::from(u32::MAX));
        let key = self.cloud.service_key();
        let token = SasToken::for_service(key, HUBS[0], "iothubowner", expiry);
        self.requests += 1;
        let request = HttpRequest {
            method: method.into(),
            target: target.into(),
            host: HUBS[0].into(),
            authorization: Some(token.as_str().into()),
            if_match: Some("*".into()),
            headers: Vec::new(),
            body: body.as_bytes().to_vec(),
            client_chain: Vec::new(),
        };
        let now = self.truth();
        self.cloud.handle_request(cloud::RequestId(self.requests), &request, now);
        match self.cloud.poll_response() {
            Some((_, response)) if response.status < 300 => Ok(response),
            Some((_, HttpResponse { status, .. })) => Err(WorldError::Operator { status }),
            None => Err(WorldError::Operator { status: 0 }),
        }
    }
}
