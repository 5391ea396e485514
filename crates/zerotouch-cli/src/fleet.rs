//! `zerotouch fleet`: many devices in one process, to see what a service bears.
//!
//! ```text
//!   keys, certificates ─► at most so many at once: DPS ─► chain ─► hub ─┬─ provision: leave
//!                                                                       ├─ idle: stay, then one message
//!                         a broker instead of both ─────────────────────┴─ telemetry: send, then leave
//! ```
//!
//! The connections are the engines of the library behind bare sockets, lighter than what they are to load:
//! all on one thread unless they provision, no buffer kept while nothing arrives.

mod device;
mod link;
mod tally;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use zerotouch_credentials::{CertificateChain, KeyAlgorithm, PrivateKey, Signer, SymmetricKey};
use zerotouch_device::{Failure, Scope, TransportFailure, TransportFailureKind};
use zerotouch_dps::IdScope;
use zerotouch_driver::{Clock, DeviceRng, Dialler, Network, device_rng, transport_failure};
use zerotouch_emulator::pki::Validity;
use zerotouch_emulator::server::{crypto_provider, fast_signer};
use zerotouch_tls::{Roots, TlsClient};

use crate::arguments::{self, FleetMode, Output};
use crate::descriptors;
use crate::emulation::EmulationError;
use crate::emulator::interrupted;
use crate::failure::CliError;
use crate::pki::Issuer;
use crate::secret::SecretReference;
use crate::timeline::{error_json, write_line};
use tally::{Tally, count_as_f64, millis};

/// How long one step of a connection may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// In seconds.
const KEEP_ALIVE: u16 = 60;
/// How often it is looked whether all are there.
const TICK: Duration = Duration::from_millis(20);
const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// What all devices share.
struct Fleet {
    arguments: arguments::Fleet,
    id_scope: IdScope,
    dialler: Dialler,
    places: Places,
    clock: Clock,
    keys: Vec<Arc<dyn Signer>>,
    credential: Credential,
    phase: watch::Sender<Phase>,
    tally: Mutex<Tally>,
}

/// What the devices show at first.
enum Credential {
    GroupKey(SymmetricKey),
    /// One for each device.
    Certificates(Vec<CertificateChain>),
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not all are connected yet.
    Gathering,
    /// Under load.
    Under,
    Over,
}

impl Fleet {
    fn name(&self, number: usize) -> String {
        name(&self.arguments, number)
    }

    /// A device that panicked has left numbers that are whole.
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name(arguments: &arguments::Fleet, number: usize) -> String {
    format!("{}-{number:05}", arguments.name_prefix)
}

pub(crate) async fn run(arguments: arguments::Fleet) -> Result<(), CliError> {
    let output = arguments.output;
    let outcome = match prepare(arguments).await {
        Ok(fleet) => Ok(drive(Arc::new(fleet)).await),
        Err(error) => Err(error),
    };
    match outcome {
        Ok(result) => {
            match output {
                Output::Json | Output::Jsonl => write_line(&format!("{:#}", result.json())),
                Output::Text => write_line(&result.words()),
            }
            result.error.map_or(Ok(()), Err)
        }
        Err(error) => {
            if output != Output::Text {
                let document =
                    json!({ "schemaVersion": 1, "ok": false, "error": error_json(&error) });
                write_line(&format!("{document:#}"));
            }
            Err(error)
        }
    }
}

/// Everything that can be refused, and everything that a device has from the factory.
async fn prepare(arguments: arguments::Fleet) -> Result<Fleet, CliError> {
    let at_once = match arguments.mode {
        FleetMode::Provision => arguments.devices.min(arguments.at_once),
        FleetMode::Idle | FleetMode::Telemetry => arguments.devices,
    };
    let room = descriptors::room_for_connections().unwrap_or(u64::MAX);
    if u64::from(at_once) > room {
        let needed = descriptors::needed(at_once.into());
        return Err(EmulationError::Descriptors { connections: at_once, room, needed }.into());
    }
    let id_scope = IdScope::new(&arguments.id_scope)?;
    let group_key = arguments.group_key.as_ref().map(SecretReference::read_key).transpose()?;
    let issuer = arguments.issuer.as_deref().map(open_issuer).transpose()?;
    let roots = match &arguments.ca_file {
        Some(path) => Roots::Pem(
            std::fs::read(path)
                .map_err(|source| CliError::CaFile { path: path.clone(), source })?,
        ),
        None => Roots::Platform,
    };
    // Each device's sessions would be its own.
    let tls = TlsClient::with_provider(crypto_provider(), &roots)
        .map_err(zerotouch_driver::StartError::from)?;
    let dialler = Dialler::with_tls(tls.resumption(false), Network::default());
    let places = Places::new(arguments.port, arguments.allow_remote);
    places.check(&arguments.host).await?;

    let mut rng = device_rng().map_err(CliError::Randomness)?;
    let clock = Clock::new();
    let keys = (0..arguments.keys.min(arguments.devices))
        .map(|_| new_key(arguments.key_algorithm.into(), &mut rng))
        .collect::<Result<Vec<_>, _>>()?;
    let credential = match (group_key, issuer) {
        (Some(key), _) => Credential::GroupKey(key),
        (None, Some(issuer)) => {
            Credential::Certificates(certify(&arguments, &issuer, &keys, clock, &mut rng)?)
        }
        (None, None) => Credential::None,
    };
    Ok(Fleet {
        id_scope,
        dialler,
        places,
        clock,
        keys,
        credential,
        phase: watch::Sender::new(Phase::Gathering),
        tally: Mutex::default(),
        arguments,
    })
}

fn open_issuer(path: &Path) -> Result<Issuer, CliError> {
    Issuer::open(&arguments::Issuer { issuer: path.into(), issuer_key: None })
}

fn new_key(algorithm: KeyAlgorithm, rng: &mut DeviceRng) -> Result<Arc<dyn Signer>, CliError> {
    Ok(fast_signer(Arc::new(PrivateKey::generate(algorithm, rng)?))?)
}

/// A certificate for each device, as from the factory.
fn certify(
    arguments: &arguments::Fleet,
    issuer: &Issuer,
    keys: &[Arc<dyn Signer>],
    clock: Clock,
    rng: &mut DeviceRng,
) -> Result<Vec<CertificateChain>, CliError> {
    let from = clock.now().wall.ok_or(CliError::ClockUnset)?;
    let left = issuer.authority.certificate().not_after().since(from);
    let validity = Validity { from, lifetime: CERTIFICATE_LIFETIME.min(left) };
    (0..arguments.devices as usize)
        .map(|number| {
            let (name, key) = (name(arguments, number), keys[number % keys.len()].public_key());
            let leaf = issuer.authority.certify_device(&name, key, validity, rng)?;
            let chain = std::iter::once(leaf).chain(issuer.chain.iter().cloned()).collect();
            CertificateChain::new(chain).ok_or(CliError::Stopped)
        })
        .collect()
}

/// Where hosts are. Each is looked up once, and has to be this machine unless others are allowed.
struct Places {
    port: u16,
    allow_remote: bool,
    known: Mutex<HashMap<String, SocketAddr>>,
}

impl Places {
    fn new(port: u16, allow_remote: bool) -> Self {
        Self { port, allow_remote, known: Mutex::default() }
    }

