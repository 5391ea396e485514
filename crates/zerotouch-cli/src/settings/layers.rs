//! Flags over environment over file over defaults: the command line is read twice, the second time with
//! what the file says for defaults. So a value means the same, and is refused in the same words, wherever
//! it stands.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command};
use serde_json::Value;
use thiserror::Error;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{DEFAULT_FILE, Settings};
use crate::failure::CliError;
use crate::secret::{ProxyReference, SecretReference};

/// The setting that names the file, and so cannot be in it.
const CONFIG: &str = "config";
/// One that no other command has.
const MARK: &str = "hub_credential";
/// The names of environment variables begin so.
const PREFIX: &str = "ZEROTOUCH_";
/// What is longer is another file.
const MAX_FILE_LEN: u64 = 1024 * 1024;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag(String),
    Environment(String),
    File { path: PathBuf, line: usize },
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Environment(name) => f.write_str(name),
            Self::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A setting as `config show` has it.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    /// As it was written; several where several may be. Of secrets, where they are.
    pub values: Vec<String>,
    pub origin: Origin,
}

/// Why a settings file cannot be used.
#[derive(Debug, Error)]
pub(crate) enum SettingsFileError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}, line {line}: {reason}")]
    Line { path: PathBuf, line: usize, reason: String },
}

/// A value in the file, as a flag would have it.
#[derive(Debug)]
struct FileValue {
    line: usize,
    texts: Vec<String>,
}

type FileValues = BTreeMap<String, FileValue>;

/// Reads a command line, and tells each setting's value and where it comes from. `--help` and
/// `--version` are usage errors, too.
pub(crate) fn parse(
    command: Command,
    arguments: impl Iterator<Item = OsString>,
) -> Result<(ArgMatches, BTreeMap<String, Shown>), CliError> {
    let arguments: Vec<OsString> = arguments.collect();
    let command = with_environment(command);
    let matches = command.clone().try_get_matches_from(&arguments)?;
    let Some(settings) = settings_of(&matches) else { return Ok((matches, BTreeMap::new())) };
    let named = settings.get_one::<PathBuf>(CONFIG).cloned();
    let default = || Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists());
    let Some(path) = named.or_else(default) else {
        let shown = shown(settings, Path::new(""), &FileValues::new());
        return Ok((matches, shown));
    };
    let values = read(&path)?;
    let matches = with_defaults(command, &values).try_get_matches_from(&arguments)?;
    let shown = settings_of(&matches).map(|settings| shown(settings, &path, &values));
    Ok((matches, shown.unwrap_or_default()))
}

fn shown(settings: &ArgMatches, path: &Path, in_file: &FileValues) -> BTreeMap<String, Shown> {
    let show = |(id, name): (String, String)| {
        let origin = match (settings.value_source(&id), in_file.get(&name)) {
            (Some(ValueSource::CommandLine), _) => Origin::Flag(format!("--{name}")),
            (Some(ValueSource::EnvVariable), _) => Origin::Environment(variable(&id)),
            (Some(_), Some(value)) => Origin::File { path: path.into(), line: value.line },
            _ => Origin::Default,
        };
        (name, Shown { values: texts(settings, &id), origin })
    };
    names().map(show).collect()
}

/// What was written; but not what should not have been.
fn texts(matches: &ArgMatches, id: &str) -> Vec<String> {
    let literal = match id {
        "symmetric_key" => matches.get_one(id) == Some(&SecretReference::Literal),
        "proxy" => matches.get_one(id) == Some(&ProxyReference::Secret(SecretReference::Literal)),
        _ => false,
    };
    if literal {
        return vec!["(a secret as it is, which is refused)".into()];
    }
    let raw = matches.get_raw(id).into_iter().flatten();
    raw.map(|text| text.to_string_lossy().into_owned()).collect()
}

/// The ids and names of all settings.
fn names() -> impl Iterator<Item = (String, String)> {
    let command = Settings::augment_args(Command::new("settings"));
    let names: Vec<_> = command
        .get_arguments()
        .filter_map(|arg| Some((arg.get_id().to_string(), arg.get_long()?.to_owned())))
        .collect();
    names.into_iter()
}

fn variable(id: &str) -> String {
    format!("{PREFIX}{}", id.to_ascii_uppercase())
}

fn has_settings(command: &Command) -> bool {
    command.get_groups().any(|group| group.get_id() == "Settings")
}

/// The matches of the command that was called, if it has settings.
fn settings_of(matches: &ArgMatches) -> Option<&ArgMatches> {
    match matches.subcommand() {
        Some((_, matches)) => settings_of(matches),
        // Not `is_ok`: an id that a command does not have is an error in debug builds alone.
        None => (matches.try_contains_id(MARK).ok() == Some(true)).then_some(matches),
    }
}

/// Every setting may be given by an environment variable, too.
pub(crate) fn with_environment(command: Command) -> Command {
    each(command, &|arg| {
        let name = variable(arg.get_id().as_str());
        arg.env(name).hide_env_values(true)
    })
}

fn with_defaults(command: Command, values: &FileValues) -> Command {
    each(command, &|arg| match arg.get_long().and_then(|name| values.get(name)) {
        Some(value) => arg.default_values(&value.texts),
        None => arg,
    })
}

