//! How things fail, and what that means: one type, one classification.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use thiserror::Error;
use zerotouch_credentials::{ChainError, Finding, PrivateKeyError, RequestError, SignatureError};
use zerotouch_dps::RegistrationError;
use zerotouch_hub::RenewalError;
use zerotouch_mqtt_codec::{ConnectRefusal, TextError};
use zerotouch_mqtt_session::{CloseReason, ConnectError, SubscribeError};
use zerotouch_store::StoreError;
use zerotouch_time::UnixTime;
use zerotouch_wire::ServiceError;

use crate::device::is_about_dates;

/// What becomes of an effort that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureClass {
    /// Time may mend it: try again, on the ladder of the service that failed.
    Retryable,
    /// This credential is not to be shown there again soon: another one, or the slow ladder.
    IdentityTerminal,
    /// A person has to mend something: the slow ladder, in case somebody does.
    Terminal,
}

/// Where a failure arises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layer {
    /// Names, addresses, TCP.
    Network,
    /// TLS.
    Tls,
    /// MQTT.
    Mqtt,
    /// The provisioning service, or what it says.
    Provisioning,
    /// Keys, requests and certificates.
    Credentials,
    /// The store of identities.
    Store,
    /// The wall clock.
    Clock,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network => "network",
            Self::Tls => "tls",
            Self::Mqtt => "mqtt",
            Self::Provisioning => "provisioning",
            Self::Credentials => "credentials",
            Self::Store => "store",
            Self::Clock => "clock",
        })
    }
}

/// How a transport failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransportFailureKind {
    /// No connection: name resolution, refusal, no route, a time-out.
    Unreachable,
    /// The HTTP proxy refused to connect to the server.
    ProxyRefused {
        /// Its status; with 407 it wants other credentials.
        status: u16,
    },
    /// The server's certificate does not chain to a trusted root, or is bad otherwise.
    ServerUntrusted,
    /// The server's certificate is for another name.
    WrongHostName,
    /// The server's certificate is outside its validity: or our clock is wrong.
    ServerCertificateDates,
    /// The server refused our certificate with an alert.
    ClientCertificateRefused,
    /// Another failure of TLS.
    Tls,
    /// The connection broke.
    Broken,
    /// The peer closed the connection.
    Closed,
}

/// How a transport failed, told by the driver.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{detail}")]
pub struct TransportFailure {
    /// What the device makes of it.
    pub kind: TransportFailureKind,
    /// The cause in words, from the TLS library or the operating system.
    pub detail: String,
}

impl TransportFailure {
    /// A failure of this kind.
    pub fn new(kind: TransportFailureKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }

    /// The peer closed the connection in an orderly way.
    pub fn closed() -> Self {
        Self::new(TransportFailureKind::Closed, "the connection was closed by the peer")
    }
}

