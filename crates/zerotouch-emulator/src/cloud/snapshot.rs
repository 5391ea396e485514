//! What a cloud has learned since it was made, for the next one of the same making.
//!
//! Keys, authorities and enrolments come from the fixture and the random numbers a cloud is made with;
//! with the same two, and the same beginning, the next cloud has the same. The devices are what is
//! left to remember.

use serde::{Deserialize, Serialize};
use zerotouch_credentials::{SymmetricKey, Thumbprint};
use zerotouch_time::UnixTime;

use super::fixture::SymmetricKeys;
use super::registry::{Device, DeviceKey, HubCredential};

/// The devices of a cloud. Serialised it holds the symmetric keys of devices that have one: to be
/// kept where only its owner can read it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Snapshot {
    devices: Vec<DeviceEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeviceEntry {
    hub: usize,
    device_id: String,
    uuid: String,
    registration_id: String,
    enabled: bool,
    identifier: String,
    credential: CredentialEntry,
    created: i64,
    updated: i64,
    registrations: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum CredentialEntry {
    Keys { primary: Option<String>, secondary: Option<String> },
    Certificates(Vec<String>),
    Policy(String),
}

impl std::fmt::Debug for CredentialEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Keys { .. } => f.write_str("Keys(…)"),
            Self::Certificates(thumbprints) => write!(f, "Certificates({thumbprints:?})"),
            Self::Policy(name) => write!(f, "Policy({name})"),
        }
    }
}

/// A device of a snapshot is not one that a cloud could have written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a device's credential cannot be read")]
pub struct SnapshotError;

impl Snapshot {
    pub(super) fn new<'a>(devices: impl Iterator<Item = (&'a DeviceKey, &'a Device)>) -> Self {
        Self { devices: devices.map(|(key, device)| DeviceEntry::new(key, device)).collect() }
    }

    pub(super) fn into_devices(self) -> Result<Vec<(DeviceKey, Device)>, SnapshotError> {
        self.devices.into_iter().map(DeviceEntry::into_device).collect()
    }
}

impl DeviceEntry {
    fn new(key: &DeviceKey, device: &Device) -> Self {
        Self {
            hub: key.hub,
            device_id: key.device_id.clone(),
            uuid: device.uuid.clone(),
            registration_id: device.registration_id.clone(),
            enabled: device.enabled,
            identifier: device.identifier.clone(),
            credential: match &device.credential {
                HubCredential::Keys(SymmetricKeys { primary, secondary }) => {
                    let text = |key: &SymmetricKey| key.to_base64().to_string();
                    CredentialEntry::Keys {
                        primary: primary.as_ref().map(text),
                        secondary: secondary.as_ref().map(text),
                    }
                }
                HubCredential::Certificates(thumbprints) => CredentialEntry::Certificates(
                    thumbprints.iter().map(Thumbprint::to_string).collect(),
                ),
                HubCredential::Issued { policy } => CredentialEntry::Policy(policy.clone()),
            },
            created: device.created.as_secs(),
            updated: device.updated.as_secs(),
            registrations: device.generation,
        }
    }

    fn into_device(self) -> Result<(DeviceKey, Device), SnapshotError> {
        let credential = match self.credential {
            CredentialEntry::Keys { primary, secondary } => {
                let key = |text: Option<String>| {
                    text.map(|text| SymmetricKey::from_base64(&text)).transpose()
                };
                let key = |text| key(text).map_err(|_| SnapshotError);
                HubCredential::Keys(SymmetricKeys {
                    primary: key(primary)?,
                    secondary: key(secondary)?,
                })
            }
            CredentialEntry::Certificates(thumbprints) => {
                let thumbprints = thumbprints.iter().map(|one| one.parse::<Thumbprint>());
                let thumbprints: Result<Vec<_>, _> = thumbprints.collect();
                HubCredential::Certificates(thumbprints.map_err(|_| SnapshotError)?)
            }
            CredentialEntry::Policy(policy) => HubCredential::Issued { policy },
        };
        let device = Device {
            uuid: self.uuid,
            registration_id: self.registration_id,
            enabled: self.enabled,
            identifier: self.identifier,
            credential,
            created: UnixTime::from_secs(self.created),
            updated: UnixTime::from_secs(self.updated),
            generation: self.registrations,
        };
        Ok((DeviceKey { hub: self.hub, device_id: self.device_id }, device))
    }
}
