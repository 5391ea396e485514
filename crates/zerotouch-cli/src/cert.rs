//! `zerotouch cert`: certificates shown, and held against what a device needs of them.

#![allow(clippy::doc_markdown, reason = "comments on arguments are read in a terminal, as help")]

use std::fmt::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use zerotouch_credentials::{Certificate, CertificateChain, ChainPolicy, Finding};
use zerotouch_driver::Clock;
use zerotouch_pkcs11::KeyReference;
use zerotouch_time::UnixTime;

use crate::arguments::Output;
use crate::certificate_file::{CertificateFile, read_chain};
use crate::document;
use crate::failure::CliError;

const DAY: i64 = 24 * 60 * 60;

#[derive(Debug, Args)]
pub(crate) struct Cert {
    #[command(subcommand)]
    command: CertCommand,
}

#[derive(Debug, Subcommand)]
enum CertCommand {
    /// Show the certificates of a file
    ///
    /// A private key in the same file, as the state directory's have it, is not shown.
    Show(Show),
    /// Look for what is wrong with a device's certificate, before the service does
    ///
    /// Its chain, dates and use are looked at in any case; its key, its name and where it leads to, if they
    /// are given.
    Verify(Verify),
}

#[derive(Debug, Args)]
struct Show {
    /// The certificates: PEM, or DER of one
    file: PathBuf,
    /// How to write the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Args)]
struct Verify {
    /// The device's certificate and, after it, those of its issuers
    #[arg(long, value_name = "PATH")]
    certificate_file_path: PathBuf,
    /// Its key: a file, or a pkcs11: URI [default: the key is not looked at]
    #[arg(long, value_name = "REFERENCE")]
    key_file_path: Option<KeyReference>,
    /// The name under which the device registers [default: the name is not looked at]
    #[arg(long)]
    registration_id: Option<String>,
    /// The certificate that is verified at the provisioning service [default: where the chain leads to
    /// is not looked at]
    #[arg(long, value_name = "PATH")]
    anchor: Option<PathBuf>,
    /// How to write the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(arguments: &Cert) -> Result<(), CliError> {
    match &arguments.command {
        CertCommand::Show(arguments) => {
            let outcome = CertificateFile::open(&arguments.file);
            document::tell(arguments.output, &outcome, file_words, file_json);
            outcome.map(drop)
        }
        CertCommand::Verify(arguments) => verify(arguments),
    }
}

fn wall_clock() -> Option<UnixTime> {
    Clock::new().now().wall
}

fn file_words(file: &CertificateFile) -> String {
    let (now, count) = (wall_clock(), file.chain.iter().count());
    let shown = file.chain.iter().enumerate().map(|(index, certificate)| {
        format!("certificate {} of {count}\n{}", index + 1, words(certificate, now))
    });
    let mut shown: Vec<String> = shown.collect();
    if file.holds_key {
        shown.push("The file holds a private key as well, which is not shown.".into());
    }
    shown.join("\n\n")
}

fn file_json(file: &CertificateFile) -> Value {
    let now = wall_clock();
    let shown: Vec<Value> = file.chain.iter().map(|it| certificate_json(it, now)).collect();
    json!({ "holdsPrivateKey": file.holds_key, "certificates": shown })
}

fn words(certificate: &Certificate, now: Option<UnixTime>) -> String {
    let or_why = |result: Result<String, String>| result.unwrap_or_else(|why| why);
    let uses = match certificate.extended_key_usage() {
        Ok(Some(uses)) => uses.join(", "),
        Ok(None) => "any".into(),
        Err(error) => error.to_string(),
    };
    let names = certificate.subject_alternative_names();
    let names = or_why(names.map(|names| names.join(", ")).map_err(|error| error.to_string()));
    let algorithm = certificate.key_algorithm();
    let mut lines = vec![
        ("subject", certificate.subject()),
        ("issuer", certificate.issuer()),
        ("serial", hex(certificate.serial())),
        (
            "valid",
            format!(
                "{} to {}{}",
                certificate.not_before(),
                certificate.not_after(),
                left(certificate, now)
            ),
        ),
        ("key", or_why(algorithm.map(|it| it.to_string()).map_err(|error| error.to_string()))),
        ("authority", authority(certificate)),
        ("uses", uses),
    ];
    if !names.is_empty() {
        lines.push(("other names", names));
    }
    lines.push(("SHA-256", certificate.thumbprint().to_string()));
    lines.push(("SHA-1", sha1(certificate)));
    let lines: Vec<_> = lines.iter().map(|(what, value)| format!("  {what:<12} {value}")).collect();
    lines.join("\n")
}

fn certificate_json(certificate: &Certificate, now: Option<UnixTime>) -> Value {
    json!({
        "subject": certificate.subject(),
        "issuer": certificate.issuer(),
        "commonName": certificate.common_name(),
        "serial": hex(certificate.serial()),
        "notBefore": certificate.not_before().to_string(),
        "notAfter": certificate.not_after().to_string(),
        "daysLeft": now.map(|now| days_left(certificate, now)),
        "keyAlgorithm": certificate.key_algorithm().ok().map(|it| it.to_string()),
        "isAuthority": certificate.is_authority(),
        "pathLength": certificate.path_len(),
        "extendedKeyUsage": certificate.extended_key_usage().ok().flatten(),
        "subjectAlternativeNames": certificate.subject_alternative_names().ok(),
        "thumbprint": certificate.thumbprint().to_string(),
        "sha1Thumbprint": sha1(certificate),
    })
}

/// Whole days until it expires; negative once it has.
fn days_left(certificate: &Certificate, now: UnixTime) -> i64 {
    certificate.not_after().as_secs().saturating_sub(now.as_secs()).div_euclid(DAY)
}

fn left(certificate: &Certificate, now: Option<UnixTime>) -> String {
    let Some(now) = now else { return String::new() };
    let count = |days: i64| format!("{days} day{}", if days == 1 { "" } else { "s" });
    if now >= certificate.not_after() {
        let ago = now.as_secs().saturating_sub(certificate.not_after().as_secs()) / DAY;
        return format!(" (EXPIRED {} ago)", count(ago));
    }
    if certificate.not_before() > now {
        return " (NOT VALID YET)".into();
    }
    format!(" ({} left)", count(days_left(certificate, now)))
}

fn authority(certificate: &Certificate) -> String {
    match (certificate.is_authority(), certificate.path_len()) {
        (false, _) => "no".into(),
        (true, None) => "yes".into(),
        (true, Some(0)) => "yes, for leaves alone".into(),
        (true, Some(limit)) => format!("yes, with {limit} below it at most"),
    }
}

fn sha1(certificate: &Certificate) -> String {
    hex(&Sha1::digest(certificate.as_der()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // A String takes whatever is written.
        let _ = write!(text, "{byte:02X}");
        text
    })
}

struct Verified {
    chain: CertificateChain,
    findings: Vec<Finding>,
    /// What was not looked at, and how it would be.
    not_checked: Vec<(&'static str, &'static str)>,
}

fn verify(arguments: &Verify) -> Result<(), CliError> {
    let outcome = findings(arguments);
    document::tell(arguments.output, &outcome, Verified::words, Verified::json);
    match outcome?.errors() {
        0 => Ok(()),
        errors => Err(CliError::Unfit { errors }),
    }
}

fn findings(arguments: &Verify) -> Result<Verified, CliError> {
    let chain = read_chain(&arguments.certificate_file_path)?;
    let key = arguments.key_file_path.as_ref().map(KeyReference::open).transpose()?;
    let anchor = arguments.anchor.as_deref().map(read_chain).transpose()?;
    let name = arguments.registration_id.as_deref();
    let policy = ChainPolicy {
        now: wall_clock(),
        anchor: anchor.as_ref().map(CertificateChain::leaf),
        ..ChainPolicy::new(&[], name.unwrap_or_default())
    };
    let findings = chain.lint_partly(key.as_deref(), name, &policy);
    let unless = |given: bool, what| (!given).then_some(what);
    let not_checked = [
        unless(key.is_some(), ("key", "--key-file-path")),
        unless(name.is_some(), ("name", "--registration-id")),
        unless(anchor.is_some(), ("anchor", "--anchor")),
    ];
    Ok(Verified { chain, findings, not_checked: not_checked.into_iter().flatten().collect() })
}

impl Verified {
    fn errors(&self) -> usize {
        self.findings.iter().filter(|finding| finding.is_error()).count()
    }

