//! The device's twin, kept in step over one connection after another.
//!
//! | state | input | next |
//! |---|---|---|
//! | `Offline` | `start` (both subscriptions are granted) | `Reading`: the twin is asked for |
//! | `Reading` | a patch | kept for later |
//! | | 200 | `Current`, with the patches that came meanwhile and are newer |
//! | | another status, no answer in time, a patch that cannot be read or kept | `Pausing` |
//! | `Pausing` | a patch | ignored: the twin will hold it |
//! | | its instant | `Reading` |
//! | `Current` | the next patch | merged |
//! | | a patch that was merged before | ignored |
//! | | a patch that does not follow, or says not which it is | `Reading` |
//! | any | `interrupt` (the connection ended) | `Offline`; what is known is kept |
//!
//! A patch that is sent while nobody is subscribed is never sent again, which is why the twin is read on
//! every connection, after the subscription and not before.

pub(crate) mod merge;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem;
use core::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};
use thiserror::Error;
use zerotouch_time::Instant;
use zerotouch_wire::{ReplyTopic, ServiceError};

use self::merge::merge;
use crate::Request;
use crate::wire::{MAX_REPORTED_LENGTH, TWIN_GET_PREFIX, TWIN_REPORT_PREFIX};

/// The most patches that are kept while the twin is read.
const MAX_KEPT_PATCHES: usize = 64;

/// Limits of a twin.
#[derive(Clone, Copy, Debug)]
pub struct TwinConfig {
    /// How long to wait for an answer; default 60 s.
    pub response_timeout: Duration,
    /// The pause after the first read that failed, which doubles with each that follows; default 1 s. A
    /// longer one that the hub asks for is kept.
    pub first_pause: Duration,
    /// The longest pause of this engine's own; default 60 s.
    pub longest_pause: Duration,
    /// How many reports may wait for their answers; default 16.
    pub max_reports: usize,
}

impl Default for TwinConfig {
    fn default() -> Self {
        Self {
            response_timeout: Duration::from_secs(60),
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(60),
            max_reports: 16,
        }
    }
}

/// One side of a twin: desired by the cloud, or reported by the device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Grows by one with each change.
    pub version: u64,
    /// Names and values, without the service's own members (`$version`, `$metadata`).
    pub values: Map<String, Value>,
}

/// Names a report until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReportHandle(u64);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TwinEvent {
    /// The twin was read.
    Read {
        /// What the cloud wanted then. Changes since are events of their own, so that none is acted on
        /// twice; [`Twin::desired`] may have them already.
        desired: Properties,
        /// What the cloud has of this device's reports.
        reported: Properties,
        /// Whether the desired properties are others than were known before.
        desired_changed: bool,
    },
    /// The twin could not be read; another try follows.
    ReadFailed {
        /// Why.
        error: TwinError,
        /// When.
        retry_in: Duration,
    },
    /// Desired properties changed; [`Twin::desired`] has the outcome.
    Desired {
        /// What changed: `null` where a property is gone.
        patch: Map<String, Value>,
        /// The version after it.
        version: u64,
    },
    /// The hub has taken a report.
    Reported {
        /// Which.
        handle: ReportHandle,
        /// The version of the reported properties after it.
        version: Option<u64>,
    },
    /// A report was not taken, or it is not known whether.
    ReportFailed {
        /// Which.
        handle: ReportHandle,
        /// Why.
        error: TwinError,
    },
}

/// Why a twin request failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TwinError {
    /// The hub refused. From 429 on, the same may be tried later.
    #[error("the hub refused with status {status}: {error}")]
    Refused {
        /// The status in the topic.
        status: u16,
        /// The body.
        error: Box<ServiceError>,
        /// The delay the service asks for before another try.
        retry_after: Option<Duration>,
    },
    /// What came is no twin, or no change of one.
    #[error("the hub sent something else than a twin: {excerpt:?}")]
    Unreadable {
        /// The body's first characters.
        excerpt: String,
    },
    /// No answer in time.
    #[error("the hub did not answer within {} s", after.as_secs())]
    TimedOut {
        /// How long was waited.
        after: Duration,
    },
    /// The connection ended first: it may have been taken or not.
    #[error("the connection ended before the hub answered")]
    SessionEnded,
    /// More patches arrived while the twin was read than can be kept.
    #[error("more than {MAX_KEPT_PATCHES} changes arrived while the twin was read")]
    TooManyChanges,
}

/// Why a report was not taken. Nothing is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReportError {
    /// There is no connection on which answers are heard.
    #[error("not connected to the hub")]
    NotConnected,
    /// As many as may be are waiting for their answers.
    #[error("{limit} reports are waiting for their answers already")]
    TooManyReports {
        /// The limit of the configuration.
        limit: usize,
    },
    /// The hub takes no report as large.
    #[error("the report has {length} bytes of JSON, the hub takes {MAX_REPORTED_LENGTH}")]
    TooLarge {
        /// Its length.
        length: usize,
    },
}

