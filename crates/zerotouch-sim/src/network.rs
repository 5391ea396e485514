//! What lies between the devices and the cloud: bytes that take their time, in pieces, and connections
//! that break, with or without a word.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use chacha20::ChaCha8Rng;
use rand_core::Rng;
use zerotouch_device::{ConnectionId, TransportFailure, TransportFailureKind};
use zerotouch_time::Instant;

use crate::plan::{Fault, Incident, Service};

/// How long pieces take, and whether they are cut and joined.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// At least.
    pub least: Duration,
    /// At most.
    pub most: Duration,
    /// Whether bytes arrive in other pieces than they were sent in.
    pub pieces: bool,
}

impl Default for Weather {
    /// From one end of a continent to the other.
    fn default() -> Self {
        Self { least: Duration::from_millis(5), most: Duration::from_millis(80), pieces: true }
    }
}

/// A connection between a device and the cloud, which knows it by this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinkId(pub(crate) u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Direction {
    ToCloud,
    ToDevice,
}

/// Something that is due at a certain instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    Dialled(LinkId),
    DialFailed {
        device: usize,
        connection: ConnectionId,
        why: Refusal,
    },
    Arrived(LinkId, Direction, usize),
    Ended(LinkId, Direction),
    /// An incident begins.
    Begin(usize),
    /// It is over.
    Over(usize),
    /// A device starts for the first time, or again since its store could not be opened.
    Start(usize),
    /// The application of a device does something.
    Application(usize, Deed),
}

/// What an application does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deed {
    Telemetry,
    Renew,
    /// It reports properties.
    Report,
    /// The cloud's operator does something: sets a property,
    Desire,
    /// calls a method,
    Call,
    /// or sends a message.
    Command,
}

/// Why a dial failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refusal {
    Refused,
    NoName,
    Untrusted,
    WrongName,
    Dates,
    Alert,
}

impl Refusal {
    pub(crate) fn failure(self) -> TransportFailure {
        use TransportFailureKind as Kind;
        let (kind, detail) = match self {
            Self::Refused => (Kind::Unreachable, "connection refused"),
            Self::NoName => (Kind::Unreachable, "no such name"),
            Self::Untrusted => (Kind::ServerUntrusted, "unknown issuer"),
            Self::WrongName => (Kind::WrongHostName, "certificate for another name"),
            Self::Dates => (Kind::ServerCertificateDates, "certificate out of date"),
            Self::Alert => (Kind::ClientCertificateRefused, "alert: bad certificate"),
        };
        TransportFailure::new(kind, detail)
    }
}

/// One direction of a connection.
#[derive(Debug)]
struct Lane {
    /// When the last piece arrives: bytes do not overtake each other.
    last: Instant,
    bytes: Vec<u8>,
    arrived: usize,
    /// Pieces under way.
    pieces: u32,
    /// Bytes until the connection breaks.
    left: Option<u64>,
}

impl Lane {
    fn new(at: Instant) -> Self {
        Self { last: at, bytes: Vec::new(), arrived: 0, pieces: 0, left: None }
    }
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) device: usize,
    pub(crate) connection: ConnectionId,
    pub(crate) service: Service,
    /// What TLS presented, DER, leaf first.
    pub(crate) chain: Vec<Vec<u8>>,
    to_cloud: Lane,
    to_device: Lane,
    /// Nothing passes any more.
    silent: bool,
    /// The device still holds its end, the cloud its own.
    pub(crate) device_holds: bool,
    pub(crate) cloud_holds: bool,
    /// What the device is told when its end is gone, if not that it was closed.
    pub(crate) ending: Option<Refusal>,
}

/// What became of a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DialOutcome {
    UnderWay(LinkId),
    Lost,
}

#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) weather: Weather,
    /// What is wrong now, by the number of the incident, and until when.
    pub(crate) troubles: BTreeMap<usize, (Incident, Instant)>,
    rng: ChaCha8Rng,
    links: BTreeMap<LinkId, Link>,
    last_link: u64,
    queue: BinaryHeap<Reverse<(Instant, u64, Due)>>,
    scheduled: u64,
}

impl Network {
    pub(crate) fn new(weather: Weather, rng: ChaCha8Rng) -> Self {
        Self {
            weather,
            troubles: BTreeMap::new(),
            rng,
            links: BTreeMap::new(),
            last_link: 0,
            queue: BinaryHeap::new(),
            scheduled: 0,
        }
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.queue.peek().map(|Reverse((at, ..))| *at)
    }

    pub(crate) fn pop(&mut self) -> Option<Due> {
        self.queue.pop().map(|Reverse((.., due))| due)
    }

    pub(crate) fn schedule(&mut self, at: Instant, due: Due) {
        self.scheduled += 1;
        self.queue.push(Reverse((at, self.scheduled, due)));
    }

    pub(crate) fn link(&self, link: LinkId) -> Option<&Link> {
        self.links.get(&link)
    }

