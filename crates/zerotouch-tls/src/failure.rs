//! Why a TLS connection failed, in terms one can act on.

use std::fmt;
use std::io;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};
use rustls_pki_types::UnixTime as PkiTime;
use zerotouch_credentials::SignError;
use zerotouch_time::UnixTime;

/// Why a TLS connection failed. The text says what happened and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFailure {
    /// The server's chain leads to no root we trust.
    #[error(
        "the server's certificate does not chain to a trusted root; check the host name, and that \
         the roots given are those of the service (something in between may be answering for it)"
    )]
    ServerUntrusted,
    /// The server's certificate is for other names.
    #[error(
        "the server's certificate is for {}, not for {expected}; check the host name",
        Names(.presented)
    )]
    WrongHostName {
        /// The name that was dialled.
        expected: String,
        /// The names the certificate has.
        presented: Vec<String>,
    },
    /// The server's certificate is over, by our clock.
    #[error(
        "the server's certificate expired{}; check this machine's clock first{}, then the service",
        Ago(*.ago, "ago"),
        Says(*.clock)
    )]
    ServerCertificateExpired {
        /// How long ago by our clock, if known.
        ago: Option<Duration>,
        /// What our clock said, if known.
        clock: Option<UnixTime>,
    },
    /// The server's certificate has not begun, by our clock.
    #[error(
        "the server's certificate begins only{}; this machine's clock is probably behind{}: set it",
        Ago(*.ahead, "from now"),
        Says(*.clock)
    )]
    ServerCertificateNotYetValid {
        /// How far ahead by our clock, if known.
        ahead: Option<Duration>,
        /// What our clock said, if known.
        clock: Option<UnixTime>,
    },
    /// The server's certificate is bad in another way.
    #[error("the server's certificate is not acceptable: {reason}")]
    ServerCertificateInvalid {
        /// What rustls says about it.
        reason: String,
    },
    /// The server refused the certificate we presented, or that we presented none. With TLS 1.3 this
    /// arrives after our side has finished the handshake, on the first read.
    #[error(
        "the server refused this device's certificate ({alert}); it may have expired, been revoked, \
         or belong to an authority the server does not know"
    )]
    ClientCertificateRefused {
        /// The alert it sent.
        alert: Alert,
    },
    /// The server ended the handshake with another alert.
    #[error("the server ended the TLS session with the alert {alert}")]
    Alert {
        /// The alert it sent.
        alert: Alert,
    },
    /// The two sides have no version or cipher suite in common.
    #[error("the server and this device have no TLS version or cipher suite in common: {reason}")]
    Incompatible {
        /// What rustls says about it.
        reason: String,
    },
    /// The server took too long over the handshake. (Network failures before it, such as a connection
    /// that is not answered, are not TLS's.)
    #[error("the server did not finish the TLS handshake within {limit:?}")]
    HandshakeTimeout {
        /// How long it had.
        limit: Duration,
    },
    /// What answers does not speak TLS: another service on the port, or a captive portal.
    #[error(
        "the other side does not speak TLS; check host and port, and whether a captive portal or \
         proxy stands in between"
    )]
    NotTls,
    /// Our own key did not sign.
    #[error("this device's key did not sign the handshake: {reason}")]
    SignerFailed {
        /// What the signer says.
        reason: String,
    },
    /// The TLS protocol was violated, or rustls failed.
    #[error("the TLS session failed: {reason}")]
    Protocol {
        /// What rustls says about it.
        reason: String,
    },
}

/// A TLS alert (RFC 8446 §6), displayed with its name in the standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Alert(u8);

impl Alert {
    /// The number on the wire.
    pub const fn code(self) -> u8 {
        self.0
    }