#[derive(Debug)]
enum State {
    Offline,
    Reading { id: u64, until: Instant, kept: Vec<Patch> },
    Pausing { until: Instant },
    Current,
}

#[derive(Debug)]
struct Patch {
    version: u64,
    values: Map<String, Value>,
}

#[derive(Debug)]
struct Report {
    handle: ReportHandle,
    until: Instant,
}

/// A twin.
#[derive(Debug)]
pub struct Twin {
    config: TwinConfig,
    state: State,
    desired: Option<Properties>,
    reports: VecDeque<Report>,
    /// Reads that failed in a row.
    failures: u32,
    /// Request ids begin with this, so that an answer to an earlier run of the program fits none.
    run: u32,
    last_id: u64,
    requests: VecDeque<Request>,
    events: VecDeque<TwinEvent>,
}

impl Twin {
    /// Nothing is known yet. `run` is a random number that tells this run of the program from others.
    pub fn new(config: TwinConfig, run: u32) -> Self {
        Self {
            config,
            state: State::Offline,
            desired: None,
            reports: VecDeque::new(),
            failures: 0,
            run,
            last_id: 0,
            requests: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The desired properties, as far as they were read and changed since.
    pub fn desired(&self) -> Option<&Properties> {
        self.desired.as_ref()
    }

    /// Whether [`Twin::desired`] is what the hub has, as far as a device can know.
    pub fn is_current(&self) -> bool {
        matches!(self.state, State::Current)
    }

    /// How many reports await their answers.
    pub fn open_reports(&self) -> usize {
        self.reports.len()
    }

    /// The subscriptions to [`crate::wire::TWIN_RESPONSES`] and [`crate::wire::DESIRED_PROPERTIES`] are
    /// granted.
    pub fn start(&mut self, now: Instant) {
        if matches!(self.state, State::Offline) {
            self.read(now);
        }
    }

    /// The connection ended.
    pub fn interrupt(&mut self) {
        self.state = State::Offline;
        self.requests.clear();
        for Report { handle, .. } in mem::take(&mut self.reports) {
            let error = TwinError::SessionEnded;
            self.events.push_back(TwinEvent::ReportFailed { handle, error });
        }
    }

    /// Reports properties: a value replaces, `null` removes, what is not named stays.
    /// [`TwinEvent::Reported`] or [`TwinEvent::ReportFailed`] follows.
    pub fn report(
        &mut self,
        patch: &Map<String, Value>,
        now: Instant,
    ) -> Result<ReportHandle, ReportError> {
        if matches!(self.state, State::Offline) {
            return Err(ReportError::NotConnected);
        }
        let limit = self.config.max_reports;
        if self.reports.len() >= limit {
            return Err(ReportError::TooManyReports { limit });
        }
        // A map of JSON values can always be written.
        let payload = serde_json::to_vec(patch).unwrap_or_default();
        if payload.len() > MAX_REPORTED_LENGTH {
            return Err(ReportError::TooLarge { length: payload.len() });
        }
        let id = self.request(TWIN_REPORT_PREFIX, payload);
        let handle = ReportHandle(id);
        self.reports.push_back(Report { handle, until: now + self.config.response_timeout });
        Ok(handle)
    }

    /// An answer on [`crate::wire::TWIN_RESPONSES`]; one to another request is ignored.
    pub fn handle_reply(&mut self, reply: &ReplyTopic<'_>, body: &[u8], now: Instant) {
        let Some(id) = self.parse_id(reply.request_id()) else { return };
        if matches!(self.state, State::Reading { id: read, .. } if read == id) {
            match reply.status {
                200 => self.handle_twin(body, now),
                status => self.fail_read(refused(status, reply, body), now),
            }
        } else if let Some(position) = self.reports.iter().position(|r| r.handle.0 == id) {
            let handle = ReportHandle(id);
            self.reports.remove(position);
            self.events.push_back(match reply.status {
                200..300 => {
                    let version = reply.get("$version").and_then(|text| text.parse().ok());
                    TwinEvent::Reported { handle, version }
                }
                status => TwinEvent::ReportFailed { handle, error: refused(status, reply, body) },
            });
        }
    }

    /// A patch arrived, as [`Inbound::DesiredProperties`](crate::Inbound::DesiredProperties).
    pub fn handle_desired(&mut self, version: Option<u64>, body: &[u8], now: Instant) {
        let patch = Side::parse(body).and_then(|side| {
            let version = version.or(side.version)?;
            Some(Patch { version, values: side.values })
        });
        match &mut self.state {
            State::Offline | State::Pausing { .. } => {}
            // One that is not kept may be missing from the answer: the twin is to be read once more.
            State::Reading { kept, .. } => match patch {
                Some(patch) if kept.len() < MAX_KEPT_PATCHES => kept.push(patch),
                Some(_) => self.fail_read(TwinError::TooManyChanges, now),
                None => self.fail_read(unreadable(body), now),
            },
            State::Current => match patch {
                Some(patch) => self.apply(patch, now),
                None => self.read(now),
            },
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::Pausing { until } if now >= until => self.read(now),
            State::Reading { until, .. } if now >= until => {
                self.fail_read(TwinError::TimedOut { after: self.config.response_timeout }, now);
            }
            _ => {}
        }
        while self.reports.front().is_some_and(|report| now >= report.until) {
            if let Some(Report { handle, .. }) = self.reports.pop_front() {
                let error = TwinError::TimedOut { after: self.config.response_timeout };
                self.events.push_back(TwinEvent::ReportFailed { handle, error });
            }
        }
    }

    /// The next message to publish.
    pub fn poll_request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<TwinEvent> {
        self.events.pop_front()
    }

    /// When [`Twin::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let own = match self.state {
            State::Reading { until, .. } | State::Pausing { until } => Some(until),
            State::Offline | State::Current => None,
        };
        own.into_iter().chain(self.reports.front().map(|report| report.until)).min()
    }
}

