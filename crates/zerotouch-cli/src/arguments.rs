//! The command line. Flags bear the names of `az iot device registration create` where one exists.

#![allow(clippy::doc_markdown, reason = "these comments are read in a terminal, as help")]

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use zerotouch_credentials::KeyAlgorithm;
use zerotouch_mqtt_codec::{TopicError, TopicFilter};

use crate::secret::SecretReference;

/// Gives an IoT device its identity and keeps it alive, through Azure DPS, Device Registry and IoT
/// Hub; and emulates all three.
#[derive(Debug, Parser)]
#[command(name = "zerotouch", version, about, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Take a device from a bootstrap key to telemetry over an issued certificate
    ///
    /// Without --provisioning-host an emulator is started in this process, on 127.0.0.1, and nothing
    /// leaves the machine.
    Demo(Demo),
    /// Run DPS, the Device Registry's certificate authority and IoT Hub on this machine, for tests
    Emulator(Emulator),
}

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    #[default]
    Text,
    /// For machines: one JSON document, or one per line where there is no end
    Json,
}

/// The algorithm of the device's key pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Curve {
    /// ECDSA on P-384, accepted by every credential policy
    #[default]
    P384,
    /// ECDSA on P-256
    P256,
}

impl From<Curve> for KeyAlgorithm {
    fn from(curve: Curve) -> Self {
        match curve {
            Curve::P384 => Self::EcdsaP384,
            Curve::P256 => Self::EcdsaP256,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Provision at this service instead of an emulator, as in global.azure-devices-provisioning.net
    #[arg(long, value_name = "HOST", requires = "id_scope", requires = "symmetric_key")]
    pub provisioning_host: Option<String>,
    /// The id scope of the provisioning service [default: the emulator's]
    #[arg(long)]
    pub id_scope: Option<String>,
    /// The name under which the device registers
    #[arg(long, default_value = "zerotouch-demo")]
    pub registration_id: String,
    /// The device's key, as file:PATH, env:NAME or - for standard input [default: derived from the
    /// emulator's group key]
    #[arg(long, value_name = "REFERENCE")]
    pub symmetric_key: Option<SecretReference>,
    /// The symmetric key is an enrolment group's: derive the device's key from it
    #[arg(long, visible_alias = "ck", requires = "symmetric_key")]
    pub compute_key: bool,
    /// Trust servers that chain to the certificates in this PEM file [default: the emulator's, or the
    /// platform's with --provisioning-host]
    #[arg(long, value_name = "PATH")]
    pub ca_file: Option<PathBuf>,
    /// Keep the identity here; run again with it, and provisioning is skipped [default: a temporary
    /// directory]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The algorithm of the key pair
    #[arg(long, value_enum, default_value_t)]
    pub key_algorithm: Curve,
    /// How many telemetry messages to send
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub messages: u32,
    /// The port of the emulator, or of DPS and hub with --provisioning-host [default: a free one, or
    /// 8883]
    #[arg(long)]
    pub port: Option<u16>,
    /// How to write the result
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Emulator {
    /// Run a plain MQTT 3.1.1 broker instead, without TLS, for tests of clients
    #[arg(long, conflicts_with_all = ["data_dir", "seed"])]
    pub plain_broker: bool,
    /// Answer a subscription to this filter with 0x80; may be given more than once
    #[arg(long, value_name = "FILTER", requires = "plain_broker", value_parser = topic_filter)]
    pub refuse_subscribe: Vec<Box<str>>,
    /// The port of 127.0.0.1 to listen on; 0 takes a free one [default: 8883, or 1883 with
    /// --plain-broker]
    #[arg(long)]
    pub port: Option<u16>,
    /// Keep certificates and devices here, for the next run [default: nothing is kept]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Draw keys and ids from this number, so that two runs are alike
    #[arg(long)]
    pub seed: Option<u64>,
    /// How to write what happens
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

fn topic_filter(text: &str) -> Result<Box<str>, TopicError> {
    TopicFilter::new(text).map(|filter| filter.as_str().into())
}
