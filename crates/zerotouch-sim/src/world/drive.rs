//! Between the parties: whatever happens is handed to whom it concerns, and what they ask is done.

use zerotouch_device::{Action, Event, TransportFailure};
use zerotouch_emulator::cloud::{self, CloudEvent};
use zerotouch_hub::Telemetry;

use super::{PROVISIONING, World, WorldError};
use crate::disk::Worked;
use crate::invariants::Seen;
use crate::network::{Deed, DialOutcome, Direction, Due, LinkId, Refusal};
use crate::plan::Service;
use crate::trace;
use crate::unit::{Unit, each_packet};

impl World {
    pub(super) fn happen(&mut self, due: Due) -> Result<(), WorldError> {
        match due {
            Due::Begin(number) => self.begin(number),
            Due::Over(number) => self.over(number),
            Due::Start(device) => self.start(device),
            Due::Application(device, deed) => self.application(device, deed),
            Due::DialFailed { device, connection, why } => {
                let now = self.clocks(device);
                let node = &mut self.nodes[device];
                let Some(unit) = &mut node.unit else { return Ok(()) };
                if unit.connection() == Some(connection) {
                    unit.handle_dial_failed(connection, why.failure(), now);
                    self.note(|| format!("device-{device} ✗ dial: {}", why.failure()));
                    self.see(device, &Seen::Disconnected(connection))?;
                }
                self.pump(device)
            }
            Due::Dialled(id) => self.dialled(id),
            Due::Arrived(id, Direction::ToCloud, size) => {
                let bytes = self.network.arrive(id, Direction::ToCloud, size);
                if !bytes.is_empty() {
                    let now = self.truth();
                    self.cloud.handle_bytes(cloud::ConnectionId(id.0), &bytes, now);
                }
                self.pump_cloud()
            }
            Due::Arrived(id, Direction::ToDevice, size) => {
                let bytes = self.network.arrive(id, Direction::ToDevice, size);
                self.heard(id, &bytes)
            }
            Due::Ended(id, Direction::ToCloud) => {
                if let Some(link) = self.network.link_mut(id).filter(|link| link.cloud_holds) {
                    link.cloud_holds = false;
                    self.network.tidy(id);
                    let now = self.truth();
                    self.cloud.handle_closed(cloud::ConnectionId(id.0), now);
                }
                self.pump_cloud()
            }
            Due::Ended(id, Direction::ToDevice) => self.ended(id),
        }
    }

    pub(super) fn dialled(&mut self, id: LinkId) -> Result<(), WorldError> {
        let Some(link) = self.network.link_mut(id) else { return Ok(()) };
        let (device, connection, silent) = (link.device, link.connection, link.ending.is_some());
        let service = link.service;
        if !link.device_holds {
            self.network.tidy(id);
            return Ok(());
        }
        let chain = link.chain.clone();
        if !silent && !self.network.is_silent(id) {
            if let Some(link) = self.network.link_mut(id) {
                link.cloud_holds = true;
            }
            let now = self.truth();
            self.arrivals.push((self.now, service));
            self.cloud.handle_open(cloud::ConnectionId(id.0), chain, now);
            self.pump_cloud()?;
        }
        let now = self.clocks(device);
        if let Some(unit) = &mut self.nodes[device].unit {
            unit.handle_dialled(connection, now);
        }
        self.note(|| format!("device-{device} ✓ dialled"));
        self.pump(device)
    }

    pub(super) fn heard(&mut self, id: LinkId, bytes: &[u8]) -> Result<(), WorldError> {
        let Some(link) = self.network.link(id).filter(|link| link.device_holds) else {
            return Ok(());
        };
        if bytes.is_empty() {
            return Ok(());
        }
        let (device, connection, service) = (link.device, link.connection, link.service);
        self.listen(id, (device, service), Direction::ToDevice, bytes)?;
        let now = self.clocks(device);
        if let Some(unit) = &mut self.nodes[device].unit {
            unit.handle_bytes(connection, bytes, now);
        }
        self.pump(device)
    }

    pub(super) fn ended(&mut self, id: LinkId) -> Result<(), WorldError> {
        let Some(link) = self.network.link_mut(id).filter(|link| link.device_holds) else {
            return Ok(());
        };
        link.device_holds = false;
        let (device, connection, ending) = (link.device, link.connection, link.ending);
        self.network.tidy(id);
        let failure = ending.map_or_else(TransportFailure::closed, Refusal::failure);
        self.note(|| format!("device-{device} ✗ {failure}"));
        let now = self.clocks(device);
        let node = &mut self.nodes[device];
        if node.link == Some(id) {
            node.link = None;
        }
        if let Some(unit) = &mut node.unit {
            unit.handle_disconnected(connection, failure, now);
            self.see(device, &Seen::Disconnected(connection))?;
        }
        self.decoders.remove(&id);
        self.pump(device)
    }

