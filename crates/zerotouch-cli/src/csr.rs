//! `zerotouch csr`: certificate requests, made and looked at.

#![allow(clippy::doc_markdown, reason = "comments on arguments are read in a terminal, as help")]

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use zerotouch_credentials::{CertificateRequest, PrivateKey, RequestError, Signer};
use zerotouch_dps::RegistrationId;
use zerotouch_driver::device_rng;
use zerotouch_pkcs11::KeyReference;

use crate::arguments::{Algorithm, Output};
use crate::certificate_file;
use crate::document;
use crate::failure::CliError;
use crate::output_file::{self, Kind};

#[derive(Debug, Args)]
pub(crate) struct Csr {
    #[command(subcommand)]
    command: CsrCommand,
}

#[derive(Debug, Subcommand)]
enum CsrCommand {
    /// Request a certificate for a key: PKCS#10, the registration id its only name
    ///
    /// Without --key a new key is made, and kept in ID.key.pem beside --out.
    New(New),
    /// Show a request, and whether its signature is that of its key
    Show(Show),
}

#[derive(Debug, Args)]
struct New {
    /// The name under which the device registers, 64 characters at most
    #[arg(long)]
    registration_id: String,
    /// The algorithm of the new key
    #[arg(long, value_enum, default_value_t)]
    key_algorithm: Algorithm,
    /// Use this key instead of a new one: a file, or a pkcs11: URI
    #[arg(long, value_name = "REFERENCE", conflicts_with = "key_algorithm")]
    key: Option<KeyReference>,
    /// Write the request here [default: standard output]
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// Write DER instead of PEM
    #[arg(long)]
    der: bool,
    /// Write base64 of DER on one line, as the service takes it in a registration's csr
    #[arg(long, conflicts_with = "der")]
    base64: bool,
    /// Replace files that are there already
    #[arg(long)]
    force: bool,
    /// How to write the result; with json, the request is in the document
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Args)]
struct Show {
    /// The request: PEM, DER or base64 of DER
    file: PathBuf,
    /// How to write the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(arguments: &Csr) -> Result<(), CliError> {
    match &arguments.command {
        CsrCommand::New(arguments) => new(arguments),
        CsrCommand::Show(arguments) => show(arguments),
    }
}

struct Made {
    request: CertificateRequest,
    /// None if the key was there before.
    key_file: Option<PathBuf>,
}

fn new(arguments: &New) -> Result<(), CliError> {
    let outcome = make(arguments);
    if let (Output::Text, None, Ok(made)) = (arguments.output, &arguments.out, &outcome) {
        // The request alone is on standard output, for whoever reads it from there.
        if let Some(path) = &made.key_file {
            eprintln!("  key          {} (keep it secret)", path.display());
        }
        return document::write_bytes(&encode(arguments, &made.request)?);
    }
    let words = |made: &Made| {
        let key = match &made.key_file {
            Some(path) => format!("{} (keep it secret)", path.display()),
            None => "as given".into(),
        };
        let out = arguments.out.as_ref().map(|path| path.display().to_string());
        let out = out.unwrap_or_default();
        format!(
            "  request      {out}\n  key          {key}\n  subject      {}",
            made.request.subject()
        )
    };
    document::tell(arguments.output, &outcome, words, |made| {
        json!({
            "requestFile": arguments.out,
            "keyFile": made.key_file,
            "subject": made.request.subject(),
            "csr": made.request.to_base64(),
        })
    });
    outcome.map(drop)
}

fn make(arguments: &New) -> Result<Made, CliError> {
    let name = RegistrationId::new(&arguments.registration_id)?;
    let key_file = arguments.key.is_none().then(|| {
        // A colon may stand in a registration id; it does no harm in a file's name here.
        let file = format!("{name}.key.pem");
        arguments.out.as_ref().map_or_else(|| file.clone().into(), |out| out.with_file_name(&file))
    });
    // Looked at before anything is made, so that nothing is made in vain.
    for path in [&arguments.out, &key_file].into_iter().flatten() {
        if !arguments.force && path.symlink_metadata().is_ok() {
            return Err(CliError::Exists { path: path.clone() });
        }
    }
    let (signer, pem): (Arc<dyn Signer>, _) = if let Some(reference) = &arguments.key {
        (reference.open()?, None)
    } else {
        let mut rng = device_rng().map_err(CliError::Randomness)?;
        let key = PrivateKey::generate(arguments.key_algorithm.into(), &mut rng)?;
        let pem = key.to_pkcs8_pem()?;
        (Arc::new(key), Some(pem))
    };
    let request = CertificateRequest::new(&*signer, name.as_str())?;
    if let (Some(path), Some(pem)) = (&key_file, pem) {
        output_file::write(path, pem.as_bytes(), Kind::Secret, arguments.force)?;
    }
    if let Some(path) = &arguments.out {
        let bytes = encode(arguments, &request)?;
        let written = output_file::write(path, &bytes, Kind::Public, arguments.force);
        if let (Err(_), Some(key_file), false) = (&written, &key_file, arguments.force) {
            // A new key without its request is of no use, and would be in the way.
            let _ = std::fs::remove_file(key_file);
        }
        written?;
    }
    Ok(Made { request, key_file })
}

fn encode(arguments: &New, request: &CertificateRequest) -> Result<Vec<u8>, CliError> {
    Ok(match (arguments.der, arguments.base64) {
        (true, _) => request.as_der().to_vec(),
        (false, true) => format!("{}\n", request.to_base64()).into_bytes(),
        (false, false) => request.to_pem()?.into_bytes(),
    })
}

struct Shown {
    request: CertificateRequest,
    verified: Result<(), RequestError>,
}

impl Shown {
    fn algorithm(&self) -> String {
        let algorithm = self.request.key_algorithm();
        algorithm.map_or_else(|error| error.to_string(), |algorithm| algorithm.to_string())
    }

    fn words(&self) -> String {
        let signature = match &self.verified {
            Ok(()) => "verified: the key it is for has signed it",
            Err(_) => "NOT VERIFIED",
        };
        format!(
            "  subject      {}\n  key          {}\n  signature    {signature}",
            self.request.subject(),
            self.algorithm()
        )
    }

    fn json(&self) -> Value {
        json!({
            "ok": self.verified.is_ok(),
            "subject": self.request.subject(),
            "commonName": self.request.common_name(),
            "keyAlgorithm": self.request.key_algorithm().ok().map(|it| it.to_string()),
            "signatureVerified": self.verified.is_ok(),
        })
    }
}

fn show(arguments: &Show) -> Result<(), CliError> {
    let unreadable =
        |reason: String| CliError::RequestFile { path: arguments.file.clone(), reason };
    let outcome = certificate_file::read(&arguments.file)
        .map_err(|error| unreadable(error.to_string()))
        .and_then(|bytes| {
            let request = CertificateRequest::from_bytes(&bytes);
            let request = request.map_err(|error| unreadable(error.to_string()))?;
            Ok(Shown { verified: request.verify(), request })
        });
    document::tell(arguments.output, &outcome, Shown::words, Shown::json);
    Ok(outcome?.verified?)
}
