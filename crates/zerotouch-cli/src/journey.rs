//! A device's way, told as it happens.

use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use zerotouch_device::{Credential, Event, FailureClass};
use zerotouch_hub::Telemetry;
use zerotouch_tokio::Device;

use crate::failure::CliError;
use crate::telling::tell;
use crate::timeline::Timeline;

/// Whoever watches does not wait longer for another attempt.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running device and its story.
pub(crate) struct Journey<'t> {
    device: Device,
    events: Receiver<Event>,
    timeline: &'t mut Timeline,
    provisioned: bool,
}

impl<'t> Journey<'t> {
    pub(crate) fn new(
        (device, events): (Device, Receiver<Event>),
        timeline: &'t mut Timeline,
    ) -> Self {
        Self { device, events, timeline, provisioned: false }
    }

    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// Until the hub has accepted the device, and a new certificate is the active one. Was the way
    /// through the provisioning service?
    pub(crate) async fn connect(&mut self) -> Result<bool, CliError> {
        loop {
            match self.next().await? {
                Event::Connected {
                    credential: Credential::Active | Credential::Bootstrap, ..
                }
                | Event::Activated { .. } => {
                    return Ok(self.provisioned);
                }
                _ => {}
            }
        }
    }

    /// One message, until it is acknowledged.
    pub(crate) async fn send(&mut self, telemetry: Telemetry) -> Result<(), CliError> {
        let device = self.device.clone();
        let mut sending = Box::pin(async move { device.send_telemetry(telemetry).await });
        loop {
            tokio::select! {
                biased;
                outcome = &mut sending => return Ok(outcome?),
                event = self.next() => drop(event?),
            }
        }
    }

    #[cfg(feature = "emulator")]
    pub(crate) async fn send_telemetry(&mut self, count: u32) -> Result<(), CliError> {
        for number in 1..=count {
            let telemetry = Telemetry::new(format!("{{\"message\":{number}}}"))
                .content_type("application/json")
                .content_encoding("utf-8");
            self.device.send_telemetry(telemetry).await?;
        }
        let words = format!("{count} of {count} messages acknowledged (QoS 1)");
        let proved = serde_json::json!({ "sent": count, "acknowledged": count });
        self.timeline.done("telemetry", &words, proved);
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

    #[cfg(feature = "emulator")]
    pub(crate) async fn close(&mut self) {
        self.device.close().await;
        let words = "DISCONNECT sent, connection closed";
        self.timeline.done("disconnected", words, serde_json::Value::Null);
    }

    /// Waits until the device has let go of its store.
    pub(crate) async fn release(self) {
        self.device.close().await;
    }

    /// The next event, told.
    pub(crate) async fn next(&mut self) -> Result<Event, CliError> {
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
        match event {
            // It is where the story goes, not what has happened.
            Event::StateChanged(_) => return Ok(()),
            Event::AttemptFailed { scope, failure, class, retry_in, .. } => {
                let waits = retry_in.is_some_and(|retry_in| retry_in <= PATIENCE);
                if !waits || *class != FailureClass::Retryable {
                    return Err(CliError::Attempt { scope: *scope, failure: failure.clone() });
                }
            }
            Event::Throttled { retry_in, status, .. } if *retry_in > PATIENCE => {
                return Err(CliError::Throttled { status: *status, retry_in: *retry_in });
            }
            Event::Stopped => return Err(CliError::Stopped),
            Event::ProvisioningConnected { .. } => self.provisioned = true,
            _ => {}
        }
        if let Some(telling) = tell(event) {
            self.timeline.tell(&telling);
        }
        Ok(())
    }
}
