//! The `zerotouch` tool.
#![cfg_attr(not(feature = "tools"), allow(dead_code, reason = "some of what is shared is theirs"))]

mod agent;
mod arguments;
#[cfg(feature = "tools")]
mod cert;
mod certificate_file;
mod commands;
#[cfg(feature = "completions")]
mod completions;
mod config;
#[cfg(feature = "tools")]
mod csr;
#[cfg(feature = "emulator")]
mod demo;
#[cfg(feature = "emulator")]
mod descriptors;
mod doctor;
mod document;
#[cfg(feature = "emulator")]
mod emulation;
#[cfg(feature = "emulator")]
mod emulator;
mod failure;
#[cfg(feature = "emulator")]
mod fleet;
mod journey;
#[cfg(feature = "tools")]
mod key;
mod limit;
mod lines;
#[cfg(feature = "completions")]
mod man;
#[cfg(feature = "tools")]
mod mqtt;
#[cfg(feature = "tools")]
mod output_file;
#[cfg(feature = "emulator")]
mod pki;
mod progress;
mod request;
mod secret;
mod settings;
mod status;
mod telling;
mod timeline;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use arguments::{Arguments, Command};
use arguments::{Telemetry, TelemetryCommand};
use failure::CliError;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    keep_memory_private();
    match read_arguments(std::env::args_os()).and_then(execute) {
        Ok(()) => ExitCode::SUCCESS,
        // It prints itself: usage, or what `--help` asks for.
        Err(CliError::Usage(error)) => error.exit(),
        Err(error) => {
            eprintln!("error: {error}");
            if let Some(remedy) = error.remedy() {
                eprintln!("help: {remedy}");
            }
            ExitCode::from(error.exit_code())
        }
    }
}

/// The command line, over the environment, over the settings file.
fn read_arguments(arguments: impl Iterator<Item = OsString>) -> Result<Arguments, CliError> {
    let (matches, shown) = settings::parse(Arguments::command(), arguments)?;
    let mut arguments = Arguments::from_arg_matches(&matches)?;
    if let Some(settings) = arguments.command.settings_mut() {
        settings.shown = shown;
    }
    Ok(arguments)
}

fn execute(arguments: Arguments) -> Result<(), CliError> {
    let runtime = runtime(&arguments.command).enable_all().build().map_err(CliError::Runtime)?;
    let outcome = runtime.block_on(async {
        match arguments.command {
            Command::Provision(provision) => interruptible(commands::provision(provision)).await,
            Command::Run(run) => agent::run(run, reread).await,
            Command::Renew(renew) => interruptible(commands::renew(renew)).await,
            Command::Status(status) => status::run(status).await,
            Command::Doctor(doctor) => interruptible(doctor::run(doctor)).await,
            Command::Twin(twin) => interruptible(commands::twin(twin)).await,
            Command::Telemetry(Telemetry { command: TelemetryCommand::Send(send) }) => {
                interruptible(commands::send_telemetry(send)).await
            }
            Command::Config(config) => config::run(&config),
            #[cfg(feature = "tools")]
            Command::Cert(cert) => cert::run(&cert),
            #[cfg(feature = "tools")]
            Command::Csr(csr) => csr::run(&csr),
            #[cfg(feature = "tools")]
            Command::Key(key) => key::run(&key),
            #[cfg(feature = "tools")]
            Command::Mqtt(mqtt) => mqtt::run(&mqtt),
            #[cfg(feature = "completions")]
            Command::Completions(shell) => completions::run(&shell),
            #[cfg(feature = "completions")]
            Command::Man(man) => man::run(&man),
            #[cfg(feature = "emulator")]
            Command::Demo(demo) => demo::run(demo).await,
            #[cfg(feature = "emulator")]
            Command::Emulator(emulator) => emulator::run(emulator).await,
            #[cfg(feature = "emulator")]
            Command::Fleet(fleet) => fleet::run(fleet).await,
            #[cfg(feature = "emulator")]
            Command::Pki(pki) => pki::run(&pki),
        }
    });
    // Whoever still reads standard input would be waited for.
    runtime.shutdown_background();
    outcome
}

/// One thread is enough for one device.
#[cfg(not(feature = "emulator"))]
fn runtime(_: &Command) -> tokio::runtime::Builder {
    tokio::runtime::Builder::new_current_thread()
}

#[cfg(feature = "emulator")]
fn runtime(command: &Command) -> tokio::runtime::Builder {
    match command.threads() {
        1 => tokio::runtime::Builder::new_current_thread(),
        threads => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
    }
}

/// The settings as they are now, by the same command line.
fn reread() -> Result<settings::Settings, CliError> {
    let mut arguments = read_arguments(std::env::args_os())?;
    let settings = arguments.command.settings_mut().map(|settings| settings.clone());
    settings.ok_or(CliError::Stopped)
}

/// Ends on Ctrl-C and says so; what is stored by then is whole.
async fn interruptible(
    command: impl Future<Output = Result<(), CliError>>,
) -> Result<(), CliError> {
    tokio::select! {
        outcome = command => outcome,
        _ = tokio::signal::ctrl_c() => Err(CliError::Interrupted),
    }
}

/// Keys are in this process's memory: no core file of it, and no other process of the same user that looks
/// into it. Where that cannot be had, it is done without.
fn keep_memory_private() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }
}
