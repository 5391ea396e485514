//! Row 44 of the failure table: what is wrong before anything is sent.

use std::time::Duration;

use zerotouch_device::{Attestation, Config, ConfigError, HubHosts, TlsIdentity};
use zerotouch_dps::RegistrationId;
use zerotouch_store::Identity;

use crate::bench::{Bench, ID, fixture};

const MINUTE: Duration = Duration::from_secs(60);

// What can be known before the start is said then, by name, and nothing is started.
#[test]
fn row_44_a_configuration_that_cannot_work_is_told_before_the_start() {
    let fault = |change: &dyn Fn(&mut Config)| {
        let mut fault = None;
        Bench::with(fixture(), Identity::default(), |config| {
            assert_eq!(config.validate(), Ok(()), "the defaults work");
            change(config);
            fault = Some(config.validate());
        });
        fault.unwrap()
    };
    let year = Duration::from_secs(365 * 24 * 3600);
    let over = year + Duration::from_secs(1);
    for (member, change) in [
        ("queue.max_messages", (|c| c.queue.max_messages = 0) as fn(&mut Config)),
        ("queue.max_bytes", |c| c.queue.max_bytes = 0),
        ("provisioning_port", |c| c.provisioning_port = 0),
        ("mqtt.max_in_flight", |c| c.mqtt.max_in_flight = 0),
        ("sas_lifetime", |c| c.sas_lifetime = Duration::ZERO),
        ("dial_timeout", |c| c.dial_timeout = Duration::ZERO),
        ("registration.deadline", |c| c.registration.deadline = Duration::ZERO),
        ("retry.hub", |c| c.retry.hub.initial = Duration::ZERO),
        ("renewal.at_percent", |c| c.renewal.at_percent = 0),
    ] {
        assert_eq!(fault(&change), Err(ConfigError::Zero { member }));
    }
    for (member, change) in [
        ("provisioning_host", (|c| c.provisioning_host.clear()) as fn(&mut Config)),
        ("hub.hosts", |c| c.hub.hosts = HubHosts::new([""; 0])),
    ] {
        assert_eq!(fault(&change), Err(ConfigError::Empty { member }));
    }
    for (change, error) in [
        (
            (|c| c.renewal.spread_percent = 101) as fn(&mut Config),
            ConfigError::Percent { member: "renewal.spread_percent", percent: 101 },
        ),
        (|c| c.renewal.announce_percent = 66, ConfigError::AnnouncedEarly { at: 67, announce: 66 }),
        (|c| c.hub.keep_alive = 1178, ConfigError::KeepAlive { seconds: 1178 }),
        (
            |c| c.retry.identity.cap = MINUTE,
            ConfigError::Backoff { member: "retry.identity", initial: 5 * MINUTE, cap: MINUTE },
        ),
    ] {
        assert_eq!(fault(&change), Err(error));
    }
    let lifetime = |lifetime| fault(&|config| config.sas_lifetime = lifetime);
    assert_eq!(lifetime(over), Err(ConfigError::SasLifetime { lifetime: over }));
    assert_eq!(lifetime(year), Ok(()));
}

// Nor is a device started that has nothing but a certificate for another; a key beside it is enough.
#[test]
fn row_44_a_certificate_for_another_name_alone_is_told_before_the_start() {
    let active = Bench::connected().device.identity().active.clone().unwrap();
    let identity =
        TlsIdentity { signer: active.key.signer().unwrap(), chain: active.chain.clone() };
    for (with_key, name, works) in
        [(false, "pump-18", false), (true, "pump-18", true), (false, ID, true)]
    {
        Bench::with(fixture(), Identity::default(), |config| {
            config.registration.registration_id = RegistrationId::new(name).unwrap();
            let identity = Attestation::X509(identity.clone());
            let key = std::mem::replace(&mut config.attestation, identity);
            config.other_attestations.extend(with_key.then_some(key));
            let told = config.validate();
            assert_eq!(told.is_ok(), works, "{told:?}");
            assert_eq!(matches!(told, Err(ConfigError::Attestation(_))), !works);
        });
    }
}
