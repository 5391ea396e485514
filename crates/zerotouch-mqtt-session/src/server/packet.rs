//! One packet: the policy is asked, its answer carried out. CONNECT, above all, which may take another
//! connection's place.

use alloc::format;
use alloc::string::String;

use zerotouch_mqtt_codec::{Connect, ConnectRefusal, PacketIdentifier};
use zerotouch_time::Instant;

use super::session::Link;
use super::{BrokerEvent, Connection, Server, Stage};
use crate::CloseReason;
use crate::broker::{Broker, ConnectionId, Message, Publication, SessionId, Verdict};
use crate::connection::ServerEvent;

/// What an event leaves to do once nothing is borrowed from its connection any more.
pub(super) enum Step {
    Done,
    Admit(Admission),
    Refuse(ConnectRefusal),
    Publish(Publication, Option<PacketIdentifier>),
    Subscribed(PacketIdentifier),
    Unsubscribed(PacketIdentifier),
    Closed(CloseReason),
}

/// A CONNECT that the policy lets in.
pub(super) struct Admission {
    client_id: String,
    clean_session: bool,
    will: Option<Publication>,
}

impl<B: Broker> Server<B> {
    /// Takes one packet and asks the policy about it.
    pub(super) fn next_step(
        &mut self,
        id: ConnectionId,
        bytes: &mut &[u8],
        now: Instant,
    ) -> Option<Step> {
        let Connection { mqtt, stage, .. } = self.connections.get_mut(&id)?;
        let (broker, deliveries) = (&mut self.broker, &mut self.work.deliveries);
        let event = mqtt.handle_bytes(bytes, now)?;
        Some(match (event, &*stage) {
            (ServerEvent::Connect(connect), _) => match broker.connect(id, &connect) {
                Ok(()) => Step::Admit(Admission::new(&connect)),
                Err(refusal) => Step::Refuse(refusal),
            },
            (ServerEvent::Publish(publish), _) => Step::Publish(
                Publication {
                    message: Message::new(publish.topic, publish.payload),
                    qos: publish.qos(),
                    retain: publish.retain,
                },
                publish.packet_identifier(),
            ),
            (ServerEvent::Subscribe(subscribe), Stage::Client { session, .. }) => {
                self.codes.clear();
                self.codes.extend(
                    subscribe
                        .filters
                        .iter()
                        .map(|(filter, qos)| broker.subscribe(*session, filter, qos, deliveries)),
                );
                Step::Subscribed(subscribe.id)
            }
            (ServerEvent::Unsubscribe(unsubscribe), Stage::Client { session, .. }) => {
                for filter in unsubscribe.filters.iter() {
                    broker.unsubscribe(*session, filter);
                }
                Step::Unsubscribed(unsubscribe.id)
            }
            (ServerEvent::Closed(reason), _) => Step::Closed(reason),
            _ => Step::Done,
        })
    }

    pub(super) fn carry_out(&mut self, id: ConnectionId, step: Step, now: Instant) {
        let Some(Connection { mqtt, stage, .. }) = self.connections.get_mut(&id) else { return };
        match step {
            Step::Done => {}
            Step::Admit(admission) => self.admit(id, admission, now),
            Step::Refuse(refusal) => mqtt.refuse(refusal),
            Step::Publish(publication, packet) => {
                let Stage::Client { session, .. } = *stage else { return };
                let verdict = self.broker.publish(session, &publication, &mut self.work.deliveries);
                match verdict {
                    Verdict::Refuse => mqtt.close(),
                    Verdict::Accept => {
                        if let Some(packet) = packet {
                            mqtt.acknowledge(packet);
                        }
                    }
                }
            }
            Step::Subscribed(packet) => mqtt.suback(packet, &self.codes),
            Step::Unsubscribed(packet) => mqtt.unsuback(packet),
            Step::Closed(reason) => self.end(id, reason, now),
        }
    }

    /// Lets a client in: with the session it had, or a new one.
    fn admit(&mut self, id: ConnectionId, admission: Admission, now: Instant) {
        let Admission { mut client_id, clean_session, will } = admission;
        if client_id.is_empty() {
            client_id = self.assign_client_id();
        }
        let is_new = self.sessions.find(&client_id).is_none();
        if is_new && self.sessions.len() >= self.limits.max_sessions {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.mqtt.refuse(ConnectRefusal::ServerUnavailable);
            }
            return;
        }
        let existing = self.vacate(&client_id, clean_session, now);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let resumed = existing.and_then(|id| Some((id, self.sessions.get_mut(id)?)));
        let session_present = resumed.is_some();
        let session = if let Some((session_id, session)) = resumed {
            match core::mem::replace(&mut session.link, Link::Connected(id)) {
                Link::Parked(state) => connection.mqtt.resume(state, now),
                Link::Connected(_) => connection.mqtt.accept(true, now),
            }
            session_id
        } else {
            connection.mqtt.accept(false, now);
            let session = self.sessions.begin(&client_id, !clean_session, id);
            self.broker.session_began(session, &client_id);
            session
        };
        connection.stage = Stage::Client { session, will };
        self.events.push_back(BrokerEvent::Connected {
            connection: id,
            client_id,
            session_present,
        });
    }

    /// Ends the connection that a client has already [MQTT-3.1.4-2], and its session if it wants a
    /// clean one [MQTT-3.1.2-6]; yields the session that is left.
    fn vacate(&mut self, client_id: &str, clean_session: bool, now: Instant) -> Option<SessionId> {
        let existing = self.sessions.find(client_id)?;
        if let Some(Link::Connected(other)) =
            self.sessions.get_mut(existing).map(|session| &session.link)
        {
            let other = *other;
            if let Some(connection) = self.connections.get_mut(&other) {
                connection.mqtt.close();
            }
            self.end(other, CloseReason::TakenOver, now);
            self.work_off(now);
        }
        // What followed from that may have ended the session.
        let existing = self.sessions.find(client_id)?;
        if clean_session {
            self.end_session(existing);
            return None;
        }
        Some(existing)
    }

    /// An identifier that no session has [MQTT-3.1.3-6].
    fn assign_client_id(&mut self) -> String {
        loop {
            self.last_assigned += 1;
            let client_id = format!("auto-{}", self.last_assigned);
            if self.sessions.find(&client_id).is_none() {
                return client_id;
            }
        }
    }
}

impl Admission {
    fn new(connect: &Connect<'_>) -> Self {
        Self {
            client_id: connect.client_id.as_str().into(),
            clean_session: connect.clean_session,
            will: connect.will.map(|will| Publication {
                message: Message::new(will.topic, will.message),
                qos: will.qos,
                retain: will.retain,
            }),
        }
    }
}
