//! `zerotouch key`: key pairs, keys derived from a group's, and tokens.

#![allow(clippy::doc_markdown, reason = "comments on arguments are read in a terminal, as help")]

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use zerotouch_credentials::{PrivateKey, SasToken};
use zerotouch_dps::{IdScope, RegistrationId};
use zerotouch_driver::{Clock, device_rng};

use crate::arguments::{Algorithm, Output};
use crate::document;
use crate::failure::CliError;
use crate::output_file::{self, Kind};
use crate::secret::SecretReference;

/// The longest that a token is made for: it cannot be taken back.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[derive(Debug, Args)]
pub(crate) struct Key {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a key pair, in a file that its owner alone can read
    New(New),
    /// Print the key of one device of an enrolment group, in base64
    ///
    /// It goes to standard output, which is what this command is for: send it where only the device reads it.
    Derive(Derive),
    /// Print a shared access signature: for the provisioning service, or with --hub for a hub
    ///
    /// Until it expires, whoever has it is the device.
    Sas(Sas),
}

#[derive(Debug, Args)]
struct New {
    /// Write the key here, as PEM of PKCS#8
    #[arg(long, value_name = "PATH", default_value = "device.key.pem")]
    out: PathBuf,
    /// The algorithm of the key
    #[arg(long, value_enum, default_value_t)]
    key_algorithm: Algorithm,
    /// Replace a file that is there already
    #[arg(long)]
    force: bool,
    /// How to write the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Args)]
struct Derive {
    /// The name under which the device registers; its case counts
    #[arg(long)]
    registration_id: String,
    /// The enrolment group's key, as file:PATH, env:NAME or - for standard input
    #[arg(long, value_name = "REFERENCE")]
    symmetric_key: SecretReference,
    /// How to write the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Args)]
struct Sas {
    /// The device's key, as file:PATH, env:NAME or - for standard input
    #[arg(long, value_name = "REFERENCE")]
    symmetric_key: SecretReference,
    /// The symmetric key is an enrolment group's: derive the device's key from it, for the registration
    /// id, or with --hub for the device id
    #[arg(long, visible_alias = "ck")]
    compute_key: bool,
    /// The id scope of the provisioning service
    #[arg(long, required_unless_present = "hub", requires = "registration_id")]
    id_scope: Option<String>,
    /// The name under which the device registers
    #[arg(long, requires = "id_scope")]
    registration_id: Option<String>,
    /// The host of the hub, as in contoso.azure-devices.net
    #[arg(long, value_name = "HOST", value_parser = part, requires = "device_id", conflicts_with_all = ["id_scope", "registration_id"])]
    hub: Option<String>,
    /// The device's name at the hub
    #[arg(long, value_name = "ID", value_parser = part, requires = "hub")]
    device_id: Option<String>,
    /// How long it is valid, as in 90s, 1h or 30d, a year at most
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = lifetime)]
    valid_for: Duration,
    /// How to write the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// A part of the resource that a token opens, which a slash would make another.
fn part(text: &str) -> Result<String, &'static str> {
    let is_foreign = |c: char| c == '/' || c.is_whitespace() || c.is_control();
    if text.is_empty() || text.contains(is_foreign) {
        return Err("give a bare name: not empty, and without slashes and spaces");
    }
    Ok(text.into())
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let lifetime = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if lifetime < Duration::from_secs(1) || lifetime > LONGEST {
        return Err("a token is valid from a second to a year".into());
    }
    Ok(lifetime)
}

pub(crate) fn run(arguments: &Key) -> Result<(), CliError> {
    match &arguments.command {
        KeyCommand::New(arguments) => {
            let outcome = new(arguments);
            document::tell(
                arguments.output,
                &outcome,
                |()| format!("  key          {} (keep it secret)", arguments.out.display()),
                |()| json!({ "keyFile": arguments.out }),
            );
            outcome
        }
        KeyCommand::Derive(arguments) => {
            let outcome = derive(arguments);
            document::tell(
                arguments.output,
                &outcome,
                |key| key.to_string(),
                |key| json!({ "registrationId": arguments.registration_id, "symmetricKey": &**key }),
            );
            outcome.map(drop)
        }
        KeyCommand::Sas(arguments) => {
            let outcome = sas(arguments);
            document::tell(
                arguments.output,
                &outcome,
                |token| token.as_str().into(),
                |token| json!({ "sasToken": token.as_str(), "expiry": token.expiry().to_string() }),
            );
            outcome.map(drop)
        }
    }
}

fn new(arguments: &New) -> Result<(), CliError> {
    // Looked at before a key is made, which of RSA takes a while.
    if !arguments.force && arguments.out.symlink_metadata().is_ok() {
        return Err(CliError::Exists { path: arguments.out.clone() });
    }
    let mut rng = device_rng().map_err(CliError::Randomness)?;
    let key = PrivateKey::generate(arguments.key_algorithm.into(), &mut rng)?;
    let pem = key.to_pkcs8_pem()?;
    output_file::write(&arguments.out, pem.as_bytes(), Kind::Secret, arguments.force)
}

fn derive(arguments: &Derive) -> Result<zeroize::Zeroizing<String>, CliError> {
    let name = RegistrationId::new(&arguments.registration_id)?;
    Ok(arguments.symmetric_key.read_key()?.derive(name.as_str()).to_base64())
}

fn sas(arguments: &Sas) -> Result<SasToken, CliError> {
    let now = Clock::new().now().wall.ok_or(CliError::ClockUnset)?;
    let expiry = now + arguments.valid_for;
    let key = |name: &str| {
        let key = arguments.symmetric_key.read_key()?;
        Ok::<_, CliError>(if arguments.compute_key { key.derive(name) } else { key })
    };
    // The parser has seen to it that each of the two has both of its halves.
    let half = |half: &Option<String>| half.clone().unwrap_or_default();
    if let Some(host) = &arguments.hub {
        let device_id = half(&arguments.device_id);
        return Ok(SasToken::for_hub(&key(&device_id)?, host, &device_id, expiry));
    }
    let id_scope = IdScope::new(&half(&arguments.id_scope))?;
    let name = RegistrationId::new(&half(&arguments.registration_id))?;
    Ok(SasToken::for_dps(&key(name.as_str())?, id_scope.as_str(), name.as_str(), expiry))
}
