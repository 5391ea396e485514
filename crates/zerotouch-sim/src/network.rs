//! What lies between the devices and the cloud: bytes that take their time, in pieces, and connections
//! that break.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::BinaryHeap;
use std::time::Duration;

use chacha20::ChaCha8Rng;
use rand_core::Rng;
use zerotouch_device::ConnectionId;
use zerotouch_time::Instant;

/// How faulty the world is.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// Each piece of bytes, and each dial, takes up to this long.
    pub latency: Duration,
    /// Pieces in a thousand that break their connection instead of arriving.
    pub resets: u32,
    /// Dials in a thousand that fail.
    pub refused_dials: u32,
    /// Changes of identity in a thousand that the store refuses.
    pub store_failures: u32,
}

impl Faults {
    /// A network with latency, and nothing else wrong.
    pub const NONE: Self =
        Self { latency: Duration::from_millis(80), resets: 0, refused_dials: 0, store_failures: 0 };
    /// A bad day: every twentieth piece breaks its connection, every tenth dial and store fails.
    pub const BAD_DAY: Self =
        Self { resets: 50, refused_dials: 100, store_failures: 100, ..Self::NONE };
}

/// A connection between a device and the cloud, which knows it by this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinkId(pub(crate) u64);

/// Something that happens at a certain instant.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Delivery {
    Dialled(LinkId),
    DialFailed {
        device: usize,
        connection: ConnectionId,
    },
    ToCloud(LinkId, Vec<u8>),
    ToDevice(LinkId, Vec<u8>),
    /// The device's end is gone: the cloud learns of it.
    CloudEnd(LinkId),
    /// The cloud's end is gone: the device learns of it.
    DeviceEnd(LinkId),
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) device: usize,
    pub(crate) connection: ConnectionId,
    /// What TLS presented, DER, leaf first.
    pub(crate) chain: Vec<Vec<u8>>,
    /// When the last piece in each direction arrives: bytes do not overtake each other.
    to_cloud: Instant,
    to_device: Instant,
}

#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) faults: Faults,
    rng: ChaCha8Rng,
    links: BTreeMap<LinkId, Link>,
    last_link: u64,
    queue: BinaryHeap<Reverse<(Instant, u64, Delivery)>>,
    scheduled: u64,
}

impl Network {
    pub(crate) fn new(faults: Faults, rng: ChaCha8Rng) -> Self {
        Self {
            faults,
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

    pub(crate) fn pop(&mut self) -> Option<Delivery> {
        self.queue.pop().map(|Reverse((.., delivery))| delivery)
    }

    pub(crate) fn link(&self, link: LinkId) -> Option<&Link> {
        self.links.get(&link)
    }

    pub(crate) fn dial(
        &mut self,
        device: usize,
        connection: ConnectionId,
        chain: Vec<Vec<u8>>,
        now: Instant,
    ) {
        let at = now + self.latency();
        if self.chance(self.faults.refused_dials) {
            return self.schedule(at, Delivery::DialFailed { device, connection });
        }
        self.last_link += 1;
        let link = LinkId(self.last_link);
        self.links.insert(link, Link { device, connection, chain, to_cloud: at, to_device: at });
        self.schedule(at, Delivery::Dialled(link));
    }

    /// The device hangs up, or gives up its dial.
    pub(crate) fn hang_up(&mut self, device: usize, connection: ConnectionId, now: Instant) {
        let found =
            self.links.iter().find(|(_, l)| l.device == device && l.connection == connection);
        if let Some((&link, _)) = found {
            let at = self.links.remove(&link).map_or(now, |link| link.to_cloud.max(now));
            self.schedule(at, Delivery::CloudEnd(link));
        }
    }

    /// The cloud closes a connection; what it has sent before still arrives.
    pub(crate) fn close(&mut self, link: LinkId, now: Instant) {
        if let Some(at) = self.links.get(&link).map(|link| link.to_device.max(now)) {
            self.schedule(at, Delivery::DeviceEnd(link));
        }
    }

    /// The device has learned that its connection ended.
    pub(crate) fn forget(&mut self, link: LinkId) -> Option<Link> {
        self.links.remove(&link)
    }

    pub(crate) fn link_of(&self, device: usize, connection: ConnectionId) -> Option<LinkId> {
        self.links
            .iter()
            .find(|(_, l)| l.device == device && l.connection == connection)
            .map(|(id, _)| *id)
    }

    pub(crate) fn send_to_cloud(&mut self, link: LinkId, bytes: &[u8], now: Instant) {
        self.send(link, bytes, now, |link| &mut link.to_cloud, Delivery::ToCloud);
    }

    pub(crate) fn send_to_device(&mut self, link: LinkId, bytes: &[u8], now: Instant) {
        self.send(link, bytes, now, |link| &mut link.to_device, Delivery::ToDevice);
    }

    /// Sends bytes in pieces of any size, each taking its time, none overtaking another.
    fn send(
        &mut self,
        id: LinkId,
        mut bytes: &[u8],
        now: Instant,
        last: impl Fn(&mut Link) -> &mut Instant,
        delivery: fn(LinkId, Vec<u8>) -> Delivery,
    ) {
        while !bytes.is_empty() {
            let at = now + self.latency();
            let length = 1 + self.below(bytes.len() as u64 * 2).min(bytes.len() as u64 - 1);
            let broken = self.chance(self.faults.resets);
            let Some(link) = self.links.get_mut(&id) else { return };
            let at = at.max(*last(link));
            *last(link) = at;
            if broken {
                self.schedule(at, Delivery::CloudEnd(id));
                self.schedule(at, Delivery::DeviceEnd(id));
                return;
            }
            let (piece, rest) = bytes.split_at(usize::try_from(length).unwrap_or(bytes.len()));
            self.schedule(at, delivery(id, piece.to_vec()));
            bytes = rest;
        }
    }

    pub(crate) fn store_fails(&mut self) -> bool {
        self.chance(self.faults.store_failures)
    }

    fn schedule(&mut self, at: Instant, delivery: Delivery) {
        self.scheduled += 1;
        self.queue.push(Reverse((at, self.scheduled, delivery)));
    }

    fn latency(&mut self) -> Duration {
        let micros = u64::try_from(self.faults.latency.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.below(micros.saturating_add(1)))
    }

    fn chance(&mut self, in_a_thousand: u32) -> bool {
        in_a_thousand > 0 && self.below(1000) < u64::from(in_a_thousand)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.rng.next_u64() % end.max(1)
    }
}
