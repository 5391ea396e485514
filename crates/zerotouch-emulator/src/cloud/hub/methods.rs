//! Direct methods: calls that a device answers, and whoever waits for that.

use zerotouch_hub::wire::METHOD_PREFIX;
use zerotouch_time::Instant;
use zerotouch_wire::percent_encode;

use super::{Feature, Hubs};
use crate::cloud::effects::{Effects, Timer};
use crate::cloud::event::CloudEvent;
use crate::cloud::exchange::{CallOutcome, RequestId};
use crate::cloud::registry::DeviceKey;

impl Hubs {
    /// Calls a direct method; `false` if the device does not listen now.
    pub(in crate::cloud) fn invoke(
        &self,
        key: &DeviceKey,
        (name, request_id): (&str, &str),
        payload: &[u8],
        fx: &mut Effects,
    ) -> bool {
        let Some(device) = self.devices.get(key) else { return false };
        let topic = format!("{METHOD_PREFIX}{}/?$rid={request_id}", percent_encode(name));
        device.send(Feature::Methods, topic, payload.to_vec(), fx)
    }

    /// Calls a direct method for somebody who waits for its answer until then; `false` if the device does
    /// not listen now.
    pub(in crate::cloud) fn call(
        &mut self,
        key: &DeviceKey,
        (name, payload): (&str, &[u8]),
        (waiting, until): (RequestId, Instant),
        fx: &mut Effects,
    ) -> bool {
        let request_id = format!("{:x}", waiting.0);
        let called = self.invoke(key, (name, &request_id), payload, fx);
        if called {
            self.calls.insert((key.clone(), request_id), waiting);
            fx.timers.set(Timer::Call(waiting), Some(until));
        }
        called
    }

    /// The answer to a direct method has not come in time.
    pub(in crate::cloud) fn call_expired(&mut self, waiting: RequestId, fx: &mut Effects) {
        self.calls.retain(|_, call| *call != waiting);
        fx.outcomes.push((waiting, CallOutcome::TimedOut));
    }

    /// A device answers a direct method.
    pub(super) fn answered(
        &mut self,
        key: &DeviceKey,
        (request_id, status): (&str, i32),
        payload: &[u8],
        fx: &mut Effects,
    ) {
        let call = (key.clone(), request_id.to_owned());
        if let Some(waiting) = self.calls.remove(&call) {
            fx.timers.set(Timer::Call(waiting), None);
            let payload = payload.to_vec();
            fx.outcomes.push((waiting, CallOutcome::Answered { status, payload }));
        }
        fx.tell(CloudEvent::MethodAnswered {
            device_id: key.device_id.clone(),
            request_id: request_id.into(),
            status,
            payload: payload.to_vec(),
        });
    }
}
