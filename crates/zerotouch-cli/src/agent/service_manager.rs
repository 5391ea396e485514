//! systemd, where it has started the agent: what it is told, and the signals that it sends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use zerotouch_device::Event;

use super::shared::Shared;

/// What the agent is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGTERM or SIGINT.
    Terminate,
    /// SIGHUP.
    Reload,
}

/// Signals to this process.
#[cfg(unix)]
pub(super) struct Signals([(tokio::signal::unix::Signal, Signal); 3]);

#[cfg(unix)]
impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self([
            (signal(SignalKind::terminate())?, Signal::Terminate),
            (signal(SignalKind::interrupt())?, Signal::Terminate),
            (signal(SignalKind::hangup())?, Signal::Reload),
        ]))
    }

    /// The next. Cancel safe.
    pub(super) async fn next(&mut self) -> Signal {
        std::future::poll_fn(|context| {
            let mut came = self.0.iter_mut().filter_map(|(signal, meaning)| {
                signal.poll_recv(context).is_ready().then_some(*meaning)
            });
            came.next().map_or(std::task::Poll::Pending, std::task::Poll::Ready)
        })
        .await
    }
}

/// Ctrl-C is all there is.
#[cfg(not(unix))]
pub(super) struct Signals;

#[cfg(not(unix))]
impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    /// The next. Cancel safe.
    pub(super) async fn next(&mut self) -> Signal {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Signal::Terminate
    }
}

/// What systemd wants to know. Where it has not started the agent, nobody is told.
pub(super) struct ServiceManager {
    ready: AtomicBool,
}

impl ServiceManager {
    /// Where there is a watchdog, it is fed for as long as the device answers.
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        if let Some(limit) = watchdog() {
            tokio::spawn(async move {
                let mut tick = tokio::time::interval(limit / 3);
                loop {
                    tick.tick().await;
                    // A device that hangs does not come back from this.
                    shared.device().desired_properties().await;
                    notify(&["WATCHDOG=1"]);
                }
            });
        }
        Self { ready: AtomicBool::new(false) }
    }

    /// It counts as ready once it is connected, and stays so: that it is away for a while is no reason for
    /// systemd to do anything.
    pub(super) fn hear(&self, event: &Event) {
        match event {
            Event::Connected { .. } if !self.ready.swap(true, Ordering::Relaxed) => {
                notify(&["READY=1", "STATUS=connected"]);
            }
            Event::StateChanged(state) => notify(&[&format!("STATUS={state}")]),
            _ => {}
        }
    }

    /// The settings are being read again; done is told by [`ServiceManager::reloaded`].
    pub(super) fn reloading() {
        #[cfg(unix)]
        if let Ok(sd_notify::NotifyState::MonotonicUsec(now)) =
            sd_notify::NotifyState::monotonic_usec_now()
        {
            notify(&["RELOADING=1", &format!("MONOTONIC_USEC={now}")]);
        }
    }

    pub(super) fn reloaded() {
        notify(&["READY=1"]);
    }

    pub(super) fn stopping() {
        notify(&["STOPPING=1"]);
    }
}

#[cfg(unix)]
fn notify(lines: &[&str]) {
    let states: Vec<_> = lines.iter().map(|line| sd_notify::NotifyState::Custom(line)).collect();
    // The agent is no worse off for a systemd that does not listen.
    let _ = sd_notify::notify(&states);
}

#[cfg(unix)]
fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

#[cfg(not(unix))]
fn notify(_: &[&str]) {}

#[cfg(not(unix))]
fn watchdog() -> Option<Duration> {
    None
}
