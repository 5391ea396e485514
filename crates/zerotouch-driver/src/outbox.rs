//! Telemetry on disk: written down before the device has it, struck out when nothing is left to do.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use zerotouch_device::{Device, TelemetryHandle};
use zerotouch_hub::Telemetry;
use zerotouch_store::{RecordQueue, StoreError};
use zerotouch_time::{Now, UnixTime};

use crate::{Command, DeviceRng, SendError};

/// What waits on disk for the device, and what waits for the disk.
pub(crate) struct Outbox {
    /// `None` while it writes, and once it has panicked.
    queue: Option<Box<dyn RecordQueue + Send>>,
    /// Commands behind a message that is to be written, in order; itself the first.
    held: Vec<Command>,
    records: Vec<Vec<u8>>,
    numbers: BTreeMap<TelemetryHandle, u64>,
    finished: Vec<u64>,
}

impl Outbox {
    /// Gives `device` what waits; says how many messages were lost.
    pub(crate) fn open(
        mut queue: Box<dyn RecordQueue + Send>,
        device: &mut Device<DeviceRng>,
        now: Now,
    ) -> Result<(Self, u64), StoreError> {
        let waiting = queue.load()?;
        let mut lost = waiting.lost;
        let (mut numbers, mut finished) = (BTreeMap::new(), Vec::new());
        for (number, record) in waiting.records {
            if let Some((telemetry, age)) = decode(&record, now) {
                numbers.insert(device.restore_telemetry(telemetry, age, now), number);
            } else {
                lost += 1;
                finished.push(number);
            }
        }
        let (held, records) = (Vec::new(), Vec::new());
        Ok((Self { queue: Some(queue), held, records, numbers, finished }, lost))
    }

    /// Holds a command back that has to wait for the disk, itself or behind another.
    pub(crate) fn hold(
        &mut self,
        device: &Device<DeviceRng>,
        command: Command,
        now: Now,
    ) -> Option<Command> {
        let command = match command {
            Command::SendTelemetry(telemetry, done) => match self.note(device, &telemetry, now) {
                Ok(()) => Command::SendTelemetry(telemetry, done),
                Err(error) => {
                    done(Err(error));
                    return None;
                }
            },
            Command::EnqueueTelemetry(telemetry, done) => {
                match self.note(device, &telemetry, now) {
                    Ok(()) => Command::EnqueueTelemetry(telemetry, done),
                    Err(error) => {
                        done(Err(error));
                        return None;
                    }
                }
            }
            other if self.held.is_empty() => return Some(other),
            other => other,
        };
        self.held.push(command);
        None
    }

    /// What would be refused anyhow is not written.
    fn note(
        &mut self,
        device: &Device<DeviceRng>,
        telemetry: &Telemetry,
        now: Now,
    ) -> Result<(), SendError> {
        device.check_telemetry(telemetry)?;
        if self.queue.is_none() {
            return Err(not_stored(lost()));
        }
        self.records.push(encode(telemetry, now));
        Ok(())
    }

    pub(crate) fn poll_write(&mut self) -> Option<Write> {
        if self.records.is_empty() && self.finished.is_empty() {
            return None;
        }
        let (records, finished) =
            (std::mem::take(&mut self.records), std::mem::take(&mut self.finished));
        Some(Write { queue: self.queue.take()?, records, finished })
    }

    /// The held commands, each message's with its number or why it has none.
    pub(crate) fn written(
        &mut self,
        written: Option<Written>,
    ) -> impl Iterator<Item = (Command, Result<u64, SendError>)> + use<> {
        let taken = match written {
            Some(Written { queue, taken }) => {
                self.queue = Some(queue);
                taken
            }
            None => Err(lost()),
        };
        let mut taken = taken.map_err(not_stored);
        std::mem::take(&mut self.held).into_iter().map(move |command| {
            let is_message =
                matches!(command, Command::SendTelemetry(..) | Command::EnqueueTelemetry(..));
            let number = match &mut taken {
                Ok(numbers) if is_message => Ok(numbers.next().unwrap_or_default()),
                Ok(_) => Ok(0),
                Err(error) => Err(error.clone()),
            };
            (command, number)
        })
    }

    /// The device has the message of this number.
    pub(crate) fn given(&mut self, handle: TelemetryHandle, number: u64) {
        self.numbers.insert(handle, number);
    }

    /// The message need not come again.
    pub(crate) fn finish(&mut self, number: u64) {
        self.finished.push(number);
    }

    pub(crate) fn finish_handle(&mut self, handle: TelemetryHandle) {
        self.finished.extend(self.numbers.remove(&handle));
    }
}

/// Waits for the disk: [`Write::run`] it where that may be waited for.
#[derive(Debug)]
pub struct Write {
    queue: Box<dyn RecordQueue + Send>,
    records: Vec<Vec<u8>>,
    finished: Vec<u64>,
}

/// What came of a [`Write`]: for [`Waiters::written`](crate::Waiters::written).
#[derive(Debug)]
pub struct Written {
    queue: Box<dyn RecordQueue + Send>,
    taken: Result<Range<u64>, StoreError>,
}

impl Write {
    /// Writes. All messages that wait are made durable together.
    pub fn run(mut self) -> Written {
        // First, as it may make room. What stays undone costs a message that comes again, at most.
        if let Err(error) = self.queue.finish(&self.finished) {
            tracing::warn!(%error, "store: what was sent may be sent again after a restart");
        }
        let taken =
            if self.records.is_empty() { Ok(0..0) } else { self.queue.append(&self.records) };
        Written { queue: self.queue, taken }
    }
}

fn lost() -> StoreError {
    StoreError::Other("the queue panicked and is lost".into())
}

fn not_stored(error: StoreError) -> SendError {
    SendError::NotStored(Arc::new(error))
}

/// The time by the wall clock, in seconds, 0 if it is unset; and the message.
fn encode(telemetry: &Telemetry, now: Now) -> Vec<u8> {
    let written = now.wall.map_or(0, UnixTime::as_secs);
    [&written.to_be_bytes()[..], &telemetry.to_bytes()].concat()
}

/// The message and its age: nothing where either clock was or is unset, or was set back.
fn decode(record: &[u8], now: Now) -> Option<(Telemetry, Duration)> {
    let (written, telemetry) = record.split_first_chunk()?;
    let written = Some(i64::from_be_bytes(*written)).filter(|written| *written != 0);
    let age = now.wall.zip(written).map(|(wall, written)| wall.as_secs().saturating_sub(written));
    let age = age.and_then(|age| u64::try_from(age).ok()).unwrap_or_default();
    Some((Telemetry::from_bytes(telemetry)?, Duration::from_secs(age)))
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("queue", &self.queue)
            .field("waiting", &self.numbers.len())
            .finish_non_exhaustive()
    }
}
