//! `zerotouch run`: the agent. It keeps one device alive, and lets the applications of this machine speak
//! for it.
//!
//! | who | asks by | hears |
//! |---|---|---|
//! | an application at its ends of the pipes | standard input | everything, on standard output |
//! | applications elsewhere on the machine | the socket | results, and with `$subscribe` everything |
//! | programs on an event (`hooks`) | | their event |
//! | systemd (`service_manager`) | signals | ready, reloading, stopping, alive |
//! | people | | a line on standard error for each thing that has happened |

pub(crate) mod client;
mod hooks;
mod peer;
mod service_manager;
mod shared;
mod socket;

use std::io::IsTerminal;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{stdin, stdout};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use zerotouch_device::Event;
use zerotouch_driver::Clock;
use zerotouch_tokio::Device;

use crate::arguments::{Output, Run};
use crate::failure::CliError;
use crate::settings::Settings;
use crate::telling::tell;
use crate::timeline::error_json;

use self::hooks::Hooks;
use self::peer::Peer;
use self::service_manager::{ServiceManager, Signal, Signals};
use self::shared::Shared;

/// How long the last lines may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why a device was left.
enum Ending {
    /// Somebody wants the agent to end.
    Terminated,
    /// There are other settings.
    Reload(Box<Settings>),
    /// The device has ended its efforts.
    Gone(CliError),
}

/// Runs until it is told to end. `reread` reads the settings as at the start.
pub(crate) async fn run(
    arguments: Run,
    reread: impl Fn() -> Result<Settings, CliError>,
) -> Result<(), CliError> {
    let mut signals = Signals::new().map_err(CliError::Signals)?;
    let mut settings = arguments.settings;
    let mut device = start(&settings)?;
    let shared = Arc::new(Shared::new(settings.place()?, device.0.clone(), Clock::new()));
    let manager = ServiceManager::new(Arc::clone(&shared));
    let mut socket = socket::listen(&shared, &settings.place()?.socket)?;
    let terminal = std::io::stdout().is_terminal() && arguments.output == Output::Text;
    let peer = if terminal { Peer::Terminal } else { Peer::Pipes };
    let pipes = tokio::spawn(peer::serve(Arc::clone(&shared), stdin(), stdout(), peer));
    let outcome = loop {
        let mut hooks = Hooks::new(&settings, &shared);
        match live(device, &shared, &mut hooks, &manager, &mut signals, &reread).await {
            Ending::Reload(read) => match start(&read) {
                Ok(started) => {
                    device = started;
                    settings = *read;
                    shared.replace(device.0.clone());
                    shared.say("settings read again");
                    ServiceManager::reloaded();
                }
                Err(error) => break Err(error),
            },
            Ending::Terminated => break Ok(()),
            Ending::Gone(error) => break Err(error),
        }
    };
    socket.close();
    shared.finish();
    // One that reads on hears the last lines; one that does not is not waited for.
    if peer == Peer::Pipes {
        let _ = tokio::time::timeout(FAREWELL, pipes).await;
    }
    outcome
}

fn start(settings: &Settings) -> Result<(Device, Receiver<Event>), CliError> {
    let mut setup = settings.setup()?;
    setup.config.hub.twin = true;
    setup.config.hub.methods = true;
    setup.start()
}

/// Until the device or the agent is to end.
async fn live(
    (device, mut events): (Device, Receiver<Event>),
    shared: &Shared,
    hooks: &mut Hooks,
    manager: &ServiceManager,
    signals: &mut Signals,
    reread: &impl Fn() -> Result<Settings, CliError>,
) -> Ending {
    let mut failed = CliError::Stopped;
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            signal = signals.next() => match signal {
                Signal::Terminate => {
                    shared.say("stopping: what waits is sent");
                    ServiceManager::stopping();
                    leave(&device, &mut events, shared, signals).await;
                    return Ending::Terminated;
                }
                Signal::Reload => {
                    ServiceManager::reloading();
                    // Before the device is stopped: a mistake costs nothing.
                    match shared.accept(reread()) {
                        Ok(settings) => {
                            return match leave(&device, &mut events, shared, signals).await {
                                Left::Closed => Ending::Reload(Box::new(settings)),
                                Left::Hurried => {
                                    ServiceManager::stopping();
                                    Ending::Terminated
                                }
                            };
                        }
                        Err(error) => {
                            shared.say(&format!("the settings stay as they were: {error}"));
                            let failed = json!({ "event": "reloadFailed", "error": error_json(&error) });
                            shared.publish(&failed);
                            ServiceManager::reloaded();
                            continue;
                        }
                    }
                }
            },
        };
        match event {
            Ok(event) => {
                if let Event::AttemptFailed { scope, failure, .. } = &event {
                    failed = CliError::Attempt { scope: *scope, failure: failure.clone() };
                }
                let stopped = matches!(event, Event::Stopped);
                hear(&event, shared, hooks, manager).await;
                if stopped {
                    return Ending::Gone(failed);
                }
            }
            // Acknowledgements, most of them.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return Ending::Gone(failed),
        }
    }
}

/// How a device was left.
enum Left {
    Closed,
    /// Somebody wants the agent to end, and at once.
    Hurried,
}

/// Says goodbye; a signal to end ends that, too.
async fn leave(
    device: &Device,
    events: &mut Receiver<Event>,
    shared: &Shared,
    signals: &mut Signals,
) -> Left {
    let mut closed = pin!(device.close());
    loop {
        tokio::select! {
            () = &mut closed => break,
            event = events.recv() => if let Ok(event) = event {
                shared.tell(&event);
            },
            signal = signals.next() => if signal == Signal::Terminate {
                return Left::Hurried;
            },
        }
    }
    while let Ok(event) = events.try_recv() {
        shared.tell(&event);
    }
    Left::Closed
}

async fn hear(event: &Event, shared: &Shared, hooks: &mut Hooks, manager: &ServiceManager) {
    shared.tell(event);
    shared.remember(event).await;
    manager.hear(event);
    hooks.hear(event, shared);
}

impl Shared {
    /// To everybody who listens, and to people.
    fn tell(&self, event: &Event) {
        let Some(telling) = tell(event) else { return };
        self.publish(&telling.json(self.clock.now().wall));
        self.say(&telling.words);
    }
}
