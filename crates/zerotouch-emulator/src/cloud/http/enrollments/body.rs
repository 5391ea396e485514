//! The JSON of an enrolment, as the vendor's SDKs write and read it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zerotouch_dps::wire::RegistrationState;

use super::super::super::clock::rfc3339;
use super::super::super::enrollment::{Entry, Notes};
use super::super::super::fixture::{
    Allocation, DpsApiVersion, InitialTwin, Reprovision, Terms, Webhook,
};
use super::Fault;
use super::attestation::AttestationBody;

/// An enrolment of either kind. Members that only the service writes are not read.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct EnrollmentBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) enrollment_group_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) registration_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) device_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) credential_policy_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", skip_deserializing)]
    pub(super) registration_state: Option<RegistrationState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    optional_device_information: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) attestation: Option<AttestationBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capabilities: Option<Capabilities>,
    /// Older than `iotHubs`, and not written any more.
    #[serde(skip_serializing)]
    iot_hub_host_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    initial_twin: Option<InitialTwinBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provisioning_status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reprovision_policy: Option<ReprovisionBody>,
    #[serde(skip_serializing_if = "Option::is_none", skip_deserializing)]
    created_date_time_utc: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", skip_deserializing)]
    last_updated_date_time_utc: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allocation_policy: Option<Policy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iot_hubs: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_allocation_definition: Option<CustomAllocation>,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Capabilities {
    #[serde(default)]
    iot_edge: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Status {
    Enabled,
    Disabled,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ReprovisionBody {
    update_hub_assignment: bool,
    migrate_device_data: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Policy {
    Hashed,
    GeoLatency,
    Static,
    Custom,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CustomAllocation {
    webhook_url: String,
    api_version: String,
}

/// What a twin begins with.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::cloud) struct InitialTwinBody {
    tags: Option<Map<String, Value>>,
    properties: Option<PropertiesBody>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct PropertiesBody {
    desired: Option<Map<String, Value>>,
}

/// [`Terms`] of one's own.
pub(super) struct OwnTerms {
    pub(super) enabled: bool,
    pub(super) credential_policy: Option<String>,
    pub(super) allocation: Allocation,
    pub(super) hubs: Vec<String>,
    pub(super) reprovision: Reprovision,
    pub(super) initial_twin: InitialTwin,
}

impl Default for ReprovisionBody {
    fn default() -> Self {
        Self { update_hub_assignment: true, migrate_device_data: true }
    }
}

impl From<ReprovisionBody> for Reprovision {
    fn from(body: ReprovisionBody) -> Self {
        match body {
            ReprovisionBody { update_hub_assignment: false, .. } => Self::Never,
            ReprovisionBody { migrate_device_data: false, .. } => Self::Reset,
            ReprovisionBody { .. } => Self::Migrate,
        }
    }
}

impl From<Reprovision> for ReprovisionBody {
    fn from(policy: Reprovision) -> Self {
        Self {
            update_hub_assignment: policy != Reprovision::Never,
            migrate_device_data: policy == Reprovision::Migrate,
        }
    }
}

impl From<InitialTwinBody> for InitialTwin {
    fn from(body: InitialTwinBody) -> Self {
        let desired = body.properties.and_then(|properties| properties.desired);
        Self { tags: body.tags.unwrap_or_default(), desired: desired.unwrap_or_default() }
    }
}

impl EnrollmentBody {
    pub(super) fn notes(&self) -> Notes {
        Notes {
            iot_edge: self.capabilities.unwrap_or_default().iot_edge,
            device_information: self.optional_device_information.clone(),
        }
    }

    /// What it says about devices. What its api-version cannot say stays as it is.
    pub(super) fn terms(
        self,
        former: Option<Terms<'_>>,
        version: &DpsApiVersion,
    ) -> Result<OwnTerms, Fault> {
        let former_policy = former.and_then(|former| former.credential_policy);
        let credential_policy = if version.issues_certificates {
            self.credential_policy_name.filter(|name| !name.is_empty())
        } else {
            former_policy.map(String::from)
        };
        let hub = self.iot_hub_host_name.filter(|hub| !hub.is_empty());
        let mut hubs = self.iot_hubs.unwrap_or_default();
        let allocation = match (self.allocation_policy, hub) {
            (Some(Policy::Static) | None, Some(hub)) => {
                if hubs.iter().any(|one| *one != hub) {
                    return Err(Fault::Member("iotHubHostName and iotHubs differ"));
                }
                hubs = vec![hub];
                Allocation::Static
            }
            (Some(_), Some(_)) => {
                return Err(Fault::Member("iotHubHostName is for allocationPolicy static"));
            }
            (Some(Policy::Static), None) => Allocation::Static,
            (Some(Policy::Hashed) | None, None) => Allocation::Hashed,
            (Some(Policy::GeoLatency), None) => Allocation::GeoLatency,
            (Some(Policy::Custom), None) => {
                let missing = Fault::Member("customAllocationDefinition is missing");
                let custom = self.custom_allocation_definition.ok_or(missing)?;
                let CustomAllocation { webhook_url: url, api_version } = custom;
                Allocation::Custom(Webhook { url, api_version })
            }
        };
        Ok(OwnTerms {
            enabled: self.provisioning_status != Some(Status::Disabled),
            credential_policy,
            allocation,
            hubs,
            reprovision: self.reprovision_policy.unwrap_or_default().into(),
            initial_twin: self.initial_twin.unwrap_or_default().into(),
        })
    }

    /// What both kinds have.
    pub(super) fn describe<E: Serialize>(entry: &Entry<E>, terms: Terms<'_>) -> Self {
        let (policy, custom) = match terms.allocation {
            Allocation::Hashed => (Policy::Hashed, None),
            Allocation::Static => (Policy::Static, None),
            Allocation::GeoLatency => (Policy::GeoLatency, None),
            Allocation::Custom(Webhook { url, api_version }) => {
                let (webhook_url, api_version) = (url.clone(), api_version.clone());
                (Policy::Custom, Some(CustomAllocation { webhook_url, api_version }))
            }
        };
        let InitialTwin { tags, desired } = terms.initial_twin.clone();
        let initial_twin = (!tags.is_empty() || !desired.is_empty()).then_some(InitialTwinBody {
            tags: Some(tags),
            properties: Some(PropertiesBody { desired: Some(desired) }),
        });
        let status = if terms.enabled { Status::Enabled } else { Status::Disabled };
        Self {
            credential_policy_name: terms.credential_policy.map(String::from),
            optional_device_information: entry.notes.device_information.clone(),
            capabilities: Some(Capabilities { iot_edge: entry.notes.iot_edge }),
            initial_twin,
            etag: Some(format!("\"{}\"", entry.etag())),
            provisioning_status: Some(status),
            reprovision_policy: Some(terms.reprovision.into()),
            created_date_time_utc: Some(rfc3339(entry.created)),
            last_updated_date_time_utc: Some(rfc3339(entry.updated)),
            allocation_policy: Some(policy),
            iot_hubs: (!terms.hubs.is_empty()).then(|| terms.hubs.to_vec()),
            custom_allocation_definition: custom,
            ..Self::default()
        }
    }
}
