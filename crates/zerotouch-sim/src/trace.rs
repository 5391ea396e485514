//! What each party saw, in words: one line each, the same for the same plan.

use zerotouch_device::Event;
use zerotouch_emulator::cloud::CloudEvent;
use zerotouch_mqtt_codec::{ConnAck, Packet};
use zerotouch_store::Change;

use crate::plan::Incident;

pub(crate) fn packet(packet: &Packet<'_>) -> String {
    match packet {
        Packet::Connect(connect) => {
            format!("CONNECT {} clean={}", connect.client_id, connect.clean_session)
        }
        Packet::ConnAck(ConnAck::Accepted { session_present }) => {
            format!("CONNACK accepted, session present: {session_present}")
        }
        Packet::ConnAck(ConnAck::Refused(refusal)) => format!("CONNACK {refusal}"),
        Packet::Publish(publish) => {
            let delivery = publish.delivery;
            let dup = if delivery.dup() { " dup" } else { "" };
            format!("PUBLISH{dup} {} ({} bytes)", publish.topic.as_str(), publish.payload.len())
        }
        Packet::PubAck(id) => format!("PUBACK {}", id.get()),
        other => format!("{:?}", other.packet_type()).to_uppercase(),
    }
}

pub(crate) fn event(event: &Event) -> String {
    match event {
        Event::StateChanged(state) => format!("state: {state}"),
        Event::Connected { assignment, credential, .. } => {
            format!("connected to {} with its {credential}", assignment.assigned_hub)
        }
        Event::CertificateIssued(issued) => {
            format!("certificate issued: generation {}", issued.generation)
        }
        Event::Activated { generation, .. } => format!("activated: generation {generation}"),
        Event::AttemptFailed { scope, credential, failure, class, retry_in } => {
            format!("{scope}, {credential}: {failure} ({class:?}), again in {retry_in:?}")
        }
        Event::RenewalFailed { failure, retry_in } => {
            format!("renewal failed: {failure}, again in {retry_in:?}")
        }
        Event::Assigned { assignment, .. } => format!("assigned to {}", assignment.assigned_hub),
        other => format!("{other:?}"),
    }
}

pub(crate) fn change(change: &Change) -> &'static str {
    match change {
        Change::Begin { .. } => "a new key",
        Change::Stage { .. } => "a staged certificate",
        Change::Assign(_) => "an assignment",
        Change::Activate => "the staged certificate as the active one",
        Change::RollBack => "the previous certificate as the active one",
        Change::DiscardPrevious => "the previous certificate as gone",
        Change::DiscardStaged => "the staged certificate as gone",
        Change::DiscardPending => "the pending key as gone",
        Change::Forget => "nothing any more",
        _ => "a change",
    }
}

pub(crate) fn cloud_event(event: &CloudEvent) -> String {
    serde_json::to_string(event).unwrap_or_default()
}

pub(crate) fn incident(incident: &Incident) -> String {
    serde_json::to_string(incident).unwrap_or_default()
}
