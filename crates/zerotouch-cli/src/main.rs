//! The `zerotouch` tool.

mod arguments;
#[cfg(feature = "emulator")]
mod demo;
#[cfg(feature = "emulator")]
mod descriptors;
#[cfg(feature = "emulator")]
mod emulation;
#[cfg(feature = "emulator")]
mod emulator;
mod failure;
#[cfg(feature = "emulator")]
mod fleet;
mod journey;
mod output_file;
#[cfg(feature = "emulator")]
mod pki;
mod secret;
mod timeline;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};
use failure::CliError;

fn main() -> ExitCode {
    keep_memory_private();
    let arguments = Arguments::parse();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(arguments.command.threads())
        .enable_all()
        .build()
        .map_err(CliError::Runtime)
        .and_then(|runtime| {
            runtime.block_on(async {
                match arguments.command {
                    #[cfg(feature = "emulator")]
                    Command::Demo(demo) => demo::run(demo).await,
                    #[cfg(feature = "emulator")]
                    Command::Emulator(emulator) => emulator::run(emulator).await,
                    #[cfg(feature = "emulator")]
                    Command::Fleet(fleet) => fleet::run(fleet).await,
                    #[cfg(feature = "emulator")]
                    Command::Pki(pki) => pki::run(&pki),
                }
            })
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            if let Some(remedy) = error.remedy() {
                eprintln!("help: {remedy}");
            }
            ExitCode::from(error.exit_code())
        }
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
