//! Faults on demand: what the cloud does wrong, to which devices, and how often.
//!
//! A rule names an operation and what goes wrong with it. Of the rules for an operation all that match
//! strike, each by its own chance and count; the service asks what has struck it where it matters.
//!
//! | fault | at |
//! |---|---|
//! | `refuse` | `dpsConnect`, `hubConnect` |
//! | `error` | `register`, `status`, `renew`, `renewalResult`, `twinGet`, `twinReport` |
//! | `stuck`, `outcome` | `status` |
//! | `chain` | `assign`, `renewalResult` |
//! | `documentedCodes` | `renew`, `renewalResult` |
//! | `versionSuffix` | `renew`, `renewalResult` |
//! | `bareArray` | `renewalResult` |
//! | `dropBeforeAcknowledgement`, `dropAfterAcknowledgement` | `register`, `status`, `telemetry`, `renew`, `twinGet`, `twinReport` |
//! | `wrongRequestId`, `garbage`, `duplicate` | all that are answered by a message |
//! | `silence`, `delay`, `trickle` | all but `assign` |

use std::borrow::Cow;
use std::time::Duration;

use chacha20::ChaCha20Rng;
use rand_core::Rng;
use serde::{Deserialize, Serialize};
use zerotouch_mqtt_codec::ConnectRefusal;

use super::text_form;

/// The most rules there may be at a time: each is looked at with every operation.
const MAX_RULES: usize = 1000;

/// What goes wrong, where, and how often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FaultRule {
    /// With which devices, by registration id or device id; `*` stands for any characters. Default: all.
    #[serde(default = "all")]
    pub device: String,
    /// With what they do.
    pub operation: Operation,
    /// What goes wrong.
    pub fault: Fault,
    /// With how many of those that match, from 0 to 1; default: all.
    #[serde(default = "always")]
    pub probability: f64,
    /// So many that match are let by first; default: none.
    #[serde(default)]
    pub after: u32,
    /// After so many strikes the rule is gone; default: never.
    #[serde(default)]
    pub count: Option<u32>,
}

fn all() -> String {
    "*".into()
}

const fn always() -> f64 {
    1.0
}

