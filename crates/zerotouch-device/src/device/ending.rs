//! How things end: failures, farewells, and what an ending leads to.

use core::time::Duration;
use core::{iter, mem};

use rand_core::CryptoRng;
use zerotouch_time::{Instant, Now};

use super::{Device, Phase, Then};
use crate::hub::{Draining, Lasting};
use crate::link::Link;
use crate::{Action, Credential, Event, Failure, FailureClass, Scope};

impl<R: CryptoRng> Device<R> {
    /// A session failed while its transport may still stand.
    pub(super) fn fail(&mut self, failure: Failure, now: Now) {
        if let Some(link) = self.link() {
            self.actions.push_back(Action::HangUp(link.connection));
        }
        self.fail_dead(failure, now);
    }

    /// A session failed, and its transport with it.
    pub(super) fn fail_dead(&mut self, failure: Failure, now: Now) {
        match mem::replace(&mut self.phase, Phase::Ready) {
            Phase::Dps(_) => self.fail_at_dps(failure, now),
            Phase::Hub(session) if matches!(session.draining, Some(Draining::Queue { .. })) => {
                self.lasting.interrupt();
                self.stop();
            }
            Phase::Hub(session) => {
                self.lasting.interrupt();
                self.fail_at_hub(&session, failure, now);
            }
            other => self.phase = other,
        }
    }

    /// Waits the failure out, or gives up.
    pub(super) fn wait(
        &mut self,
        scope: Scope,
        credential: Credential,
        failure: Failure,
        now: Now,
    ) {
        let mut floor = failure.retry_after().unwrap_or_default();
        if scope == Scope::Dps {
            floor = floor.max(self.dps_not_before - now.monotonic);
        }
        // The certificate in use is good still.
        if scope == Scope::Dps && self.fail_renewal_at_dps(&failure, floor, now) {
            return self.proceed(now);
        }
        self.attempts += 1;
        if self.config.retry.max_attempts.is_some_and(|max| self.attempts >= max.get()) {
            self.report(scope, credential, failure, None);
            return self.stop();
        }
        let retry = &self.config.retry;
        let (ladder, backoff) = match (failure.class(), scope) {
            (FailureClass::Retryable, Scope::Dps) => (&mut self.dps_ladder, retry.dps),
            (FailureClass::Retryable, Scope::Hub) => (&mut self.hub_ladder, retry.hub),
            _ => (&mut self.identity_ladder, retry.identity),
        };
        let delay = ladder.next(backoff.spread(retry.connect_spread), floor, &mut self.rng);
        self.report(scope, credential, failure, Some(delay));
        self.phase = Phase::Waiting { scope, until: now.monotonic + delay };
    }

    pub(super) fn report(
        &mut self,
        scope: Scope,
        credential: Credential,
        failure: Failure,
        retry_in: Option<Duration>,
    ) {
        let class = failure.class();
        self.events.push_back(Event::AttemptFailed { scope, credential, failure, class, retry_in });
    }

    /// Says goodbye to whoever is at the other end.
    pub(super) fn leave(&mut self, then: Then, now: Instant) {
        let deadline = now + self.config.close_timeout;
        let mut link = match mem::replace(&mut self.phase, Phase::Stopped) {
            Phase::Dps(session) => session.link,
            Phase::Hub(session) => {
                self.lasting.interrupt();
                session.link
            }
            Phase::Leaving { link, deadline, .. } => {
                self.phase = Phase::Leaving { link, deadline, then };
                return;
            }
            // Nobody is there.
            Phase::Stopped => return,
            Phase::Idle | Phase::Ready | Phase::Waiting { .. } => return self.stop(),
        };
        link.mqtt.disconnect();
        self.phase = Phase::Leaving { link, deadline, then };
    }

    pub(super) fn left(&mut self, then: Then, now: Now) {
        match then {
            Then::Proceed => {
                self.phase = Phase::Ready;
                self.proceed(now);
            }
            Then::Stop => self.stop(),
        }
    }

    pub(super) fn stop(&mut self) {
        self.phase = Phase::Stopped;
        self.lasting.queue.stop();
        self.tell();
        self.events.push_back(Event::Stopped);
    }

    /// Tells what became of things that outlive a session.
    fn tell(&mut self) {
        let Lasting { queue, methods, twin, .. } = &mut self.lasting;
        let dropped = iter::from_fn(|| queue.poll_dropped());
        self.events
            .extend(dropped.map(|(handle, reason)| Event::TelemetryDropped { handle, reason }));
        self.events.extend(iter::from_fn(|| methods.poll_event()).map(Event::Method));
        self.events.extend(iter::from_fn(|| twin.poll_event()).map(Event::Twin));
    }

    /// Takes every step that the session is at.
    pub(super) fn take_steps(&mut self, now: Now) {
        loop {
            let is_storing = self.storing.is_some();
            match &mut self.phase {
                Phase::Dps(session) => match session.poll_step(now.monotonic) {
                    Some(step) => self.after_dps(step, now),
                    None => return,
                },
                Phase::Hub(session) => {
                    match session.poll_step(&mut self.lasting, is_storing, now) {
                        Some(step) => self.after_hub(step, now),
                        None => return,
                    }
                }
                _ => return,
            }
        }
    }

    /// Whatever the last input, when all of it is handled, has made possible.
    pub(super) fn settle(&mut self, now: Now) {
        self.settle_phase(now);
        self.renew_if_due(now);
        self.tell();
    }

    fn settle_phase(&mut self, now: Now) {
        let monotonic = now.monotonic;
        loop {
            self.take_steps(now);
            match &mut self.phase {
                Phase::Dps(session) => return session.publish(monotonic),
                Phase::Hub(session) => {
                    session.publish(&mut self.lasting, monotonic);
                    if !session.has_drained(&self.lasting, monotonic) {
                        return;
                    }
                    let then = match session.draining {
                        Some(Draining::Queue { .. }) => Then::Stop,
                        _ => Then::Proceed,
                    };
                    self.leave(then, monotonic);
                }
                Phase::Leaving { link, deadline, then } => {
                    let unsent = !link.is_dialling() && link.mqtt.poll_transmit().is_some();
                    if unsent && monotonic < *deadline {
                        return;
                    }
                    let then = *then;
                    self.actions.push_back(Action::HangUp(link.connection));
                    self.left(then, now);
                }
                _ => return,
            }
        }
    }

    pub(super) fn link(&self) -> Option<&Link> {
        match &self.phase {
            Phase::Dps(session) => Some(&session.link),
            Phase::Hub(session) => Some(&session.link),
            Phase::Leaving { link, .. } => Some(link),
            _ => None,
        }
    }

    pub(super) fn link_mut(&mut self) -> Option<&mut Link> {
        match &mut self.phase {
            Phase::Dps(session) => Some(&mut session.link),
            Phase::Hub(session) => Some(&mut session.link),
            Phase::Leaving { link, .. } => Some(link),
            _ => None,
        }
    }
}
