//! `zerotouch doctor`: what stands between a device and its hub, found before anyone files a ticket.
//!
//! It looks at one thing after another, and goes on after a problem wherever that can be: whoever reads it has
//! one chance to copy it.

mod network;
mod state;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use zerotouch_driver::{Clock, Dialler, HttpsRequest, HttpsResponse, https};
use zerotouch_time::UnixTime;

use crate::arguments::{Doctor, Output};
use crate::failure::{CliError, exit};
use crate::settings::{Settings, Setup};
use crate::telling::date;
use crate::timeline::{stream_line, write_document, write_line};

/// Tokens and certificates bear less than this; the service's limit for tokens is not published.
const CLOCK_PROBLEM_SECS: u64 = 300;
const CLOCK_WARNING_SECS: u64 = 30;

/// What is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Ok,
    Warning,
    /// The exit code of its class.
    Problem(u8),
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem(_) => "problem",
        }
    }
}

/// One line of the report.
#[derive(Debug)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    words: String,
    remedy: Option<String>,
}

/// The report, which people read as it grows.
struct Report {
    output: Output,
    findings: Vec<Finding>,
}

impl Report {
    fn ok(&mut self, check: &'static str, words: impl Into<String>) {
        self.add(check, Verdict::Ok, words.into(), None);
    }

    fn warning(&mut self, check: &'static str, words: impl Into<String>, remedy: &str) {
        self.add(check, Verdict::Warning, words.into(), Some(remedy.into()));
    }

    fn problem(&mut self, check: &'static str, code: u8, words: impl Into<String>, remedy: &str) {
        self.add(check, Verdict::Problem(code), words.into(), Some(remedy.into()));
    }

    fn error(&mut self, check: &'static str, error: &CliError) {
        let remedy = error.remedy().map(Into::into);
        self.add(check, Verdict::Problem(error.exit_code()), error.to_string(), remedy);
    }

    fn add(
        &mut self,
        check: &'static str,
        verdict: Verdict,
        words: String,
        remedy: Option<String>,
    ) {
        if self.output == Output::Text {
            write_line(&format!("{:<8} {check:<12} {words}", verdict.name()));
            if let Some(remedy) = &remedy {
                write_line(&format!("{:<21} {remedy}", ""));
            }
        }
        let finding = Finding { check, verdict, words, remedy };
        if self.output == Output::Jsonl {
            write_line(&stream_line(&finding_json(&finding)));
        }
        self.findings.push(finding);
    }

    /// The first problem's exit code.
    fn conclude(self) -> Result<(), CliError> {
        let of = |verdict: fn(&Verdict) -> bool| {
            self.findings.iter().filter(|finding| verdict(&finding.verdict)).count()
        };
        let problems = of(|verdict| matches!(verdict, Verdict::Problem(_)));
        let warnings = of(|verdict| *verdict == Verdict::Warning);
        match self.output {
            Output::Text => {
                let plural = |count| if count == 1 { "" } else { "s" };
                let (one, other) = (plural(problems), plural(warnings));
                write_line(&format!("\n{problems} problem{one}, {warnings} warning{other}"));
            }
            Output::Json => {
                let findings: Vec<Value> = self.findings.iter().map(finding_json).collect();
                let ok = problems == 0;
                let document = json!({ "schemaVersion": 1, "ok": ok, "problems": problems, "warnings": warnings, "findings": findings });
                write_document(self.output, &document);
            }
            Output::Jsonl => {}
        }
        let first = self.findings.iter().find_map(|finding| match finding.verdict {
            Verdict::Problem(code) => Some(code),
            _ => None,
        });
        first.map_or(Ok(()), |code| Err(CliError::Ailing { problems, code }))
    }
}

fn finding_json(finding: &Finding) -> Value {
    json!({
        "check": finding.check,
        "verdict": finding.verdict.name(),
        "message": finding.words,
        "remedy": finding.remedy,
    })
}

