//! The order of operations that keeps records, over any [`Directory`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::format;
use std::io;
use std::ops::Range;
use std::string::String;
use std::vec::Vec;

use zeroize::Zeroizing;

use super::MAX_RECORD_LEN;
use super::segment::{self, Record, record_len};
use crate::file::directory::Directory;
use crate::file::error::{FileError, Operation};
use crate::file::names::damaged_name;
use crate::queue::Waiting;

/// Numbers beyond these nobody reaches by counting.
const MAX_NUMBER: u64 = 1 << 53;
/// How many messages one record tells to be finished.
const MARKS: usize = 1024;

/// How large files are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// One gets no further record beyond this, in bytes.
    pub(crate) segment_len: usize,
    /// What the smallest takes, in bytes.
    pub(crate) block_len: usize,
}

/// Records in the files of a directory.
pub(crate) struct Spool<D: Directory> {
    directory: D,
    terms: Terms,
    /// The first is the oldest.
    segments: VecDeque<Segment>,
    /// The last of the segments, if it can be written still.
    file: Option<D::File>,
    /// In which segment each message is that waits, and how long its record is there.
    waiting: BTreeMap<u64, Place>,
    /// Their records' bytes.
    waits: usize,
    /// Finished, in these segments, and not yet written so.
    unmarked: Vec<(u64, u64)>,
    next_segment: u64,
    next: u64,
    /// What was there when it was opened and could not be read.
    lost: u64,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    len: usize,
    waiting: usize,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    segment: u64,
    len: usize,
}

impl<D: Directory> Spool<D> {
    /// Reads what is there. Files that the system cannot read are set aside.
    pub(crate) fn open(mut directory: D, terms: Terms) -> Result<Self, FileError> {
        let mut survey = Survey::default();
        let mut segments = VecDeque::new();
        let numbers: BTreeSet<u64> =
            directory.names()?.iter().filter_map(|name| segment_number(name)).collect();
        let next_segment = numbers.last().map_or(1, |last| last + 1);
        for number in numbers {
            let Some(bytes) = read(&mut directory, number)? else { continue };
            survey.read(number, &bytes);
            segments.push_back(Segment { number, len: bytes.len(), waiting: 0 });
        }
        let (waiting, next, lost) = survey.conclude();
        for segment in &mut segments {
            let here = waiting.values().filter(|place| place.segment == segment.number);
            segment.waiting = here.count();
        }
        let waits = waiting.values().map(|place| place.len).sum();
        let mut spool = Self {
            directory,
            terms,
            segments,
            file: None,
            waiting,
            waits,
            unmarked: Vec::new(),
            next_segment,
            next,
            lost,
        };
        spool.sweep();
        Ok(spool)
    }

    /// What waits, read anew.
    pub(crate) fn load(&mut self) -> Result<Waiting, FileError> {
        let mut records = BTreeMap::new();
        for segment in self.segments.iter().filter(|segment| segment.waiting > 0) {
            let bytes = self.directory.read(&segment_name(segment.number))?.unwrap_or_default();
            segment::read(segment.number, &bytes, |record| {
                if let Record::Message { number, body, .. } = record
                    && self.waiting.get(&number).is_some_and(|at| at.segment == segment.number)
                {
                    records.insert(number, body.to_vec());
                }
            });
        }
        Ok(Waiting { records: records.into_iter().collect(), lost: self.lost })
    }

    /// Makes records durable, then believes them.
    pub(crate) fn append(&mut self, records: &[Vec<u8>]) -> Result<Range<u64>, FileError> {
        let first = self.next;
        let numbered: Vec<_> = (first..).zip(records.iter().map(Vec::as_slice)).collect();
        let places = self.write(&numbered)?;
        self.next += numbered.len() as u64;
        for ((number, _), place) in numbered.into_iter().zip(places) {
            self.believe(number, place);
        }
        Ok(first..self.next)
    }

    /// These wait no longer.
    pub(crate) fn finish(&mut self, numbers: &[u64]) -> Result<(), FileError> {
        for number in numbers {
            if let Some(place) = self.waiting.remove(number) {
                self.unmarked.push((*number, place.segment));
                self.release(place);
            }
        }
        self.sweep();
        self.mark()?;
        self.compact()
    }

    fn believe(&mut self, number: u64, place: Place) {
        if let Some(old) = self.waiting.insert(number, place) {
            self.release(old);
        }
        self.waits += place.len;
        if let Some(segment) = self.segments.iter_mut().find(|s| s.number == place.segment) {
            segment.waiting += 1;
        }
    }

    fn release(&mut self, place: Place) {
        self.waits -= place.len;
        if let Some(segment) = self.segments.iter_mut().find(|s| s.number == place.segment) {
            segment.waiting -= 1;
        }
    }

