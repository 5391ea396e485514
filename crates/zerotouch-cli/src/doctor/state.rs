//! What is on this machine: the certificate from the factory, the store, the identity, the agent.

use std::time::Duration;

use zerotouch_credentials::{ChainPolicy, Finding};
use zerotouch_device::Attestation;
use zerotouch_dps::RegistrationId;
use zerotouch_time::UnixTime;

use crate::agent::client::Client;
use crate::failure::exit;
use crate::request::Request;
use crate::settings::Settings;
use crate::status::Standing;
use crate::telling::date;

use super::Report;

/// How long before its end a certificate from the factory, which nobody renews, is worth a warning.
const SOON: Duration = Duration::from_secs(30 * 86_400);

pub(super) fn examine(
    settings: &Settings,
    now: Option<UnixTime>,
    report: &mut Report,
) -> Option<Standing> {
    let place = settings.place().ok()?;
    bootstrap_certificate(settings, &place.registration_id, now, report);
    let agent = agent(&place.socket, report);
    let standing = match Standing::of(settings) {
        Ok(standing) => standing,
        Err(error) => {
            report.error("store", &error);
            return None;
        }
    };
    for damage in standing.damage() {
        let remedy =
            "it is kept for whoever wants to know why; the device goes on with what is whole";
        report.warning("store", format!("damaged: {damage}"), remedy);
    }
    let path = place.path();
    if agent {
        report.ok("store", format!("{}, in use by the agent", path.display()));
    } else if path.exists() {
        match place.open_store() {
            Ok(_) => report.ok("store", format!("{} can be written to", path.display())),
            Err(error) => report.error("store", &error.into()),
        }
    } else {
        report.ok("store", format!("{} is not there yet", path.display()));
    }
    identity(&standing, now, report);
    Some(standing)
}

/// The lint that the service itself applies, in its words.
fn bootstrap_certificate(
    settings: &Settings,
    id: &RegistrationId,
    now: Option<UnixTime>,
    report: &mut Report,
) {
    let Ok(Attestation::X509(identity)) = settings.attestation(id) else { return };
    let policy = ChainPolicy { now, ..ChainPolicy::new(identity.signer.public_key(), id.as_str()) };
    let findings = identity.chain.lint(&*identity.signer, &policy);
    for finding in &findings {
        let says = finding.service_says().map(|says| format!(" (DPS says: {says})"));
        let words = format!("{finding}{}", says.unwrap_or_default());
        let remedy = "zerotouch cert verify tells more; the factory has to issue another";
        if finding.is_error() {
            report.problem("certificate", exit::CERTIFICATE, words, remedy);
        } else {
            report.warning("certificate", words, remedy);
        }
    }
    let leaf = identity.chain.leaf();
    let until = date(leaf.not_after());
    if findings.iter().any(Finding::is_error) {
        return;
    }
    if now.is_some_and(|now| leaf.not_after().since(now) < SOON) {
        let remedy = "nobody renews a certificate from the factory; after it the device cannot provision anew";
        report.warning("certificate", format!("it ends {until}"), remedy);
    } else {
        report.ok("certificate", format!("{}, until {until}", leaf.subject()));
    }
}

fn identity(standing: &Standing, now: Option<UnixTime>, report: &mut Report) {
    if let Some(error) = standing.failure() {
        // That nothing was done yet is nothing wrong.
        return match standing.hub() {
            None if standing.damage().is_empty() => report.ok("identity", "none yet"),
            _ => report.error("identity", &error),
        };
    }
    let Some((not_after, due)) = standing.validity() else {
        return report.ok("identity", "assigned; the bootstrap credential is shown to the hub");
    };
    let words = format!("valid until {}, renewal due {}", date(not_after), date(due));
    let overdue = now.is_some_and(|now| now > due + Duration::from_secs(86_400));
    if overdue {
        let remedy = "the agent renews by itself while it runs and its hub is reachable; zerotouch renew tells \
                      what is wrong";
        report.warning("identity", words, remedy);
    } else {
        report.ok("identity", words);
    }
}

/// Whether one runs.
fn agent(socket: &std::path::Path, report: &mut Report) -> bool {
    let handle = tokio::runtime::Handle::current();
    let asked = handle.block_on(async {
        match Client::connect(socket).await? {
            Some(mut client) => client.request(&Request::Status).await.map(Some),
            None => Ok(None),
        }
    });
    match asked {
        Ok(None) => {
            report.ok("agent", "does not run");
            false
        }
        Ok(Some(status)) => {
            let state = status["state"].as_str().unwrap_or("?").to_owned();
            match status["lastFailure"].as_str() {
                Some(failure) => {
                    let words = format!("{state}; last failure: {failure}");
                    report.warning("agent", words, "it tries again by itself");
                }
                None => report.ok("agent", state),
            }
            true
        }
        Err(error) => {
            report.error("agent", &error);
            false
        }
    }
}