/// What a device does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Operation {
    /// It connects to the provisioning service.
    DpsConnect,
    /// It registers.
    Register,
    /// It asks how far its registration is.
    Status,
    /// It is assigned to its hub: once in a registration, with the request for its status.
    Assign,
    /// It connects to its hub.
    HubConnect,
    /// It sends a message.
    Telemetry,
    /// It reads its twin.
    TwinGet,
    /// It reports properties.
    TwinReport,
    /// It asks for another certificate, which is answered with 202.
    Renew,
    /// It is told what became of that.
    RenewalResult,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub enum Fault {
    /// CONNACK with a return code other than 0.
    Refuse {
        /// From 1 to 5.
        code: u8,
    },
    /// An error is the answer.
    Error {
        /// The status, from 400 to 599.
        status: u16,
        /// The code in the body; by default the status and three zeroes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error_code: Option<u32>,
        /// In seconds: what `retry-after` says; by default nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<u64>,
        /// What the body says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// The registration is under way for as long as the rule is there.
    Stuck,
    /// The registration ends with status 200, and not well.
    Outcome {
        /// `failed`, `disabled` or whatever else.
        status: String,
        /// The code in the state, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error_code: Option<u32>,
        /// In words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// The chain of certificates is not as it should be.
    Chain(ChainFault),
    /// Error codes as in the SDKs' tables and the documentation, not as recorded.
    DocumentedCodes,
    /// The answer's topic has `&$version=1` after the request id.
    VersionSuffix,
    /// The certificates come as a bare JSON array, as one preview SDK expects.
    BareArray,
    /// The connection ends; the request is lost.
    DropBeforeAcknowledgement,
    /// The request is acknowledged and carried out; the connection ends before the answer.
    DropAfterAcknowledgement,
    /// The answer is to a request that nobody made.
    WrongRequestId,
    /// The answer's body is not JSON.
    Garbage,
    /// The answer comes twice.
    Duplicate,
    /// No answer comes.
    Silence,
    /// The answer comes late.
    Delay(#[serde(with = "text_form::one")] Duration),
    /// From here on bytes come one by one, with that time in between.
    Trickle(#[serde(with = "text_form::one")] Duration),
}

/// What is wrong with a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ChainFault {
    /// It is not there.
    Missing,
    /// It has no certificates.
    Empty,
    /// The root comes first.
    Reordered,
    /// The device's certificate is for another key.
    Foreign,
    /// It has more certificates than any chain.
    Oversized,
    /// Its certificates are PEM, not base64 of DER.
    Pem,
    /// The device's certificate has ended.
    Expired,
    /// The device's certificate has been revoked: it does not bear the device's identifier.
    Revoked,
}

/// Why a rule cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FaultError {
    /// The operation cannot fail that way.
    #[error("this operation cannot fail that way")]
    Inapplicable,
    /// The probability is not from 0 to 1.
    #[error("a probability is from 0 to 1")]
    Probability,
    /// A refusal has a code from 1 to 5.
    #[error("CONNACK refuses with a code from 1 to 5")]
    ConnackCode,
    /// An error has a status from 400 to 599.
    #[error("an error has a status from 400 to 599")]
    Status,
    /// There are too many rules.
    #[error("there are {MAX_RULES} rules already")]
    TooMany,
}

impl FaultRule {
    /// A rule for all devices and every time.
    pub fn new(operation: Operation, fault: Fault) -> Self {
        Self { device: all(), operation, fault, probability: always(), after: 0, count: None }
    }

    pub(super) fn check(&self) -> Result<(), FaultError> {
        match self.fault {
            Fault::Refuse { code } if !(1..=5).contains(&code) => Err(FaultError::ConnackCode),
            Fault::Error { status, .. } if !(400..=599).contains(&status) => {
                Err(FaultError::Status)
            }
            _ if !(0.0..=1.0).contains(&self.probability) => Err(FaultError::Probability),
            _ if !self.fault.applies_to(self.operation) => Err(FaultError::Inapplicable),
            _ => Ok(()),
        }
    }
}

impl Fault {
    fn applies_to(&self, operation: Operation) -> bool {
        use Operation::{
            Assign, DpsConnect, HubConnect, Register, Renew, RenewalResult, Status, Telemetry,
            TwinGet, TwinReport,
        };
        let is_connect = matches!(operation, DpsConnect | HubConnect);
        if operation == Assign {
            return matches!(self, Self::Chain(_));
        }
        match self {
            Self::Refuse { .. } => is_connect,
            Self::Error { .. } | Self::WrongRequestId | Self::Garbage | Self::Duplicate => {
                !is_connect && operation != Telemetry
            }
            Self::Stuck | Self::Outcome { .. } => operation == Status,
            Self::DocumentedCodes | Self::VersionSuffix => {
                matches!(operation, Renew | RenewalResult)
            }
            Self::Chain(_) | Self::BareArray => operation == RenewalResult,
            Self::DropBeforeAcknowledgement | Self::DropAfterAcknowledgement => {
                matches!(operation, Register | Status | Telemetry | Renew | TwinGet | TwinReport)
            }
            Self::Silence | Self::Delay(_) | Self::Trickle(_) => true,
        }
    }

    /// What it is called where it is told of.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Refuse { .. } => "refuse",
            Self::Error { .. } => "error",
            Self::Stuck => "stuck",
            Self::Outcome { .. } => "outcome",
            Self::Chain(_) => "chain",
            Self::DocumentedCodes => "documentedCodes",
            Self::VersionSuffix => "versionSuffix",
            Self::BareArray => "bareArray",
            Self::DropBeforeAcknowledgement => "dropBeforeAcknowledgement",
            Self::DropAfterAcknowledgement => "dropAfterAcknowledgement",
            Self::WrongRequestId => "wrongRequestId",
            Self::Garbage => "garbage",
            Self::Duplicate => "duplicate",
            Self::Silence => "silence",
            Self::Delay(_) => "delay",
            Self::Trickle(_) => "trickle",
        }
    }
}

/// A rule that is in force.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActiveFault {
    /// Names it.
    pub id: u64,
    /// What it says.
    #[serde(flatten)]
    pub rule: FaultRule,
    /// How many operations have matched.
    pub matched: u32,
    /// How many of them it has struck.
    pub struck: u32,
}

/// The rules in force.
#[derive(Debug, Default)]
pub(super) struct Faults {
    active: Vec<ActiveFault>,
    last: u64,
}

