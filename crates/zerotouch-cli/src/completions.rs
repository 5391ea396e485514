//! `zerotouch completions`: what a shell needs to complete command lines.

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use crate::arguments::Arguments;
use crate::document;
use crate::failure::CliError;

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(arguments: &Completions) -> Result<(), CliError> {
    let mut script = Vec::new();
    generate(arguments.shell, &mut Arguments::command(), "zerotouch", &mut script);
    document::write_bytes(&script)
}
