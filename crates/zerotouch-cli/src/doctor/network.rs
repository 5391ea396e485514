//! The way to a service: its name, its ports, TLS; and what it says to a question.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::{Value, json};
use zerotouch_credentials::SasToken;
use zerotouch_device::{Attestation, Scope, TransportFailureKind};
use zerotouch_driver::{Dialler, HttpsRequest, https, root_behind};
use zerotouch_time::UnixTime;

use crate::failure::{CliError, exit};
use crate::settings::{MqttTransport, Settings, Setup};

use super::Report;

/// How long an address may take to accept.
const TCP_TIMEOUT: Duration = Duration::from_secs(5);
/// For how long the token of a question is valid.
const TOKEN_LIFETIME: Duration = Duration::from_secs(600);

/// Roots and proxy, if they can be had.
pub(super) fn dialler(settings: &Settings, report: &mut Report) -> Option<Dialler> {
    let network = match settings.network() {
        Ok(network) => network,
        Err(error) => {
            report.error("proxy", &error);
            return None;
        }
    };
    match &network.proxy {
        Some(_) => report.ok("proxy", "connections go through one"),
        None => report.ok("proxy", "none"),
    }
    let roots = match settings.trusted_roots() {
        Ok(roots) => roots,
        Err(error) => {
            report.error("roots", &error);
            return None;
        }
    };
    match Dialler::new(&roots, network) {
        Ok(dialler) => Some(dialler.tls_resumption(false)),
        Err(error) => {
            report.error("roots", &error.into());
            None
        }
    }
}

pub(super) fn examine(
    settings: &Settings,
    dialler: &Dialler,
    (host, port): (&str, u16),
    report: &mut Report,
) {
    let has_proxy = settings.network().is_ok_and(|network| network.proxy.is_some());
    // With a proxy, it is the proxy that resolves and connects.
    if !has_proxy {
        let Some(addresses) = resolve(host, port, report) else { return };
        ports(settings, host, &addresses, port, report);
    }
    match root_behind(dialler, host, port) {
        Ok(root) => {
            let root = root.map_or_else(String::new, |root| format!(", chains to {root}"));
            report.ok("tls", format!("{host}:{port} is who it says{root}"));
        }
        Err(failure) => {
            let words = format!("{host}:{port}: {failure}");
            let error = CliError::Attempt { scope: Scope::Dps, failure: failure.into() };
            report.problem("tls", error.exit_code(), words, error.remedy().unwrap_or_default());
        }
    }
}

fn resolve(host: &str, port: u16, report: &mut Report) -> Option<Vec<SocketAddr>> {
    let addresses = (host, port).to_socket_addrs().map(Vec::from_iter);
    match addresses {
        Ok(addresses) if !addresses.is_empty() => {
            let listed: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
            report.ok("dns", format!("{host} is {}", listed.join(", ")));
            Some(addresses)
        }
        other => {
            let reason = other.err().map_or_else(|| "no address".into(), |error| error.to_string());
            let remedy = "check the host name, and this machine's resolver (/etc/resolv.conf)";
            report.problem("dns", exit::NETWORK, format!("{host}: {reason}"), remedy);
            None
        }
    }
}

fn ports(
    settings: &Settings,
    host: &str,
    addresses: &[SocketAddr],
    port: u16,
    report: &mut Report,
) {
    let web_socket_port = settings.web_socket_port;
    let mqtt = reach(addresses, port);
    let web_socket = reach(addresses, web_socket_port);
    let wanted = match settings.transport {
        MqttTransport::Mqtt => mqtt.is_ok(),
        MqttTransport::WebSocket => web_socket.is_ok(),
        MqttTransport::Either => mqtt.is_ok() || web_socket.is_ok(),
    };
    let mut reached = vec![(port, mqtt), (web_socket_port, web_socket.clone())];
    reached.dedup_by_key(|(port, _)| *port);
    for (port, reached) in reached {
        match reached {
            Ok(()) => report.ok("tcp", format!("{host}:{port} accepts")),
            Err(reason) if wanted => {
                let words = format!("{host}:{port}: {reason}");
                report.warning("tcp", words, "the settings do not need this port");
            }
            Err(reason) => {
                let remedy = match web_socket {
                    Ok(()) => {
                        "a firewall may be in the way: open the port, or use --transport either"
                    }
                    Err(_) => "check network and firewall, and whether a proxy is needed (--proxy)",
                };
                let words = format!("{host}:{port}: {reason}");
                report.problem("tcp", exit::NETWORK, words, remedy);
            }
        }
    }
}