impl Faults {
    pub(super) fn add(&mut self, rule: FaultRule) -> Result<u64, FaultError> {
        rule.check()?;
        if self.active.len() >= MAX_RULES {
            return Err(FaultError::TooMany);
        }
        self.last += 1;
        self.active.push(ActiveFault { id: self.last, rule, matched: 0, struck: 0 });
        Ok(self.last)
    }

    pub(super) fn remove(&mut self, id: u64) -> bool {
        let before = self.active.len();
        self.active.retain(|active| active.id != id);
        self.active.len() < before
    }

    pub(super) fn clear(&mut self) {
        self.active.clear();
    }

    pub(super) fn active(&self) -> &[ActiveFault] {
        &self.active
    }

    /// What goes wrong with an operation of a device.
    pub(super) fn strike(
        &mut self,
        operation: Operation,
        device: &str,
        rng: &mut ChaCha20Rng,
    ) -> Strikes {
        let mut strikes = Strikes::default();
        self.active.retain_mut(|active| {
            let ActiveFault { rule, matched, struck, .. } = active;
            if rule.operation != operation || !matches(&rule.device, device) {
                return true;
            }
            *matched = matched.saturating_add(1);
            if *matched <= rule.after || !chance(rule.probability, rng) {
                return true;
            }
            *struck = struck.saturating_add(1);
            strikes.0.push(rule.fault.clone());
            rule.count.is_none_or(|count| *struck < count)
        });
        strikes
    }
}

/// Draws only where it is open, so that rules without a probability change nothing else that is drawn.
fn chance(probability: f64, rng: &mut ChaCha20Rng) -> bool {
    probability >= 1.0 || f64::from(rng.next_u32()) < probability * 4_294_967_296.0
}

/// Whether a text is of a pattern in which `*` stands for any characters. ASCII case is not looked at, as
/// for registration ids.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_ascii_lowercase(), text.to_ascii_lowercase());
    let mut parts = pattern.split('*');
    let Some(rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    let mut rest = rest;
    for part in parts {
        let Some((_, behind)) = rest.split_once(part) else { return false };
        rest = behind;
    }
    rest.ends_with(last)
}

/// What has struck one operation.
#[derive(Clone, Debug, Default)]
pub(super) struct Strikes(Vec<Fault>);

impl Strikes {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }

    pub(super) fn has(&self, fault: &Fault) -> bool {
        self.0.contains(fault)
    }

    /// Whether the answer is lost, and whatever else would come.
    pub(super) fn is_lost(&self) -> bool {
        self.has(&Fault::Silence) || self.has(&Fault::DropAfterAcknowledgement)
    }

    pub(super) fn delay(&self) -> Option<Duration> {
        self.0.iter().find_map(|fault| match fault {
            Fault::Delay(delay) => Some(*delay),
            _ => None,
        })
    }

    pub(super) fn trickle(&self) -> Option<Duration> {
        self.0.iter().find_map(|fault| match fault {
            Fault::Trickle(interval) => Some(*interval),
            _ => None,
        })
    }

    pub(super) fn refusal(&self) -> Option<ConnectRefusal> {
        self.0.iter().find_map(|fault| match fault {
            Fault::Refuse { code } => ConnectRefusal::from_u8(*code),
            _ => None,
        })
    }

    /// The status, code and words of a registration that does not end well.
    pub(super) fn outcome(&self) -> Option<(&str, Option<u32>, Option<&str>)> {
        self.0.iter().find_map(|fault| match fault {
            Fault::Outcome { status, error_code, message } => {
                Some((&**status, *error_code, message.as_deref()))
            }
            _ => None,
        })
    }

    /// The request id and the body that an answer has in place of those.
    pub(super) fn spoil<'a>(&self, request_id: &'a str, body: Vec<u8>) -> (Cow<'a, str>, Vec<u8>) {
        let request_id = if self.has(&Fault::WrongRequestId) {
            Cow::Owned(format!("not-{request_id}"))
        } else {
            Cow::Borrowed(request_id)
        };
        let body = if self.has(&Fault::Garbage) { b"<html>502</html>".to_vec() } else { body };
        (request_id, body)
    }

    pub(super) fn chain(&self) -> Option<ChainFault> {
        self.0.iter().find_map(|fault| match fault {
            Fault::Chain(fault) => Some(*fault),
            _ => None,
        })
    }

    pub(super) fn error(&self) -> Option<InjectedError> {
        self.0.iter().find_map(|fault| match fault {
            Fault::Error { status, error_code, retry_after, message } => Some(InjectedError {
                status: *status,
                code: error_code.unwrap_or(u32::from(*status) * 1000),
                retry_after: *retry_after,
                message: message.clone().unwrap_or_else(|| "A fault was asked for.".into()),
            }),
            _ => None,
        })
    }
}