    pub(crate) fn link_mut(&mut self, link: LinkId) -> Option<&mut Link> {
        self.links.get_mut(&link)
    }

    pub(crate) fn links(&self) -> usize {
        self.links.len()
    }

    fn wrong(&self, device: usize, service: Service) -> impl Iterator<Item = &Incident> {
        self.troubles.values().map(|(one, _)| one).filter(move |one| one.strikes(device, service))
    }

    pub(crate) fn dial(
        &mut self,
        (device, connection): (usize, ConnectionId),
        service: Service,
        chain: Vec<Vec<u8>>,
        now: Instant,
    ) -> DialOutcome {
        // TCP and TLS 1.3: two round trips.
        let at = (0..4).fold(now, |at, _| at + self.latency(device, service));
        let presents = !chain.is_empty();
        let mut lost = false;
        let mut why = None;
        let mut late_alert = false;
        let has_two = self.wrong(device, service).any(|one| one.fault == Fault::TwoAddresses);
        let is_other = has_two && self.below(2) == 0;
        for one in self.wrong(device, service) {
            match one.fault {
                Fault::BlackHole | Fault::Partition | Fault::Moved { stranger: false } => {
                    lost = true;
                }
                Fault::Refuse => why = Some(Refusal::Refused),
                Fault::NoName => why = Some(Refusal::NoName),
                Fault::Untrusted => why = Some(Refusal::Untrusted),
                Fault::WrongName | Fault::Moved { stranger: true } => {
                    why = Some(Refusal::WrongName);
                }
                Fault::TwoAddresses if is_other => why = Some(Refusal::WrongName),
                Fault::ServerDates => why = Some(Refusal::Dates),
                Fault::Alert if presents => why = Some(Refusal::Alert),
                Fault::LateAlert if presents => late_alert = true,
                _ => {}
            }
        }
        if lost {
            return DialOutcome::Lost;
        }
        if let Some(why) = why {
            self.schedule(at, Due::DialFailed { device, connection, why });
            return DialOutcome::Lost;
        }
        let portal = self.wrong(device, service).any(|one| matches!(one.fault, Fault::Portal));
        self.last_link += 1;
        let id = LinkId(self.last_link);
        let link = Link {
            device,
            connection,
            service,
            chain,
            to_cloud: Lane::new(at),
            to_device: Lane::new(at),
            silent: portal || late_alert,
            device_holds: true,
            cloud_holds: false,
            ending: late_alert.then_some(Refusal::Alert),
        };
        self.links.insert(id, link);
        self.schedule(at, Due::Dialled(id));
        if portal && let Some(link) = self.links.get_mut(&id) {
            let page = b"HTTP/1.1 302 Found\r\nLocation: http://portal.example/\r\n\r\n";
            link.to_device.bytes.extend_from_slice(page);
            link.to_device.pieces += 1;
            self.schedule(at, Due::Arrived(id, Direction::ToDevice, page.len()));
        }
        if portal || late_alert {
            let at = at + self.latency(device, service);
            self.schedule(at, Due::Ended(id, Direction::ToDevice));
        }
        DialOutcome::UnderWay(id)
    }

