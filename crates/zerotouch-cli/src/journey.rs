//! A device's way, told as it happens.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use zerotouch_device::{CertificateSummary, Credential, Event};
use zerotouch_hub::Telemetry;
use zerotouch_time::UnixTime;
use zerotouch_tokio::Device;

use crate::failure::CliError;
use crate::timeline::Timeline;

/// A running device and its story.
pub(crate) struct Journey<'t> {
    device: Device,
    events: Receiver<Event>,
    timeline: &'t mut Timeline,
    /// The certificate issued last.
    issued: Option<CertificateSummary>,
    provisioned: bool,
}

impl<'t> Journey<'t> {
    pub(crate) fn new(
        (device, events): (Device, Receiver<Event>),
        timeline: &'t mut Timeline,
    ) -> Self {
        Self { device, events, timeline, issued: None, provisioned: false }
    }

    /// Until the hub has accepted the device, and a new certificate is the active one. Was the way
    /// through the provisioning service?
    pub(crate) async fn connect(&mut self) -> Result<bool, CliError> {
        loop {
            match self.next().await? {
                Event::Connected { credential: Credential::Active, .. }
                | Event::Activated { .. } => {
                    return Ok(self.provisioned);
                }
                _ => {}
            }
        }
    }

    pub(crate) async fn send_telemetry(&mut self, count: u32) -> Result<(), CliError> {
        for number in 1..=count {
            let telemetry = Telemetry::new(json!({ "message": number }).to_string())
                .content_type("application/json")
                .content_encoding("utf-8");
            self.device.send_telemetry(telemetry).await?;
        }
        let words = format!("{count} of {count} messages acknowledged (QoS 1)");
        self.timeline.done("telemetry", &words, json!({ "sent": count, "acknowledged": count }));
        Ok(())
    }

    /// A new certificate over the hub, and a new connection with it.
    pub(crate) async fn renew(&mut self) -> Result<(), CliError> {
        let device = self.device.clone();
        let mut renewal = Box::pin(async move { device.renew().await });
        let mut renewed = false;
        loop {
            // The story may lag behind the outcome: it is told to its end.
            tokio::select! {
                event = self.next() => if matches!(event?, Event::Activated { .. }) { return Ok(()) },
                outcome = &mut renewal, if !renewed => {
                    outcome?;
                    renewed = true;
                }
            }
        }
    }

    pub(crate) async fn close(&mut self) {
        self.device.close().await;
        self.timeline.done("disconnected", "DISCONNECT sent, connection closed", Value::Null);
    }

    /// Waits until the device has let go of its store.
    pub(crate) async fn release(self) {
        self.device.close().await;
    }

    /// The next event, told.
    async fn next(&mut self) -> Result<Event, CliError> {
        loop {
            match self.events.recv().await {
                Ok(event) => {
                    self.tell(&event)?;
                    return Ok(event);
                }
                // Telemetry's acknowledgements may have overrun the receiver; they are counted by
                // those who wait for them.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Err(CliError::Stopped),
            }
        }
    }

    fn tell(&mut self, event: &Event) -> Result<(), CliError> {
        let timeline = &mut *self.timeline;
        match event {
            Event::KeyCreated { algorithm } => {
                let words = format!(
                    "new {algorithm} key pair, stored before anything is asked for with it"
                );
                timeline.done("key pair", &words, json!({ "algorithm": algorithm.to_string() }));
            }
            Event::ProvisioningConnected { host } => {
                self.provisioned = true;
                timeline.done(
                    "dps",
                    &format!("connected to {host} over TLS with a SAS token, and subscribed"),
                    json!({ "host": host }),
                );
            }
            Event::Assigning { next_poll, operation_id } => {
                timeline.note(&format!(
                    "operation {operation_id} is under way; asking again in {:.1} s",
                    next_poll.as_secs_f64()
                ));
            }
            Event::Throttled { status, error, retry_in } => {
                timeline.note(&format!(
                    "status {status}: {error}; asking again in {:.1} s",
                    retry_in.as_secs_f64()
                ));
            }
            Event::Assigned { assignment, substatus } => {
                let substatus = substatus.as_deref().unwrap_or("assigned");
                let words = format!(
                    "hub {}, device {} ({substatus})",
                    assignment.assigned_hub, assignment.device_id
                );
                let proved = json!({ "hub": assignment.assigned_hub, "deviceId": assignment.device_id, "substatus": substatus });
                timeline.done("assigned", &words, proved);
            }
            Event::CertificateIssued(summary) => {
                timeline.done(
                    "certificate",
                    &certificate_words(summary),
                    certificate_json(summary),
                );
                self.issued = Some(summary.clone());
            }
            Event::Connected { assignment, credential, thumbprint } => {
                let thumbprint = thumbprint.as_ref().map(ToString::to_string);
                let shown = thumbprint.as_ref().map_or_else(|| "a token".into(), short);
                let words = format!(
                    "connected to {} with the {credential}, {shown}",
                    assignment.assigned_hub
                );
                let proved = json!({ "hub": assignment.assigned_hub, "deviceId": assignment.device_id, "thumbprint": thumbprint });
                timeline.done("hub", &words, proved);
            }
            Event::Activated { generation, thumbprint } => {
                let words = format!(
                    "accepted by the hub: generation {generation} is now the stored identity"
                );
                timeline.done(
                    "activated",
                    &words,
                    json!({ "generation": generation, "thumbprint": thumbprint.to_string() }),
                );
            }
            Event::RenewalRequested { request_id } => {
                timeline.done(
                    "renewal",
                    &format!("new request sent over the hub, id {request_id}"),
                    json!({ "requestId": request_id }),
                );
            }
            Event::RenewalAccepted { operation_expires } => {
                timeline.done(
                    "accepted",
                    "202: the hub has taken the request",
                    json!({ "operationExpires": operation_expires }),
                );
            }
            Event::AttemptFailed { scope, failure, .. } => {
                return Err(CliError::Attempt { scope: *scope, failure: failure.clone() });
            }
            Event::Stopped => return Err(CliError::Stopped),
            _ => {}
        }
        Ok(())
    }
}

fn certificate_words(summary: &CertificateSummary) -> String {
    format!(
        "{}, {} to {}, chain of {} by {}; matches the key, stored",
        short(&summary.thumbprint),
        date(summary.not_before),
        date(summary.not_after),
        summary.chain_length,
        summary.issuer,
    )
}

fn certificate_json(summary: &CertificateSummary) -> Value {
    json!({
        "generation": summary.generation,
        "thumbprint": summary.thumbprint.to_string(),
        "subject": summary.subject,
        "issuer": summary.issuer,
        "notBefore": date(summary.not_before),
        "notAfter": date(summary.not_after),
        "chainLength": summary.chain_length,
    })
}

/// As much of a thumbprint as tells two apart by eye; the JSON has it whole.
fn short(thumbprint: &impl ToString) -> String {
    format!("thumbprint {}…", &thumbprint.to_string()[..16])
}

/// RFC 3339.
pub(crate) fn date(at: UnixTime) -> String {
    let date =
        OffsetDateTime::from_unix_timestamp(at.as_secs()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    date.format(&Rfc3339).unwrap_or_default()
}
