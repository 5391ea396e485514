//! `zerotouch status`: what is stored, and what the agent does if one runs.

use std::io::ErrorKind;

use serde_json::{Value, json};
use zerotouch_device::RenewalPolicy;
use zerotouch_dps::Assignment;
use zerotouch_driver::Clock;
use zerotouch_store::file::Condition;
use zerotouch_store::{FileError, Generation, Identity};
use zerotouch_time::UnixTime;

use crate::agent::client::Client;
use crate::arguments::{Output, Status};
use crate::failure::CliError;
use crate::request::Request;
use crate::settings::{Settings, ShownCredential};
use crate::telling::date;
use crate::timeline::{error_json, write_document, write_line};

/// What is stored of a device.
pub(crate) struct Standing {
    registration_id: String,
    path: String,
    identity: Option<Identity>,
    lost: bool,
    damage: Vec<String>,
    credential: ShownCredential,
    renewal: RenewalPolicy,
    now: Option<UnixTime>,
}

impl Standing {
    /// A look at what rests there, whether or not a device is using it.
    pub(crate) fn of(settings: &Settings) -> Result<Self, CliError> {
        let place = settings.place()?;
        let mut standing = Self {
            registration_id: place.registration_id.to_string(),
            path: place.path().display().to_string(),
            identity: None,
            lost: false,
            damage: Vec::new(),
            credential: settings.hub_credential,
            renewal: RenewalPolicy {
                at_percent: settings.renew_at_percent,
                spread_percent: settings.renew_spread_percent,
                ..RenewalPolicy::default()
            },
            now: Clock::new().now().wall,
        };
        match place.inspect() {
            Ok(inspection) => {
                standing.lost = inspection.condition() == Condition::Lost;
                let damage = inspection.damage.iter();
                standing.damage =
                    damage.map(|one| format!("{} ({})", one.path.display(), one.reason)).collect();
                standing.identity = Some(inspection.identity);
            }
            // Nothing is there yet.
            Err(FileError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(CliError::Store(error.into())),
        }
        Ok(standing)
    }

    fn assignment(&self) -> Option<&Assignment> {
        self.identity.as_ref()?.assignment.as_ref()
    }

    fn active(&self) -> Option<&Generation> {
        self.identity.as_ref()?.active.as_deref()
    }

    fn has_expired(&self) -> bool {
        let active = self.active().zip(self.now);
        active.is_some_and(|(active, now)| now > active.chain.leaf().not_after())
    }

    /// Whether the device can go to its hub as it is.
    pub(crate) fn is_good(&self) -> bool {
        let has_credential = match self.credential {
            ShownCredential::Issued => self.active().is_some() && !self.has_expired(),
            ShownCredential::Bootstrap => true,
        };
        self.assignment().is_some() && has_credential
    }

    /// Its hub, if it has one.
    pub(crate) fn hub(&self) -> Option<&str> {
        Some(self.assignment()?.assigned_hub.as_str())
    }

    /// The end of the certificate in use, and when it is to be renewed.
    pub(crate) fn validity(&self) -> Option<(UnixTime, UnixTime)> {
        let leaf = self.active()?.chain.leaf();
        Some((leaf.not_after(), self.renewal.due(leaf)))
    }

    /// What could not be read.
    pub(crate) fn damage(&self) -> &[String] {
        &self.damage
    }

    /// What a person has to know of it, if something is wrong.
    pub(crate) fn failure(&self) -> Option<CliError> {
        if self.is_good() {
            None
        } else if self.lost {
            Some(CliError::IdentityLost)
        } else if self.has_expired() {
            Some(CliError::Expired)
        } else {
            Some(CliError::NotProvisioned)
        }
    }

    pub(crate) fn json(&self) -> Value {
        let assignment = self.assignment();
        let identity = self.identity.as_ref();
        let certificate = |generation: &Generation| {
            let leaf = generation.chain.leaf();
            let left = self.now.map(|now| leaf.not_after().since(now).as_secs());
            json!({
                "generation": generation.number,
                "thumbprint": leaf.thumbprint().to_string(),
                "subject": leaf.subject(),
                "issuer": leaf.issuer(),
                "notBefore": date(leaf.not_before()),
                "notAfter": date(leaf.not_after()),
                "secondsLeft": left,
                "renewalDue": date(self.renewal.due(leaf)),
            })
        };
        let previous = identity.into_iter().flat_map(|identity| &identity.previous);
        json!({
            "registrationId": self.registration_id,
            "path": self.path,
            "provisioned": self.is_good(),
            "hub": assignment.map(|assignment| &assignment.assigned_hub),
            "deviceId": assignment.map(|assignment| &assignment.device_id),
            "active": self.active().map(certificate),
            "staged": identity.and_then(|identity| identity.staged.as_deref()).map(certificate),
            "previous": previous.map(|generation| certificate(generation)).collect::<Vec<_>>(),
            "requestPending": identity.is_some_and(|identity| identity.pending.is_some()),
            "damage": self.damage,
        })
    }

    fn print(&self) {
        let line = |name: &str, words: &str| write_line(&format!("{name:<13} {words}"));
        line("device", &self.registration_id);
        line("store", &self.path);
        match self.assignment() {
            Some(assignment) => {
                line("hub", &format!("{}, as {}", assignment.assigned_hub, assignment.device_id));
            }
            None => line("hub", "none yet"),
        }
        let identity = self.identity.as_ref();
        let staged = identity.and_then(|identity| identity.staged.as_deref());
        for (name, generation) in [("certificate", self.active()), ("new one", staged)] {
            let Some(generation) = generation else { continue };
            let leaf = generation.chain.leaf();
            let left = self.now.map(|now| leaf.not_after().since(now).as_secs() / 86_400);
            let left = left.map(|days| format!(" ({days} days left)")).unwrap_or_default();
            let number = generation.number;
            line(name, &format!("generation {number}, until {}{left}", date(leaf.not_after())));
            line("", &format!("by {}", leaf.issuer()));
            if name == "certificate" {
                line("renewal", &format!("due {}", date(self.renewal.due(leaf))));
            }
        }
        for damage in &self.damage {
            line("damaged", damage);
        }
    }
}

pub(crate) async fn run(arguments: Status) -> Result<(), CliError> {
    let outcome = look(&arguments.settings).await;
    let (standing, agent) = match outcome {
        Ok(found) => found,
        Err(error) => {
            if arguments.output != Output::Text {
                let document =
                    json!({ "schemaVersion": 1, "ok": false, "error": error_json(&error) });
                write_document(arguments.output, &document);
            }
            return Err(error);
        }
    };
    let failure = standing.failure();
    if arguments.output == Output::Text {
        standing.print();
        let words = agent.as_ref().map_or_else(
            || "not running".into(),
            |agent| {
                let state = agent["state"].as_str().unwrap_or("?");
                let failure = agent["lastFailure"].as_str();
                failure.map_or_else(
                    || state.into(),
                    |failure| format!("{state}; last failure: {failure}"),
                )
            },
        );
        write_line(&format!("{:<13} {words}", "agent"));
    } else {
        let mut document = json!({ "schemaVersion": 1, "ok": failure.is_none() });
        for (name, value) in standing.json().as_object().into_iter().flatten() {
            document[name] = value.clone();
        }
        document["agent"] = agent.into();
        document["error"] = failure.as_ref().map(error_json).into();
        write_document(arguments.output, &document);
    }
    failure.map_or(Ok(()), Err)
}

async fn look(settings: &Settings) -> Result<(Standing, Option<Value>), CliError> {
    let standing = Standing::of(settings)?;
    let agent = match Client::connect(&settings.place()?.socket).await? {
        Some(mut client) => Some(client.request(&Request::Status).await?),
        None => None,
    };
    Ok((standing, agent))
}
