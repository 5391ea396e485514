//! Reading what rests in a directory, without touching it.

use std::collections::{BTreeMap, BTreeSet};
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

use zeroize::Zeroizing;

use super::bundle;
use super::directory::Directory;
use super::error::{DamageReason, FileError, Operation};
use super::names::{Name, Names, Recorded, generation_name, pending_name};
use super::record::{Record, RecordError};
use crate::model::{Generation, Identity, Pending};

/// How often a look is repeated that fell into a change by another process.
const MAX_LOOKS: usize = 100;

/// What a directory holds.
#[derive(Default)]
pub(crate) struct Survey {
    pub(crate) identity: Identity,
    /// Which file the pending key is in.
    pub(crate) pending_number: Option<u64>,
    /// The revision that counts; 0 if no record could be read.
    pub(crate) revision: u64,
    /// The store's files that can be swept when nobody names them.
    pub(crate) present: BTreeSet<String>,
    /// The files that could not be used, and why.
    pub(crate) damage: Vec<(String, DamageReason)>,
}

/// A file whose record is sound.
struct Sound {
    record: Record,
    bytes: Zeroizing<Vec<u8>>,
    body_at: usize,
}

/// Reads every file with a record. The record with the highest revision says what is what; a file
/// that cannot be read takes nothing with it but itself.
///
/// Another process may be changing the directory. Nothing it does to a file that counts leaves the
/// names as they were, so what was read between two equal lists belongs together.
pub(crate) fn survey<D: Directory>(
    directory: &D,
    registration_id: &str,
) -> Result<Survey, FileError> {
    let mut names = sorted_names(directory)?;
    for _ in 1..MAX_LOOKS {
        let files = read_files(directory, registration_id, &names)?;
        let after = sorted_names(directory)?;
        if names == after {
            return Ok(Survey::of(names, files));
        }
        names = after;
    }
    let files = read_files(directory, registration_id, &names)?;
    Ok(Survey::of(names, files))
}

type Files = BTreeMap<String, Result<Sound, DamageReason>>;

fn sorted_names<D: Directory>(directory: &D) -> Result<Names, FileError> {
    let mut names = directory.names()?;
    names.sort_unstable();
    Ok(names)
}

fn read_files<D: Directory>(
    directory: &D,
    registration_id: &str,
    names: &Names,
) -> Result<Files, FileError> {
    let mut files = Files::new();
    for name in names {
        let Name::Recorded(recorded) = Name::parse(name) else { continue };
        // `None` is gone since the names were listed.
        if let Some(file) = read(directory, name, recorded, registration_id)? {
            files.insert(name.clone(), file);
        }
    }
    Ok(files)
}

fn read<D: Directory>(
    directory: &D,
    name: &str,
    recorded: Recorded,
    registration_id: &str,
) -> Result<Option<Result<Sound, DamageReason>>, FileError> {
    let bytes = match directory.read(name) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        Err(FileError::Io { operation: Operation::Read, source, .. }) => {
            return Ok(Some(Err(DamageReason::Unreadable(source.kind()))));
        }
        Err(error) => return Err(error),
    };
    let path = || directory.path_of(name);
    let (record, body_len) = match Record::decode(&bytes, registration_id) {
        Ok((record, body)) => (record, body.len()),
        Err(RecordError::Damage(reason)) => return Ok(Some(Err(reason))),
        Err(RecordError::NewerFormat(format)) => {
            return Err(FileError::NewerFormat { path: path(), format });
        }
        Err(RecordError::OtherRegistration(registration_id)) => {
            return Err(FileError::OtherRegistration { path: path(), registration_id });
        }
    };
    let own = match recorded {
        Recorded::Pointer => true,
        Recorded::Pending(number) => {
            record.pending.as_ref().is_some_and(|pending| pending.generation == number)
        }
        Recorded::Generation(number) => record.staged == Some(number),
    };
    if !own {
        return Ok(Some(Err(DamageReason::OtherFile)));
    }
    let body_at = bytes.len() - body_len;
    Ok(Some(Ok(Sound { record, bytes, body_at })))
}

impl Survey {
    fn of(names: Names, files: Files) -> Self {
        let mut survey = Self::default();
        let mut sound = BTreeMap::new();
        for (name, file) in files {
            match file {
                Ok(file) => {
                    sound.insert(name, file);
                }
                Err(reason) => survey.damage.push((name, reason)),
            }
        }
        if let Some(newest) = sound.values().max_by_key(|file| file.record.revision) {
            let record = newest.record.clone();
            survey.revision = record.revision;
            survey.read_identity(&record, &sound);
        }
        for name in names {
            match Name::parse(&name) {
                Name::Leftover => {
                    survey.present.insert(name);
                }
                // The number is spent, whatever has become of the file.
                Name::Recorded(Recorded::Generation(number)) | Name::DamagedGeneration(number) => {
                    let last_number = &mut survey.identity.last_number;
                    *last_number = number.max(*last_number);
                }
                Name::Recorded(_) | Name::Foreign => {}
            }
        }
        let damaged: BTreeSet<&String> = survey.damage.iter().map(|(name, _)| name).collect();
        let sound = sound.into_keys().filter(|name| !damaged.contains(name));
        survey.present.extend(sound);
        survey
    }

    fn read_identity(&mut self, record: &Record, files: &BTreeMap<String, Sound>) {
        self.identity.assignment.clone_from(&record.assignment);
        self.identity.last_number = record.last_generation;
        if let Some(entry) = &record.pending {
            let name = pending_name(entry.generation);
            let key = self.use_file(name, files, bundle::decode_key);
            self.pending_number = key.is_some().then_some(entry.generation);
            self.identity.pending =
                key.map(|key| Pending { key, request_id: entry.request_id.clone() });
        }
        let mut generation = |number: u64| -> Option<Arc<Generation>> {
            self.use_file(generation_name(number), files, |reference, body| {
                bundle::decode_generation(number, reference, body).map(Arc::new)
            })
        };
        let staged = record.staged.and_then(&mut generation);
        let active = record.active.and_then(&mut generation);
        let mut previous: Vec<_> =
            record.previous.iter().copied().filter_map(&mut generation).collect();
        // Where the active generation is lost the one before stands in.
        let active = if active.is_none() && !previous.is_empty() {
            Some(previous.remove(0))
        } else {
            active
        };
        self.identity.staged = staged;
        self.identity.active = active;
        self.identity.previous = previous;
    }

    fn use_file<T>(
        &mut self,
        name: String,
        files: &BTreeMap<String, Sound>,
        decode: impl FnOnce(Option<&str>, &str) -> Result<T, DamageReason>,
    ) -> Option<T> {
        if self.damage.iter().any(|(damaged, _)| *damaged == name) {
            return None;
        }
        let used = files.get(&name).ok_or(DamageReason::Missing).and_then(|file| {
            let body = core::str::from_utf8(&file.bytes[file.body_at..]).unwrap_or_default();
            decode(file.record.key_reference.as_deref(), body)
        });
        match used {
            Ok(used) => Some(used),
            Err(reason) => {
                self.damage.push((name, reason));
                None
            }
        }
    }
}
