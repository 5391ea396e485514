//! What goes wrong in a world, and when: plain data, so that it can be drawn, printed, shrunk and replayed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use zerotouch_emulator::cloud::{FaultRule, Quota};

/// A world and everything that goes wrong in it. With a plan the same happens again, byte for byte.
///
/// As text it is one line of JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plan {
    /// From which all else is drawn: keys, delays, the sizes of pieces, when the application does what.
    pub seed: u64,
    /// How many devices.
    pub devices: usize,
    /// How many of them, the first ones, have a certificate from the factory in place of a key.
    #[serde(default, skip_serializing_if = "is_none")]
    pub certified: usize,
    /// For how many minutes their applications are busy: telemetry all along, a renewal in between.
    pub minutes: u64,
    /// How often its operator asks each of everything: to know a property, to answer a method, to take a
    /// message, to report.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub wishes: u64,
    /// For how many hours a certificate is good.
    pub validity_hours: u64,
    /// Whether the devices' keys are in hardware, where they are made and used at once.
    #[serde(default, skip_serializing_if = "is_false")]
    pub hardware: bool,
    /// How many the services take; default a thousand registrations in a minute, and any connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quotas: Option<Quotas>,
    /// What goes wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub incidents: Vec<Incident>,
}

/// How many the services take, of all devices together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Quotas {
    /// Of the provisioning service.
    pub registrations: Quota,
    /// Of each hub.
    pub connections: Quota,
}

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Incident {
    /// When it begins.
    pub at: At,
    /// For how long, in milliseconds; nothing to those that happen in an instant.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lasts: u64,
    /// To which device; default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<usize>,
    /// On the way to which service; default both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// What.
    pub fault: Fault,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_none(number: &usize) -> bool {
    *number == 0
}

/// When something begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum At {
    /// So many milliseconds after the beginning.
    Millis(u64),
    /// Before this step of the world, counted from 1: for trying each.
    Step(u64),
}

/// Which service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Service {
    /// Provisioning.
    Dps,
    /// A hub.
    Hub,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Fault {
    /// Dials are refused.
    Refuse,
    /// Dials are not answered.
    BlackHole,
    /// Names are not found.
    NoName,
    /// The server's certificate has another root.
    Untrusted,
    /// The server's certificate is for another name, for DNS leads elsewhere.
    WrongName,
    /// A name has two addresses, and at one of them somebody else answers.
    TwoAddresses,
    /// The service moves: connections to its old address carry nothing any more, and until this is over
    /// names lead there.
    Moved {
        /// Somebody else has that address now; otherwise nobody.
        stranger: bool,
    },
    /// The server's certificate is out of date.
    ServerDates,
    /// The certificate that is presented is refused in the handshake.
    Alert,
    /// The same, after the client has held the handshake for done (TLS 1.3).
    LateAlert,
    /// Somebody else answers, in HTTP.
    Portal,
    /// Connections break.
    Reset,
    /// The connection breaks once so many more bytes have passed in one direction.
    ResetAfter {
        /// How many.
        bytes: u64,
        /// Of those to the device; otherwise of those to the cloud.
        inbound: bool,
    },
    /// Connections carry nothing any more, and nobody is told.
    HalfOpen,
    /// The same, and dials are not answered.
    Partition,
    /// What is under way waits until it is over.
    Stall,
    /// Pieces take so many milliseconds longer, at most.
    Latency {
        /// How long.
        millis: u64,
    },
    /// So many bytes a second pass.
    Bandwidth {
        /// How many.
        bytes_per_second: u64,
    },
    /// Bytes come one by one.
    Trickle,
    /// The device stops, the network does not notice; it starts again when this is over.
    PowerCut,
    /// The same in the middle of an operation on a file, after so many others.
    PowerCutAtStore {
        /// How many.
        operations: usize,
        /// From which is drawn what the disk then holds, of all that it may hold.
        state: u64,
    },
    /// The device's process ends and its connections with it; it starts again when this is over.
    Exit,
    /// After so many operations on files there is no space any more.
    DiskFull {
        /// How many.
        operations: usize,
    },
    /// After so many operations on files one fails.
    DiskFails {
        /// How many.
        operations: usize,
        /// It has had its effect.
        late: bool,
    },
    /// The wall clock is not set.
    ClockUnset,
    /// The wall clock is wrong by so many seconds.
    ClockStep {
        /// Ahead.
        seconds: i64,
    },
    /// The wall clock is too fast by so many millionths.
    ClockDrift {
        /// How many.
        ppm: i64,
    },
    /// Another device has a copy of the identity.
    Twin,
    /// The cloud does something wrong.
    Rule(FaultRule),
    /// The cloud starts anew, and knows what it knew; or what it knew a while ago.
    CloudRestart {
        /// It forgets what is new.
        forgets: bool,
    },
    /// The device's certificates are revoked.
    Revoke,
    /// The issuing authority of the policy is revoked, and hubs are given another.
    RevokeIssuer,
    /// The first hub is gone for good, and devices are assigned to the other.
    Failover,
    /// The cloud's clock goes wrong by so many seconds.
    CloudClock {
        /// Ahead.
        seconds: i64,
    },
}

impl Incident {
    /// Something that goes wrong for everybody.
    pub fn new(at: At, lasts: u64, fault: Fault) -> Self {
        Self { at, lasts, device: None, service: None, fault }
    }

    pub(crate) fn strikes(&self, device: usize, service: Service) -> bool {
        self.device.is_none_or(|one| one == device) && self.service.is_none_or(|one| one == service)
    }
}

impl Plan {
    /// A life in which nothing goes wrong.
    pub fn calm(seed: u64) -> Self {
        Self {
            seed,
            devices: 1,
            certified: 0,
            minutes: 10,
            wishes: 0,
            validity_hours: 720,
            hardware: false,
            quotas: None,
            incidents: Vec::new(),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Numbers and texts: nothing in it can fail to serialise.
        f.write_str(&serde_json::to_string(self).unwrap_or_default())
    }
}

impl FromStr for Plan {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        serde_json::from_str(text)
    }
}