    /// As [`Places::address`], before anything has begun.
    async fn check(&self, host: &str) -> Result<(), CliError> {
        let found = self
            .look_up(host)
            .await
            .map_err(|failure| CliError::Attempt { scope: Scope::Dps, failure: failure.into() })?;
        found.map(drop).ok_or_else(|| EmulationError::RemoteHost { host: host.into() }.into())
    }

    async fn address(&self, host: &str) -> Result<SocketAddr, Failure> {
        let found = self.look_up(host).await?;
        found.ok_or_else(|| Failure::HubNotAllowed { host: host.into() })
    }

    /// The first of its addresses that takes a connection; `None` if that is not allowed.
    async fn look_up(&self, host: &str) -> Result<Option<SocketAddr>, TransportFailure> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(address) = known().get(host) {
            return Ok(Some(*address));
        }
        let addresses = lookup_host((host, self.port)).await;
        let addresses: Vec<_> = addresses.map_err(|error| transport_failure(&error))?.collect();
        if !self.allow_remote && !addresses.iter().all(|address| address.ip().is_loopback()) {
            return Ok(None);
        }
        let nowhere = TransportFailureKind::Unreachable;
        let mut failure = TransportFailure::new(nowhere, "the name has no address");
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(_) => {
                    known().insert(host.into(), address);
                    return Ok(Some(address));
                }
                Err(error) => failure = transport_failure(&error),
            }
        }
        Err(failure)
    }
}

/// What a run has come to.
struct Outcome {
    fleet: Arc<Fleet>,
    began: Instant,
    took: Duration,
    /// What of it this process has used of the processors: if that is all there is, it has measured itself.
    processor: Option<Duration>,
    /// How long they were under load.
    under: Duration,
    error: Option<CliError>,
}

/// Starts the devices, waits, and ends them.
async fn drive(fleet: Arc<Fleet>) -> Outcome {
    let (began, processor) = (Instant::now(), processor_time());
    let mut tasks = JoinSet::new();
    let limit = fleet.arguments.limit;
    let interrupted = interrupted();
    let early = async move {
        tokio::select! {
            () = interrupted => CliError::Interrupted,
            () = sleep(Duration::from_secs(limit.into())) => EmulationError::FleetLimit { seconds: limit }.into(),
        }
    };
    tokio::pin!(early);
    let mut under = Duration::ZERO;
    let mut stopped = tokio::select! {
        () = gather(&fleet, &mut tasks) => None,
        early = &mut early => Some(early),
    };
    let (connected, seconds) = (fleet.tally().connected, fleet.arguments.seconds);
    if stopped.is_none() && connected > 0 {
        let devices = fleet.arguments.devices;
        eprintln!("{connected} of {devices} devices are connected, for {seconds} s");
        fleet.phase.send_replace(Phase::Under);
        let load = Instant::now();
        tokio::select! {
            () = sleep(Duration::from_secs(seconds.into())) => {}
            early = &mut early => stopped = Some(early),
        }
        under = load.elapsed();
        fleet.phase.send_replace(Phase::Over);
        // Each says goodbye; those that cannot have failed.
        let _ = timeout(PATIENCE, async { while tasks.join_next().await.is_some() {} }).await;
    }
    tasks.shutdown().await;
    let error = stopped.or_else(|| complaint(&fleet));
    let processor = processor_time().zip(processor).map(|(now, then)| now.saturating_sub(then));
    Outcome { began, took: began.elapsed(), processor, under, error, fleet }
}