    pub(super) fn application(&mut self, device: usize, deed: Deed) -> Result<(), WorldError> {
        if !matches!(deed, Deed::Telemetry | Deed::Renew) {
            return self.ask(device, deed);
        }
        let now = self.clocks(device);
        let node = &mut self.nodes[device];
        let Some(unit) = &mut node.unit else { return Ok(()) };
        match deed {
            Deed::Telemetry => {
                for _ in 0..2 {
                    let telemetry = Telemetry::new(node.sent.to_string());
                    if let Ok(handle) = unit.send_telemetry(telemetry, now) {
                        node.waiting.push((handle, node.sent));
                        node.sent += 1;
                    }
                }
            }
            Deed::Renew if unit.renew(now).is_ok() => {
                self.milestones.renewals.push(self.steps);
                self.see(device, &Seen::Renew)?;
            }
            _ => {}
        }
        self.note(|| format!("device-{device} application: {deed:?}"));
        self.pump(device)
    }

    /// Does what a device asks until it asks no more.
    pub(crate) fn pump(&mut self, device: usize) -> Result<(), WorldError> {
        loop {
            let now = self.clocks(device);
            let Some(unit) = &mut self.nodes[device].unit else { break };
            if let Some(event) = unit.poll_event() {
                self.reported(device, &event)?;
            } else if let Some(action) = unit.poll_action(now) {
                self.carry_out(device, action)?;
            } else if let Some(id) = self.nodes[device].link
                && let Some(unit) = &mut self.nodes[device].unit
                && let Some(bytes) = unit.take_bytes(now)
            {
                let service = self.network.link(id).map_or(Service::Hub, |link| link.service);
                self.listen(id, (device, service), Direction::ToCloud, &bytes)?;
                self.network.send(id, Direction::ToCloud, &bytes, self.now);
            } else {
                break;
            }
        }
        let node = &self.nodes[device];
        if node.unit.as_ref().map_or(0, Unit::waiting_messages) > node.waiting.len() + 8 {
            return Err(self.violation("memory", format!("device-{device}: its queue grows")));
        }
        let due = node.unit.as_ref().and_then(Unit::poll_timeout);
        if due != self.timer_of[device] {
            if let Some(at) = self.timer_of[device] {
                self.timers.remove(&(at, device));
            }
            self.timers.extend(due.map(|at| (at, device)));
            self.timer_of[device] = due;
        }
        Ok(())
    }

    pub(super) fn reported(&mut self, device: usize, event: &Event) -> Result<(), WorldError> {
        self.note(|| format!("device-{device} · {}", trace::event(event)));
        self.see(device, &Seen::Event(event))?;
        let node = &mut self.nodes[device];
        match event {
            Event::Connected { .. } => node.connections += 1,
            Event::Activated { .. } => {
                node.activations += 1;
                self.milestones.activations.push(self.steps);
            }
            Event::TelemetryAcknowledged(handle) => {
                if let Some(at) = node.waiting.iter().position(|(one, _)| one == handle) {
                    let (_, number) = node.waiting.remove(at);
                    node.acknowledged += 1;
                    self.see(device, &Seen::Acknowledged(number))?;
                }
            }
            event => self.hear_wish(device, event)?,
        }
        Ok(())
    }

