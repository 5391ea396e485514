//! The seam between the lifecycle and whoever drives it.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use zerotouch_credentials::{CertificateChain, KeyAlgorithm, SasToken, Signer, Thumbprint};
use zerotouch_dps::Assignment;
use zerotouch_hub::{CloudMessage, MethodEvent, TwinEvent};
use zerotouch_store::Change;
use zerotouch_time::UnixTime;
use zerotouch_wire::ServiceError;

use crate::{DropReason, Failure, FailureClass, RenewalFailure, State};

/// Names one dial and the connection that comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub(crate) u64);

/// What TLS presents, and signs with.
#[derive(Clone, Debug)]
pub struct TlsIdentity {
    /// Holds the key.
    pub signer: Arc<dyn Signer>,
    /// Leaf first.
    pub chain: CertificateChain,
}

/// A connection to make.
#[derive(Clone, Debug)]
pub struct Dial {
    /// Its name.
    pub connection: ConnectionId,
    /// A host name, resolved anew for each dial, or an address; also the name the server must prove.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// What TLS presents when the server asks for a certificate.
    pub identity: Option<TlsIdentity>,
}

/// What the device asks of its driver. To be done in order.
#[derive(Debug)]
#[non_exhaustive]
pub enum Action {
    /// Connect with TLS; answer with [`Device::handle_dialled`](crate::Device::handle_dialled) or
    /// [`Device::handle_dial_failed`](crate::Device::handle_dial_failed).
    Dial(Dial),
    /// Close the connection, or give up the dial. No answer.
    HangUp(ConnectionId),
    /// Make a change of identity durable; answer with
    /// [`Device::handle_stored`](crate::Device::handle_stored).
    Store(Change),
}

/// What a device shows to its hub beside its MQTT connection, for requests over HTTPS.
#[derive(Debug)]
pub struct HubAccess {
    /// Where it belongs.
    pub assignment: Assignment,
    /// The port of HTTPS there.
    pub port: u16,
    /// What TLS presents.
    pub identity: Option<TlsIdentity>,
    /// What `Authorization` says, without a certificate.
    pub token: Option<SasToken>,
}

/// Which service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The provisioning service.
    Dps,
    /// The assigned hub.
    Hub,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dps => "provisioning service",
            Self::Hub => "hub",
        })
    }
}

/// What the device showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Credential {
    /// The credential from the factory.
    Bootstrap,
    /// An issued certificate that a hub has accepted before.
    Active,
    /// An issued certificate that no hub has accepted yet.
    Staged,
    /// The certificate that was in use before the active one.
    Previous,
}

impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bootstrap => "bootstrap credential",
            Self::Active => "active certificate",
            Self::Staged => "new certificate",
            Self::Previous => "previous certificate",
        })
    }
}

/// Names a telemetry message until it is acknowledged or lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TelemetryHandle(pub(crate) u64);

/// What happened. Each is reported once it is true, not before.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// Where the device is in its life now.
    StateChanged(State),
    /// A key was made for a request and is stored.
    KeyCreated {
        /// Its algorithm.
        algorithm: KeyAlgorithm,
    },
    /// The provisioning service accepted the connection and the subscription.
    ProvisioningConnected {
        /// Its host.
        host: String,
    },
    /// The provisioning service is at work.
    Assigning {
        /// Its name for the operation.
        operation_id: String,
        /// The pause before the next poll.
        next_poll: Duration,
    },
    /// The provisioning service is busy, and the device waits.
    Throttled {
        /// The status.
        status: u16,
        /// What it said.
        error: ServiceError,
        /// The pause.
        retry_in: Duration,
    },
    /// The device has a hub.
    Assigned {
        /// Where it belongs.
        assignment: Assignment,
        /// In what way it was assigned.
        substatus: Option<String>,
    },
    /// A chain was issued, checked against its key, and is stored.
    CertificateIssued(IssuedCertificate),
    /// The hub accepted the connection and the subscriptions: telemetry can be sent.
    Connected {
        /// Where.
        assignment: Assignment,
        /// With what.
        credential: Credential,
        /// The thumbprint of the certificate that was shown; `None` if it was a token.
        thumbprint: Option<Thumbprint>,
    },
    /// A certificate that a hub has accepted for the first time is now the active one, in the store.
    Activated {
        /// The number of its generation.
        generation: u64,
        /// Its thumbprint.
        thumbprint: Thumbprint,
    },
    /// Telemetry was acknowledged by the hub.
    TelemetryAcknowledged(TelemetryHandle),
    /// Telemetry will not be sent again; if it was sent at all, it may have arrived or not.
    TelemetryDropped {
        /// Which.
        handle: TelemetryHandle,
        /// Why.
        reason: DropReason,
    },
    /// A cloud-to-device message.
    Message(CloudMessage),
    /// About calls of direct methods.
    Method(MethodEvent),
    /// About the twin.
    Twin(TwinEvent),
    /// A certificate request is on its way to the hub.
    RenewalRequested {
        /// The name of the operation.
        request_id: String,
    },
    /// The hub has taken the certificate request.
    RenewalAccepted {
        /// Until when the service keeps the operation.
        operation_expires: Option<String>,
    },
    /// The device leaves its hub to have the certificate renewed by the provisioning service, as the hub
    /// did not.
    RenewalRedirected,
    /// A renewal ended without a new certificate; the one in use stays.
    RenewalFailed {
        /// Why.
        failure: RenewalFailure,
        /// When another is due, if the device renews by itself.
        retry_in: Duration,
    },
    /// The certificate in use comes to its end, and there is no new one yet.
    CertificateExpiring {
        /// The number of its generation.
        generation: u64,
        /// Its last second.
        not_after: UnixTime,
    },
    /// A certificate was refused and is discarded; the device goes back to the one before.
    RolledBack {
        /// The number of the discarded generation.
        generation: u64,
    },
    /// Connections end soon after they were accepted, again and again: somebody else may be using this
    /// device's identity. Attempts become slow.
    TakeoverSuspected {
        /// How many in a row.
        connections: u32,
    },
    /// An attempt failed.
    AttemptFailed {
        /// At which service.
        scope: Scope,
        /// With what.
        credential: Credential,
        /// Why.
        failure: Failure,
        /// What that means.
        class: FailureClass,
        /// When the next attempt is due; `None` if there will be none.
        retry_in: Option<Duration>,
    },
    /// The device has ended its efforts: closed by the application, or out of attempts.
    Stopped,
}

/// A certificate that is stored, until a hub has accepted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// The number of its generation.
    pub generation: u64,
    /// It, and those above.
    pub chain: CertificateChain,
}
