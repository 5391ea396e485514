//! A thousand devices in one process, on one runtime, over TLS: that all of them come to their hub and
//! stay, and the memory each takes.

use std::fs;
use std::time::{Duration, Instant};

use tokio::sync::broadcast::Receiver;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use zerotouch_device::{Event, State};
use zerotouch_hub::Telemetry;
use zerotouch_store::MemoryStore;
use zerotouch_tokio::{ConnectError, Device};

use crate::Result;
use crate::cloud::Cloud;

const DEVICES: usize = 1000;
/// In seconds. A server that hears nothing for one and a half times as long hangs up.
const KEEP_ALIVE: u64 = 10;
/// A socket for each device, and some.
const FILES: u64 = 2 * DEVICES as u64;
/// How many may be on their way at once: a start of all at once would be the same work, in another order.
const AT_ONCE: usize = 250;
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn measure(check: bool) -> Result {
    let (devices, keep_alive) = if check { (20, 1) } else { (DEVICES, KEEP_ALIVE) };
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let files = files.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    if let Some(files) = files.filter(|files| *files < FILES) {
        let error = format!("{files} files may be open, {FILES} are needed: ulimit -n {FILES}");
        return Err(error.into());
    }
    let cloud = Cloud::start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        timeout(PATIENCE, live(&cloud, devices, Duration::from_secs(keep_alive))).await?
    })
}

async fn live(cloud: &Cloud, devices: usize, keep_alive: Duration) -> Result {
    // What the first brings with it is not each one's: the runtime's threads, say.
    let first = connect(cloud, "fleet-first", keep_alive)?.await?;
    let (before, began) = (resident()?, Instant::now());
    let (mut fleet, mut arriving) = (Vec::new(), JoinSet::new());
    for number in 0..devices {
        if arriving.len() == AT_ONCE {
            fleet.extend(arriving.join_next().await.transpose()?.transpose()?);
        }
        arriving.spawn(connect(cloud, &format!("fleet-{number:04}"), keep_alive)?);
    }
    while let Some(arrived) = arriving.join_next().await {
        fleet.push(arrived??);
    }
    let took = began.elapsed();
    println!("{} devices provisioned and connected in {took:.1?}", fleet.len());

    // Twice around: who has not answered by then has been hung up on.
    sleep(3 * keep_alive).await;
    let memory = (resident()? - before) / devices as u64;
    println!("  {:<40} {memory:>6} KiB", "resident memory of each");
    let mut sending = JoinSet::new();
    fleet.push(first);
    for (device, mut events) in fleet {
        sending.spawn(async move {
            while let Ok(event) = events.try_recv() {
                if let Event::AttemptFailed { failure, .. } = event {
                    return Err(format!("it was not connected all the time: {failure}"));
                }
            }
            if device.state() != State::Connected {
                return Err(format!("it is {}", device.state()));
            }
            let sent = device.send_telemetry(Telemetry::new("21.5")).await;
            sent.map_err(|error| format!("telemetry was not acknowledged: {error}"))?;
            device.close().await;
            Ok(())
        });
    }
    let (mut good, began) = (0, Instant::now());
    while let Some(sent) = sending.join_next().await {
        sent??;
        good += 1;
    }
    let took = began.elapsed();
    println!("  {good} stayed connected, sent, were acknowledged and left in {took:.1?}");
    Ok(())
}

type Connected = (Device, Receiver<Event>);

fn connect(
    cloud: &Cloud,
    id: &str,
    keep_alive: Duration,
) -> Result<impl Future<Output = std::result::Result<Connected, ConnectError>> + Send + 'static> {
    let mut config = cloud.config(id)?;
    config.hub.keep_alive = u16::try_from(keep_alive.as_secs())?;
    let builder = Device::builder(config).roots(cloud.roots());
    Ok(builder.connect(MemoryStore::new()))
}

/// In KiB.
fn resident() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Ok(line.and_then(|rest| rest.split_whitespace().next()).ok_or("no VmRSS")?.parse()?)
}