    /// The standard's name for it, if it has one there.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0 => "close_notify",
            10 => "unexpected_message",
            20 => "bad_record_mac",
            22 => "record_overflow",
            40 => "handshake_failure",
            42 => "bad_certificate",
            43 => "unsupported_certificate",
            44 => "certificate_revoked",
            45 => "certificate_expired",
            46 => "certificate_unknown",
            47 => "illegal_parameter",
            48 => "unknown_ca",
            49 => "access_denied",
            50 => "decode_error",
            51 => "decrypt_error",
            70 => "protocol_version",
            71 => "insufficient_security",
            80 => "internal_error",
            86 => "inappropriate_fallback",
            90 => "user_canceled",
            109 => "missing_extension",
            110 => "unsupported_extension",
            112 => "unrecognized_name",
            113 => "bad_certificate_status_response",
            115 => "unknown_psk_identity",
            116 => "certificate_required",
            120 => "no_application_protocol",
            _ => return None,
        })
    }

    /// Whether the alert is a judgement on the certificate its receiver presented. Those are the
    /// alerts that RFC 8446 §6.2 defines by "certificate", and `access_denied`.
    const fn is_about_our_certificate(self) -> bool {
        matches!(self.0, 42..=46 | 48 | 49 | 116)
    }
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.0),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Classifies an error of rustls.
pub fn classify(error: &Error) -> TlsFailure {
    match error {
        Error::InvalidCertificate(reason) => server_certificate(reason),
        Error::AlertReceived(alert) => received(*alert),
        Error::PeerIncompatible(reason) => {
            TlsFailure::Incompatible { reason: format!("{reason:?}") }
        }
        // The first bytes are no TLS record: plain HTTP, SSH, or a portal's page.
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => TlsFailure::NotTls,
        Error::NoCertificatesPresented => TlsFailure::ServerUntrusted,
        Error::Other(other) => match other.0.downcast_ref::<SignError>() {
            Some(reason) => TlsFailure::SignerFailed { reason: with_sources(reason) },
            None => TlsFailure::Protocol { reason: error.to_string() },
        },
        _ => TlsFailure::Protocol { reason: error.to_string() },
    }
}

/// Finds rustls's error inside an I/O error, where streams over rustls put it, and classifies it; what
/// is a [`TlsFailure`] already stays one. `None` if the failure is one of the network and not of TLS.
///
/// A server that refuses a client certificate under TLS 1.3 sends its alert after our handshake is
/// done and then closes. A write may fail on the closed socket (broken pipe, reset) before the alert
/// was read: after such an error, read once more, and classify what that returns.
pub fn classify_io(error: &io::Error) -> Option<TlsFailure> {
    let mut inner = error.get_ref()?;
    loop {
        if let Some(tls) = inner.downcast_ref::<Error>() {
            return Some(classify(tls));
        }
        if let Some(failure) = inner.downcast_ref::<TlsFailure>() {
            return Some(failure.clone());
        }
        // Layers above TLS (WebSocket) wrap the I/O error once more.
        inner = inner.downcast_ref::<io::Error>()?.get_ref()?;
    }
}

fn received(alert: AlertDescription) -> TlsFailure {
    let alert = Alert(u8::from(alert));
    if alert.is_about_our_certificate() {
        TlsFailure::ClientCertificateRefused { alert }
    } else {
        TlsFailure::Alert { alert }
    }
}

fn server_certificate(error: &CertificateError) -> TlsFailure {
    let between = |later: PkiTime, earlier: PkiTime| {
        Duration::from_secs(later.as_secs().saturating_sub(earlier.as_secs()))
    };
    let clock = |time: PkiTime| i64::try_from(time.as_secs()).ok().map(UnixTime::from_secs);
    match error {
        // A bad signature is what a root of the right name and the wrong key leads to.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            TlsFailure::ServerUntrusted
        }
        CertificateError::Expired => {
            TlsFailure::ServerCertificateExpired { ago: None, clock: None }
        }
        CertificateError::ExpiredContext { time, not_after } => {
            TlsFailure::ServerCertificateExpired {
                ago: Some(between(*time, *not_after)),
                clock: clock(*time),
            }
        }
        CertificateError::NotValidYet => {
            TlsFailure::ServerCertificateNotYetValid { ahead: None, clock: None }
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            TlsFailure::ServerCertificateNotYetValid {
                ahead: Some(between(*not_before, *time)),
                clock: clock(*time),
            }
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            TlsFailure::WrongHostName {
                expected: expected.to_str().into_owned(),
                presented: presented.clone(),
            }
        }
        other => TlsFailure::ServerCertificateInvalid { reason: other.to_string() },
    }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("no name"),
            // Debug form: names come from the network and may hold control characters.
            names => write!(f, "{names:?}"),
        }
    }
}

/// " 3 days ago": a span a person can judge, in its largest unit; nothing if it is not known.
struct Ago(Option<Duration>, &'static str);

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(span) = self.0 else { return Ok(()) };
        let (count, unit) = match span.as_secs() {
            secs @ 0..120 => (secs, "seconds"),
            secs @ 120..7_200 => (secs / 60, "minutes"),
            secs @ 7_200..172_800 => (secs / 3_600, "hours"),
            secs => (secs / 86_400, "days"),
        };
        write!(f, " {count} {unit} {}", self.1)
    }
}

/// " (it says 1970-01-01T00:01:40Z)".
struct Says(Option<UnixTime>);

impl fmt::Display for Says {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(time) => write!(f, " (it says {time})"),
            None => Ok(()),
        }
    }
}