    /// The device hangs up, or gives up its dial; or it is no more, which nobody may notice.
    pub(crate) fn let_go(&mut self, id: LinkId, silently: bool, now: Instant) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.device_holds = false;
        if silently {
            link.silent = true;
        } else if link.cloud_holds && !link.silent {
            let at = link.to_cloud.last.max(now);
            self.schedule(at, Due::Ended(id, Direction::ToCloud));
        }
        self.tidy(id);
    }

    /// The cloud closes a connection; what it has sent before still arrives.
    pub(crate) fn close(&mut self, id: LinkId, now: Instant) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.cloud_holds = false;
        if link.device_holds && !link.silent {
            let at = link.to_device.last.max(now);
            self.schedule(at, Due::Ended(id, Direction::ToDevice));
        }
        self.tidy(id);
    }

    /// A connection breaks, and both ends are told.
    pub(crate) fn reset(&mut self, id: LinkId, now: Instant) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.silent = true;
        self.schedule(now, Due::Ended(id, Direction::ToCloud));
        self.schedule(now, Due::Ended(id, Direction::ToDevice));
    }

    /// Forgets a connection that nobody holds.
    pub(crate) fn tidy(&mut self, id: LinkId) {
        if self.links.get(&id).is_some_and(|link| !link.device_holds && !link.cloud_holds) {
            self.links.remove(&id);
        }
    }

    /// An incident begins, as far as it is about connections that are there.
    pub(crate) fn begin(&mut self, incident: &Incident, now: Instant) {
        let of = |link: &Link| incident.strikes(link.device, link.service);
        let struck: Vec<LinkId> =
            self.links.iter().filter(|(_, link)| of(link)).map(|(id, _)| *id).collect();
        for id in struck {
            match incident.fault {
                Fault::Reset => self.reset(id, now),
                Fault::HalfOpen | Fault::Partition | Fault::Moved { .. } => {
                    if let Some(link) = self.links.get_mut(&id) {
                        link.silent = true;
                    }
                }
                Fault::ResetAfter { bytes, inbound } => {
                    if let Some(link) = self.links.get_mut(&id) {
                        let lane = if inbound { &mut link.to_device } else { &mut link.to_cloud };
                        lane.left = Some(bytes);
                    }
                }
                _ => {}
            }
        }
    }

    /// Sends bytes in pieces of any size, each taking its time, none overtaking another.
    pub(crate) fn send(
        &mut self,
        id: LinkId,
        direction: Direction,
        mut bytes: &[u8],
        now: Instant,
    ) {
        let Some(link) = self.links.get(&id) else { return };
        let (device, service) = (link.device, link.service);
        if link.silent {
            return;
        }
        let mut stalled = now;
        let mut pace = None;
        let mut trickles = false;
        for (one, until) in self.troubles.values() {
            if !one.strikes(device, service) {
                continue;
            }
            match one.fault {
                Fault::Stall => stalled = stalled.max(*until),
                Fault::Bandwidth { bytes_per_second } => pace = Some(bytes_per_second.max(1)),
                Fault::Trickle => trickles = true,
                _ => {}
            }
        }
        while !bytes.is_empty() {
            let length = bytes.len() as u64;
            let mut size = match (trickles, self.weather.pieces) {
                (true, _) => 1,
                (false, false) => length,
                (false, true) => 1 + self.below(length * 2).min(length - 1),
            };
            let at = stalled + self.latency(device, service);
            let Some(link) = self.links.get_mut(&id) else { return };
            let lane = match direction {
                Direction::ToCloud => &mut link.to_cloud,
                Direction::ToDevice => &mut link.to_device,
            };
            let breaks = lane.left.is_some_and(|left| left < size);
            if let Some(left) = &mut lane.left {
                size = size.min(*left);
                *left -= size;
            }
            let mut at = at.max(lane.last);
            if let Some(pace) = pace {
                at = at + Duration::from_micros(size * 1_000_000 / pace);
            }
            if trickles {
                at = at + Duration::from_millis(5);
            }
            lane.last = at;
            let (piece, rest) = bytes.split_at(usize::try_from(size).unwrap_or(bytes.len()));
            if !piece.is_empty() {
                lane.bytes.extend_from_slice(piece);
                lane.pieces += 1;
                self.schedule(at, Due::Arrived(id, direction, piece.len()));
            }
            if breaks {
                if let Some(link) = self.links.get_mut(&id) {
                    link.silent = true;
                }
                self.schedule(at, Due::Ended(id, Direction::ToCloud));
                self.schedule(at, Due::Ended(id, Direction::ToDevice));
                return;
            }
            bytes = rest;
        }
    }

    /// A piece is there: what the receiver reads now, which may be nothing yet, and more then.
    pub(crate) fn arrive(&mut self, id: LinkId, direction: Direction, size: usize) -> Vec<u8> {
        let waits = self.weather.pieces && self.below(4) == 0;
        let Some(link) = self.links.get_mut(&id) else { return Vec::new() };
        let (lane, holds) = match direction {
            Direction::ToCloud => (&mut link.to_cloud, link.cloud_holds),
            Direction::ToDevice => (&mut link.to_device, link.device_holds),
        };
        lane.arrived += size;
        lane.pieces = lane.pieces.saturating_sub(1);
        if waits && lane.pieces > 0 {
            return Vec::new();
        }
        let arrived = std::mem::take(&mut lane.arrived).min(lane.bytes.len());
        let bytes: Vec<u8> = lane.bytes.drain(..arrived).collect();
        if holds { bytes } else { Vec::new() }
    }

    fn latency(&mut self, device: usize, service: Service) -> Duration {
        let more = self
            .wrong(device, service)
            .filter_map(|one| match one.fault {
                Fault::Latency { millis } => Some(millis),
                _ => None,
            })
            .max();
        let Weather { least, most, .. } = self.weather;
        let spread = most.saturating_sub(least) + Duration::from_millis(more.unwrap_or(0));
        let micros = u64::try_from(spread.as_micros()).unwrap_or(u64::MAX);
        if micros == 0 {
            return least;
        }
        least + Duration::from_micros(self.below(micros.saturating_add(1)))
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.rng.next_u64() % end.max(1)
    }
}

impl Network {
    pub(crate) fn is_silent(&self, id: LinkId) -> bool {
        self.links.get(&id).is_some_and(|link| link.silent)
    }

    /// All connections that the cloud holds.
    pub(crate) fn cloud_links(&self) -> Vec<LinkId> {
        self.links.iter().filter(|(_, link)| link.cloud_holds).map(|(id, _)| *id).collect()
    }
}
