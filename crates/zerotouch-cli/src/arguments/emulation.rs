//! The command lines of the emulator, and of what needs it.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use zerotouch_credentials::KeyAlgorithm;
use zerotouch_emulator::cloud::Fixture;
use zerotouch_mqtt_codec::{TopicError, TopicFilter};
use zerotouch_pkcs11::KeyReference;

use super::{Algorithm, Output};
use crate::secret::SecretReference;

/// The algorithm of an emulated authority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum CaAlgorithm {
    /// ECDSA on P-384, as the service has it
    #[default]
    P384,
    /// ECDSA on P-256, which is verified four times as fast
    P256,
}

impl From<CaAlgorithm> for KeyAlgorithm {
    fn from(curve: CaAlgorithm) -> Self {
        match curve {
            CaAlgorithm::P384 => Self::EcdsaP384,
            CaAlgorithm::P256 => Self::EcdsaP256,
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
    /// Use an identity whose files others can read, which is refused otherwise
    #[arg(long, requires = "state_dir")]
    pub insecure_permissions: bool,
    /// The algorithm of the key pair
    #[arg(long, value_enum, default_value_t)]
    pub key_algorithm: Algorithm,
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
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Emulator {
    #[command(subcommand)]
    pub command: Option<EmulatorCommand>,
    /// Run a plain MQTT 3.1.1 broker instead, without TLS, for tests of clients
    #[arg(long, conflicts_with_all = ["data_dir", "seed", "config", "https_port"])]
    pub plain_broker: bool,
    /// Answer a subscription to this filter with 0x80; may be given more than once
    #[arg(long, value_name = "FILTER", requires = "plain_broker", value_parser = topic_filter)]
    pub refuse_subscribe: Vec<Box<str>>,
    /// The port of 127.0.0.1 to listen on; 0 takes a free one [default: 8883, or 1883 with
    /// --plain-broker]
    #[arg(long)]
    pub port: Option<u16>,
    /// The address to listen on: beyond loopback, whoever reaches it can register devices and has what
    /// they send
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1",
        conflicts_with = "plain_broker"
    )]
    pub listen: IpAddr,
    /// Listen on this port, too, for clients that cannot be told another than 443
    #[arg(long, value_name = "PORT")]
    pub https_port: Option<u16>,
    /// Begin with the enrolments, policies, hubs, settings and faults in this TOML file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Keep all it learns here, for the next run [default: nothing is kept]
    ///
    /// What is kept counts: enrolments and policies of --config, and --seed, only where the directory is
    /// new.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Draw keys and ids from this number, so that two runs are alike
    #[arg(long)]
    pub seed: Option<u64>,
    /// The algorithm of the authority that certifies devices [default: p384, as the service]
    #[arg(long, value_name = "ALGORITHM", value_enum, conflicts_with = "plain_broker")]
    pub ca_alg: Option<CaAlgorithm>,
    /// Say when it is ready, and nothing of what happens
    #[arg(long)]
    pub quiet: bool,
    /// How to write what happens
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// What the devices of a fleet do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FleetMode {
    /// Provision, connect to the hub once, and leave
    Provision,
    /// Stay connected
    Idle,
    /// Send messages
    Telemetry,
}

impl FleetMode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Provision => "provision",
            Self::Idle => "idle",
            Self::Telemetry => "telemetry",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Fleet {
    /// What the devices do
    #[arg(value_enum)]
    pub mode: FleetMode,
    /// The provisioning service, or with --broker the broker
    #[arg(long, default_value = "localhost")]
    pub host: String,
    /// The port of the provisioning service and of its hubs, or of the broker
    #[arg(long, default_value_t = 8883)]
    pub port: u16,
    /// Load a service that is not on this machine: it pays for every registration and message, leaves no
    /// room for its other devices once a quota is used up, and keeps the devices until somebody deletes
    /// them. Only for a service that is yours and that nobody needs meanwhile
    #[arg(long)]
    pub allow_remote: bool,
    /// Trust servers that chain to the certificates in this PEM file [default: the platform's]
    #[arg(long, value_name = "PATH")]
    pub ca_file: Option<PathBuf>,
    /// The id scope of the provisioning service
    #[arg(long, default_value = Fixture::DEFAULT_ID_SCOPE)]
    pub id_scope: String,
    /// The key of the enrolment group, from which each device's is derived, as file:PATH, env:NAME or -
    /// for standard input
    #[arg(long, value_name = "REFERENCE", conflicts_with = "issuer", required_unless_present_any = ["issuer", "broker"])]
    pub group_key: Option<SecretReference>,
    /// The authority that makes each device's certificate: PATH.cert.pem and PATH.key.pem, as
    /// zerotouch pki writes them
    #[arg(long, value_name = "PATH")]
    pub issuer: Option<PathBuf>,
    /// The host is an MQTT broker: devices do not provision, and show their certificates to it
    #[arg(long, conflicts_with = "group_key")]
    pub broker: bool,
    /// How many devices
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub devices: u32,
    /// How many may be on their way at once
    #[arg(long, value_name = "COUNT", default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pub at_once: u32,
    /// For how long they stay connected, or send, once all are there
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub seconds: u32,
    /// After how many seconds it ends in any case
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=7_200))]
    pub limit: u32,
    /// How many bytes a message has
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=262_000))]
    pub payload: u32,
    /// How many messages of a device may await acknowledgement
    #[arg(long, value_name = "COUNT", default_value_t = 16, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub window: u8,
    /// How many key pairs are made: the devices share them, as making one for each is work of theirs and
    /// not of the service
    #[arg(long, value_name = "COUNT", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub keys: u32,
    /// The algorithm of the devices' key pairs
    #[arg(long, value_enum, default_value_t)]
    pub key_algorithm: Algorithm,
    /// How the devices' names begin
    #[arg(long, value_name = "NAME", default_value = "fleet")]
    pub name_prefix: String,
    /// How to write the result
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// Commands for an emulator that runs.
#[derive(Debug, Subcommand)]
pub(crate) enum EmulatorCommand {
    /// Tell or set the time of day of a running emulator: certificates, tokens and operations grow old,
    /// connections do not notice
    Clock(Clock),
    /// Have things go wrong in a running emulator
    Fault(Fault),
    /// Make any request to a running emulator, with a token for its service API
    Call(Call),
}

