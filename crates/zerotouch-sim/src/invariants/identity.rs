//! About the identity: what a store holds, what leaves the device of it, and what it shows.

use std::collections::BTreeSet;

use base64ct::{Base64, Encoding};
use zerotouch_credentials::Thumbprint;
use zerotouch_device::{Credential, Event};
use zerotouch_emulator::cloud::CloudEvent;
use zerotouch_mqtt_codec::{ConnAck, Packet};
use zerotouch_store::{Change, Identity, Key};

use super::{Invariant, REGISTER, RENEW, Scene, Seen, body, publish_to};
use crate::plan::Service;

/// What is stored stays.
#[derive(Debug, Default)]
pub(super) struct Durable {
    /// What the store may hold once it is opened; nothing before the first time.
    possible: Vec<Identity>,
}

/// Whether it is the same in all that a device depends on.
fn is_same(one: &Identity, other: &Identity) -> bool {
    let pending = |of: &Identity| {
        of.pending.as_ref().map(|one| (one.key.public_key().to_vec(), one.request_id.clone()))
    };
    let generations = |of: &Identity| -> Vec<Vec<[u8; 32]>> {
        let staged = of.staged.iter().map(|one| print(&one.chain.leaf().thumbprint())).collect();
        let active = of.active.iter().map(|one| print(&one.chain.leaf().thumbprint())).collect();
        let previous = of.previous.iter().map(|one| print(&one.chain.leaf().thumbprint()));
        vec![staged, active, previous.collect()]
    };
    one.assignment == other.assignment
        && pending(one) == pending(other)
        && generations(one) == generations(other)
}

impl Invariant for Durable {
    fn name(&self) -> &'static str {
        "store"
    }

    fn see(&mut self, scene: Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Storing(change) => {
                let mut next = scene.identity.clone();
                if next.apply(change).is_ok() {
                    self.possible.push(next);
                }
            }
            Seen::Stored(_) => self.possible = vec![scene.identity.clone()],
            Seen::Booted => {
                let is_known = |one: &Identity| is_same(one, scene.identity);
                if !self.possible.is_empty() && !self.possible.iter().any(is_known) {
                    return Err("its store holds neither what was stored nor what was to be".into());
                }
                self.possible = vec![scene.identity.clone()];
            }
            _ => {}
        }
        Ok(())
    }
}

/// A whole identity stays one.
#[derive(Debug, Default)]
pub(super) struct WholeIdentity {
    was_whole: bool,
    last_number: u64,
}

impl Invariant for WholeIdentity {
    fn name(&self) -> &'static str {
        "identity"
    }

    fn see(&mut self, scene: Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        if !matches!(seen, Seen::Booted | Seen::Stored(_)) {
            return Ok(());
        }
        let identity = scene.identity;
        if self.was_whole && identity.active.is_none() {
            return Err("it held an identity, and its store holds none".into());
        }
        if identity.last_number < self.last_number {
            return Err("numbers of generations went back".into());
        }
        self.last_number = identity.last_number;
        self.was_whole |= identity.active.is_some();
        let generations = identity.staged.iter().chain(&identity.active).chain(&identity.previous);
        for generation in generations {
            if generation.key.public_key() != generation.chain.leaf().public_key() {
                return Err(format!("the key of generation {} is another's", generation.number));
            }
        }
        Ok(())
    }
}

/// Private keys stay where they are.
#[derive(Debug, Default)]
pub(super) struct SecretKey {
    /// What would betray a key: its number, and a line of its text.
    secrets: Vec<Vec<u8>>,
}

/// Whether `needle` is in `hay`.
fn contains(hay: &[u8], needle: &[u8]) -> bool {
    needle.split_first().is_some_and(|(first, _)| {
        hay.len() >= needle.len()
            && (0..=hay.len() - needle.len())
                .any(|at| hay[at] == *first && &hay[at..at + needle.len()] == needle)
    })
}