fn reach(addresses: &[SocketAddr], port: u16) -> Result<(), String> {
    let mut last = String::new();
    for address in addresses {
        match TcpStream::connect_timeout(&SocketAddr::new(address.ip(), port), TCP_TIMEOUT) {
            Ok(_) => return Ok(()),
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

/// Why the service would not have the device.
pub(super) struct Refusal {
    pub(super) code: u8,
    pub(super) words: String,
    pub(super) remedy: &'static str,
}

/// What the provisioning service knows of the device: a look-up, which changes nothing.
pub(super) fn registration(
    setup: &Setup,
    settings: &Settings,
    dialler: &Dialler,
    now: Option<UnixTime>,
) -> Result<String, Refusal> {
    let config = &setup.config;
    let (scope, id) = (&config.registration.id_scope, &config.registration.registration_id);
    let target =
        format!("/{scope}/registrations/{id}?api-version={}", config.registration.api_version);
    let mut headers = vec![("Content-Type", "application/json")];
    let (token, identity) = match &config.attestation {
        Attestation::SymmetricKey(key) => {
            let expiry = now.unwrap_or(UnixTime::from_secs(0)) + TOKEN_LIFETIME;
            (Some(SasToken::for_dps(key, scope.as_str(), id.as_str(), expiry)), None)
        }
        Attestation::X509(identity) => (None, Some(identity)),
        _ => (None, None),
    };
    if let Some(token) = &token {
        headers.push(("Authorization", token.as_str()));
    }
    let body = json!({ "registrationId": id.as_str() }).to_string();
    let request = HttpsRequest {
        host: &settings.provisioning_host,
        port: settings.web_socket_port,
        identity,
        method: "POST",
        target: &target,
        headers,
        body: body.as_bytes(),
    };
    let answer = https(dialler, &request).map_err(|failure| {
        let refused = failure.kind == TransportFailureKind::ClientCertificateRefused;
        let code = if refused { exit::IDENTITY_REFUSED } else { exit::NETWORK };
        let remedy = "it is asked over HTTPS: check that port 443 is open";
        Refusal { code, words: failure.to_string(), remedy }
    })?;
    let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match answer.status {
        200 => {
            let hub = said["assignedHub"].as_str().unwrap_or("no hub yet");
            Ok(format!("the service knows it: {}, {hub}", said["status"].as_str().unwrap_or("?")))
        }
        // The credential was good, or nobody has looked at it: the vendor does not say which.
        404 => Ok("the service has no registration of it yet (404)".into()),
        401 | 403 => Err(Refusal {
            code: exit::IDENTITY_REFUSED,
            words: format!("status {}: {}", answer.status, message(&said)),
            remedy: "the credential does not fit an enrolment: check id scope, registration id, and whether \
                     the key is the group's (--compute-key)",
        }),
        429 | 500.. => Err(Refusal {
            code: exit::THROTTLED,
            words: format!("status {}: {}", answer.status, message(&said)),
            remedy: "try again later",
        }),
        status => Err(Refusal {
            code: exit::USAGE,
            words: format!("status {status}: {}", message(&said)),
            remedy: "check id scope and api-version",
        }),
    }
}

fn message(said: &Value) -> &str {
    said["message"].as_str().unwrap_or("no message")
}
