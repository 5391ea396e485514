//! The `zerotouch` tool.

mod arguments;
mod demo;
mod emulator;
mod failure;
mod journey;
mod output_file;
mod pki;
mod secret;
mod timeline;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};
use failure::CliError;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(CliError::Runtime)
        .and_then(|runtime| {
            runtime.block_on(async {
                match arguments.command {
                    Command::Demo(demo) => demo::run(demo).await,
                    Command::Emulator(emulator) => emulator::run(emulator).await,
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