    pub(super) fn carry_out(&mut self, device: usize, action: Action) -> Result<(), WorldError> {
        match action {
            Action::Dial(dial) => {
                let is_dps = dial.host == PROVISIONING;
                let service = if is_dps { Service::Dps } else { Service::Hub };
                self.note(|| format!("device-{device} → dial {}", dial.host));
                self.see(device, &Seen::Dial(&dial, service))?;
                let identity = dial.identity.iter().flat_map(|identity| identity.chain.iter());
                let chain = identity.map(|certificate| certificate.as_der().to_vec()).collect();
                let dead = self.dead_hubs.contains(&dial.host);
                let outcome = if dead {
                    DialOutcome::Lost
                } else {
                    self.network.dial((device, dial.connection), service, chain, self.now)
                };
                let node = &mut self.nodes[device];
                node.host = dial.host;
                node.link = match outcome {
                    DialOutcome::UnderWay(id) => Some(id),
                    DialOutcome::Lost => None,
                };
            }
            Action::HangUp(connection) => {
                self.note(|| format!("device-{device} → hangs up"));
                let node = &mut self.nodes[device];
                if let Some(id) = node.link
                    && self.network.link(id).is_some_and(|link| link.connection == connection)
                {
                    node.link = None;
                    self.network.let_go(id, false, self.now);
                    self.decoders.remove(&id);
                }
                self.see(device, &Seen::Disconnected(connection))?;
            }
            Action::Store(change) => {
                self.see(device, &Seen::Storing(&change))?;
                let Worked { result, cut } = self.nodes[device].disk.apply(&change);
                self.note(|| {
                    let mark = if result.is_ok() { "stores" } else { "cannot store" };
                    format!("device-{device} {mark} {}", trace::change(&change))
                });
                if result.is_ok() {
                    self.see(device, &Seen::Stored(&change))?;
                }
                if let Some(incident) = cut {
                    self.cut_at_file(device, incident);
                    return Ok(());
                }
                let now = self.clocks(device);
                if let Some(unit) = &mut self.nodes[device].unit {
                    unit.handle_stored(result, now);
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn pump_cloud(&mut self) -> Result<(), WorldError> {
        while let Some(event) = self.cloud.poll_event() {
            self.note(|| format!("cloud · {}", trace::cloud_event(&event)));
            self.refusals += usize::from(matches!(event, CloudEvent::HubRefused { .. }));
            let (CloudEvent::Telemetry { device_id: name, .. }
            | CloudEvent::HubConnected { device_id: name, .. }
            | CloudEvent::Disconnected { device_id: name, .. }
            | CloudEvent::MethodAnswered { device_id: name, .. }
            | CloudEvent::CommandSettled { device_id: name, .. }) = &event
            else {
                continue;
            };
            let number = name.strip_prefix("device-").and_then(|text| text.parse::<usize>().ok());
            let Some(device) = number.filter(|device| *device < self.nodes.len()) else {
                continue;
            };
            match &event {
                CloudEvent::Telemetry { payload, .. } => {
                    let text = std::str::from_utf8(payload).ok();
                    if let Some(number) = text.and_then(|text| text.parse().ok()) {
                        self.see(device, &Seen::Arrived(number))?;
                    }
                }
                event => {
                    self.settle_wish(device, event)?;
                    let is_seen = matches!(event, CloudEvent::HubConnected { .. });
                    let others = if is_seen { 0..self.nodes.len() } else { 0..0 };
                    for one in others {
                        if self.nodes[one].twin_of == Some(device) {
                            self.see(one, &Seen::Cloud(event))?;
                        }
                    }
                }
            }
        }
        while let Some(action) = self.cloud.poll_action() {
            match action {
                cloud::Action::Transmit { connection, bytes } => {
                    self.network.send(LinkId(connection.0), Direction::ToDevice, &bytes, self.now);
                }
                cloud::Action::Close { connection } => {
                    self.network.close(LinkId(connection.0), self.now);
                }
            }
        }
        if self.committed.is_some() && self.steps.is_multiple_of(64) {
            self.commit();
            self.committed = Some(self.records.clone());
        }
        Ok(())
    }

    /// Decodes what passes at the device's end of a connection.
    pub(super) fn listen(
        &mut self,
        id: LinkId,
        (device, service): (usize, Service),
        direction: Direction,
        bytes: &[u8],
    ) -> Result<(), WorldError> {
        let mut buffer = std::mem::take(self.ears(id, direction));
        buffer.extend_from_slice(bytes);
        let mut result = Ok(());
        each_packet(&mut buffer, |_, packet| {
            if result.is_err() {
                return;
            }
            let (mark, seen) = match direction {
                Direction::ToCloud => ("→", Seen::Sent(packet)),
                Direction::ToDevice => ("←", Seen::Heard(service, packet)),
            };
            self.note(|| format!("device-{device} {mark} {service:?} {}", trace::packet(packet)));
            result = self.see(device, &seen);
        });
        *self.ears(id, direction) = buffer;
        result
    }

    /// What has been heard of a packet that is not whole yet.
    fn ears(&mut self, id: LinkId, direction: Direction) -> &mut Vec<u8> {
        let ears = self.decoders.entry(id).or_default();
        match direction {
            Direction::ToCloud => &mut ears.outbound,
            Direction::ToDevice => &mut ears.inbound,
        }
    }
}