impl Twin {
    fn read(&mut self, now: Instant) {
        let id = self.request(TWIN_GET_PREFIX, Vec::new());
        let until = now + self.config.response_timeout;
        self.state = State::Reading { id, until, kept: Vec::new() };
    }

    fn fail_read(&mut self, error: TwinError, now: Instant) {
        let own = self.config.first_pause.saturating_mul(1 << self.failures.min(16));
        self.failures += 1;
        let asked = match &error {
            TwinError::Refused { retry_after, .. } => retry_after.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        let retry_in = own.min(self.config.longest_pause).max(asked);
        self.state = State::Pausing { until: now + retry_in };
        self.events.push_back(TwinEvent::ReadFailed { error, retry_in });
    }

    fn handle_twin(&mut self, body: &[u8], now: Instant) {
        let Some((desired, reported)) = parse_twin(body) else {
            return self.fail_read(unreadable(body), now);
        };
        self.failures = 0;
        let desired_changed = self.desired.as_ref() != Some(&desired);
        self.desired = Some(desired.clone());
        self.events.push_back(TwinEvent::Read { desired, reported, desired_changed });
        if let State::Reading { kept, .. } = mem::replace(&mut self.state, State::Current) {
            for patch in kept {
                self.apply(patch, now);
            }
        }
    }

    /// Merges the patch that follows what is known. One that does not was lost on its way: the hub sends
    /// patches at `QoS` 0.
    fn apply(&mut self, patch: Patch, now: Instant) {
        let (State::Current, Some(desired)) = (&self.state, &mut self.desired) else { return };
        if patch.version <= desired.version {
            return;
        }
        if patch.version > desired.version + 1 {
            return self.read(now);
        }
        desired.version = patch.version;
        merge(&mut desired.values, &patch.values);
        let Patch { version, values } = patch;
        self.events.push_back(TwinEvent::Desired { patch: values, version });
    }

    fn request(&mut self, prefix: &str, payload: Vec<u8>) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        let topic = format!("{prefix}$rid={}", self.request_id(id));
        self.requests.push_back(Request { topic, payload });
        id
    }

    fn request_id(&self, id: u64) -> String {
        format!("{:08x}-{id}", self.run)
    }

    fn parse_id(&self, request_id: Option<&str>) -> Option<u64> {
        let id = request_id?.split_once('-')?.1.parse().ok()?;
        // To the letter: what merely has the same numbers was not written here.
        (request_id == Some(&self.request_id(id))).then_some(id)
    }
}

fn refused(status: u16, reply: &ReplyTopic<'_>, body: &[u8]) -> TwinError {
    let error = ServiceError::parse(body);
    let retry_after = reply.retry_after().or(error.retry_after());
    TwinError::Refused { status, error: Box::new(error), retry_after }
}

fn unreadable(body: &[u8]) -> TwinError {
    TwinError::Unreadable { excerpt: String::from_utf8_lossy(body).chars().take(64).collect() }
}

/// One side as the hub writes it.
#[derive(Default, Deserialize)]
struct Side {
    #[serde(rename = "$version")]
    version: Option<u64>,
    #[serde(flatten)]
    values: Map<String, Value>,
}

impl Side {
    fn parse(body: &[u8]) -> Option<Self> {
        let mut side: Self = serde_json::from_slice(body).ok()?;
        side.clean();
        Some(side)
    }

    /// Takes the service's own members away: a device's begin with no `$`.
    fn clean(&mut self) {
        self.values.retain(|name, _| !name.starts_with('$'));
    }

    fn into_properties(mut self) -> Option<Properties> {
        self.clean();
        Some(Properties { version: self.version?, values: self.values })
    }
}

fn parse_twin(body: &[u8]) -> Option<(Properties, Properties)> {
    #[derive(Deserialize)]
    struct Document {
        desired: Side,
        #[serde(default)]
        reported: Side,
    }
    let Document { desired, mut reported } = serde_json::from_slice(body).ok()?;
    // A twin that nothing was ever reported to may come without that version.
    reported.version.get_or_insert_default();
    Some((desired.into_properties()?, reported.into_properties()?))
}