impl Invariant for SecretKey {
    fn name(&self) -> &'static str {
        "key"
    }

    fn see(&mut self, scene: Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Stored(Change::Begin { key: Key::Software(key), .. }) => {
                let pem = key.to_pkcs8_pem().map_err(|error| error.to_string())?;
                let lines: Vec<&str> = pem.lines().filter(|line| !line.starts_with('-')).collect();
                let der = Base64::decode_vec(&lines.concat()).unwrap_or_default();
                // An OCTET STRING of as many bytes as the curve's: the private number.
                let number = der.windows(2).position(|pair| matches!(pair, [4, 32 | 48]));
                let length = number.and_then(|at| der.get(at + 1)).copied().unwrap_or(0);
                let number = number.and_then(|at| der.get(at + 2..at + 2 + usize::from(length)));
                self.secrets.extend(number.map(<[u8]>::to_vec));
                self.secrets.extend(lines.get(1).map(|line| line.as_bytes().to_vec()));
            }
            Seen::Sent(packet) => {
                let Some(publish) = publish_to(packet, "") else { return Ok(()) };
                let topic = publish.topic.as_str();
                let asks = topic.starts_with(REGISTER) || topic.starts_with(RENEW);
                let csr = if asks { body(publish).csr } else { None };
                let csr = csr.and_then(|csr| Base64::decode_vec(&csr).ok()).unwrap_or_default();
                let betrays =
                    |secret: &Vec<u8>| contains(publish.payload, secret) || contains(&csr, secret);
                if self.secrets.iter().any(betrays) {
                    return Err("a private key leaves it".into());
                }
                let identity = scene.identity;
                let pending = identity.pending.as_ref().map(|one| &one.key);
                let asked = |key: &Key| contains(&csr, key.public_key());
                if !csr.is_empty() && !pending.is_some_and(asked) {
                    return Err("it asks with a key that is not stored".into());
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Nothing becomes active unseen.
#[derive(Debug, Default)]
pub(super) struct Activation {
    accepted: BTreeSet<[u8; 32]>,
    active: Option<[u8; 32]>,
}

fn print(thumbprint: &Thumbprint) -> [u8; 32] {
    *thumbprint.as_bytes()
}

impl Invariant for Activation {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn see(&mut self, scene: Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Cloud(CloudEvent::HubConnected { thumbprint: Some(thumbprint), .. }) => {
                self.accepted.insert(print(thumbprint));
            }
            Seen::Booted | Seen::Stored(_) => {
                let active = scene.identity.active.as_ref();
                let active = active.map(|one| print(&one.chain.leaf().thumbprint()));
                let is_new = active != self.active;
                self.active = active;
                if is_new && active.is_some_and(|active| !self.accepted.contains(&active)) {
                    return Err("a certificate is active that no hub has accepted".into());
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// What is shown is what is stored, and what is named is what was shown.
#[derive(Debug, Default)]
pub(super) struct TrueCredential {
    shown: Option<Thumbprint>,
    accepted: bool,
}

impl Invariant for TrueCredential {
    fn name(&self) -> &'static str {
        "credential"
    }

    fn see(&mut self, scene: Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        let identity = scene.identity;
        match seen {
            Seen::Dial(dial, service) => {
                self.accepted = false;
                self.shown = dial.identity.as_ref().map(|one| one.chain.leaf().thumbprint());
                let stored = identity.staged.iter().chain(&identity.active);
                let mut stored = stored.chain(&identity.previous);
                let is_stored = self
                    .shown
                    .is_some_and(|shown| stored.any(|one| one.chain.leaf().thumbprint() == shown));
                if *service == Service::Hub && !is_stored {
                    return Err("it shows its hub a certificate that is not stored".into());
                }
            }
            Seen::Heard(Service::Hub, Packet::ConnAck(ConnAck::Accepted { .. })) => {
                self.accepted = true;
            }
            Seen::Event(Event::Connected { credential, thumbprint, .. }) => {
                if !self.accepted {
                    return Err("it says it is connected, and no hub has said so".into());
                }
                if *thumbprint != self.shown {
                    return Err("it names another certificate than it has shown".into());
                }
                let of = match credential {
                    Credential::Staged => identity.staged.as_ref(),
                    Credential::Active => identity.active.as_ref(),
                    Credential::Previous => identity.previous.first(),
                    Credential::Bootstrap => None,
                };
                if of.map(|one| one.chain.leaf().thumbprint()) != self.shown {
                    return Err(format!("what it has shown is not its {credential}"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