/// What went wrong. Codes, tracking ids and messages of the service are kept.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum Failure {
    /// Below MQTT.
    #[error(transparent)]
    Transport(#[from] TransportFailure),
    /// The dial took longer than allowed.
    #[error("no connection within {} s", after.as_secs())]
    DialTimeout {
        /// The configured limit.
        after: Duration,
    },
    /// MQTT ended the connection, or did not begin it.
    #[error(transparent)]
    Mqtt(#[from] CloseReason),
    /// CONNECT could not be sent.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// MQTT cannot carry the device's name or that of its user.
    #[error("a client identifier or user name that MQTT cannot carry: {0}")]
    Name(#[from] TextError),
    /// A subscription could not be asked for.
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
    /// A subscription was refused.
    #[error("the server refused the subscription to {filter}")]
    SubscriptionRefused {
        /// The topic filter.
        filter: String,
    },
    /// A subscription was not answered.
    #[error("the server did not answer the subscription to {filter} within {} s", after.as_secs())]
    SubscriptionTimeout {
        /// The topic filter.
        filter: String,
        /// The configured limit.
        after: Duration,
    },
    /// The hub has acknowledged nothing, while messages are in flight.
    #[error("the hub acknowledged no message within {} s", after.as_secs())]
    AcknowledgementTimeout {
        /// The limit.
        after: Duration,
    },
    /// The provisioning service said no, or nothing.
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    /// The assigned hub is not one the device may go to.
    #[error("assigned to {host:?}, which is not on the list of allowed hubs")]
    HubNotAllowed {
        /// What the service named.
        host: String,
    },
    /// The assigned hub speaks a protocol that this device does not.
    #[error(
        "the assigned hub wants the connection profile {profile:?}, which this device does not speak"
    )]
    UnsupportedProfile {
        /// What the service wrote.
        profile: String,
    },
    /// The issued chain is not acceptable.
    #[error("the issued certificate chain was rejected: {0}")]
    Chain(#[from] ChainError),
    /// The pending key, used once, does not fit the certificate issued for it.
    #[error("the key does not fit the certificate issued for it: {0}")]
    Possession(#[from] SignatureError),
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] PrivateKeyError),
    /// No request could be made.
    #[error("{0}")]
    Request(Arc<RequestError>),
    /// The identity could not be stored.
    #[error("the identity could not be stored: {0}")]
    Store(Arc<StoreError>),
    /// The bootstrap certificate would be refused.
    #[error("the bootstrap certificate cannot be used: {0}")]
    Attestation(Arc<Finding>),
    /// Connections ended soon after they were accepted, again and again.
    #[error(
        "the last {connections} connections ended soon after they were accepted: another device may be using this identity"
    )]
    IdentityInUse {
        /// How many.
        connections: u32,
    },
    /// The provisioning service refused the device's token, and its clock shows another time.
    #[error(
        "the token was refused, and our clock ({ours}) is not the service's ({theirs}): set the clock"
    )]
    ClockSuspect {
        /// The time here.
        ours: UnixTime,
        /// The time there.
        theirs: UnixTime,
    },
    /// A token needs the time, and the clock is unset.
    #[error("the wall clock is unset, so no token can be signed")]
    ClockUnset,
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        Self::Request(Arc::new(error))
    }
}

impl Failure {
    /// What becomes of the effort: the one place where that is decided.
    pub fn class(&self) -> FailureClass {
        use FailureClass::{IdentityTerminal, Retryable, Terminal};
        match self {
            Self::Transport(failure) => match failure.kind {
                TransportFailureKind::ClientCertificateRefused => IdentityTerminal,
                TransportFailureKind::ServerUntrusted
                | TransportFailureKind::WrongHostName
                | TransportFailureKind::ServerCertificateDates
                | TransportFailureKind::ProxyRefused { status: 407 } => Terminal,
                TransportFailureKind::Unreachable
                | TransportFailureKind::ProxyRefused { .. }
                | TransportFailureKind::Tls
                | TransportFailureKind::Broken
                | TransportFailureKind::Closed => Retryable,
            },
            Self::Mqtt(CloseReason::Refused(refusal)) => match refusal {
                ConnectRefusal::UnacceptableProtocolVersion => Terminal,
                ConnectRefusal::ServerUnavailable => Retryable,
                ConnectRefusal::IdentifierRejected
                | ConnectRefusal::BadUserNameOrPassword
                | ConnectRefusal::NotAuthorized => IdentityTerminal,
            },
            Self::Registration(error) => match error {
                RegistrationError::Refused { status: 401, .. } => IdentityTerminal,
                RegistrationError::Refused { status: 400..=499, .. }
                | RegistrationError::TooLarge { .. } => Terminal,
                // An enrolment may not exist yet, may be enabled again, may get its policy.
                _ => Retryable,
            },
            // Nothing but a clock that is set right will help.
            Self::Chain(error) if is_about_dates(error) => Terminal,
            Self::Attestation(_) => IdentityTerminal,
            Self::IdentityInUse { .. }
            | Self::ClockSuspect { .. }
            | Self::UnsupportedProfile { .. }
            | Self::HubNotAllowed { .. }
            | Self::Connect(_)
            | Self::Name(_)
            | Self::Request(_) => Terminal,
            Self::DialTimeout { .. }
            | Self::Mqtt(_)
            | Self::Subscribe(_)
            | Self::SubscriptionRefused { .. }
            | Self::SubscriptionTimeout { .. }
            | Self::AcknowledgementTimeout { .. }
            | Self::Chain(_)
            | Self::Possession(_)
            | Self::Key(_)
            | Self::Store(_)
            | Self::ClockUnset => Retryable,
        }
    }

