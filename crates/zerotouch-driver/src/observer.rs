//! The device's events as `tracing` events and spans, and as `metrics`: see docs/src/observability.md.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Label, counter, gauge, histogram};
use tracing::{Span, debug, error, error_span, field, info, warn};
use zerotouch_device::{Device, Event, Failure, RenewalFailure, Scope, State};
use zerotouch_hub::{MethodEvent, RenewalError, TwinError, TwinEvent};
use zerotouch_time::Now;

use crate::DeviceRng;

/// Tells what happened. Of payloads, properties and credentials it tells nothing.
pub(crate) struct Observer {
    /// At the level of errors, as all spans here: whatever is filtered, an event says whose it is.
    span: Span,
    provisioning: Option<Span>,
    renewal: Option<Span>,
    connections: u64,
    reconnects: Counter,
    puback: Histogram,
    dropped: Counter,
    certificate: Gauge,
    queue_messages: Gauge,
    queue_bytes: Gauge,
}

impl Observer {
    pub(crate) fn new(registration_id: &str) -> Self {
        let labels = || vec![Label::new("registration_id", registration_id.to_owned())];
        Self {
            span: error_span!("device", registration_id),
            provisioning: None,
            renewal: None,
            connections: 0,
            reconnects: counter!("zerotouch_reconnects_total", labels()),
            puback: histogram!("zerotouch_telemetry_puback_seconds", labels()),
            dropped: counter!("zerotouch_telemetry_dropped_total", labels()),
            certificate: gauge!("zerotouch_certificate_seconds_left", labels()),
            queue_messages: gauge!("zerotouch_queue_messages", labels()),
            queue_bytes: gauge!("zerotouch_queue_bytes", labels()),
        }
    }

    /// A message was acknowledged, that long after it was given to the device.
    pub(crate) fn acknowledged(&self, after: Duration) {
        self.puback.record(after);
    }

    /// So many messages that waited on disk could not be read.
    pub(crate) fn lost(&self, messages: u64) {
        if messages > 0 {
            self.dropped.increment(messages);
            self.span.in_scope(|| warn!(messages, "store: telemetry that waited on disk is lost"));
        }
    }

    /// What is measured rather than happens.
    pub(crate) fn measure(&self, device: &Device<DeviceRng>, now: Now) {
        let queue = device.queue();
        // Exact up to 2^53.
        #[allow(clippy::cast_precision_loss)]
        let set = |gauge: &Gauge, value: u64| gauge.set(value as f64);
        set(&self.queue_messages, queue.messages as u64);
        set(&self.queue_bytes, queue.bytes as u64);
        if let (Some(active), Some(wall)) = (&device.identity().active, now.wall) {
            set(&self.certificate, active.chain.leaf().not_after().since(wall).as_secs());
        }
    }

