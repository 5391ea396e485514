//! `zerotouch man`: the manual pages, made from the same text as `--help`.

#![allow(clippy::doc_markdown, reason = "comments on arguments are read in a terminal, as help")]

use std::fs;
use std::path::PathBuf;

use clap::{Args, CommandFactory};

use crate::arguments::Arguments;
use crate::document;
use crate::failure::CliError;
use crate::settings::layers::with_environment;

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Write a page for each command into this directory, which is made if it is not there [default:
    /// the first page alone, to standard output]
    #[arg(long, value_name = "DIR")]
    out_dir: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Man) -> Result<(), CliError> {
    // A page for each `help` would say nothing.
    let command = with_environment(Arguments::command()).disable_help_subcommand(true);
    let Some(directory) = &arguments.out_dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command)
            .render(&mut page)
            .map_err(|source| CliError::Write { path: "standard output".into(), source })?;
        return document::write_bytes(&page);
    };
    fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(command, directory))
        .map_err(|source| CliError::Write { path: directory.clone(), source })
}