    /// Writes messages and makes them durable, or gives the file up.
    fn write(&mut self, messages: &[(u64, &[u8])]) -> Result<Vec<Place>, FileError> {
        if let Some((_, body)) = messages.iter().find(|(_, body)| body.len() > MAX_RECORD_LEN) {
            let kind = io::ErrorKind::FileTooLarge;
            let source = io::Error::new(kind, format!("a record of {} bytes", body.len()));
            let path = self.directory.path_of(&segment_name(self.next_segment));
            return Err(FileError::Io { operation: Operation::Write, path, source });
        }
        let before = self.next_segment;
        let written = self.write_and_sync(messages);
        if written.is_err() {
            // What could not be made durable the system may have marked clean, and a record may be
            // there in part: nothing is written behind it.
            self.file = None;
            // A file that is new holds nothing that was believed.
            let is_new = |segment: &&Segment| segment.number >= before;
            let new: Vec<u64> = self.segments.iter().filter(is_new).map(|s| s.number).collect();
            for number in new {
                self.remove(number).ok();
            }
        }
        written
    }

    fn write_and_sync(&mut self, messages: &[(u64, &[u8])]) -> Result<Vec<Place>, FileError> {
        let mut places = Vec::with_capacity(messages.len());
        let mut left = messages;
        while let [(first, _), ..] = left {
            // What is moved has its number already.
            let (segment, offset) = self.writable(self.next.max(*first))?;
            let mut bytes = Vec::new();
            while let [(number, body), rest @ ..] = left {
                let end = offset + bytes.len() + record_len(body);
                if !bytes.is_empty() && end > self.terms.segment_len {
                    break;
                }
                let moved = *number < self.next;
                let record = Record::Message { number: *number, moved, body };
                record.encode_to(&mut bytes, segment, offset);
                places.push(Place { segment, len: record_len(body) });
                left = rest;
            }
            self.write_bytes(&bytes)?;
            self.sync()?;
        }
        Ok(places)
    }

    /// The segment that can be written, and where in it: a new one if there is none with
    /// room, which says that `next` is the next number.
    fn writable(&mut self, next: u64) -> Result<(u64, usize), FileError> {
        let last = self.segments.back().filter(|last| last.len < self.terms.segment_len);
        if let (Some(_), Some(last)) = (&self.file, last) {
            return Ok((last.number, last.len));
        }
        let number = self.next_segment;
        self.next_segment += 1;
        self.file = None;
        self.segments.push_back(Segment { number, len: 0, waiting: 0 });
        self.file = Some(self.directory.create_new(&segment_name(number))?);
        let mut bytes = Vec::new();
        Record::Begin { next }.encode_to(&mut bytes, number, 0);
        let len = bytes.len();
        self.write_bytes(&bytes)?;
        self.directory.sync_directory()?;
        Ok((number, len))
    }

    fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        if let (Some(file), Some(segment)) = (&mut self.file, self.segments.back_mut()) {
            self.directory.write(file, bytes)?;
            segment.len += bytes.len();
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), FileError> {
        self.file.as_ref().map_or(Ok(()), |file| self.directory.sync(file))
    }

    /// Writes which messages are finished; their files may stay for the sake of others. It is durable
    /// with the next message.
    fn mark(&mut self) -> Result<(), FileError> {
        let oldest = self.segments.front().map_or(self.next_segment, |oldest| oldest.number);
        self.unmarked.retain(|(_, segment)| *segment >= oldest);
        if self.unmarked.is_empty() {
            return Ok(());
        }
        let marked = self.write_marks();
        match marked {
            Ok(()) => self.unmarked.clear(),
            Err(_) => self.file = None,
        }
        marked
    }

    fn write_marks(&mut self) -> Result<(), FileError> {
        for at in (0..self.unmarked.len()).step_by(MARKS) {
            let (segment, offset) = self.writable(self.next)?;
            let marks = self.unmarked[at..].iter().take(MARKS);
            let numbers = marks.map(|(number, _)| *number).collect();
            let mut bytes = Vec::new();
            Record::Finished(numbers).encode_to(&mut bytes, segment, offset);
            self.write_bytes(&bytes)?;
        }
        Ok(())
    }

    /// Removes the oldest files as long as nothing in them waits. Only the oldest: a later one says what
    /// is finished in those before it.
    fn sweep(&mut self) {
        while let Some(oldest) = self.segments.front() {
            let is_open = self.file.is_some() && self.segments.len() == 1;
            if oldest.waiting > 0 || is_open || self.remove(oldest.number).is_err() {
                return;
            }
        }
    }

