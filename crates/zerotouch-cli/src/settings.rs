//! What a device is told: each setting by a flag, else by an environment variable, else by a line of the
//! settings file, else by its default. It has one name everywhere: `--id-scope`, `ZEROTOUCH_ID_SCOPE`,
//! `id-scope`.

pub(crate) mod device;
pub(crate) mod layers;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use zerotouch_device::{HubCredential, OnRefusal, WhenFull};
use zerotouch_dps::{IdError, IdScope, RegistrationId};
use zerotouch_pkcs11::KeyReference;

use crate::arguments::Algorithm;
use crate::secret::{ProxyReference, SecretReference};

pub(crate) use self::device::{Place, Setup, SetupError};
pub(crate) use self::layers::{Origin, SettingsFileError, Shown, parse};

/// Where the settings file is looked for unless one is named.
pub(crate) const DEFAULT_FILE: &str = "/etc/zerotouch/zerotouch.toml";

/// The settings of a device.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Settings of the device")]
#[allow(clippy::doc_markdown, reason = "these comments are read in a terminal, as help")]
#[allow(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub(crate) struct Settings {
    /// Read settings from this TOML file, by the names of these flags [default:
    /// /etc/zerotouch/zerotouch.toml, where it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The id scope of the provisioning service
    #[arg(long, value_parser = id_scope)]
    pub id_scope: Option<IdScope>,
    /// The name under which the device registers
    #[arg(long, value_parser = registration_id)]
    pub registration_id: Option<RegistrationId>,
    /// The device's key, as file:PATH, env:NAME, credential:NAME (systemd's) or - for standard input
    #[arg(long, value_name = "REFERENCE")]
    pub symmetric_key: Option<SecretReference>,
    /// The symmetric key is an enrolment group's: derive the device's key from it
    #[arg(long, visible_alias = "ck", value_name = "BOOL", default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    pub compute_key: bool,
    /// The device's certificate from the factory and, after it, those of its issuers, in PEM
    #[arg(long, value_name = "PATH")]
    pub certificate_file_path: Option<PathBuf>,
    /// The key of that certificate: a file, or a pkcs11: URI
    #[arg(long, value_name = "REFERENCE")]
    pub key_file_path: Option<KeyReference>,
    /// The host of the provisioning service
    #[arg(long, value_name = "HOST", default_value = zerotouch_dps::GLOBAL_HOST)]
    pub provisioning_host: String,
    /// The port of MQTT, there and at the hub
    #[arg(long, alias = "provisioning-port", value_name = "PORT", default_value_t = 8883, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
    /// Trust servers that chain to the certificates in this PEM file, and no others
    #[arg(long, value_name = "PATH")]
    pub ca_file: Option<PathBuf>,
    /// Keep the identity and waiting telemetry here [default: $STATE_DIRECTORY, for root
    /// /var/lib/zerotouch, otherwise $XDG_STATE_HOME/zerotouch]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// The api-version of the provisioning service
    #[arg(long, hide_short_help = true, value_name = "VERSION", default_value = zerotouch_dps::DEFAULT_API_VERSION)]
    pub api_version: String,
    /// JSON for a custom allocation, or the path of a file with it
    #[arg(long, hide_short_help = true, value_name = "JSON")]
    pub payload: Option<String>,
    /// Use an identity whose files others can read, which is refused otherwise
    #[arg(long, hide_short_help = true, value_name = "BOOL", default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    pub insecure_permissions: bool,
    /// The algorithm of the device's key pairs
    #[arg(long, hide_short_help = true, value_enum, default_value_t)]
    pub key_algorithm: Algorithm,
    /// Make keys in this place of a token, a pkcs11: URI with an object; twice, as two take turns
    #[arg(long, hide_short_help = true, value_name = "URI")]
    pub key_slot: Vec<String>,
    /// What is shown to the hub: a certificate that is issued for the device, or its bootstrap credential
    #[arg(long, hide_short_help = true, value_enum, default_value_t)]
    pub hub_credential: ShownCredential,
    /// Go to these hubs alone; a name that begins with a dot allows all below it. With a provisioning
    /// service on this machine, hubs on this machine are allowed, too
    #[arg(long, hide_short_help = true, value_name = "HOST", value_delimiter = ',', default_values_t = DEFAULT_HUB_HOSTS.map(String::from))]
    pub hub_host: Vec<String>,
    /// The port of MQTT at the hub, where it is another [default: --port]
    #[arg(long, hide_short_help = true, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub hub_port: Option<u16>,
    /// The api-version of the hub
    #[arg(long, hide_short_help = true, value_name = "VERSION", default_value = zerotouch_hub::DEFAULT_API_VERSION)]
    pub hub_api_version: String,
    /// The model that the device implements, as in dtmi:com:example:Thermostat;1
    #[arg(long, hide_short_help = true, value_name = "DTMI")]
    pub model_id: Option<String>,
    /// Seconds of silence after which the device pings the hub
    #[arg(long, hide_short_help = true, value_name = "SECONDS", default_value_t = 240, value_parser = clap::value_parser!(u16).range(1..=1177))]
    pub keep_alive: u16,
    /// Which roots to trust without --ca-file: the platform's, or those that this release carries
    #[arg(long, hide_short_help = true, value_enum, default_value_t)]
    pub roots: TrustedRoots,
    /// What carries MQTT: TLS, WebSocket, or what of both comes through
    #[arg(long, hide_short_help = true, value_enum, default_value_t)]
    pub transport: MqttTransport,
    /// The port of WebSocket, and of HTTPS
    #[arg(long, hide_short_help = true, value_name = "PORT", default_value_t = 443, value_parser = clap::value_parser!(u16).range(1..))]
    pub web_socket_port: u16,
    /// Connect through this HTTP proxy, http://HOST:PORT; with a password, as file:PATH, env:NAME or
    /// credential:NAME of such a URL [default: of the environment, HTTPS_PROXY and NO_PROXY]
    #[arg(long, hide_short_help = true, value_name = "URL")]
    pub proxy: Option<ProxyReference>,
    /// Hosts that are reached without that proxy, and all below them
    #[arg(long, hide_short_help = true, value_name = "HOST", value_delimiter = ',')]
    pub no_proxy: Vec<String>,
    /// Whether certificates are renewed before they end, without being told to
    #[arg(long, hide_short_help = true, value_name = "BOOL", default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    pub automatic_renewal: bool,
    /// After which part of its life a certificate is renewed, in percent
    #[arg(long, hide_short_help = true, value_name = "PERCENT", default_value_t = 67, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub renew_at_percent: u8,
    /// By how much that may come earlier, in percent of its life
    #[arg(long, hide_short_help = true, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub renew_spread_percent: u8,
    /// Whether a renewed certificate is for the same key
    #[arg(long, hide_short_help = true, value_name = "BOOL", default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    pub renew_same_key: bool,
    /// What to do when the hub has refused every certificate the device has
    #[arg(long, hide_short_help = true, value_enum, default_value_t)]
    pub on_refusal: RefusalPolicy,
    /// How many failures in a row end the device's efforts [default: 3; of the agent, none]
    #[arg(long, hide_short_help = true, value_name = "COUNT")]
    pub max_attempts: Option<NonZeroU32>,
    /// Over how long the connections of a fleet are spread, the agent's first and those after a failure, as in 5m
    #[arg(long, hide_short_help = true, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    pub connect_spread: Duration,
    /// How many messages may wait while the hub is away
    #[arg(long, hide_short_help = true, value_name = "COUNT", default_value_t = 1_000)]
    pub queue_messages: usize,
    /// How many bytes of them
    #[arg(long, hide_short_help = true, value_name = "BYTES", default_value_t = 1024 * 1024)]
    pub queue_bytes: usize,
    /// What becomes of a message for which there is no room
    #[arg(long, hide_short_help = true, value_enum, default_value_t)]
    pub when_full: FullPolicy,
    /// How long a message may wait to be sent, as in 2d [default: for ever]
    #[arg(long, hide_short_help = true, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub message_lifetime: Option<Duration>,
    /// The socket of the agent [default: REGISTRATION_ID.sock in the state directory]
    #[arg(long, hide_short_help = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Run this program when the device has been given a hub and a certificate
    #[arg(long, hide_short_help = true, value_name = "PATH")]
    pub on_provisioned: Option<PathBuf>,
    /// Run this program when a renewed certificate is in use
    #[arg(long, hide_short_help = true, value_name = "PATH")]
    pub on_renewed: Option<PathBuf>,
    /// Run this program when the agent's state has changed
    #[arg(long, hide_short_help = true, value_name = "PATH")]
    pub on_state: Option<PathBuf>,

    /// Each setting's value as it was written, and where.
    #[arg(skip)]
    pub shown: BTreeMap<String, Shown>,
}

