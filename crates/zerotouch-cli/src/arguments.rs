//! The command line. Flags bear the names of `az iot device registration create` where one exists.

#![allow(clippy::doc_markdown, reason = "these comments are read in a terminal, as help")]

mod device;
#[cfg(feature = "emulator")]
mod emulation;

use clap::{Parser, Subcommand, ValueEnum};
use zerotouch_credentials::KeyAlgorithm;

pub(crate) use self::device::*;
#[cfg(feature = "emulator")]
pub(crate) use self::emulation::*;

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
    /// Get the device a hub and a certificate, once
    ///
    /// Ends when the hub has accepted the device. With an identity that is good there is nothing to do.
    Provision(Provision),
    /// Keep the device alive: provision it if need be, connect, renew, recover
    ///
    /// Lines of JSON on standard input become telemetry; lines of JSON on standard output tell what
    /// happens. SIGTERM sends what waits and ends it, SIGHUP has it read its settings again.
    Run(Run),
    /// Get a new certificate now
    Renew(Renew),
    /// Tell what is stored, and what the agent does
    Status(Status),
    /// Find what stands between the device and its hub: settings, clock, names, ports, TLS, certificates,
    /// store
    Doctor(Doctor),
    /// Read the device's twin, or report to it
    Twin(Twin),
    /// Send telemetry
    Telemetry(Telemetry),
    /// Look at the settings of a device
    Config(Config),
    #[cfg(feature = "emulator")]
    /// Take a device from a bootstrap key to telemetry over an issued certificate
    ///
    /// Without --provisioning-host an emulator is started in this process, on 127.0.0.1, and nothing
    /// leaves the machine.
    Demo(Demo),
    #[cfg(feature = "emulator")]
    /// Run DPS, the Device Registry's certificate authority and IoT Hub on this machine, for tests
    Emulator(Emulator),
    #[cfg(feature = "emulator")]
    /// Put a provisioning service, a hub or an MQTT broker under load, with many devices in one process
    ///
    /// `provision`: each device registers with a certificate request, checks the chain that is issued and
    /// connects to its hub with it, once. `idle`: they stay connected, and in the end send one message each,
    /// which has to be acknowledged. `telemetry`: they send at QoS 1, as fast as they are acknowledged. What
    /// devices have from the factory, keys and certificates, is made before the clock runs.
    Fleet(Fleet),
    #[cfg(feature = "emulator")]
    /// Make keys and certificates to try X.509 attestation with
    Pki(Pki),
    /// Show certificates, and look for what is wrong with them
    #[cfg(feature = "tools")]
    Cert(crate::cert::Cert),
    /// Make and show certificate requests
    #[cfg(feature = "tools")]
    Csr(crate::csr::Csr),
    /// Make keys, device keys and tokens
    #[cfg(feature = "tools")]
    Key(crate::key::Key),
    /// Look into MQTT packets
    #[cfg(feature = "tools")]
    Mqtt(crate::mqtt::Mqtt),
    /// Print the script that completes command lines in a shell
    #[cfg(feature = "completions")]
    Completions(crate::completions::Completions),
    /// Print the manual page, or write all of them
    #[cfg(feature = "completions")]
    Man(crate::man::Man),
}

#[cfg(feature = "emulator")]
impl Command {
    /// How many threads its tasks run on. Of a fleet that provisions, cryptography is half of the work.
    pub(crate) fn threads(&self) -> usize {
        match self {
            #[cfg(feature = "emulator")]
            Self::Fleet(fleet) if fleet.mode == FleetMode::Provision => {
                std::thread::available_parallelism().map_or(1, usize::from).min(4)
            }
            _ => 1,
        }
    }
}

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    #[default]
    Text,
    /// For machines: one JSON document, or one per line where there is no end
    Json,
    /// For machines: one JSON document per line, as things happen
    Jsonl,
}

/// The algorithm of the device's key pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Algorithm {
    /// ECDSA on P-384, accepted by every credential policy
    #[default]
    P384,
    /// ECDSA on P-256
    P256,
    /// RSA with 2,048 bits
    Rsa2048,
    /// RSA with 3,072 bits
    Rsa3072,
}

impl From<Algorithm> for KeyAlgorithm {
    fn from(curve: Algorithm) -> Self {
        match curve {
            Algorithm::P384 => Self::EcdsaP384,
            Algorithm::P256 => Self::EcdsaP256,
            Algorithm::Rsa2048 => Self::Rsa2048,
            Algorithm::Rsa3072 => Self::Rsa3072,
        }
    }
}