    fn remove(&mut self, number: u64) -> Result<(), FileError> {
        match self.directory.remove(&segment_name(number)) {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => self.segments.retain(|segment| segment.number != number),
        }
        Ok(())
    }

    /// Keeps the files from outgrowing what waits in them.
    fn compact(&mut self) -> Result<(), FileError> {
        for _ in 1..self.segments.len() {
            if self.takes() <= 2 * (self.waits + self.terms.segment_len) {
                break;
            }
            let Some(oldest) = self.segments.front().map(|segment| segment.number) else { break };
            let bytes = self.directory.read(&segment_name(oldest))?.unwrap_or_default();
            let mut records = BTreeMap::new();
            segment::read(oldest, &bytes, |record| {
                if let Record::Message { number, body, .. } = record
                    && self.waiting.get(&number).is_some_and(|place| place.segment == oldest)
                {
                    records.insert(number, body.to_vec());
                }
            });
            let moved: Vec<_> = records.iter().map(|(n, body)| (*n, body.as_slice())).collect();
            let places = self.write(&moved)?;
            for ((number, _), place) in moved.into_iter().zip(places) {
                self.believe(number, place);
            }
            self.sweep();
        }
        Ok(())
    }

    /// What the files take, in bytes.
    fn takes(&self) -> usize {
        self.segments.iter().map(|segment| segment.len.max(self.terms.block_len)).sum()
    }
}

/// What the files say together.
#[derive(Default)]
struct Survey {
    waiting: BTreeMap<u64, Place>,
    finished: BTreeSet<u64>,
    missing: Vec<Range<u64>>,
    /// The number that the next message should have, once any is known.
    expected: Option<u64>,
}

impl Survey {
    fn read(&mut self, segment: u64, bytes: &[u8]) {
        segment::read(segment, bytes, |record| match record {
            Record::Begin { next } if next < MAX_NUMBER => {
                self.expect(next);
                // What was refused before it may have been given its number again.
                self.expected = Some(next);
            }
            // Not believed while the one it was moved from is there: if the process was killed, it may
            // not be durable.
            Record::Message { number, moved: true, body } if number < MAX_NUMBER => {
                let place = Place { segment, len: record_len(body) };
                self.waiting.entry(number).or_insert(place);
            }
            Record::Message { number, moved: false, body } if number < MAX_NUMBER => {
                self.expect(number);
                self.expected = self.expected.max(Some(number + 1));
                self.waiting.insert(number, Place { segment, len: record_len(body) });
            }
            Record::Finished(numbers) => {
                self.finished.extend(numbers.into_iter().filter(|number| *number < MAX_NUMBER));
            }
            _ => {}
        });
    }

    fn expect(&mut self, number: u64) {
        if let Some(expected) = self.expected.filter(|expected| *expected < number) {
            self.missing.push(expected..number);
        }
    }

    /// What waits, the next number, and how many were lost.
    fn conclude(mut self) -> (BTreeMap<u64, Place>, u64, u64) {
        let last = self.waiting.last_key_value().map(|(number, _)| *number);
        let last = last.max(self.finished.last().copied());
        let next = last.map_or(1, |last| last + 1).max(self.expected.unwrap_or(1));
        let lost = self.missing.iter().map(|range| {
            let known = self.finished.range(range.clone()).count()
                + self
                    .waiting
                    .range(range.clone())
                    .filter(|(n, _)| !self.finished.contains(n))
                    .count();
            (range.end - range.start).saturating_sub(known as u64)
        });
        let lost = lost.sum();
        self.waiting.retain(|number, _| !self.finished.contains(number));
        (self.waiting, next, lost)
    }
}

fn read<D: Directory>(
    directory: &mut D,
    number: u64,
) -> Result<Option<Zeroizing<Vec<u8>>>, FileError> {
    let name = segment_name(number);
    match directory.read(&name) {
        // The system could not read it, or it is larger than anything that was written.
        Err(FileError::Io { .. }) => {
            let taken = directory.names()?;
            let free = (0..).map(|attempt| damaged_name(&name, attempt));
            let aside = free.into_iter().find(|aside| !taken.contains(aside)).unwrap_or_default();
            directory.rename(&name, &aside)?;
            directory.sync_directory()?;
            Ok(None)
        }
        other => other,
    }
}

fn segment_name(number: u64) -> String {
    format!("queue-{number}.log")
}

fn segment_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix("queue-")?.strip_suffix(".log")?.parse().ok()?;
    // Only what would have been written so: no leading zeros, no signs.
    (number < MAX_NUMBER && name == segment_name(number)).then_some(number)
}

impl<D: Directory> fmt::Debug for Spool<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spool")
            .field("segments", &self.segments)
            .field("waiting", &self.waiting.len())
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}
