//! What can be known to be wrong with a configuration before anything is started.

use alloc::sync::Arc;
use core::time::Duration;

use thiserror::Error;
use zerotouch_credentials::{ChainPolicy, Finding};

use super::{Attestation, Backoff, Config, MAX_KEEP_ALIVE};

/// The longest life of a token. One that is stolen is good for as long.
const MAX_SAS_LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What is wrong with a configuration. Members are named as in [`Config`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Nothing works with a zero there.
    #[error("{member} must not be 0")]
    Zero {
        /// Where.
        member: &'static str,
    },
    /// A host has no name.
    #[error("{member} must not be empty")]
    Empty {
        /// Which.
        member: &'static str,
    },
    /// More than the whole.
    #[error("{member} is {percent} percent, more than 100")]
    Percent {
        /// Which.
        member: &'static str,
        /// How much.
        percent: u8,
    },
    /// The end of a certificate would be announced before the device has tried to renew it.
    #[error(
        "renewal.announce_percent ({announce}) is below renewal.at_percent ({at}): a certificate's end \
         would be announced before it is due"
    )]
    AnnouncedEarly {
        /// When it is due.
        at: u8,
        /// When it is announced.
        announce: u8,
    },
    /// A ladder whose first step is above its last.
    #[error("{member} begins with {initial:?}, above its cap of {cap:?}")]
    Backoff {
        /// Which.
        member: &'static str,
        /// Its first step.
        initial: Duration,
        /// Its last.
        cap: Duration,
    },
    /// The hub would give a silent device up before it pings.
    #[error("hub.keep_alive is {seconds} s, the hub takes {MAX_KEEP_ALIVE} s")]
    KeepAlive {
        /// How long.
        seconds: u16,
    },
    /// A token that is good for ever is a key.
    #[error("sas_lifetime is {} days, more than a year", lifetime.as_secs() / 86_400)]
    SasLifetime {
        /// How long.
        lifetime: Duration,
    },
    /// No bootstrap credential can be shown: this is wrong with the first.
    #[error("the bootstrap certificate cannot be used: {0}")]
    Attestation(Arc<Finding>),
}

impl Config {
    /// Says what can be known to be wrong before anything is started: what the service would refuse, and
    /// what would keep the device from ever coming to its end. Drivers ask, and start nothing then.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (member, host) in [
            ("provisioning_host", &self.provisioning_host),
            ("hub.api_version", &self.hub.api_version),
        ] {
            if host.is_empty() {
                return Err(ConfigError::Empty { member });
            }
        }
        if self.hub.hosts.0.is_empty() {
            return Err(ConfigError::Empty { member: "hub.hosts" });
        }
        self.check_zeros()?;
        if self.hub.keep_alive > MAX_KEEP_ALIVE {
            return Err(ConfigError::KeepAlive { seconds: self.hub.keep_alive });
        }
        if self.sas_lifetime > MAX_SAS_LIFETIME {
            return Err(ConfigError::SasLifetime { lifetime: self.sas_lifetime });
        }
        self.check_renewal()?;
        for (member, backoff) in self.ladders() {
            let Backoff { initial, cap } = backoff;
            if initial > cap {
                return Err(ConfigError::Backoff { member, initial, cap });
            }
        }
        self.check_attestations()
    }

    fn ladders(&self) -> [(&'static str, Backoff); 4] {
        [
            ("retry.dps", self.retry.dps),
            ("retry.hub", self.retry.hub),
            ("retry.identity", self.retry.identity),
            ("renewal.backoff", self.renewal.backoff),
        ]
    }

    fn check_zeros(&self) -> Result<(), ConfigError> {
        let counts = [
            ("provisioning_port", self.provisioning_port.into()),
            ("hub.port", self.hub.port.into()),
            ("hub.https_port", self.hub.https_port.into()),
            ("queue.max_messages", self.queue.max_messages),
            ("queue.max_bytes", self.queue.max_bytes),
            ("mqtt.max_in_flight", self.mqtt.max_in_flight.into()),
            ("mqtt.max_pending_subscriptions", self.mqtt.max_pending_subscriptions),
            ("mqtt.max_transmit_buffer", self.mqtt.max_transmit_buffer),
            ("renewal.at_percent", self.renewal.at_percent.into()),
        ];
        let durations = [
            ("dial_timeout", self.dial_timeout),
            ("subscribe_timeout", self.subscribe_timeout),
            ("sas_lifetime", self.sas_lifetime),
            ("mqtt.connack_timeout", self.mqtt.connack_timeout),
            ("mqtt.pingresp_timeout", self.mqtt.pingresp_timeout),
            ("registration.response_timeout", self.registration.response_timeout),
            ("registration.deadline", self.registration.deadline),
            ("renewal.hub.response_timeout", self.renewal.hub.response_timeout),
        ];
        // Attempts without a pause between them are an attack.
        let pauses = self.ladders().map(|(member, backoff)| (member, backoff.initial));
        let counts = counts.into_iter().map(|(member, count)| (member, count == 0));
        let durations = durations.into_iter().chain(pauses);
        match durations
            .map(|(member, time)| (member, time.is_zero()))
            .chain(counts)
            .find(|one| one.1)
        {
            Some((member, _)) => Err(ConfigError::Zero { member }),
            None => Ok(()),
        }
    }

    fn check_renewal(&self) -> Result<(), ConfigError> {
        let (at, announce) = (self.renewal.at_percent, self.renewal.announce_percent);
        for (member, percent) in [
            ("renewal.at_percent", at),
            ("renewal.spread_percent", self.renewal.spread_percent),
            ("renewal.announce_percent", announce),
        ] {
            if percent > 100 {
                return Err(ConfigError::Percent { member, percent });
            }
        }
        if announce < at {
            return Err(ConfigError::AnnouncedEarly { at, announce });
        }
        Ok(())
    }

    /// Dates are left out, which the clock may set right, and so is a token that may be plugged in later.
    fn check_attestations(&self) -> Result<(), ConfigError> {
        let policy = ChainPolicy::new(&[], self.registration.registration_id.as_str());
        let fault = |attestation: &Attestation| match attestation {
            Attestation::X509(identity) => identity
                .chain
                .lint(&*identity.signer, &policy)
                .into_iter()
                .find(|finding| finding.is_error() && *finding != Finding::KeyDoesNotSign),
            Attestation::SymmetricKey(_) => None,
        };
        let Some(first) = fault(&self.attestation) else { return Ok(()) };
        if self.other_attestations.iter().any(|other| fault(other).is_none()) {
            return Ok(());
        }
        Err(ConfigError::Attestation(Arc::new(first)))
    }
}