#[derive(Debug, Args)]
pub(crate) struct Clock {
    /// How far to put it forward, as in +30d or +12h30m, or what to set it to, as in 2027-01-31T12:00:00Z
    /// [default: it is told]
    pub change: Option<String>,
    /// The port of the emulator
    #[arg(long, default_value_t = 8883)]
    pub port: u16,
    /// How to write the result
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Fault {
    #[command(subcommand)]
    pub command: FaultCommand,
    /// The port of the emulator
    #[arg(long, default_value_t = 8883, global = true)]
    pub port: u16,
    /// How to write the result
    #[arg(short, long, value_enum, default_value_t, global = true)]
    pub output: Output,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FaultCommand {
    /// Have an operation go wrong from now on
    Add(AddFault),
    /// List the faults in force
    List,
    /// Take a fault back
    Remove {
        /// Its number
        id: u64,
    },
    /// Take all faults back
    Clear,
}

#[derive(Debug, Args)]
pub(crate) struct AddFault {
    /// What a device does: dpsConnect, register, status, assign, hubConnect, telemetry, twinGet,
    /// twinReport, renew, renewalResult
    pub operation: String,
    /// What goes wrong: a name, as in stuck, silence or duplicate, or JSON, as in
    /// '{"error":{"status":429,"retryAfter":5}}', '{"chain":"missing"}' or '{"delay":"2s"}'
    pub fault: String,
    /// With which devices, by registration id or device id; * stands for any characters
    #[arg(long, value_name = "PATTERN", default_value = "*")]
    pub device: String,
    /// With how many of those that match, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 1.0)]
    pub probability: f64,
    /// Let so many that match by first
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub after: u32,
    /// Strike so often, then be gone [default: until it is taken back]
    #[arg(long)]
    pub count: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Call {
    /// GET, PUT, POST, PATCH or DELETE
    pub method: String,
    /// Path and query, as in '/twins/pump-7' or '/$emulator/namespace/policies'
    pub path: String,
    /// The body, as JSON; - for standard input
    pub body: Option<String>,
    /// The port of the emulator
    #[arg(long, default_value_t = 8883)]
    pub port: u16,
}

fn topic_filter(text: &str) -> Result<Box<str>, TopicError> {
    TopicFilter::new(text).map(|filter| filter.as_str().into())
}

#[derive(Debug, Args)]
pub(crate) struct Pki {
    #[command(subcommand)]
    pub command: PkiCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PkiCommand {
    /// Make a root: a key and a certificate signed by itself
    Root(Root),
    /// Make an authority below another, which issues to devices
    Intermediate(Intermediate),
    /// Make a device's certificate, its registration id for a name
    Device(DeviceCertificate),
    /// Make the certificate that answers a verification code: proof that you hold an authority's key
    Verification(Verification),
}

impl PkiCommand {
    pub(crate) fn output(&self) -> Output {
        match self {
            Self::Root(root) => root.made.output,
            Self::Intermediate(intermediate) => intermediate.made.output,
            Self::Device(device) => device.made.output,
            Self::Verification(verification) => verification.made.output,
        }
    }
}

/// What is made, and where to.
#[derive(Debug, Args)]
pub(crate) struct Made {
    /// Write PATH.cert.pem and PATH.key.pem [default: root, intermediate, the registration id, or
    /// verification, in this directory]
    #[arg(long, value_name = "PATH")]
    pub out: Option<PathBuf>,
    /// For how many days it is valid [default: 90 for authorities, 30 for devices, 7 for the answer to a
    /// code; no longer than the issuer]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub days: Option<u32>,
    /// Replace files that are there already
    #[arg(long)]
    pub force: bool,
    /// How to write the result
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// The key that is certified.
#[derive(Debug, Args)]
pub(crate) struct NewKey {
    /// The algorithm of the new key
    #[arg(long, value_enum, default_value_t)]
    pub key_algorithm: Algorithm,
    /// Use this key instead of a new one: a file, or a pkcs11: URI
    #[arg(long, value_name = "REFERENCE", conflicts_with = "key_algorithm")]
    pub key: Option<KeyReference>,
}

/// Who signs.
#[derive(Debug, Args)]
pub(crate) struct Issuer {
    /// The issuer: its certificate is PATH.cert.pem (what follows in the file is sent along), its key
    /// PATH.key.pem
    #[arg(long, value_name = "PATH", default_value = "root")]
    pub issuer: PathBuf,
    /// The issuer's key, if it is elsewhere: a file, or a pkcs11: URI
    #[arg(long, value_name = "REFERENCE")]
    pub issuer_key: Option<KeyReference>,
}

#[derive(Debug, Args)]
pub(crate) struct Root {
    /// Its common name
    #[arg(long, default_value = "zerotouch test root - NOT FOR PRODUCTION")]
    pub name: String,
    #[command(flatten)]
    pub new_key: NewKey,
    #[command(flatten)]
    pub made: Made,
}

#[derive(Debug, Args)]
pub(crate) struct Intermediate {
    /// Its common name
    #[arg(long, default_value = "zerotouch test intermediate - NOT FOR PRODUCTION")]
    pub name: String,
    #[command(flatten)]
    pub issuer: Issuer,
    #[command(flatten)]
    pub new_key: NewKey,
    #[command(flatten)]
    pub made: Made,
}

#[derive(Debug, Args)]
pub(crate) struct DeviceCertificate {
    /// The name under which the device registers, 64 characters at most
    #[arg(long)]
    pub registration_id: String,
    #[command(flatten)]
    pub issuer: Issuer,
    #[command(flatten)]
    pub new_key: NewKey,
    #[command(flatten)]
    pub made: Made,
}

#[derive(Debug, Args)]
pub(crate) struct Verification {
    /// The code that the portal or the CLI shows for the uploaded certificate
    #[arg(long)]
    pub code: String,
    #[command(flatten)]
    pub issuer: Issuer,
    #[command(flatten)]
    pub made: Made,
}
