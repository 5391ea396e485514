//! The namespace of Azure Device Registry: devices and where they belong.
//!
//! A registration makes or updates a device here; a hub asks here whom to let in.

use chacha20::ChaCha20Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zerotouch_time::UnixTime;

use super::clock::uuid;
use super::fixture::{Reprovision, SymmetricKeys};
use super::table::{Kept, Table};
use super::text_form;
use super::thumbprint::AnyThumbprint;

/// A device at a hub: the hub's place in the fixture, and the device's name there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct DeviceKey {
    pub(super) hub: usize,
    pub(super) device_id: String,
}

/// How a device proves itself to its hub.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum HubCredential {
    /// Either of two keys: those of the enrolment it registered by.
    Keys(SymmetricKeys),
    /// One of these certificates: the one it registered with.
    #[serde(with = "text_form::several")]
    Certificates(Vec<AnyThumbprint>),
    /// Any certificate issued to it under a credential policy.
    Issued { policy: String },
}

/// A device of the namespace.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Device {
    /// The namespace's name for it.
    pub(super) uuid: String,
    pub(super) registration_id: String,
    /// A disabled device is refused by its hub.
    pub(super) enabled: bool,
    /// Embedded in every certificate issued to it; a certificate with another is revoked.
    pub(super) identifier: String,
    pub(super) credential: HubCredential,
    #[serde(with = "text_form::one")]
    pub(super) created: UnixTime,
    #[serde(with = "text_form::one")]
    pub(super) updated: UnixTime,
    /// An operator's.
    #[serde(default)]
    pub(super) attributes: Map<String, Value>,
    #[serde(default)]
    pub(super) tags: Map<String, Value>,
    /// Counts registrations: none of a device that an operator has entered.
    pub(super) generation: u64,
}

/// How a registration changed the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Substatus {
    InitialAssignment,
    DeviceDataMigrated,
    DeviceDataReset,
    ReprovisionedToInitialAssignment,
}

impl Substatus {
    pub(super) fn of(former: Option<&DeviceKey>, now: &DeviceKey, policy: Reprovision) -> Self {
        match former {
            None => Self::InitialAssignment,
            Some(former) if former == now => Self::ReprovisionedToInitialAssignment,
            Some(_) if policy == Reprovision::Reset => Self::DeviceDataReset,
            Some(_) => Self::DeviceDataMigrated,
        }
    }

    /// As on the wire.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::InitialAssignment => "initialAssignment",
            Self::DeviceDataMigrated => "deviceDataMigrated",
            Self::DeviceDataReset => "deviceDataReset",
            Self::ReprovisionedToInitialAssignment => "reprovisionedToInitialAssignment",
        }
    }
}

/// All devices, by where they belong and by registration id.
#[derive(Debug, Default)]
pub(super) struct Registry {
    devices: Table<DeviceKey, Device>,
    /// By registration id in lower case.
    registrations: Table<String, DeviceKey>,
}

impl Registry {
    /// Enters a registration: a new device, or a known one with a new credential and perhaps a new
    /// place or name.
    pub(super) fn register(
        &mut self,
        registration_id: &str,
        key: &DeviceKey,
        credential: HubCredential,
        now: UnixTime,
        rng: &mut ChaCha20Rng,
    ) {
        let former = self.registrations.insert(registration_id.to_ascii_lowercase(), key.clone());
        // One whose registration was deleted is still at its hub.
        let device = self.devices.remove(former.as_ref().unwrap_or(key));
        let device = match device {
            Some(known) => {
                Device { credential, updated: now, generation: known.generation + 1, ..known }
            }
            None => Device {
                uuid: uuid(rng),
                registration_id: registration_id.into(),
                enabled: true,
                identifier: uuid(rng),
                credential,
                created: now,
                updated: now,
                attributes: Map::new(),
                tags: Map::new(),
                generation: 1,
            },
        };
        self.devices.insert(key.clone(), device);
    }

    /// Forgets that a device has registered; it stays where it is.
    pub(super) fn forget(&mut self, registration_id: &str) {
        self.registrations.remove(&registration_id.to_ascii_lowercase());
    }

    /// Enters a device of an operator's, or changes one.
    pub(super) fn enter(
        &mut self,
        key: &DeviceKey,
        (credential, enabled): (HubCredential, bool),
        now: UnixTime,
        rng: &mut ChaCha20Rng,
    ) {
        let device = match self.devices.remove(key) {
            Some(known) => Device { credential, enabled, updated: now, ..known },
            None => Device {
                uuid: uuid(rng),
                registration_id: key.device_id.clone(),
                enabled,
                identifier: uuid(rng),
                credential,
                created: now,
                updated: now,
                attributes: Map::new(),
                tags: Map::new(),
                generation: 0,
            },
        };
        self.devices.insert(key.clone(), device);
    }

    /// Takes a device out of its hub. The provisioning service knows it still.
    pub(super) fn remove(&mut self, key: &DeviceKey) -> bool {
        self.devices.remove(key).is_some()
    }

    pub(super) fn device(&self, key: &DeviceKey) -> Option<&Device> {
        self.devices.get(key)
    }

    /// Where a registration was assigned to.
    pub(super) fn registration(&self, registration_id: &str) -> Option<&DeviceKey> {
        self.registrations.get(&registration_id.to_ascii_lowercase())
    }

    pub(super) fn device_mut(&mut self, registration_id: &str) -> Option<&mut Device> {
        let key = self.registrations.get(&registration_id.to_ascii_lowercase())?;
        self.devices.get_mut(key)
    }

    pub(super) fn tables(&mut self) -> [(&'static str, &mut dyn Kept); 2] {
        [("devices", &mut self.devices), ("registrations", &mut self.registrations)]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&DeviceKey, &Device)> {
        self.devices.iter()
    }
}
