//! What the agent's parts have in common: the device, what is known of it, and who listens.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value, json};
use tokio::sync::broadcast;
use zerotouch_device::{Event, Failure, Scope};
use zerotouch_driver::Clock;
use zerotouch_hub::{METHOD_NOT_IMPLEMENTED, MethodCall, MethodEvent, TwinEvent, merge_properties};
use zerotouch_tokio::Device;

use crate::failure::CliError;
use crate::request::Request;
use crate::settings::{Place, Settings};
use crate::telling::{certificate_json, date, payload_json, state_json};
use crate::timeline::stream_line;

/// How many lines a listener may lag behind.
const LINES: usize = 256;

/// Shared by the agent's parts.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) clock: Clock,
    place: Place,
    device: Mutex<Device>,
    /// `None` once there will be no more.
    lines: Mutex<Option<broadcast::Sender<Arc<str>>>>,
    known: Mutex<Known>,
    /// How many could answer a method call.
    listeners: AtomicUsize,
}

#[derive(Debug, Default)]
struct Known {
    hub: Option<(String, String)>,
    failure: Option<(Scope, Failure)>,
    twin: Option<Twin>,
    calls: BTreeMap<String, MethodCall>,
    last_call: u64,
}

/// As it was read, and changed since.
#[derive(Clone, Debug, Default)]
struct Twin {
    reported: Map<String, Value>,
    reported_version: u64,
}

/// One who hears every line, and may answer method calls.
pub(super) struct Listener<'s> {
    pub(super) lines: broadcast::Receiver<Arc<str>>,
    answers: bool,
    shared: &'s Shared,
}

impl Listener<'_> {
    /// From now on it only hears.
    pub(super) fn cannot_answer(&mut self) {
        if std::mem::take(&mut self.answers) {
            self.shared.listeners.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        self.cannot_answer();
    }
}

impl Shared {
    pub(super) fn new(place: Place, device: Device, clock: Clock) -> Self {
        Self {
            clock,
            place,
            device: Mutex::new(device),
            lines: Mutex::new(Some(broadcast::Sender::new(LINES))),
            known: Mutex::default(),
            listeners: AtomicUsize::new(0),
        }
    }

