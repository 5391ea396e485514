//! The namespace of Azure Device Registry: devices and where they belong.
//!
//! A registration makes or updates a device here; a hub asks here whom to let in.

use std::collections::BTreeMap;

use chacha20::ChaCha20Rng;
use zerotouch_credentials::Thumbprint;
use zerotouch_time::UnixTime;

use super::clock::uuid;
use super::fixture::SymmetricKeys;

/// A device at a hub: the hub's place in the fixture, and the device's name there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DeviceKey {
    pub(super) hub: usize,
    pub(super) device_id: String,
}

/// How a device proves itself to its hub.
#[derive(Debug)]
pub(super) enum HubCredential {
    /// Either of two keys: those of the enrolment it registered by.
    Keys(SymmetricKeys),
    /// One of these certificates: the one it registered with.
    Certificates(Vec<Thumbprint>),
    /// Any certificate issued to it under a credential policy.
    Issued { policy: String },
}

/// A device of the namespace.
#[derive(Debug)]
pub(super) struct Device {
    /// The namespace's name for it.
    pub(super) uuid: String,
    pub(super) registration_id: String,
    /// A disabled device is refused by its hub.
    pub(super) enabled: bool,
    /// Embedded in every certificate issued to it; a certificate with another is revoked.
    pub(super) identifier: String,
    pub(super) credential: HubCredential,
    pub(super) created: UnixTime,
    pub(super) updated: UnixTime,
    /// Counts registrations: none of a device that an operator has entered.
    pub(super) generation: u64,
}

/// How a registration changed the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Substatus {
    InitialAssignment,
    DeviceDataReset,
    ReprovisionedToInitialAssignment,
}

impl Substatus {
    /// As on the wire.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::InitialAssignment => "initialAssignment",
            Self::DeviceDataReset => "deviceDataReset",
            Self::ReprovisionedToInitialAssignment => "reprovisionedToInitialAssignment",
        }
    }
}

/// All devices, by where they belong and by registration id.
#[derive(Debug, Default)]
pub(super) struct Registry {
    devices: BTreeMap<DeviceKey, Device>,
    /// By registration id in lower case.
    registrations: BTreeMap<String, DeviceKey>,
    /// Counts changes, for those who keep a copy.
    changes: u64,
}

impl Registry {
    /// Enters a registration: a new device, or a known one with a new credential and perhaps a new
    /// place or name, where its hub's data about it begin anew.
    pub(super) fn register(
        &mut self,
        registration_id: &str,
        key: &DeviceKey,
        credential: HubCredential,
        now: UnixTime,
        rng: &mut ChaCha20Rng,
    ) -> Substatus {
        self.changes += 1;
        let former = self.registrations.insert(registration_id.to_ascii_lowercase(), key.clone());
        let device = former.as_ref().and_then(|former| self.devices.remove(former));
        let substatus = match former {
            None => Substatus::InitialAssignment,
            Some(former) if former == *key => Substatus::ReprovisionedToInitialAssignment,
            Some(_) => Substatus::DeviceDataReset,
        };
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
                generation: 1,
            },
        };
        self.devices.insert(key.clone(), device);
        substatus
    }

    /// Enters a device of an operator's, or changes one.
    pub(super) fn enter(
        &mut self,
        key: &DeviceKey,
        (credential, enabled): (HubCredential, bool),
        now: UnixTime,
        rng: &mut ChaCha20Rng,
    ) {
        self.changes += 1;
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
                generation: 0,
            },
        };
        self.devices.insert(key.clone(), device);
    }

    /// Takes a device out of its hub. The provisioning service knows it still.
    pub(super) fn remove(&mut self, key: &DeviceKey) -> bool {
        self.changes += 1;
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
        self.changes += 1;
        self.devices.get_mut(key)
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Takes devices of an earlier registry as they were.
    pub(super) fn restore(&mut self, devices: Vec<(DeviceKey, Device)>) {
        for (key, device) in devices {
            if device.generation > 0 {
                self.registrations.insert(device.registration_id.to_ascii_lowercase(), key.clone());
            }
            self.devices.insert(key, device);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&DeviceKey, &Device)> {
        self.devices.iter()
    }
}
