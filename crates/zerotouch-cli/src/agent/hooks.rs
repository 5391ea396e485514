//! Programs that run on an event.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::mpsc;
use zerotouch_device::{Credential, Event, IssuedCertificate};
use zerotouch_dps::Assignment;

use crate::settings::Settings;
use crate::telling::{certificate_json, state_json};

use super::shared::Shared;

/// How long a program may run.
const LIMIT: Duration = Duration::from_secs(60);
/// How many runs may wait for their turn; what comes then is not run, and people are told.
const WAITING: usize = 16;
/// What a program keeps of the agent's environment, which may have secrets in it.
const KEPT: [&str; 5] = ["PATH", "HOME", "LANG", "TMPDIR", "SYSTEMROOT"];

/// A program that is to run.
#[derive(Debug)]
struct Run {
    program: PathBuf,
    event: &'static str,
    members: Value,
}

/// The programs of the settings. They run one after another, so that each finds the state it is told.
#[derive(Debug)]
pub(super) struct Hooks {
    on_provisioned: Option<PathBuf>,
    on_renewed: Option<PathBuf>,
    on_state: Option<PathBuf>,
    /// Where the device was assigned to, until a hub has accepted it.
    assigned: Option<Assignment>,
    /// The certificate that was issued last, until a hub has accepted it.
    issued: Option<IssuedCertificate>,
    runs: mpsc::Sender<Run>,
}

impl Hooks {
    pub(super) fn new(settings: &Settings, shared: &Arc<Shared>) -> Self {
        let (runs, waiting) = mpsc::channel(WAITING);
        tokio::spawn(work(waiting, Arc::clone(shared)));
        Self {
            on_provisioned: settings.on_provisioned.clone(),
            on_renewed: settings.on_renewed.clone(),
            on_state: settings.on_state.clone(),
            assigned: None,
            issued: None,
            runs,
        }
    }

    pub(super) fn hear(&mut self, event: &Event, shared: &Shared) {
        match event {
            Event::StateChanged(state) => {
                self.run(self.on_state.as_ref(), "state", state_json(state), shared);
            }
            Event::Assigned { assignment, .. } => self.assigned = Some(assignment.clone()),
            Event::CertificateIssued(issued) => self.issued = Some(issued.clone()),
            Event::Activated { .. }
            | Event::Connected { credential: Credential::Bootstrap, .. } => {
                let issued = self.issued.take().as_ref().map(certificate_json);
                match self.assigned.take() {
                    Some(Assignment { assigned_hub, device_id, .. }) => {
                        let members = json!({ "hub": assigned_hub, "deviceId": device_id, "certificate": issued });
                        self.run(self.on_provisioned.as_ref(), "provisioned", members, shared);
                    }
                    None if issued.is_some() => {
                        let members = json!({ "certificate": issued });
                        self.run(self.on_renewed.as_ref(), "renewed", members, shared);
                    }
                    None => {}
                }
            }
            _ => {}
        }
    }

    fn run(&self, program: Option<&PathBuf>, event: &'static str, members: Value, shared: &Shared) {
        let Some(program) = program else { return };
        let run = Run { program: program.clone(), event, members };
        if self.runs.try_send(run).is_err() {
            let program = program.display();
            shared.say(&format!("{program} is not run on {event}: {WAITING} others wait"));
        }
    }
}

async fn work(mut waiting: mpsc::Receiver<Run>, shared: Arc<Shared>) {
    while let Some(run) = waiting.recv().await {
        let program = run.program.display().to_string();
        let words = match tokio::time::timeout(LIMIT, carry_out(run, &shared)).await {
            Ok(Ok(status)) if status.success() => continue,
            Ok(Ok(status)) => format!("{program}: {status}"),
            Ok(Err(error)) => format!("{program} cannot be run: {error}"),
            Err(_) => format!("{program} took more than {} s and is ended", LIMIT.as_secs()),
        };
        shared.say(&words);
    }
}

/// The event is on its standard input, and in part in its environment.
async fn carry_out(run: Run, shared: &Shared) -> std::io::Result<ExitStatus> {
    let mut command = Command::new(&run.program);
    command.env_clear().envs(KEPT.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))));
    command.env("ZEROTOUCH_EVENT", run.event);
    command.env("ZEROTOUCH_REGISTRATION_ID", shared.registration_id());
    command.stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn()?;
    if let Some(mut input) = child.stdin.take() {
        let mut line = json!({ "event": run.event });
        for (name, value) in run.members.as_object().into_iter().flatten() {
            line[name] = value.clone();
        }
        // Who does not read it does not want it.
        let _ = input.write_all(format!("{line}\n").as_bytes()).await;
    }
    child.wait().await
}