/// Changes each setting in each command that has settings.
fn each(command: Command, change: &dyn Fn(clap::Arg) -> clap::Arg) -> Command {
    let command = if has_settings(&command) {
        names().fold(command, |command, (id, _)| command.mut_arg(id, change))
    } else {
        command
    };
    command.mut_subcommands(|subcommand| each(subcommand, change))
}

/// Reads the file, and holds each value against what its flag takes.
fn read(path: &Path) -> Result<FileValues, SettingsFileError> {
    let text = read_text(path)?;
    let line_of = |at: usize| text[..at].matches('\n').count() + 1;
    let refuse = |at: usize, reason: String| SettingsFileError::Line {
        path: path.into(),
        line: line_of(at),
        reason,
    };
    // The words of the library repeat no line of the file, which may hold what should not be there.
    let table = DeTable::parse(&text).map_err(|error| {
        refuse(error.span().map_or(0, |span| span.start), error.message().to_owned())
    })?;
    let names: Vec<String> = names().map(|(_, name)| name).filter(|name| name != CONFIG).collect();
    let mut values = FileValues::new();
    for (key, value) in table.get_ref() {
        let (name, at) = (key.get_ref().to_string(), key.span().start);
        if !names.contains(&name) {
            let nearest = nearest(&name, &names);
            let nearest = nearest.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
            return Err(refuse(at, format!("there is no setting {name:?}{nearest}")));
        }
        let texts = as_texts(&name, value).map_err(|reason| refuse(at, reason))?;
        check(&name, &texts).map_err(|reason| refuse(at, reason))?;
        values.insert(name, FileValue { line: line_of(at), texts });
    }
    Ok(values)
}

fn read_text(path: &Path) -> Result<String, SettingsFileError> {
    use std::io::Read;
    let mut text = String::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE_LEN + 1).read_to_string(&mut text))
        .and_then(|length| match length as u64 {
            // Half of a file means something else than all of it.
            0..=MAX_FILE_LEN => Ok(text),
            _ => Err(std::io::ErrorKind::FileTooLarge.into()),
        });
    read.map_err(|source| SettingsFileError::Read { path: path.into(), source })
}

/// A value as a flag would have it.
fn as_texts(name: &str, value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, String> {
    Ok(match value.get_ref() {
        DeValue::Array(values) if name != "payload" => {
            let texts = values.iter().map(|value| as_texts(name, value));
            texts.collect::<Result<Vec<_>, _>>()?.concat()
        }
        value => vec![match value {
            DeValue::String(text) => text.to_string(),
            DeValue::Boolean(value) => value.to_string(),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            value if name == "payload" => as_json(value).to_string(),
            _ => {
                return Err(format!(
                    "{name} takes a text, a number, true or false, or a list of these"
                ));
            }
        }],
    })
}

fn as_json(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Integer(number) => {
            number.to_string().parse::<i64>().map_or(Value::Null, Value::from)
        }
        DeValue::Float(number) => {
            number.to_string().parse::<f64>().map_or(Value::Null, Value::from)
        }
        DeValue::Boolean(value) => Value::from(*value),
        DeValue::Datetime(time) => Value::from(time.to_string()),
        DeValue::Array(values) => values.iter().map(|value| as_json(value.get_ref())).collect(),
        DeValue::Table(table) => table
            .iter()
            .map(|(name, value)| (name.get_ref().to_string(), as_json(value.get_ref())))
            .collect(),
    }
}

/// What the flag of that name says to these values, in one line.
fn check(name: &str, texts: &[String]) -> Result<(), String> {
    let command = Settings::augment_args(Command::new("settings")).no_binary_name(true);
    let flags = texts.iter().map(|text| format!("--{name}={text}"));
    let Err(error) = command.try_get_matches_from(flags) else { return Ok(()) };
    let words = error.to_string();
    let first = words.lines().next().unwrap_or_default();
    Err(first.strip_prefix("error: ").unwrap_or(first).to_owned())
}

/// The name that is meant, if one is near.
fn nearest<'n>(name: &str, names: &'n [String]) -> Option<&'n str> {
    let name = name.replace('_', "-").to_ascii_lowercase();
    let likeness = |known: &str| strsim::jaro_winkler(&name, known);
    let best = names.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) > 0.8).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Whoever has mistyped a name is told the right one, and nobody is sent to a name that has nothing to
    // do with theirs.
    #[test]
    fn the_nearest_name_is_told() {
        let names: Vec<String> = names().map(|(_, name)| name).collect();
        for (written, meant) in [
            ("id_scope", Some("id-scope")),
            ("idscope", Some("id-scope")),
            ("Registration-Id", Some("registration-id")),
            ("provisoning-host", Some("provisioning-host")),
            ("symetric-key", Some("symmetric-key")),
            ("telephone", None),
            ("x", None),
        ] {
            assert_eq!(nearest(written, &names), meant, "{written}");
        }
    }

    // A setting that the book does not have is one that nobody finds.
    #[test]
    fn the_book_has_every_setting() {
        let book = include_str!("../../../../docs/src/settings.md");
        for (_, name) in names() {
            assert!(book.contains(&format!("`{name}`")) || name == CONFIG, "{name}");
        }
    }
}
