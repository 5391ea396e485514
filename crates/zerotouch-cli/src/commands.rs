//! The device's commands that do one thing and end: through the agent where one runs, otherwise with a
//! connection of their own.

use std::io::Read;
use std::num::NonZeroU32;

use serde_json::{Map, Value, json};
use tokio::io::{BufReader, Stdin, stdin};
use zerotouch_device::{Config, Event};
use zerotouch_hub::{Telemetry, TwinEvent};

use crate::agent::client::Client;
use crate::arguments::{Output, Provision, Renew, SendTelemetry, Twin, TwinCommand};
use crate::failure::CliError;
use crate::journey::Journey;
use crate::limit::within;
use crate::lines;
use crate::request::{Request, json_telemetry};
use crate::settings::Settings;
use crate::status::Standing;
use crate::telling::tell;
use crate::timeline::{Timeline, write_line};

/// How many failures in a row a command bears, unless it is told.
const ATTEMPTS: Option<NonZeroU32> = NonZeroU32::new(3);
/// The hub takes a quarter of it in one message.
const MAX_INPUT_LEN: u64 = 1024 * 1024;

/// `zerotouch provision`: until a hub has accepted the device.
pub(crate) async fn provision(arguments: Provision) -> Result<(), CliError> {
    let mut timeline = Timeline::of_progress(arguments.output);
    let outcome = provisioned(&arguments.settings, &mut timeline).await;
    conclude(timeline, outcome, arguments.output, |result| {
        let text = |name: &str| result[name].as_str().unwrap_or("?").to_owned();
        let (hub, device, path) = (text("hub"), text("deviceId"), text("path"));
        let way = match result["nothingToDo"] {
            Value::Bool(true) => "provisioned already, nothing to do",
            _ => "provisioned",
        };
        format!("{way}: device {device} at {hub}, the identity is in {path}")
    })
}

async fn provisioned(settings: &Settings, timeline: &mut Timeline) -> Result<Value, CliError> {
    let place = settings.place()?;
    let before = Standing::of(settings)?;
    if before.is_good() {
        let mut result = before.json();
        result["nothingToDo"] = true.into();
        return Ok(result);
    }
    if Client::connect(&place.socket).await?.is_some() {
        return Err(CliError::AgentRuns);
    }
    let mut journey = start(settings, |_| {}, timeline)?;
    let connected = journey.connect().await;
    journey.release().await;
    connected?;
    let mut result = Standing::of(settings)?.json();
    result["nothingToDo"] = false.into();
    Ok(result)
}

/// `zerotouch renew`: a new certificate, and a hub that has accepted it.
pub(crate) async fn renew(arguments: Renew) -> Result<(), CliError> {
    let mut timeline = Timeline::of_progress(arguments.output);
    let outcome = renewed(&arguments.settings, &mut timeline).await;
    conclude(timeline, outcome, arguments.output, |result| {
        let active = &result["active"];
        let not_after = active["notAfter"].as_str().unwrap_or("?");
        format!("renewed: generation {} is in use, valid until {not_after}", active["generation"])
    })
}

async fn renewed(settings: &Settings, timeline: &mut Timeline) -> Result<Value, CliError> {
    if let Some(mut client) = agent(settings).await? {
        client.request(&Request::Renew).await?;
    } else {
        let mut journey = start(settings, |_| {}, timeline)?;
        let outcome = match journey.connect().await {
            // Whoever was provisioned a moment ago has a new one.
            Ok(true) => Ok(()),
            Ok(false) => journey.renew().await,
            Err(error) => Err(error),
        };
        journey.release().await;
        outcome?;
    }
    Ok(Standing::of(settings)?.json())
}

/// `zerotouch twin get` and `patch`.
pub(crate) async fn twin(arguments: Twin) -> Result<(), CliError> {
    let (settings, output, request) = match arguments.command {
        TwinCommand::Get(get) => (get.settings, get.output, Ok(Request::Twin)),
        TwinCommand::Patch(patch) => (patch.settings, patch.output, report(&patch.patch)),
    };
    let mut timeline = Timeline::of_progress(output);
    let outcome = match request {
        Ok(request) => twin_of(&settings, request, &mut timeline).await,
        Err(error) => Err(error),
    };
    conclude(timeline, outcome, output, |result| match &result["version"] {
        Value::Null => format!("{result:#}"),
        version => format!("reported; its version is {version}"),
    })
}

async fn twin_of(
    settings: &Settings,
    request: Request,
    timeline: &mut Timeline,
) -> Result<Value, CliError> {
    if let Some(mut client) = agent(settings).await? {
        return client.request(&request).await;
    }
    let mut journey = start(settings, |config| config.hub.twin = true, timeline)?;
    let outcome = async {
        // It is read on every connection, and reports are heard of only then.
        let read = read_twin(&mut journey).await?;
        match request {
            Request::Report(patch) => {
                let version = journey.device().report_properties(patch).await?;
                Ok(json!({ "version": version }))
            }
            _ => Ok(Value::from(read)),
        }
    };
    let outcome = outcome.await;
    journey.release().await;
    outcome
}

