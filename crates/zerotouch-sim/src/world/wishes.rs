//! What the cloud's operator asks of devices, and what their applications do about it.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use zerotouch_emulator::cloud::CloudEvent;
use zerotouch_hub::{MethodEvent, ReportHandle, TwinEvent};

use super::{World, WorldError};
use crate::invariants::Seen;
use crate::network::Deed;

const PROPERTY: &str = "wish";

/// What has been asked of one device and has not come to its end.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    /// Of all wishes, so that no two are the same.
    count: u64,
    /// The desired property as the cloud has it, and as the application was told it in this life.
    desired: Option<u64>,
    known: Option<u64>,
    /// Methods called on the connection that stands.
    calls: BTreeSet<String>,
    /// Messages that the cloud keeps for it.
    commands: BTreeSet<String>,
    /// What the application has reported, and no answer yet.
    reports: BTreeSet<ReportHandle>,
}

impl Wishes {
    pub(crate) fn are_met(&self) -> bool {
        self.calls.is_empty()
            && self.commands.is_empty()
            && self.reports.is_empty()
            && (self.desired.is_none() || self.known == self.desired)
    }

    /// The application begins anew.
    pub(crate) fn restart(&mut self) {
        self.known = None;
        self.reports.clear();
    }

    /// Who called on an earlier connection has been told that it has ended.
    fn hang_up(&mut self) {
        self.calls.clear();
    }

    /// The cloud is another one, with or without what it was asked to keep.
    pub(super) fn restart_cloud(&mut self, forgets: bool) {
        self.hang_up();
        if forgets {
            self.desired = None;
            self.commands.clear();
        }
    }
}

fn wish(values: &Map<String, Value>) -> Option<u64> {
    values.get(PROPERTY)?.as_u64()
}

impl World {
    /// The operator asks something of a device; or its application reports how it is.
    pub(super) fn ask(&mut self, device: usize, deed: Deed) -> Result<(), WorldError> {
        let (now, clocks) = (self.truth(), self.clocks(device));
        let node = &mut self.nodes[device];
        node.wishes.count += 1;
        let (name, count) = (node.name.clone(), node.wishes.count);
        let id = format!("wish-{device}-{count}");
        let values = Map::from_iter([(PROPERTY.to_owned(), json!(count))]);
        // Nobody is asked whom the cloud does not know, or does not reach.
        let is_asked = match deed {
            Deed::Desire => {
                let is_taken = self.cloud.update_desired(&name, values, now).is_ok();
                if is_taken {
                    node.wishes.desired = Some(count);
                }
                is_taken
            }
            Deed::Call => {
                let payload = json!(id).to_string();
                let call = ("wish", &*id);
                let is_sent = self.cloud.invoke_method(&name, call, payload.as_bytes(), now);
                if is_sent {
                    node.wishes.calls.insert(id.clone());
                }
                is_sent
            }
            Deed::Command => {
                let properties = [("$.mid", &*id)];
                let sent = self.cloud.send_command(&name, &properties, id.as_bytes(), now);
                if sent.is_ok() {
                    node.wishes.commands.insert(id.clone());
                }
                sent.is_ok()
            }
            Deed::Report | Deed::Telemetry | Deed::Renew => {
                let unit = node.unit.as_mut();
                let handle = unit.and_then(|unit| unit.report_properties(&values, clocks).ok());
                node.wishes.reports.extend(handle);
                handle.is_some()
            }
        };
        self.note(|| {
            let what = if is_asked { "" } else { ", in vain" };
            format!("device-{device} is asked: {deed:?} {id}{what}")
        });
        if is_asked && deed == Deed::Call {
            self.see(device, &Seen::Called(&id))?;
        }
        self.pump_cloud()?;
        self.pump(device)
    }

    /// What an application is told of the operator's wishes.
    pub(super) fn hear_wish(
        &mut self,
        device: usize,
        event: &zerotouch_device::Event,
    ) -> Result<(), WorldError> {
        use zerotouch_device::Event;
        let now = self.clocks(device);
        let node = &mut self.nodes[device];
        match event {
            Event::Message(message) => {
                let id = String::from_utf8_lossy(&message.payload).into_owned();
                let original = node.twin_of.unwrap_or(device);
                self.see(original, &Seen::Delivered(&id))?;
            }
            Event::Method(MethodEvent::Called { call, payload, .. }) => {
                if let Some(unit) = &mut node.unit {
                    // Where the connection has ended meanwhile nobody waits for it.
                    unit.respond(*call, 200, payload, now).ok();
                }
            }
            Event::Twin(TwinEvent::Read { desired, .. }) => {
                node.wishes.known = wish(&desired.values);
            }
            Event::Twin(TwinEvent::Desired { patch, .. }) => {
                node.wishes.known = wish(patch).or(node.wishes.known);
            }
            Event::Twin(
                TwinEvent::Reported { handle, .. } | TwinEvent::ReportFailed { handle, .. },
            ) => {
                node.wishes.reports.remove(handle);
            }
            _ => {}
        }
        Ok(())
    }

    /// What became of a wish, as the cloud has it.
    pub(super) fn settle_wish(
        &mut self,
        device: usize,
        event: &CloudEvent,
    ) -> Result<(), WorldError> {
        let wishes = &mut self.nodes[device].wishes;
        match event {
            CloudEvent::MethodAnswered { request_id, .. } => {
                wishes.calls.remove(request_id);
            }
            CloudEvent::CommandSettled { message_id, .. } => {
                wishes.commands.remove(message_id);
            }
            CloudEvent::HubConnected { .. } | CloudEvent::Disconnected { .. } => wishes.hang_up(),
            _ => {}
        }
        self.see(device, &Seen::Cloud(event))
    }
}
