//! What services do to the world outside them: answer connections, set timers, tell what happened.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use chacha20::ChaCha20Rng;
use zerotouch_mqtt_codec::{ConnectRefusal, PacketIdentifier, QoS, SubAckReturnCode};
use zerotouch_time::Instant;

use super::clock::Clock;
use super::event::{CloudEvent, ConnectionId};
use super::exchange::{CallOutcome, RequestId};
use super::fault::{Fault, Faults, Operation, Strikes};
use super::fixture::InitialTwin;
use super::registry::DeviceKey;
use super::webhook::WebhookRequest;
use crate::event_log::EventLog;

/// The connection an input came on, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    pub(super) connection: ConnectionId,
    pub(super) clock: Clock,
}

/// Something a connection has to do, in the order the services decided.
#[derive(Clone, Debug)]
pub(super) enum Command {
    Accept {
        session_present: bool,
    },
    Refuse(ConnectRefusal),
    Acknowledge(PacketIdentifier),
    Suback(PacketIdentifier, Vec<SubAckReturnCode>),
    Unsuback(PacketIdentifier),
    Publish(Message),
    /// From here on bytes go out one by one, with that time in between.
    Trickle(Duration),
    Close,
}

/// A message to a client.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) qos: QoS,
    /// What it brings, if that is kept until it has been delivered.
    pub(super) delivery: Option<Delivery>,
}

/// Names what is kept for a device until it has been delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    Renewal(RenewalResult),
    /// A cloud-to-device message.
    Command {
        device: DeviceKey,
        number: u64,
    },
}

/// Names the result of one renewal of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RenewalResult {
    pub(super) device: DeviceKey,
    pub(super) correlation_id: String,
}

/// A device that the provisioning service has given to a hub.
#[derive(Debug)]
pub(super) struct Placement {
    pub(super) device: DeviceKey,
    /// Where it was, if that is elsewhere.
    pub(super) former: Option<DeviceKey>,
    /// What its twin begins anew with; without it the twin goes where the device goes.
    pub(super) twin: Option<InitialTwin>,
}

/// What wants to be woken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Connection(ConnectionId),
    Renewal(DeviceKey),
    /// A cloud-to-device message of the device expires.
    Commands(DeviceKey),
    /// The token expires that the device's connection came with.
    Token(DeviceKey),
    /// The answer to a direct method that somebody waits for over HTTPS.
    Call(RequestId),
    /// What a fault holds back.
    Late(u64),
}

/// The timers, each set to one instant.
#[derive(Debug, Default)]
pub(super) struct Timers {
    due: BTreeSet<(Instant, Timer)>,
    set: BTreeMap<Timer, Instant>,
}

impl Timers {
    /// Sets, changes or (with `None`) clears a timer.
    pub(super) fn set(&mut self, timer: Timer, at: Option<Instant>) {
        if self.set.get(&timer).copied() == at {
            return;
        }
        let former = match at {
            Some(at) => {
                self.due.insert((at, timer.clone()));
                self.set.insert(timer.clone(), at)
            }
            None => self.set.remove(&timer),
        };
        if let Some(former) = former {
            self.due.remove(&(former, timer));
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes the next timer that is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Timer> {
        let (at, _) = self.due.first()?;
        if *at > now {
            return None;
        }
        let (_, timer) = self.due.pop_first()?;
        self.set.remove(&timer);
        Some(timer)
    }
}

/// Where services leave what they decide.
#[derive(Debug)]
pub(super) struct Effects {
    pub(super) commands: Vec<(ConnectionId, Command)>,
    /// What became of calls that somebody waits for.
    pub(super) outcomes: Vec<(RequestId, CallOutcome)>,
    /// What the provisioning service tells the hubs.
    pub(super) placements: Vec<Placement>,
    /// What somebody else is asked.
    pub(super) webhooks: VecDeque<WebhookRequest>,
    pub(super) events: EventLog<CloudEvent>,
    pub(super) timers: Timers,
    pub(super) rng: ChaCha20Rng,
    pub(super) faults: Faults,
    /// What faults hold back, by the number of its timer.
    late: BTreeMap<u64, (ConnectionId, Vec<Command>)>,
    last_late: u64,
}

impl Effects {
    pub(super) fn new(rng: ChaCha20Rng) -> Self {
        Self {
            commands: Vec::new(),
            outcomes: Vec::new(),
            placements: Vec::new(),
            webhooks: VecDeque::new(),
            events: EventLog::default(),
            timers: Timers::default(),
            rng,
            faults: Faults::default(),
            late: BTreeMap::new(),
            last_late: 0,
        }
    }

    /// Leaves a command to be carried out. Where a fault holds back that a client is accepted, what the client
    /// is sent comes after that.
    pub(super) fn command(&mut self, connection: ConnectionId, command: Command) {
        let accepts = |command: &Command| matches!(command, Command::Accept { .. });
        let acceptance = self.late.values_mut().find(|(waiting, commands)| {
            *waiting == connection && commands.first().is_some_and(accepts)
        });
        match acceptance {
            Some((_, commands)) if !matches!(command, Command::Close) => commands.push(command),
            _ => self.commands.push((connection, command)),
        }
    }

    pub(super) fn publish(
        &mut self,
        connection: ConnectionId,
        topic: String,
        payload: Vec<u8>,
        qos: QoS,
    ) {
        let message = Message { topic, payload, qos, delivery: None };
        self.command(connection, Command::Publish(message));
    }

    /// What goes wrong with an operation of a device.
    pub(super) fn strike(&mut self, operation: Operation, device: &str) -> Strikes {
        let strikes = self.faults.strike(operation, device, &mut self.rng);
        for fault in strikes.iter() {
            let (device, fault) = (device.into(), fault.name());
            self.tell(CloudEvent::FaultStruck { device, operation, fault });
        }
        strikes
    }

    /// Leaves a command to be carried out as faults want it: late, twice, or never.
    pub(super) fn deliver(&mut self, command: Command, strikes: &Strikes, at: At) {
        if let Some(interval) = strikes.trickle() {
            self.command(at.connection, Command::Trickle(interval));
        }
        if strikes.is_lost() {
            return;
        }
        let mut commands = vec![command];
        if strikes.has(&Fault::Duplicate) {
            commands.extend(commands.first().cloned());
        }
        let Some(delay) = strikes.delay() else {
            for command in commands {
                self.command(at.connection, command);
            }
            return;
        };
        self.last_late += 1;
        self.late.insert(self.last_late, (at.connection, commands));
        self.timers.set(Timer::Late(self.last_late), Some(at.clock.monotonic + delay));
    }

    /// What a fault has held back is due.
    pub(super) fn release(&mut self, late: u64) {
        if let Some((connection, commands)) = self.late.remove(&late) {
            self.commands.extend(commands.into_iter().map(|command| (connection, command)));
        }
    }

    pub(super) fn tell(&mut self, event: CloudEvent) {
        self.events.push(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // One timer rings once, when it was last set to.
    #[test]
    fn a_timer_moves() {
        let timer = Timer::Connection(ConnectionId(1));
        let at = Instant::from_micros;
        let mut timers = Timers::default();
        timers.set(timer.clone(), Some(at(5)));
        timers.set(timer.clone(), Some(at(9)));
        assert_eq!((timers.next(), timers.pop(at(8))), (Some(at(9)), None));
        assert_eq!(timers.pop(at(9)), Some(timer.clone()));
        assert_eq!((timers.next(), timers.pop(at(10))), (None, None));
        timers.set(timer.clone(), Some(at(20)));
        timers.set(timer, None);
        assert_eq!(timers.next(), None);
    }
}
