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

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use zerotouch_credentials::SymmetricKey;
    use zerotouch_device::{Attestation, Config, DropReason, Event};
    use zerotouch_dps::{IdScope, RegistrationId};
    use zerotouch_store::{Identity, Waiting};
    use zerotouch_time::Instant;

    use super::*;
    use crate::{Waiters, device_rng};

    /// A queue that remembers what it was asked.
    #[derive(Debug, Default)]
    struct Notebook {
        waiting: Waiting,
        appended: Arc<Mutex<Vec<usize>>>,
        finished: Arc<Mutex<Vec<u64>>>,
    }

    impl RecordQueue for Notebook {
        fn load(&mut self) -> Result<Waiting, StoreError> {
            Ok(self.waiting.clone())
        }

        fn append(&mut self, records: &[Vec<u8>]) -> Result<Range<u64>, StoreError> {
            self.appended.lock().unwrap().push(records.len());
            Ok(10..10 + records.len() as u64)
        }

        fn finish(&mut self, numbers: &[u64]) -> Result<(), StoreError> {
            self.finished.lock().unwrap().extend(numbers);
            Ok(())
        }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(wall: Option<i64>) -> Now {
        Now { monotonic: Instant::ZERO, wall: wall.map(UnixTime::from_secs) }
    }

    fn device(queue: Notebook, now: Now) -> (Device<DeviceRng>, Waiters) {
        let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let mut config = Config::new(
            IdScope::new("0ne00000A0A").unwrap(),
            RegistrationId::new("pump-17").unwrap(),
            Attestation::SymmetricKey(SymmetricKey::from_base64(key).unwrap()),
        );
        config.queue.time_to_live = Some(HOUR);
        let mut waiters = Waiters::new(&config, None);
        let mut device = Device::new(config, Identity::default(), device_rng().unwrap());
        waiters.attach(Box::new(queue), &mut device, now).unwrap();
        (device, waiters)
    }

    // How long a message has waited counts from when it was written, if both clocks tell; and what is
    // over is struck out.
    #[test]
    fn an_age_outlives_a_restart() {
        let write = |wall| encode(&Telemetry::new("x"), at(wall));
        let records = [Some(1_000_000), Some(1_003_000), None, Some(2_000_000)].map(write);
        let finished = Arc::default();
        let waiting = Waiting { records: (1..).zip(records).collect(), lost: 0 };
        let queue = Notebook { waiting, finished: Arc::clone(&finished), ..Notebook::default() };
        let now = at(Some(1_003_600));
        let (mut device, mut waiters) = device(queue, now);
        device.handle_timeout(now);
        let mut dropped = 0;
        while let Some(event) = device.poll_event() {
            waiters.observe(&event, now);
            dropped += u32::from(matches!(
                event,
                Event::TelemetryDropped { reason: DropReason::Expired, .. }
            ));
        }
        assert_eq!((dropped, device.queue().messages), (1, 3));
        assert_eq!(device.poll_timeout(), Some(now.monotonic + Duration::from_secs(3000)));
        waiters.poll_write().unwrap().run();
        assert_eq!(*finished.lock().unwrap(), [1]);
    }

    // What is no message is struck out too, and the others are not held up.
    #[test]
    fn what_is_no_message_is_struck_out() {
        let records = vec![(3, b"?".to_vec()), (4, encode(&Telemetry::new("x"), at(None)))];
        let finished = Arc::default();
        let waiting = Waiting { records, lost: 0 };
        let queue = Notebook { waiting, finished: Arc::clone(&finished), ..Notebook::default() };
        let (device, mut waiters) = device(queue, at(None));
        assert_eq!(device.queue().messages, 1);
        waiters.poll_write().unwrap().run();
        assert_eq!(*finished.lock().unwrap(), [3]);
    }

    // Messages that come together are written once, and everything goes to the device in order, after
    // that. What would be refused anyhow is not written.
    #[test]
    fn messages_that_come_together_are_written_together() {
        let appended = Arc::default();
        let queue = Notebook { appended: Arc::clone(&appended), ..Notebook::default() };
        let now = at(None);
        let (mut device, mut waiters) = device(queue, now);
        let (tell, told) = mpsc::channel();
        for size in [1, 1_000_000, 1] {
            let tell = tell.clone();
            let done = Box::new(move |result: Result<(), SendError>| {
                tell.send(result.is_ok()).unwrap();
            });
            let telemetry = Telemetry::new(vec![0; size]);
            waiters.command(&mut device, Command::EnqueueTelemetry(telemetry, done), now);
        }
        waiters.command(&mut device, Command::Close(Box::new(|()| {})), now);
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [false], "too large");
        assert_eq!(device.queue().messages, 0);
        let written = waiters.poll_write().unwrap().run();
        waiters.written(&mut device, Some(written), now);
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [true; 2]);
        assert_eq!(*appended.lock().unwrap(), [2]);
        assert!(waiters.poll_write().is_none());
    }
}