pub(crate) async fn run(arguments: Doctor) -> Result<(), CliError> {
    // Names and sockets are waited for.
    let examined = tokio::task::spawn_blocking(move || examine(&arguments)).await;
    examined.unwrap_or(Err(CliError::Stopped))
}

fn examine(arguments: &Doctor) -> Result<(), CliError> {
    let settings = &arguments.settings;
    let mut report = Report { output: arguments.output, findings: Vec::new() };
    let now = clock(&mut report);
    let setup = match settings.setup() {
        Ok(setup) => {
            let id = &setup.place.registration_id;
            report.ok("settings", format!("a device can be made of them, {id}"));
            Some(setup)
        }
        Err(error) => {
            report.error("settings", &error);
            None
        }
    };
    let standing = state::examine(settings, now, &mut report);
    let tls = network::dialler(settings, &mut report);
    if let Some(dialler) = tls {
        let host = &settings.provisioning_host;
        network::examine(settings, &dialler, (host, settings.port), &mut report);
        service_time(settings, &dialler, now, &mut report);
        let port = settings.hub_port.unwrap_or(settings.port);
        let hub = standing.as_ref().and_then(|standing| Some((standing.hub()?, port)));
        if let Some(hub) = hub.filter(|hub| *hub != (host, settings.port)) {
            network::examine(settings, &dialler, hub, &mut report);
        }
        match (arguments.dry_run, setup) {
            (false, _) => {}
            (true, Some(setup)) => dry_run(&setup, settings, &dialler, now, &mut report),
            (true, None) => report.warning("dry run", "not made", "mend the settings first"),
        }
    }
    report.conclude()
}

fn clock(report: &mut Report) -> Option<UnixTime> {
    let now = Clock::new().now().wall;
    match now {
        Some(now) => report.ok("clock", date(now)),
        None => report.problem(
            "clock",
            exit::ACTION_NEEDED,
            "this machine's clock is not set",
            "set it: tokens and certificates have times in them",
        ),
    }
    now
}

/// What the provisioning service has for time. That port 443 is shut is a problem for those alone who need
/// it.
fn service_time(
    settings: &Settings,
    dialler: &Dialler,
    now: Option<UnixTime>,
    report: &mut Report,
) {
    let port = settings.web_socket_port;
    let host = settings.provisioning_host.as_str();
    let request = HttpsRequest {
        host,
        port,
        identity: None,
        method: "GET",
        target: "/",
        headers: Vec::new(),
        body: b"",
    };
    let date = match https(dialler, &request) {
        Ok(HttpsResponse { date, .. }) => {
            report.ok("https", format!("{host}:{port} answers"));
            date
        }
        Err(failure) => {
            let words = format!("{host}:{port}: {failure}");
            return report.warning("https", words, "nothing needs it but --transport web-socket");
        }
    };
    let theirs = date.as_deref().and_then(http_time);
    let (Some(ours), Some(theirs)) = (now, theirs) else { return };
    let apart = ours.since(theirs).max(theirs.since(ours)).as_secs();
    let words = format!("{apart} s apart from the provisioning service's");
    let remedy = "set this machine's clock, and have it kept right (NTP)";
    match apart {
        CLOCK_PROBLEM_SECS.. => report.problem("clock", exit::ACTION_NEEDED, words, remedy),
        CLOCK_WARNING_SECS.. => report.warning("clock", words, remedy),
        _ => report.ok("clock", words),
    }
}

/// As in `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7).
fn http_time(date: &str) -> Option<UnixTime> {
    let date = OffsetDateTime::parse(date, &Rfc2822).ok()?;
    Some(UnixTime::from_secs(date.unix_timestamp()))
}

/// Asks the provisioning service what it knows of the device: the credential is judged, and nothing changes.
fn dry_run(
    setup: &Setup,
    settings: &Settings,
    dialler: &Dialler,
    now: Option<UnixTime>,
    report: &mut Report,
) {
    let asked = network::registration(setup, settings, dialler, now);
    match asked {
        Ok(words) => report.ok("dry run", words),
        Err(network::Refusal { code, words, remedy }) => {
            report.problem("dry run", code, words, remedy);
        }
    }
}
