//! Commands for an emulator that runs: requests to its own API and to the services', with a token.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use zerotouch_credentials::{SasToken, SymmetricKey};
use zerotouch_time::UnixTime;
use zerotouch_tls::{Roots, TlsClient};

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
    let method = if change.is_some() { Method::POST } else { Method::GET };
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
            let made = call(port, Method::POST, FAULTS, rule.to_string().into()).await?;
            print(&made, output, |made| format!("Fault {} is in force.", made["id"]));
        }
        FaultCommand::List => {
            let listed = call(port, Method::GET, FAULTS, Bytes::new()).await?;
            print(&listed, output, |listed| {
                let faults = listed["value"].as_array().map(Vec::as_slice).unwrap_or_default();
                let lines: Vec<String> = faults.iter().map(describe).collect();
                if lines.is_empty() { "No faults are in force.".into() } else { lines.join("\n") }
            });
        }
        FaultCommand::Remove { id } => {
            call(port, Method::DELETE, &format!("{FAULTS}/{id}"), Bytes::new()).await?;
            print(&Bytes::new(), output, |_| format!("Fault {id} is gone."));
        }
        FaultCommand::Clear => {
            call(port, Method::DELETE, FAULTS, Bytes::new()).await?;
            print(&Bytes::new(), output, |_| "All faults are gone.".into());
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
    let answer = call(arguments.port, arguments.method, &arguments.path, body.into()).await?;
    if !answer.is_empty() {
        write_line(&String::from_utf8_lossy(&answer));
    }
    Ok(())
}

fn print(answer: &Bytes, output: Output, words: impl Fn(&Value) -> String) {
    match output {
        Output::Json if answer.is_empty() => write_line("{}"),
        Output::Json => write_line(&String::from_utf8_lossy(answer)),
        Output::Text => write_line(&words(&serde_json::from_slice(answer).unwrap_or_default())),
    }
}

/// Makes a request; yields the body of its answer.
async fn call(port: u16, method: Method, path: &str, body: Bytes) -> Result<Bytes, RemoteError> {
    let ready: Ready = serde_json::from_str(&run_file::read(port)?)
        .map_err(|error| RemoteError::Answer(error.to_string()))?;
    timeout(PATIENCE, exchange(&ready, method, path, body))
        .await
        .unwrap_or_else(|_| Err(RemoteError::Answer("none came".into())))
}

async fn exchange(
    ready: &Ready,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Bytes, RemoteError> {
    let failed = |error: &dyn std::error::Error| RemoteError::Answer(error.to_string());
    let pem = std::fs::read_to_string(&ready.ca_file).map_err(|error| failed(&error))?;
    let config = TlsClient::new(&Roots::Pem(pem.into())).and_then(|tls| tls.config(None));
    let config = config.map_err(|error| failed(&error))?;
    let socket = TcpStream::connect(("127.0.0.1", ready.port));
    let socket = socket.await.map_err(|_| RemoteError::NoEmulator { port: ready.port })?;
    let name = ServerName::try_from("localhost").map_err(|error| failed(&error))?;
    let stream = TlsConnector::from(Arc::clone(&config)).connect(name, socket).await;
    let stream = TokioIo::new(stream.map_err(|error| failed(&error))?);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(stream).await.map_err(|error| failed(&error))?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, format!("localhost:{}", ready.port))
        .header(CONTENT_TYPE, "application/json")
        .header(AUTHORIZATION, token(&ready.service_connection_string)?)
        .body(Full::new(body))
        .map_err(|error| RemoteError::Request(error.to_string()))?;
    let answering = async {
        let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|error| failed(&error))?.to_bytes();
        Ok((status, body))
    };
    let (status, body) = tokio::select! {
        answer = answering => answer?,
        ended = connection => {
            let reason = ended.err().map_or("it hung up".into(), |error| error.to_string());
            return Err(RemoteError::Answer(reason));
        }
    };
    if status.is_success() { Ok(body) } else { Err(refusal(status, &body)) }
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

fn refusal(status: StatusCode, body: &[u8]) -> RemoteError {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let words = [&body["error"]["message"], &body["Message"], &body["message"]];
    let words = words.iter().find_map(|words| words.as_str()).unwrap_or("no reason is given");
    RemoteError::Refused { status: status.as_u16(), words: words.into() }
}
