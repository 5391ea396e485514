//! The namespace of Azure Device Registry as its operator sees it, over HTTPS.

use std::sync::Arc;
use std::time::Duration;

use chacha20::ChaCha20Rng;
use rand_core::SeedableRng;
use serde_json::{Value, json};
use zerotouch_credentials::{CertificateChain, CertificateRequest, KeyAlgorithm, PrivateKey};
use zerotouch_emulator::cloud::{CredentialPolicy, EnrollmentGroup, Fixture};
use zerotouch_emulator::pki::{CertificationAuthority, Validity};

use crate::service::Service;
use crate::support::{DPS_VERSION, Got, HUB_VERSION, World, private_key};

const NAMESPACE: &str = "/$emulator/namespace";

fn call(service: &mut Service, method: &str, below: &str, body: impl Into<Value>) -> (u16, Value) {
    let response = service.call(method, &format!("{NAMESPACE}{below}"), &body.into());
    let body = serde_json::from_slice(&response.body).unwrap_or_default();
    (response.status, body)
}

#[test]
fn devices_have_attributes_and_can_be_shut_out() {
    let mut service = Service::new();
    let identity = service.world.provision("d", &private_key(1));
    let connection = service.world.connect_hub(&identity, true);
    let (status, device) = call(&mut service, "GET", "/devices/D", Value::Null);
    assert_eq!((status, &device["credentialPolicy"]), (200, &json!("default")), "{device}");
    let change = json!({ "attributes": { "line": 4 }, "tags": { "site": "north" } });
    call(&mut service, "PATCH", "/devices/d", change);
    let change = json!({ "attributes": { "line": null, "slot": 2 }, "enabled": false });
    let (_, device) = call(&mut service, "PATCH", "/devices/d", change);
    assert_eq!(device["attributes"], json!({ "slot": 2 }));
    assert_eq!(device["tags"], json!({ "site": "north" }));
    assert!(service.world.is_closed(connection));
    let refused = service.world.try_hub(&identity, HUB_VERSION, true);
    assert_eq!(service.world.received(refused), [Got::Refused(5)]);

    let (status, error) = call(&mut service, "GET", "/devices/nobody", Value::Null);
    assert_eq!((status, &error["error"]["code"]), (404, &json!("DeviceNotFound")));
    let (_, listed) = call(&mut service, "GET", "/devices", Value::Null);
    assert_eq!(listed["value"].as_array().unwrap().len(), 1);
}

// The identifier that certificates bear is another one afterwards: what was issued is refused.
#[test]
fn a_device_is_revoked() {
    let mut service = Service::new();
    let identity = service.world.provision("d", &private_key(1));
    let (_, before) = call(&mut service, "GET", "/devices/d", Value::Null);
    let (status, after) = call(&mut service, "POST", "/devices/d/revoke", Value::Null);
    assert_eq!((status, &after["enabled"]), (200, &json!(true)));
    assert_ne!(before["identifier"], after["identifier"]);
    let refused = service.world.try_hub(&identity, HUB_VERSION, true);
    assert_eq!(service.world.received(refused), [Got::Refused(5)]);
    let identity = service.world.provision("d", &private_key(1));
    service.world.connect_hub(&identity, true);
}

// All that was issued dies, the hubs have the new issuer at once, and a device provisions again.
#[test]
fn an_issuer_is_revoked() {
    let mut service = Service::new();
    let identity = service.world.provision("d", &private_key(1));
    let connection = service.world.connect_hub(&identity, true);
    let (_, before) = call(&mut service, "GET", "/policies/default", Value::Null);
    let (status, after) = call(&mut service, "POST", "/policies/default/revokeIssuer", Value::Null);
    assert_eq!((status, &after["synchronized"]), (200, &json!(true)));
    assert_ne!(before["certificate"], after["certificate"]);
    assert!(service.world.is_closed(connection));
    let refused = service.world.try_hub(&identity, HUB_VERSION, true);
    assert_eq!(service.world.received(refused), [Got::Refused(5)]);
    let identity = service.world.provision("d", &private_key(1));
    service.world.connect_hub(&identity, true);
}

