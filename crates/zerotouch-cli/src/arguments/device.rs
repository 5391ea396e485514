//! The command lines of a device.

use clap::{Args, Subcommand};

use super::Output;
use crate::settings::Settings;

/// What every command of a device takes.
macro_rules! command {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Args)]
        pub(crate) struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
            /// How to write the result
            #[arg(short, long, value_enum, default_value_t)]
            pub output: Output,
            #[command(flatten)]
            pub settings: Settings,
        }
    };
}

command!(Provision {});
command!(Run {});
command!(Renew {});
command!(Status {});
command!(Doctor {
    /// Ask the provisioning service what it knows of the device, which has it judge the credential and
    /// changes nothing
    #[arg(long)]
    dry_run: bool,
});
command!(ShowConfig {});
command!(ValidateConfig {});
command!(GetTwin {});
command!(PatchTwin {
    /// The properties to report, an object in JSON, where null deletes; - reads it from standard input
    #[arg(value_name = "JSON")]
    patch: String,
});
command!(SendTelemetry {
    /// The messages, one each; - reads one from each line of standard input
    #[arg(value_name = "MESSAGE", required = true, allow_negative_numbers = true)]
    payloads: Vec<String>,
    /// A property of each message
    #[arg(long, value_name = "NAME=VALUE", value_parser = property)]
    property: Vec<(String, String)>,
    /// The media type of the messages [default: application/json, of those that are JSON]
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// The encoding of the messages [default: utf-8, of those that are JSON]
    #[arg(long, value_name = "ENCODING")]
    content_encoding: Option<String>,
    /// The component of the device that the messages are from
    #[arg(long, value_name = "NAME")]
    component: Option<String>,
});

#[derive(Debug, Args)]
pub(crate) struct Twin {
    #[command(subcommand)]
    pub command: TwinCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TwinCommand {
    /// Read the twin: what the cloud wants, and what it has of this device's reports
    Get(GetTwin),
    /// Report properties
    Patch(PatchTwin),
}

#[derive(Debug, Args)]
pub(crate) struct Telemetry {
    #[command(subcommand)]
    pub command: TelemetryCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TelemetryCommand {
    /// Send messages, and wait until the hub has acknowledged each
    Send(SendTelemetry),
}

#[derive(Debug, Args)]
pub(crate) struct Config {
    #[command(subcommand)]
    pub command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Tell each setting's value, and where it comes from
    Show(ShowConfig),
    /// Tell whether a device can be made of the settings: its secrets and files are read, nobody is dialled
    Validate(ValidateConfig),
}

impl super::Command {
    /// The settings of a device, where the command has any.
    #[cfg_attr(
        not(any(feature = "completions", feature = "tools")),
        allow(clippy::unnecessary_wraps, reason = "each of them has")
    )]
    pub(crate) fn settings_mut(&mut self) -> Option<&mut Settings> {
        Some(match self {
            Self::Provision(provision) => &mut provision.settings,
            Self::Run(run) => &mut run.settings,
            Self::Renew(renew) => &mut renew.settings,
            Self::Status(status) => &mut status.settings,
            Self::Doctor(doctor) => &mut doctor.settings,
            Self::Twin(Twin { command: TwinCommand::Get(get) }) => &mut get.settings,
            Self::Twin(Twin { command: TwinCommand::Patch(patch) }) => &mut patch.settings,
            Self::Telemetry(Telemetry { command: TelemetryCommand::Send(send) }) => {
                &mut send.settings
            }
            Self::Config(Config { command: ConfigCommand::Show(show) }) => &mut show.settings,
            Self::Config(Config { command: ConfigCommand::Validate(validate) }) => {
                &mut validate.settings
            }
            #[cfg(feature = "tools")]
            Self::Cert(_) | Self::Csr(_) | Self::Key(_) | Self::Mqtt(_) => return None,
            #[cfg(feature = "completions")]
            Self::Completions(_) | Self::Man(_) => return None,
            #[cfg(feature = "emulator")]
            Self::Demo(_) | Self::Emulator(_) | Self::Fleet(_) | Self::Pki(_) => return None,
        })
    }
}

fn property(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("a property is written as NAME=VALUE"),
    }
}