/// An error that a rule asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InjectedError {
    pub(super) status: u16,
    pub(super) code: u32,
    pub(super) retry_after: Option<u64>,
    pub(super) message: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "a", true),
            ("pump-*", "PUMP-7", true),
            ("pump-*", "pump", false),
            ("*-7", "pump-7", true),
            ("*-7", "pump-77", false),
            ("a*b*a", "aba", true),
            ("a*b*a", "abba", true),
            ("a*b*a", "aa", false),
            ("a*a", "a", false),
            ("", "", true),
            ("", "a", false),
            ("a", "a", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern:?} {text:?}");
        }
    }

    // First some are let by, then so many are struck, then the rule is gone.
    #[test]
    fn a_rule_counts() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut faults = Faults::default();
        let rule = FaultRule {
            after: 1,
            count: Some(2),
            ..FaultRule::new(Operation::Register, Fault::Silence)
        };
        faults.add(rule).unwrap();
        let mut strike = |operation| faults.strike(operation, "d", &mut rng).has(&Fault::Silence);
        assert!(!strike(Operation::Status));
        let struck: Vec<bool> = (0..4).map(|_| strike(Operation::Register)).collect();
        assert_eq!(struck, [false, true, true, false]);
        assert!(faults.active().is_empty());
    }

    #[test]
    fn a_probability_is_kept_to() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut faults = Faults::default();
        for (probability, expected) in [(0.0, 0..=0), (0.25, 190..=310)] {
            faults.clear();
            let rule = FaultRule::new(Operation::Register, Fault::Silence);
            faults.add(FaultRule { probability, ..rule }).unwrap();
            let struck = (0..1000)
                .filter(|_| faults.strike(Operation::Register, "d", &mut rng).has(&Fault::Silence))
                .count();
            assert!(expected.contains(&struck), "{struck}");
        }
    }

    // What cannot strike is refused when it is made, not passed over in silence.
    #[test]
    fn refuses_what_cannot_be() {
        let check = |operation, fault| FaultRule::new(operation, fault).check();
        assert_eq!(check(Operation::Register, Fault::Stuck), Err(FaultError::Inapplicable));
        let refuse = |code| check(Operation::HubConnect, Fault::Refuse { code });
        assert_eq!((refuse(0), refuse(5)), (Err(FaultError::ConnackCode), Ok(())));
        let rule = FaultRule::new(Operation::Register, Fault::Silence);
        for probability in [-0.1, 1.1, f64::NAN] {
            let rule = FaultRule { probability, ..rule.clone() };
            assert_eq!(rule.check(), Err(FaultError::Probability));
        }
    }

    // The form in which scripts and fixtures write them.
    #[test]
    fn reads_what_is_documented() {
        let read = |text: &str| serde_json::from_str::<FaultRule>(text);
        let rule = read(
            r#"{"device":"pump-*","operation":"register","count":2,
                "fault":{"error":{"status":429,"retryAfter":5}}}"#,
        );
        let error =
            Fault::Error { status: 429, error_code: None, retry_after: Some(5), message: None };
        let rule = rule.unwrap();
        assert_eq!((&*rule.device, rule.count, rule.fault), ("pump-*", Some(2), error));
        let delay = read(r#"{"operation":"status","fault":{"delay":"1500ms"}}"#).unwrap();
        assert_eq!(delay.fault, Fault::Delay(Duration::from_millis(1500)));
        let chain = read(r#"{"operation":"status","fault":{"chain":"pem"}}"#).unwrap();
        assert_eq!(chain.fault, Fault::Chain(ChainFault::Pem));
        assert!(read(r#"{"operation":"status","fault":"stuck"}"#).is_ok());
        assert!(read(r#"{"operation":"status","fault":"stuck","tims":3}"#).is_err());
    }
}