// The common mistake: a policy is made, and the hubs are not told.
#[test]
fn a_new_policy_has_to_be_synchronized() {
    let mut service = Service::new();
    let (status, policy) =
        call(&mut service, "PUT", "/policies/short", json!({ "leafValidity": "2days" }));
    assert_eq!((status, &policy["synchronized"]), (200, &json!(false)), "{policy}");
    assert_eq!((&policy["status"], &policy["leafValidity"]), (&json!("active"), &json!("2days")));
    let (status, _) = call(&mut service, "POST", "/credential/synchronize", Value::Null);
    assert_eq!(status, 204);
    let (_, policy) = call(&mut service, "GET", "/policies/short", Value::Null);
    assert_eq!(policy["synchronized"], true);

    let (status, error) = call(&mut service, "DELETE", "/policies/default", Value::Null);
    assert_eq!((status, &error["error"]["code"]), (409, &json!("PolicyInUse")));
    assert_eq!(call(&mut service, "DELETE", "/policies/short", Value::Null).0, 204);
    assert_eq!(call(&mut service, "GET", "/policies/short", Value::Null).0, 404);
    for bad in [json!({ "leafValidity": 7 }), json!({ "validity": "2days" }), json!([])] {
        assert_eq!(call(&mut service, "PUT", "/policies/short", bad).0, 400);
    }
}

// An owner's own root: the policy's request goes out, a chain comes in, and devices get it whole.
#[test]
fn an_external_root_signs() {
    let own = CredentialPolicy { external_root: true, ..CredentialPolicy::new("own") };
    let group = EnrollmentGroup {
        credential_policy: Some("own".into()),
        ..EnrollmentGroup::symmetric(Fixture::DEFAULT_GROUP)
    };
    let mut service = Service::with(Fixture {
        credential_policies: vec![CredentialPolicy::new(Fixture::DEFAULT_POLICY), own],
        enrollment_groups: vec![group],
        ..Fixture::default()
    });
    let (_, policy) = call(&mut service, "GET", "/policies/own", Value::Null);
    assert_eq!(
        (&policy["status"], &policy["certificate"]),
        (&json!("pendingActivation"), &Value::Null)
    );
    let pem = policy["certificateSigningRequest"].as_str().unwrap();
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let request = CertificateRequest::from_base64(&base64).unwrap();
    request.verify().unwrap();

    let mut rng = ChaCha20Rng::seed_from_u64(9);
    let validity =
        Validity { from: service.world.wall(), lifetime: Duration::from_secs(90_000_000) };
    let key = Arc::new(PrivateKey::generate(KeyAlgorithm::EcdsaP384, &mut rng).unwrap());
    let root = CertificationAuthority::root("own root", validity, key, &mut rng).unwrap();
    let issuing =
        root.certify_authority("own issuing", request.public_key(), validity, &mut rng).unwrap();
    let chain = CertificateChain::new(vec![issuing, root.certificate().clone()]).unwrap();
    let body = json!({ "certificateChain": chain.to_pem() });
    let path = "/policies/own/activateBringYourOwnRoot";
    // Another key than the request's.
    let wrong = CertificateChain::new(vec![root.certificate().clone()]).unwrap();
    let (status, error) =
        call(&mut service, "POST", path, json!({ "certificateChain": wrong.to_pem() }));
    assert_eq!((status, &error["error"]["code"]), (400, &json!("InvalidChain")));
    let (status, policy) = call(&mut service, "POST", path, body.clone());
    assert_eq!((status, &policy["status"]), (200, &json!("active")), "{policy}");
    assert_eq!(call(&mut service, "POST", path, body).0, 409);

    call(&mut service, "POST", "/credential/synchronize", Value::Null);
    let identity = service.world.provision_under(root.certificate(), "d", &private_key(1));
    assert_eq!(identity.chain.iter().count(), 3);
    service.world.connect_hub(&identity, true);
}

// Until the root has signed there is nobody to issue: the device reads an error, and may try again.
#[test]
fn a_pending_policy_issues_nothing() {
    let own = CredentialPolicy { external_root: true, ..CredentialPolicy::new("default") };
    let fixture = Fixture { credential_policies: vec![own], ..Fixture::default() };
    let mut world = World::new(fixture);
    let csr = CertificateRequest::new(&private_key(1), "d").unwrap().to_base64();
    let connection = world.connect_dps("d", DPS_VERSION);
    world.register(connection, json!({ "csr": csr }).to_string().as_bytes());
    let (_, accepted) = world.message(connection);
    world.poll(connection, accepted["operationId"].as_str().unwrap());
    assert_eq!(world.message(connection).0, "$dps/registrations/res/500/?$rid=r2");
}