    pub(crate) fn observe(&mut self, event: &Event) {
        let device = self.span.clone();
        let _device = device.enter();
        let inner = self.renewal.clone().or_else(|| self.provisioning.clone());
        let inner = inner.unwrap_or_else(Span::none);
        let _inner = inner.enter();
        match event {
            Event::StateChanged(state) => {
                debug!(%state, "state changed");
                self.state_changed(state);
            }
            Event::KeyCreated { algorithm } => debug!(?algorithm, "store: a new key is stored"),
            Event::ProvisioningConnected { host } => debug!(host, "mqtt: connected to DPS"),
            Event::Assigning { operation_id, next_poll } => {
                inner.record("operation_id", operation_id);
                debug!(operation_id, ?next_poll, "dps: assigning");
            }
            Event::Throttled { status, error, retry_in } => {
                let tracking_id = error.tracking_id.as_deref();
                warn!(status, tracking_id, ?retry_in, %error, "dps: throttled");
            }
            Event::Assigned { assignment, substatus } => {
                let (hub, device_id) = (&assignment.assigned_hub, &assignment.device_id);
                info!(hub, device_id, substatus, "dps: assigned");
            }
            Event::CertificateIssued(issued) => {
                let (generation, thumbprint) =
                    (issued.generation, issued.chain.leaf().thumbprint());
                info!(generation, %thumbprint, "store: a new certificate is stored");
                self.renewal = None;
            }
            Event::Connected { assignment, credential, thumbprint } => {
                self.connections += 1;
                self.reconnects.increment(u64::from(self.connections > 1));
                let (hub, device_id) = (&assignment.assigned_hub, &assignment.device_id);
                let thumbprint = thumbprint.map(field::display);
                info!(hub, device_id, %credential, thumbprint, "mqtt: connected to the hub");
            }
            Event::Activated { generation, thumbprint } => {
                info!(generation, %thumbprint, "store: the new certificate is the active one");
            }
            Event::TelemetryAcknowledged(_) => debug!("mqtt: telemetry acknowledged"),
            Event::TelemetryDropped { reason, .. } => {
                self.dropped.increment(1);
                warn!(%reason, "telemetry dropped");
            }
            Event::Message(_) => debug!("mqtt: message from the cloud"),
            Event::Method(event) => method(event),
            Event::Twin(event) => twin(event),
            Event::RenewalRequested { request_id } => {
                let renewal = error_span!(parent: &device, "renewal", request_id);
                renewal.in_scope(|| info!(request_id, "renewal: requested"));
                self.renewal = Some(renewal);
            }
            Event::RenewalAccepted { operation_expires } => {
                debug!(operation_expires, "renewal: accepted");
            }
            Event::RenewalRedirected => info!("renewal: by the provisioning service"),
            Event::RenewalFailed { failure, retry_in } => {
                let tracking_id = renewal_tracking_id(failure);
                warn!(tracking_id, ?retry_in, %failure, "renewal: failed");
                self.renewal = None;
            }
            Event::CertificateExpiring { generation, not_after } => {
                warn!(
                    generation,
                    not_after = not_after.as_secs(),
                    "the certificate comes to its end"
                );
            }
            Event::RolledBack { generation } => {
                warn!(generation, "store: the new certificate is discarded");
            }
            Event::TakeoverSuspected { connections } => {
                warn!(connections, "mqtt: another device may be using this identity");
            }
            Event::AttemptFailed { scope, credential, failure, class, retry_in } => {
                let tracking_id = tracking_id(failure);
                let (layer, code) = (failure.layer(), failure.code());
                warn!(%layer, code, %scope, %credential, ?class, tracking_id, ?retry_in, %failure, "failed");
            }
            Event::Stopped => info!("stopped"),
            // A later engine's.
            _ => {}
        }
    }

    fn state_changed(&mut self, state: &State) {
        match state {
            State::Provisioning if self.provisioning.is_none() => {
                let span = error_span!("provisioning", operation_id = field::Empty);
                self.provisioning = Some(span);
            }
            State::Provisioning | State::Closing => {}
            State::Waiting { scope: Scope::Hub, .. } | State::Stopped => {
                (self.provisioning, self.renewal) = (None, None);
            }
            _ => self.provisioning = None,
        }
    }
}

fn method(event: &MethodEvent) {
    match event {
        MethodEvent::Called { method, .. } => debug!(method, "method called"),
        MethodEvent::TurnedAway { method, calls } => {
            warn!(method, calls, "methods turned away: too many calls");
        }
        MethodEvent::Abandoned(_) => debug!("method call abandoned"),
        _ => {}
    }
}

fn twin(event: &TwinEvent) {
    match event {
        TwinEvent::Read { desired, .. } => debug!(version = desired.version, "twin read"),
        TwinEvent::Desired { version, .. } => debug!(version, "desired properties changed"),
        TwinEvent::Reported { version, .. } => debug!(version, "reported properties taken"),
        TwinEvent::ReadFailed { error, retry_in } => {
            let tracking_id = twin_tracking_id(error);
            warn!(tracking_id, ?retry_in, %error, "the twin was not read");
        }
        TwinEvent::ReportFailed { error, .. } => {
            let tracking_id = twin_tracking_id(error);
            error!(tracking_id, %error, "reported properties were not taken");
        }
        _ => {}
    }
}

fn tracking_id(failure: &Failure) -> Option<&str> {
    failure.service_error()?.tracking_id.as_deref()
}

fn renewal_tracking_id(failure: &RenewalFailure) -> Option<&str> {
    match failure {
        RenewalFailure::Hub(RenewalError::Refused { error, .. }) => error.tracking_id.as_deref(),
        RenewalFailure::Device(failure) => tracking_id(failure),
        _ => None,
    }
}

fn twin_tracking_id(error: &TwinError) -> Option<&str> {
    match error {
        TwinError::Refused { error, .. } => error.tracking_id.as_deref(),
        _ => None,
    }
}
