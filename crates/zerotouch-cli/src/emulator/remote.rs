//! Commands for an emulator that runs: requests to its own API and to the services', with a token.

use std::io::{ErrorKind, Read};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;
use zerotouch_credentials::{SasToken, SymmetricKey};
use zerotouch_emulator::server::RemoteRequest;
use zerotouch_time::UnixTime;

use super::run_file;
use crate::arguments::{self, FaultCommand, Output};
use crate::timeline::write_line;

/// How long an answer may take: direct methods wait for their device for up to five minutes.
const PATIENCE: Duration = Duration::from_secs(330);
/// The emulator's clock may be set to any time, so a token for it is good at any time.
const ALWAYS: UnixTime = UnixTime::from_secs(253_402_300_799);

/// Why a command for a running emulator was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoteError {
    #[error("no emulator of yours runs on port {port}")]
    NoEmulator { port: u16 },
    #[error("the request cannot be made: {0}")]
    Request(String),
    #[error("cannot read standard input: {0}")]
    StandardInput(std::io::Error),
    #[error("no answer of the emulator: {0}")]
    Answer(String),
    #[error("the emulator says no (status {status}): {words}")]
    Refused { status: u16, words: String },
}

/// As much as is needed of what an emulator said when it was ready.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ready {
    port: u16,
    ca_file: PathBuf,
    service_connection_string: String,
}

pub(super) async fn clock(arguments: arguments::Clock) -> Result<(), RemoteError> {
    let change = arguments.change.as_deref().map(|change| match change.strip_prefix('+') {
        Some(by) => json!({ "advance": by }),
        None => json!({ "set": change }),
    });
    let method = if change.is_some() { "POST" } else { "GET" };
    let body = change.map(|change| change.to_string()).unwrap_or_default();
    let answer = call(arguments.port, method, "/$emulator/clock", body.into()).await?;
    print(&answer, arguments.output, |answer| {
        format!("It is {}.", answer["time"].as_str().unwrap_or("?"))
    });
    Ok(())
}

pub(super) async fn fault(arguments: arguments::Fault) -> Result<(), RemoteError> {
    const FAULTS: &str = "/$emulator/faults";
    let (port, output) = (arguments.port, arguments.output);
    match arguments.command {
        FaultCommand::Add(add) => {
            // A name, or what stands behind one as JSON.
            let fault = serde_json::from_str(&add.fault).unwrap_or(Value::String(add.fault));
            let rule = json!({
                "device": add.device,
                "operation": add.operation,
                "fault": fault,
                "probability": add.probability,
                "after": add.after,
                "count": add.count,
            });
            let made = call(port, "POST", FAULTS, rule.to_string().into()).await?;
            print(&made, output, |made| format!("Fault {} is in force.", made["id"]));
        }
        FaultCommand::List => {
            let listed = call(port, "GET", FAULTS, Vec::new()).await?;
            print(&listed, output, |listed| {
                let faults = listed["value"].as_array().map(Vec::as_slice).unwrap_or_default();
                let lines: Vec<String> = faults.iter().map(describe).collect();
                if lines.is_empty() { "No faults are in force.".into() } else { lines.join("\n") }
            });
        }
        FaultCommand::Remove { id } => {
            call(port, "DELETE", &format!("{FAULTS}/{id}"), Vec::new()).await?;
            print(&[], output, |_| format!("Fault {id} is gone."));
        }
        FaultCommand::Clear => {
            call(port, "DELETE", FAULTS, Vec::new()).await?;
            print(&[], output, |_| "All faults are gone.".into());
        }
    }
    Ok(())
}

fn describe(fault: &Value) -> String {
    let text = |name: &str| fault[name].as_str().unwrap_or_default().to_owned();
    let fault_text = fault["fault"].as_str().map_or_else(|| fault["fault"].to_string(), Into::into);
    let left = fault["count"].as_u64().map(|count| format!(" of {count}")).unwrap_or_default();
    format!(
        "{:>4}  {:<14} {:<16} {fault_text}  ({}{left} struck)",
        fault["id"],
        text("operation"),
        text("device"),
        fault["struck"],
    )
}

/// Any request, for what has no command of its own.
pub(super) async fn request(arguments: arguments::Call) -> Result<(), RemoteError> {
    let body = match arguments.body.as_deref() {
        Some("-") => {
            let mut body = Vec::new();
            std::io::stdin().read_to_end(&mut body).map_err(RemoteError::StandardInput)?;
            body
        }
        body => body.unwrap_or_default().into(),
    };
    let answer = call(arguments.port, &arguments.method, &arguments.path, body).await?;
    if !answer.is_empty() {
        write_line(&String::from_utf8_lossy(&answer));
    }
    Ok(())
}

fn print(answer: &[u8], output: Output, words: impl Fn(&Value) -> String) {
    match output {
        Output::Json | Output::Jsonl if answer.is_empty() => write_line("{}"),
        Output::Json | Output::Jsonl => write_line(&String::from_utf8_lossy(answer)),
        Output::Text => write_line(&words(&serde_json::from_slice(answer).unwrap_or_default())),
    }
}

/// Makes a request; yields the body of its answer.
async fn call(port: u16, method: &str, path: &str, body: Vec<u8>) -> Result<Vec<u8>, RemoteError> {
    let ready: Ready = serde_json::from_str(&run_file::read(port)?)
        .map_err(|error| RemoteError::Answer(error.to_string()))?;
    timeout(PATIENCE, exchange(&ready, method, path, body))
        .await
        .unwrap_or_else(|_| Err(RemoteError::Answer("none came".into())))
}

async fn exchange(
    ready: &Ready,
    method: &str,
    path: &str,
    body: Vec<u8>,
) -> Result<Vec<u8>, RemoteError> {
    let pem = std::fs::read_to_string(&ready.ca_file)
        .map_err(|error| RemoteError::Answer(error.to_string()))?;
    let authorization = &token(&ready.service_connection_string)?;
    let request = RemoteRequest { method, path, authorization, body };
    let answer = zerotouch_emulator::server::request(ready.port, &pem, request).await;
    let (status, body) = answer.map_err(|error| match error.kind() {
        ErrorKind::InvalidInput => RemoteError::Request(error.to_string()),
        ErrorKind::ConnectionRefused => RemoteError::NoEmulator { port: ready.port },
        _ => RemoteError::Answer(error.to_string()),
    })?;
    if (200..300).contains(&status) { Ok(body) } else { Err(refusal(status, &body)) }
}

/// A token of the policy in a connection string.
fn token(connection_string: &str) -> Result<String, RemoteError> {
    let member = |name: &str| {
        let mut members = connection_string.split(';').filter_map(|one| one.split_once('='));
        members.find(|(known, _)| *known == name).map(|(_, value)| value)
    };
    let whole = (member("HostName"), member("SharedAccessKeyName"), member("SharedAccessKey"));
    let (Some(host), Some(policy), Some(key)) = whole else {
        return Err(RemoteError::Answer("its connection string is incomplete".into()));
    };
    let key =
        SymmetricKey::from_base64(key).map_err(|error| RemoteError::Answer(error.to_string()))?;
    Ok(SasToken::for_service(&key, host, policy, ALWAYS).as_str().into())
}

fn refusal(status: u16, body: &[u8]) -> RemoteError {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let words = [&body["error"]["message"], &body["Message"], &body["message"]];
    let words = words.iter().find_map(|words| words.as_str()).unwrap_or("no reason is given");
    RemoteError::Refused { status, words: words.into() }
}