async fn read_twin(journey: &mut Journey<'_>) -> Result<Map<String, Value>, CliError> {
    let mut connected = false;
    loop {
        // However long it takes to get there.
        let event =
            if connected { within("twin", journey.next()).await?? } else { journey.next().await? };
        connected |= matches!(event, Event::Connected { .. });
        if let Event::Twin(TwinEvent::Read { .. }) = event {
            return Ok(tell(&event).map(|telling| telling.members).unwrap_or_default());
        }
    }
}

/// JSON, or `-` for standard input.
fn report(patch: &str) -> Result<Request, CliError> {
    let read;
    let text = match patch {
        "-" => {
            read = standard_input()?;
            &read
        }
        patch => patch,
    };
    serde_json::from_str::<Map<String, Value>>(text)
        .map(Request::Report)
        .map_err(|error| CliError::Json { what: "the patch", source: error })
}

/// `zerotouch telemetry send`: until each message is acknowledged.
pub(crate) async fn send_telemetry(arguments: SendTelemetry) -> Result<(), CliError> {
    let mut timeline = Timeline::of_progress(arguments.output);
    let outcome = sent(&arguments, &mut timeline).await;
    conclude(timeline, outcome, arguments.output, |result| {
        format!("{} acknowledged by the hub", result["acknowledged"])
    })
}

async fn sent(arguments: &SendTelemetry, timeline: &mut Timeline) -> Result<Value, CliError> {
    let mut messages = Messages::new(arguments);
    let mut acknowledged = 0_u64;
    if let Some(mut client) = agent(&arguments.settings).await? {
        while let Some(message) = messages.next().await? {
            client.request(&Request::Telemetry(message)).await?;
            acknowledged += 1;
        }
        return Ok(json!({ "acknowledged": acknowledged }));
    }
    let mut journey = start(&arguments.settings, |_| {}, timeline)?;
    let outcome = async {
        journey.connect().await?;
        while let Some(message) = messages.next().await? {
            within("acknowledgement", journey.send(message)).await??;
            acknowledged += 1;
        }
        Ok(json!({ "acknowledged": acknowledged }))
    };
    let outcome = outcome.await;
    journey.release().await;
    outcome
}

/// The messages of the command line; `-` stands for the lines of standard input.
struct Messages<'a> {
    arguments: &'a SendTelemetry,
    payloads: std::slice::Iter<'a, String>,
    input: Option<BufReader<Stdin>>,
}

impl<'a> Messages<'a> {
    fn new(arguments: &'a SendTelemetry) -> Self {
        Self { arguments, payloads: arguments.payloads.iter(), input: None }
    }

    async fn next(&mut self) -> Result<Option<Telemetry>, CliError> {
        loop {
            if let Some(input) = &mut self.input {
                let mut line = Vec::new();
                if lines::read(input, &mut line).await.map_err(CliError::StandardInput)? {
                    let line = lines::take(&mut line).map_err(CliError::Line)?;
                    if line.trim().is_empty() {
                        continue;
                    }
                    return Ok(Some(message(&line, self.arguments)));
                }
                self.input = None;
            }
            match self.payloads.next().map(String::as_str) {
                None => return Ok(None),
                Some("-") => self.input = Some(BufReader::new(stdin())),
                Some(payload) => return Ok(Some(message(payload, self.arguments))),
            }
        }
    }
}

fn message(payload: &str, arguments: &SendTelemetry) -> Telemetry {
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(payload).is_ok();
    let mut message = match &arguments.content_type {
        None if is_json => json_telemetry(payload),
        None => Telemetry::new(payload),
        Some(media_type) => Telemetry::new(payload).content_type(media_type),
    };
    if let Some(encoding) = &arguments.content_encoding {
        message = message.content_encoding(encoding);
    }
    if let Some(component) = &arguments.component {
        message = message.component(component);
    }
    for (name, value) in &arguments.property {
        message = message.property(name, value);
    }
    message
}

fn standard_input() -> Result<String, CliError> {
    let mut text = String::new();
    let read = std::io::stdin().take(MAX_INPUT_LEN + 1).read_to_string(&mut text);
    let length = read.map_err(CliError::StandardInput)?;
    if length as u64 > MAX_INPUT_LEN {
        return Err(CliError::StandardInput(std::io::ErrorKind::FileTooLarge.into()));
    }
    Ok(text)
}

/// The agent of this device, if it runs.
async fn agent(settings: &Settings) -> Result<Option<Client>, CliError> {
    Client::connect(&settings.place()?.socket).await
}

/// A device of the command's own.
fn start<'t>(
    settings: &Settings,
    prepare: impl FnOnce(&mut Config),
    timeline: &'t mut Timeline,
) -> Result<Journey<'t>, CliError> {
    let mut setup = settings.setup()?;
    let retry = &mut setup.config.retry;
    retry.max_attempts = retry.max_attempts.or(ATTEMPTS);
    retry.connect_spread = std::time::Duration::ZERO;
    prepare(&mut setup.config);
    Ok(Journey::new(setup.start()?, timeline))
}

/// For machines all of it; for people what is left to say.
fn conclude(
    timeline: Timeline,
    outcome: Result<Value, CliError>,
    output: Output,
    words: impl FnOnce(&Value) -> String,
) -> Result<(), CliError> {
    timeline.finish("result", outcome.as_ref());
    let result = outcome?;
    if output == Output::Text {
        write_line(&words(&result));
    }
    Ok(())
}