    fn words(&self) -> String {
        let leaf = self.chain.leaf();
        let mut lines = vec![format!(
            "  {:<8} {}, until {}{}",
            "subject",
            leaf.subject(),
            leaf.not_after(),
            left(leaf, wall_clock())
        )];
        for finding in &self.findings {
            let kind = if finding.is_error() { "error" } else { "warning" };
            let says = finding.service_says();
            let says = says.map(|says| format!(" (DPS says: {says})")).unwrap_or_default();
            lines.push(format!("  {kind:<8} {finding}{says}"));
        }
        if self.findings.is_empty() {
            let of = if self.not_checked.is_empty() { "" } else { " as far as it was looked at" };
            lines.push(format!("  {:<8} nothing is wrong with it{of}", "good"));
        }
        for (what, option) in &self.not_checked {
            lines.push(format!("  {:<8} the {what} was not looked at: give {option}", "note"));
        }
        lines.join("\n")
    }

    fn json(&self) -> Value {
        let listed = self.findings.iter().map(|finding| {
            json!({
                "error": finding.is_error(),
                "message": finding.to_string(),
                "serviceSays": finding.service_says(),
            })
        });
        let not_checked: Vec<_> = self.not_checked.iter().map(|(what, _)| *what).collect();
        json!({
            "ok": self.errors() == 0,
            "subject": self.chain.leaf().subject(),
            "notAfter": self.chain.leaf().not_after().to_string(),
            "findings": listed.collect::<Vec<_>>(),
            "notChecked": not_checked,
        })
    }
}