    /// The delay the service asked for, or that is the least of use.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Registration(error) => error.retry_after(),
            // Until somebody puts another one there.
            Self::Attestation(_) => Some(Duration::from_secs(3600)),
            _ => None,
        }
    }

    /// Where it arose.
    pub fn layer(&self) -> Layer {
        match self {
            Self::Transport(failure) => match failure.kind {
                TransportFailureKind::Unreachable
                | TransportFailureKind::ProxyRefused { .. }
                | TransportFailureKind::Broken
                | TransportFailureKind::Closed => Layer::Network,
                TransportFailureKind::ServerUntrusted
                | TransportFailureKind::WrongHostName
                | TransportFailureKind::ServerCertificateDates
                | TransportFailureKind::ClientCertificateRefused
                | TransportFailureKind::Tls => Layer::Tls,
            },
            Self::DialTimeout { .. } => Layer::Network,
            Self::Mqtt(_)
            | Self::Connect(_)
            | Self::Name(_)
            | Self::Subscribe(_)
            | Self::SubscriptionRefused { .. }
            | Self::SubscriptionTimeout { .. }
            | Self::AcknowledgementTimeout { .. }
            | Self::IdentityInUse { .. } => Layer::Mqtt,
            Self::Registration(_)
            | Self::HubNotAllowed { .. }
            | Self::UnsupportedProfile { .. } => Layer::Provisioning,
            Self::Chain(_)
            | Self::Possession(_)
            | Self::Key(_)
            | Self::Request(_)
            | Self::Attestation(_) => Layer::Credentials,
            Self::Store(_) => Layer::Store,
            Self::ClockSuspect { .. } | Self::ClockUnset => Layer::Clock,
        }
    }

    /// The layer's own code: of CONNACK in MQTT, of the service at the provisioning service, a proxy's
    /// status.
    pub fn code(&self) -> Option<u32> {
        match self {
            Self::Transport(TransportFailure {
                kind: TransportFailureKind::ProxyRefused { status },
                ..
            }) => Some((*status).into()),
            Self::Mqtt(CloseReason::Refused(refusal)) => Some(*refusal as u32),
            _ => self.service_error()?.error_code,
        }
    }

    /// What the service said.
    pub fn service_error(&self) -> Option<&ServiceError> {
        match self {
            Self::Registration(
                RegistrationError::Refused { error, .. } | RegistrationError::Failed { error },
            ) => Some(error),
            _ => None,
        }
    }
}

