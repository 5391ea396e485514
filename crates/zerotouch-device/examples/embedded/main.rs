//! The firmware's whole life against a cloud in memory, and the heap it takes: provision, connect, send,
//! renew, send, close.
//!
//!     cargo run -p zerotouch-device --example embedded

mod firmware;

use std::error::Error;

use allocation_counter::{AllocationInfo, measure, opt_out};
use chacha20::ChaCha20Rng;
use chacha20::rand_core::SeedableRng;
use zerotouch_credentials::SymmetricKey;
use zerotouch_device::{Attestation, Config, Event, State, TlsIdentity};
use zerotouch_dps::{IdScope, RegistrationId};
use zerotouch_emulator::cloud::{Action, Cloud, CloudError, CloudEvent, ConnectionId, Fixture};
use zerotouch_hub::Telemetry;
use zerotouch_time::{Instant, Now, UnixTime};

use firmware::{Board, Firmware, HEAP};

const ID: &str = "pump-17";
const GENESIS: UnixTime = UnixTime::from_secs(1_790_000_000);

/// An allocator's own, for each allocation: four bytes of header, and up to as many for alignment.
const HEADER: u64 = 8;
/// What a connected device that has nothing to do may hold, in bytes.
const IDLE: u64 = 13 * 1024;
/// What its whole life may hold at once: the rest of [`HEAP`] is for holes between allocations.
const PEAK: u64 = 32 * 1024;
const _: () = assert!(PEAK < HEAP as u64 * 2 / 3);

/// A board whose modem is wired to a cloud. What it allocates is not the firmware's.
struct Simulated {
    cloud: Cloud,
    time: Instant,
    link: Option<ConnectionId>,
    links: u64,
    arriving: Vec<u8>,
}

impl Simulated {
    fn new() -> Result<Self, CloudError> {
        let cloud = Cloud::new(Fixture::default(), ChaCha20Rng::seed_from_u64(7), GENESIS)?;
        Ok(Self { cloud, time: Instant::ZERO, link: None, links: 0, arriving: Vec::new() })
    }

    /// Takes what the cloud sends.
    fn listen(&mut self) {
        while let Some(action) = self.cloud.poll_action() {
            match action {
                Action::Transmit { connection, bytes } if self.link == Some(connection) => {
                    self.arriving.extend(bytes);
                }
                Action::Close { connection } if self.link == Some(connection) => self.link = None,
                _ => {}
            }
        }
    }
}

impl Board for Simulated {
    fn now(&self) -> Now {
        let wall = GENESIS + self.time.since(Instant::ZERO);
        Now { monotonic: self.time, wall: Some(wall) }
    }

    fn dial(&mut self, _: &str, _: u16, identity: Option<&TlsIdentity>) -> bool {
        opt_out(|| {
            self.links += 1;
            let link = ConnectionId(self.links);
            let chain = identity.iter().flat_map(|identity| identity.chain.iter());
            let chain = chain.map(|certificate| certificate.as_der().to_vec()).collect();
            self.link = Some(link);
            self.cloud.handle_open(link, chain, self.now());
            self.listen();
        });
        true
    }

    fn hang_up(&mut self) {
        opt_out(|| {
            if let Some(link) = self.link.take() {
                self.cloud.handle_closed(link, self.now());
            }
            self.arriving.clear();
        });
    }

    fn transmit(&mut self, bytes: &[u8]) -> usize {
        opt_out(|| {
            if let Some(link) = self.link {
                self.cloud.handle_bytes(link, bytes, self.now());
            }
            self.listen();
        });
        bytes.len()
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let n = self.arriving.len().min(buffer.len());
        buffer[..n].copy_from_slice(&self.arriving[..n]);
        opt_out(|| drop(self.arriving.drain(..n)));
        (n > 0 || self.link.is_some()).then_some(n)
    }

    fn sleep(&mut self, until: Option<Instant>) {
        opt_out(|| {
            let due = until.into_iter().chain(self.cloud.poll_timeout()).min();
            self.time = due.unwrap_or(self.time).max(self.time);
            self.cloud.handle_timeout(self.now());
            self.listen();
        });
    }
}

/// Lives a life and says what heap it took, with nothing counted but the device's.
pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let mut board = Simulated::new()?;
    let group = board.cloud.group_key(Fixture::DEFAULT_GROUP).ok_or("no default group")?;
    let (key, id_scope) = (group.derive(ID), board.cloud.id_scope().to_owned());
    let mut idle = AllocationInfo::default();
    let mut stopped = false;
    let life = measure(|| stopped = live(key, &id_scope, &mut board, &mut idle));
    if !stopped {
        return Err("the device did not come to its end".into());
    }
    let telemetry = std::iter::from_fn(|| board.cloud.poll_event())
        .filter(|event| matches!(event, CloudEvent::Telemetry { .. }))
        .count();
    if telemetry != 2 {
        return Err(format!("{telemetry} messages arrived").into());
    }
    let taken = |bytes: u64, count: u64| bytes + count * HEADER;
    let idle = taken(idle.bytes_current.try_into()?, idle.count_current.try_into()?);
    let peak = taken(life.bytes_max, life.count_max);
    let fixed = size_of::<Firmware<ChaCha20Rng>>();
    println!("{fixed} bytes of variables; heap: {idle} bytes when connected, {peak} at most");
    if idle > IDLE || peak > PEAK {
        return Err(format!("{IDLE} bytes are allowed when connected, {PEAK} at most").into());
    }
    Ok(())
}

/// Provisions, connects, sends, renews, sends and closes; whether it came to that end. `idle` becomes
/// what is held after the first acknowledgement.
fn live(
    key: SymmetricKey,
    id_scope: &str,
    board: &mut Simulated,
    idle: &mut AllocationInfo,
) -> bool {
    let (Ok(id_scope), Ok(id)) = (IdScope::new(id_scope), RegistrationId::new(ID)) else {
        return false;
    };
    let mut config = Config::new(id_scope, id, Attestation::SymmetricKey(key));
    config.hub.hosts.allow("localhost");
    let mut firmware = None;
    let mut acknowledged = 0;
    *idle = measure(|| {
        let firmware = firmware.insert(Firmware::new(config, ChaCha20Rng::seed_from_u64(8)));
        for _ in 0..1000 {
            let now = board.now();
            firmware.turn(board, |device, event| match event {
                Event::Activated { .. } => {
                    let _ = device.send_telemetry(Telemetry::new("21.5"), now);
                }
                Event::TelemetryAcknowledged(_) => acknowledged += 1,
                _ => {}
            });
            if acknowledged == 1 {
                break;
            }
        }
    });
    let Some(firmware) = &mut firmware else { return false };
    let mut renewing = false;
    for _ in 0..1000 {
        let now = board.now();
        if !renewing {
            renewing = firmware.device.renew(now).is_ok();
        }
        firmware.turn(board, |device, event| match event {
            Event::Activated { generation: 2, .. } => {
                let _ = device.send_telemetry(Telemetry::new("21.7"), now);
            }
            Event::TelemetryAcknowledged(_) => {
                acknowledged += 1;
                device.close(now);
            }
            _ => {}
        });
        if firmware.device.state() == State::Stopped {
            return acknowledged == 2;
        }
    }
    false
}