/// As the library has them, whose list cannot be read out.
const DEFAULT_HUB_HOSTS: [&str; 3] =
    [".azure-devices.net", ".azure-devices.us", ".azure-devices.cn"];

fn id_scope(text: &str) -> Result<IdScope, IdError> {
    IdScope::new(text)
}

fn registration_id(text: &str) -> Result<RegistrationId, IdError> {
    RegistrationId::new(text)
}

/// What is shown to the hub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShownCredential {
    /// A certificate that is issued for the device and renewed
    #[default]
    Issued,
    /// What it shows to the provisioning service
    Bootstrap,
}

impl From<ShownCredential> for HubCredential {
    fn from(shown: ShownCredential) -> Self {
        match shown {
            ShownCredential::Issued => Self::Issued,
            ShownCredential::Bootstrap => Self::Bootstrap,
        }
    }
}

/// Whom to believe that a server is who it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum TrustedRoots {
    /// The operating system's
    #[default]
    Platform,
    /// Mozilla's, as of this release
    #[cfg(feature = "bundled-roots")]
    Bundled,
}

/// What carries MQTT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum MqttTransport {
    /// TLS, on 8883
    #[default]
    Mqtt,
    /// WebSocket over TLS, on 443
    WebSocket,
    /// TLS and, where nothing comes through, WebSocket
    Either,
}

/// What to do when the hub has refused every certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum RefusalPolicy {
    /// Show them again, slowly
    #[default]
    RetryHub,
    /// Provision anew, slowly
    ReProvision,
    /// End
    Stop,
}

impl From<RefusalPolicy> for OnRefusal {
    fn from(policy: RefusalPolicy) -> Self {
        match policy {
            RefusalPolicy::RetryHub => Self::RetryHub,
            RefusalPolicy::ReProvision => Self::Reprovision,
            RefusalPolicy::Stop => Self::Stop,
        }
    }
}

/// What becomes of a message for which there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum FullPolicy {
    /// It is refused, and its sender told
    #[default]
    Reject,
    /// It is dropped
    DropNewest,
    /// The oldest are dropped in its favour
    DropOldest,
}

impl From<FullPolicy> for WhenFull {
    fn from(policy: FullPolicy) -> Self {
        match policy {
            FullPolicy::Reject => Self::Reject,
            FullPolicy::DropNewest => Self::DropNewest,
            FullPolicy::DropOldest => Self::DropOldest,
        }
    }
}