/// Why a renewal ended without a new certificate. The one in use stays in use.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum RenewalFailure {
    /// The hub said no, or nothing.
    #[error(transparent)]
    Hub(#[from] RenewalError),
    /// On this side.
    #[error(transparent)]
    Device(#[from] Failure),
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::boxed::Box;
    use zerotouch_wire::ServiceError;

    fn refused(status: u16) -> Failure {
        let error = Box::new(ServiceError::default());
        RegistrationError::Refused { status, error, retry_after: None }.into()
    }

    // The classes of the failure table, by the numbers of its rows. A class decides where the next
    // attempt goes and how soon, so each is written down here a second time, on purpose.
    #[test]
    fn each_failure_has_its_class() {
        use FailureClass::{IdentityTerminal, Retryable, Terminal};
        use TransportFailureKind as Kind;
        let transport = |kind| Failure::from(TransportFailure::new(kind, "x"));
        let mqtt = |refusal| Failure::from(CloseReason::Refused(refusal));
        let rows = [
            ("1 unreachable", transport(Kind::Unreachable), Retryable),
            ("1 broken", transport(Kind::Broken), Retryable),
            ("1 proxy credentials", transport(Kind::ProxyRefused { status: 407 }), Terminal),
            ("1 proxy refusal", transport(Kind::ProxyRefused { status: 503 }), Retryable),
            ("3 server dates", transport(Kind::ServerCertificateDates), Terminal),
            ("5 other TLS", transport(Kind::Tls), Retryable),
            ("6 untrusted", transport(Kind::ServerUntrusted), Terminal),
            ("6 wrong name", transport(Kind::WrongHostName), Terminal),
            ("7 our certificate", transport(Kind::ClientCertificateRefused), IdentityTerminal),
            ("9 version", mqtt(ConnectRefusal::UnacceptableProtocolVersion), Terminal),
            ("10 identifier", mqtt(ConnectRefusal::IdentifierRejected), IdentityTerminal),
            ("10 password", mqtt(ConnectRefusal::BadUserNameOrPassword), IdentityTerminal),
            ("10 authorisation", mqtt(ConnectRefusal::NotAuthorized), IdentityTerminal),
            ("11 unavailable", mqtt(ConnectRefusal::ServerUnavailable), Retryable),
            (
                "12 no CONNACK",
                CloseReason::HandshakeTimeout(zerotouch_mqtt_codec::PacketType::ConnAck).into(),
                Retryable,
            ),
            ("14 disabled", RegistrationError::Disabled.into(), Retryable),
            ("14 failed", RegistrationError::Failed { error: Box::default() }.into(), Retryable),
            ("15 unauthorised", refused(401), IdentityTerminal),
            ("15 bad request", refused(400), Terminal),
            ("16 incomplete", RegistrationError::Incomplete { missing: "hub" }.into(), Retryable),
            (
                "17 unreadable",
                RegistrationError::Unreadable { status: 200, excerpt: String::new() }.into(),
                Retryable,
            ),
            (
                "18 refused subscription",
                Failure::SubscriptionRefused { filter: String::new() },
                Retryable,
            ),
            ("20 no chain", RegistrationError::ChainMissing.into(), Retryable),
            ("22 profile", Failure::UnsupportedProfile { profile: "x".into() }, Terminal),
            (
                "27 no SUBACK",
                Failure::SubscriptionTimeout { filter: String::new(), after: Duration::ZERO },
                Retryable,
            ),
            ("29 keep-alive", CloseReason::KeepAliveTimeout.into(), Retryable),
            ("29 no PUBACK", Failure::AcknowledgementTimeout { after: Duration::ZERO }, Retryable),
            ("hub off the list", Failure::HubNotAllowed { host: "x".into() }, Terminal),
        ];
        for (row, failure, class) in rows {
            assert_eq!(failure.class(), class, "{row}");
        }
    }

    // A request that was refused for what it is must not be made again with the same key; one that
    // came at the wrong time may.
    #[test]
    fn only_a_request_refused_for_itself_spends_its_key() {
        let renewal = |status| {
            let error = Box::new(ServiceError::default());
            RenewalFailure::from(RenewalError::Refused { status, error, retry_after: None })
        };
        for (status, spends) in
            [(400, true), (412, true), (409, false), (429, false), (500, false), (503, false)]
        {
            assert_eq!(renewal(status).spends_the_key(), spends, "{status}");
        }
        let timed_out = RenewalError::TimedOut { what: "answer", after: Duration::ZERO };
        assert!(!RenewalFailure::from(timed_out).spends_the_key());
    }
}