    pub(super) fn device(&self) -> Device {
        self.device.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another device, after other settings.
    pub(super) fn replace(&self, device: Device) {
        *self.device.lock().unwrap_or_else(PoisonError::into_inner) = device;
        let mut known = self.known();
        *known = Known { last_call: known.last_call, ..Known::default() };
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Other settings, if a device can be made of them and it is this agent's.
    pub(super) fn accept(
        &self,
        settings: Result<Settings, CliError>,
    ) -> Result<Settings, CliError> {
        let settings = settings?;
        if settings.place()? != self.place {
            return Err(CliError::NeedsRestart);
        }
        settings.setup()?;
        Ok(settings)
    }

    pub(super) fn registration_id(&self) -> &str {
        self.place.registration_id.as_str()
    }

    /// `None` if there will be nothing to hear any more.
    pub(super) fn listen(&self) -> Option<Listener<'_>> {
        let lines = self.lines().as_ref()?.subscribe();
        self.listeners.fetch_add(1, Ordering::Relaxed);
        Some(Listener { lines, answers: true, shared: self })
    }

    /// There will be nothing to hear any more: listeners hear what was published, and go.
    pub(super) fn finish(&self) {
        *self.lines() = None;
    }

    fn lines(&self) -> MutexGuard<'_, Option<broadcast::Sender<Arc<str>>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line for everybody who listens.
    pub(super) fn publish(&self, line: &Value) {
        if let Some(lines) = &*self.lines() {
            // Nobody listening is no error.
            let _ = lines.send(stream_line(line).into());
        }
    }

    /// A line for people. systemd's journal has the time itself.
    pub(super) fn say(&self, words: &str) {
        let now = self.clock.now().wall.filter(|_| std::env::var_os("JOURNAL_STREAM").is_none());
        let now = now.map(|now| date(now) + "  ").unwrap_or_default();
        let _ = writeln!(std::io::stderr(), "{now}{words}");
    }

    /// What is asked about later.
    pub(super) async fn remember(&self, event: &Event) {
        match event {
            Event::Connected { assignment, .. } => {
                let mut known = self.known();
                // Calls end with their connection.
                known.calls.clear();
                known.hub = Some((assignment.assigned_hub.clone(), assignment.device_id.clone()));
                known.failure = None;
            }
            Event::AttemptFailed { scope, failure, .. } => {
                self.known().failure = Some((*scope, failure.clone()));
            }
            Event::Twin(TwinEvent::Read { reported, .. }) => {
                let twin =
                    Twin { reported: reported.values.clone(), reported_version: reported.version };
                self.known().twin = Some(twin);
            }
            Event::Method(MethodEvent::Called { call, method, payload }) => {
                self.called(*call, method, payload).await;
            }
            Event::Method(MethodEvent::Abandoned(call)) => self.abandoned(*call),
            _ => {}
        }
    }

    /// A call is named for those who may answer it; where there is nobody, its caller is told at once.
    async fn called(&self, call: MethodCall, method: &str, payload: &[u8]) {
        if self.listeners.load(Ordering::Relaxed) == 0 {
            let nobody = br#"{"message":"no application is there to answer"}"#;
            let _ = self.device().respond(call, METHOD_NOT_IMPLEMENTED, *nobody).await;
            return self.say(&format!("method {method} called, and no application to answer"));
        }
        let name = {
            let mut known = self.known();
            known.last_call += 1;
            let name = known.last_call.to_string();
            known.calls.insert(name.clone(), call);
            name
        };
        let (member, payload) = payload_json(payload);
        let now = self.clock.now().wall.map(date);
        self.publish(&json!({ "event": "method", "time": now, "call": name, "method": method, member: payload }));
        self.say(&format!("method {method} called, awaits an answer"));
    }

    fn abandoned(&self, call: MethodCall) {
        let name = {
            let mut known = self.known();
            let name = known.calls.iter().find(|(_, open)| **open == call);
            let name = name.map(|(name, _)| name.clone());
            name.inspect(|name| {
                known.calls.remove(name);
            })
        };
        if let Some(name) = name {
            self.publish(&json!({ "event": "methodAbandoned", "call": name }));
        }
    }

    /// Does what is asked, and tells what came of it.
    pub(super) async fn perform(&self, request: Request) -> Result<Value, CliError> {
        let device = self.device();
        Ok(match request {
            Request::Telemetry(telemetry) => {
                device.send_telemetry(telemetry).await?;
                Value::Null
            }
            Request::Report(patch) => {
                let version = device.report_properties(patch.clone()).await?;
                if let Some(twin) = &mut self.known().twin {
                    merge_properties(&mut twin.reported, &patch);
                    twin.reported_version = version.unwrap_or(twin.reported_version + 1);
                }
                json!({ "version": version })
            }
            Request::Twin => {
                let desired = device.desired_properties().await;
                let twin = self.known().twin.clone();
                let (Some(desired), Some(twin)) = (desired, twin) else {
                    return Err(CliError::NoTwin);
                };
                json!({
                    "desired": desired.values, "desiredVersion": desired.version,
                    "reported": twin.reported, "reportedVersion": twin.reported_version,
                })
            }
            Request::Renew => certificate_json(&device.renew().await?),
            Request::Status => self.status(&device),
            Request::Respond { call, status, payload } => {
                let open = self.known().calls.remove(&call);
                let open = open.ok_or(CliError::NoCall(call))?;
                device.respond(open, status, payload).await?;
                Value::Null
            }
            // Whoever asks is made a listener where it is read.
            Request::Subscribe => Value::Null,
        })
    }

    fn status(&self, device: &Device) -> Value {
        let known = self.known();
        let mut status = state_json(&device.state());
        status["registrationId"] = self.registration_id().into();
        let (hub, device_id) = known.hub.clone().unzip();
        status["hub"] = hub.into();
        status["deviceId"] = device_id.into();
        let failure = known.failure.as_ref();
        status["lastFailure"] =
            failure.map(|(scope, failure)| format!("{scope}: {failure}")).into();
        status
    }
}