/// What this process has used of the processors, where the system tells.
fn processor_time() -> Option<Duration> {
    #[cfg(unix)]
    {
        use rustix::time::{ClockId, clock_gettime};
        clock_gettime(ClockId::ProcessCPUTime).try_into().ok()
    }
    #[cfg(not(unix))]
    None
}

/// Until all have come to where they stay, or are done.
async fn gather(fleet: &Arc<Fleet>, tasks: &mut JoinSet<()>) {
    let at_once = Arc::new(Semaphore::new(fleet.arguments.at_once as usize));
    for number in 0..fleet.arguments.devices as usize {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&at_once).acquire_owned().await else { return };
        tasks.spawn(device::live(Arc::clone(fleet), number, place));
    }
    if fleet.arguments.mode == FleetMode::Provision {
        while tasks.join_next().await.is_some() {}
        return;
    }
    loop {
        {
            let tally = fleet.tally();
            // Who has failed after it was connected counts once.
            if tally.connected - tally.lost + tally.failures() >= fleet.arguments.devices {
                return;
            }
        }
        sleep(TICK).await;
    }
}

/// What was not as it was asked for.
fn complaint(fleet: &Fleet) -> Option<CliError> {
    let mut tally = fleet.tally();
    let (failed, devices) = (tally.failures(), fleet.arguments.devices);
    if let Some((scope, failure)) = tally.first.take() {
        return Some(EmulationError::FleetAttempts { failed, devices, scope, failure }.into());
    }
    let lost = tally.sent - tally.acknowledged;
    (lost > 0).then(|| EmulationError::FleetUnacknowledged { lost }.into())
}

impl Outcome {
    fn json(&self) -> Value {
        let (tally, arguments) = (self.fleet.tally(), &self.fleet.arguments);
        let errors: Vec<Value> = tally
            .errors()
            .map(|(kind, count, example)| json!({ "kind": kind, "count": count, "example": example }))
            .collect();
        let (rate, steady) = tally.rates(self.began, arguments.at_once as usize);
        json!({
            "schemaVersion": 1,
            "ok": self.error.is_none(),
            "mode": arguments.mode.name(),
            "devices": arguments.devices,
            "tookMs": millis(self.took),
            "processorMs": self.processor.map(millis),
            "underLoadMs": millis(self.under),
            "provisioned": tally.provisioned.len(),
            "provisionedPerSecond": tenth(rate),
            "provisionedPerSecondSteady": steady.map(tenth),
            "provisioningMs": tally.provisioning.json(),
            "connected": tally.connected,
            "lostConnections": tally.lost,
            "sent": tally.sent,
            "acknowledged": tally.acknowledged,
            "acknowledgedPerSecond": tenth(self.message_rate(&tally)),
            "acknowledgementMs": tally.acknowledgement.json(),
            "errors": errors,
            "error": self.error.as_ref().map(error_json),
        })
    }

    fn words(&self) -> String {
        let (tally, arguments) = (self.fleet.tally(), &self.fleet.arguments);
        let mut lines =
            vec![format!("  {} devices, {:.1} s", arguments.devices, self.took.as_secs_f64())];
        if !arguments.broker {
            let (rate, steady) = tally.rates(self.began, arguments.at_once as usize);
            let steady =
                steady.map(|steady| format!(", {steady:.1} with {} under way", arguments.at_once));
            lines.push(format!(
                "  provisioned   {}, {rate:.1} a second{}",
                tally.provisioned.len(),
                steady.unwrap_or_default()
            ));
            lines.push(format!("                {}", tally.provisioning.words()));
        }
        if arguments.mode != FleetMode::Provision {
            lines.push(format!("  connected     {}, {} lost", tally.connected, tally.lost));
            lines.push(format!(
                "  acknowledged  {} of {}, {:.0} a second",
                tally.acknowledged,
                tally.sent,
                self.message_rate(&tally)
            ));
            lines.push(format!("                {}", tally.acknowledgement.words()));
        }
        for (kind, count, example) in tally.errors() {
            lines.push(format!("  failed        {count} × {kind}: {example}"));
        }
        lines.join("\n")
    }

    fn message_rate(&self, tally: &Tally) -> f64 {
        let seconds = self.under.as_secs_f64();
        if seconds > 0.0 { count_as_f64(tally.acknowledged) / seconds } else { 0.0 }
    }
}

fn tenth(rate: f64) -> f64 {
    (rate * 10.0).round() / 10.0
}
