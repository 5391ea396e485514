//! `zerotouch fleet` as a script runs it, against an emulator in this process.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use zerotouch_credentials::{CertificateChain, SymmetricKey};
use zerotouch_device::{Attestation, Config};
use zerotouch_dps::{IdScope, RegistrationId};
use zerotouch_emulator::Emulator;
use zerotouch_emulator::cloud::{EnrollmentGroup, Fixture};
use zerotouch_store::FileStore;
use zerotouch_tls::Roots;
use zerotouch_tokio::Device;

fn zerotouch() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zerotouch"));
    command.stdin(Stdio::null());
    command
}

/// An emulator, and where the files are that a fleet needs.
struct Cloud {
    emulator: Emulator,
    directory: TempDir,
}

impl Cloud {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        assert!(
            zerotouch()
                .args(["pki", "root", "--out"])
                .arg(&root)
                .output()
                .unwrap()
                .status
                .success()
        );
        let pem = std::fs::read_to_string(root.with_extension("cert.pem")).unwrap();
        let authorities = CertificateChain::from_pem(&pem).unwrap().iter().cloned().collect();
        let mut fixture = Fixture::default();
        fixture.enrollment_groups.push(EnrollmentGroup::x509("factory", authorities));
        let emulator = Emulator::builder().fixture(fixture).start().unwrap();
        emulator.write_ca_certificate(&directory.path().join("ca.pem")).unwrap();
        Self { emulator, directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A fleet without a credential.
    fn fleet(&self, arguments: &[&str]) -> Command {
        let mut command = zerotouch();
        command
            .args(["fleet", "-o", "json", "--port", &self.emulator.port().to_string(), "--ca-file"])
            .arg(self.path("ca.pem"))
            .args(arguments);
        command
    }

    /// With the group's key.
    fn keyed(&self, arguments: &[&str]) -> Command {
        let key = self.emulator.group_key(Fixture::DEFAULT_GROUP).unwrap();
        let mut command = self.fleet(arguments);
        command.args(["--group-key", "env:FLEET_KEY"]).env("FLEET_KEY", key.to_base64().as_str());
        command
    }

    /// With certificates from the root.
    fn certified(&self, arguments: &[&str]) -> Command {
        let mut command = self.fleet(arguments);
        command.arg("--issuer").arg(self.path("root"));
        command
    }
}

fn finished(mut command: Command) -> (i32, Value) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let document = serde_json::from_slice(&stdout);
    let document = document.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&stderr)));
    (status.code().unwrap(), document)
}

fn refused(mut command: Command) -> (i32, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code().unwrap(), String::from_utf8(stderr).unwrap())
}

// All that is asked is done, by either credential; and the emulator has seen the same.
#[test]
fn ten_devices_provision() {
    let cloud = Cloud::new();
    for (command, registered) in [
        (cloud.keyed(&["provision", "--devices", "10", "--name-prefix", "keyed"]), 10),
        (cloud.certified(&["provision", "--devices", "10", "--keys", "3"]), 20),
    ] {
        let (code, result) = finished(command);
        assert_eq!((code, &result["ok"]), (0, &json!(true)), "{result}");
        assert_eq!(result["provisioned"], 10, "{result}");
        assert_eq!(result["errors"], json!([]));
        assert!(result["provisioningMs"]["p50"].as_f64().unwrap() > 0.0, "{result}");
        let devices = cloud.emulator.with_cloud(|cloud, _| cloud.devices().count());
        assert_eq!(devices, registered);
    }
}

// Who stays proves at the end that it was there; who sends is told of each message.
#[test]
fn devices_stay_and_send() {
    let cloud = Cloud::new();
    let (code, result) = finished(cloud.certified(&["idle", "--devices", "5", "--seconds", "1"]));
    assert_eq!(code, 0, "{result}");
    assert_eq!((&result["connected"], &result["lostConnections"]), (&json!(5), &json!(0)));
    assert_eq!((&result["sent"], &result["acknowledged"]), (&json!(5), &json!(5)));

    let options = ["telemetry", "--devices", "2", "--seconds", "1", "--window", "4"];
    let (code, result) = finished(cloud.certified(&options));
    assert_eq!(code, 0, "{result}");
    assert!(result["sent"].as_u64().unwrap() >= 8, "{result}");
    assert_eq!(result["sent"], result["acknowledged"]);
}

// A script has to see from code and kind what was wrong, and how often.
#[test]
fn failures_are_counted_by_kind() {
    let cloud = Cloud::new();
    let mut command = cloud.fleet(&["provision", "--devices", "3", "--group-key", "env:FLEET_KEY"]);
    command.env("FLEET_KEY", "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lE=");
    let (code, result) = finished(command);
    assert_eq!(code, 4, "{result}");
    assert_eq!(result["ok"], false);
    assert_eq!(result["provisioned"], 0);
    assert_eq!(result["errors"][0]["count"], 3, "{result}");
    assert_eq!(result["errors"][0]["kind"], "provisioning service: provisioning", "{result}");
    assert_eq!(result["error"]["code"], "identity-refused");
    // A broker lets in or does not; nobody registers there.
    let (code, result) = finished(cloud.certified(&["idle", "--devices", "2", "--broker"]));
    let kinds: Vec<_> = result["errors"].as_array().unwrap().iter().map(|e| &e["kind"]).collect();
    assert!(code == 5 || code == 4, "{result}");
    assert!(kinds.iter().all(|kind| kind.as_str().unwrap().starts_with("hub: ")), "{result}");
}

// What is interrupted tells how far it came.
#[test]
fn an_interrupted_fleet_tells_its_results() {
    let cloud = Cloud::new();
    let mut command = cloud.keyed(&["idle", "--devices", "3", "--seconds", "3600"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut words = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    stderr.read_line(&mut words).unwrap();
    assert_eq!(words, "3 of 3 devices are connected, for 3600 s\n");
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let Output { status, stdout, .. } = child.wait_with_output().unwrap();
    let result: Value = serde_json::from_slice(&stdout).unwrap();
    assert_eq!(status.code(), Some(130), "{result}");
    assert_eq!(
        (&result["connected"], &result["error"]["code"]),
        (&json!(3), &json!("interrupted"))
    );
}

// Nobody loads somebody else's service by a slip, nor begins what cannot end well.
#[test]
fn what_cannot_be_meant_is_refused_at_once() {
    let cloud = Cloud::new();
    for (command, code, words) in [
        (cloud.keyed(&["provision", "--host", "192.0.2.1"]), 2, "192.0.2.1 is not on this machine"),
        (cloud.keyed(&["provision", "--host", "192.0.2.1"]), 2, "--allow-remote"),
        (cloud.keyed(&["provision", "--devices", "20001"]), 2, "20001 is not in 1..=20000"),
        (cloud.keyed(&["provision", "--limit", "7201"]), 2, "7201 is not in 1..=7200"),
        (cloud.keyed(&["provision", "--broker"]), 2, "cannot be used with"),
        (cloud.fleet(&["provision"]), 2, "--group-key <REFERENCE>"),
        (cloud.fleet(&["provision", "--group-key", "c2VjcmV0"]), 2, "given on the command line"),
        (cloud.fleet(&["idle", "--issuer", "/nonexistent/ca"]), 2, "/nonexistent/ca.cert.pem"),
    ] {
        let (found, told) = refused(command);
        assert_eq!(found, code, "{told}");
        assert!(told.contains(words), "{told}");
    }
    assert_eq!(cloud.emulator.with_cloud(|cloud, _| cloud.devices().count()), 0);
}

/// Runs the tool where only so many files may be open.
fn limited(limits: &str, arguments: &str) -> Command {
    let mut command = Command::new("sh");
    let tool = env!("CARGO_BIN_EXE_zerotouch");
    command.arg("-c").arg(format!("{limits}; exec {tool} {arguments}")).stdin(Stdio::null());
    command
}

// Connections that would fail one by one, for want of files, are not begun; the soft limit is no limit.
#[test]
fn too_few_files_are_said_at_once() {
    let fleet = "fleet idle --broker --devices 300 --port 1";
    let (code, told) = refused(limited("ulimit -n 200", fleet));
    assert_eq!(code, 2, "{told}");
    let expected = "300 connections need 364 open files, and there is room for 136";
    assert!(told.contains(expected) && told.contains("ulimit -n"), "{told}");
    let (code, told) = refused(limited("ulimit -n 500; ulimit -Sn 100", fleet));
    assert_eq!(code, 5, "it got as far as the dial: {told}");

    let emulator = "emulator --port 0 --quiet -o json";
    let mut emulator = limited("ulimit -n 1000; ulimit -Sn 100", emulator);
    let mut child = emulator.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut words = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut words).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let expected = "only 936 connections can be held at once, not 16384";
    assert!(words.contains(expected) && words.contains("ulimit -n 16448"), "{words}");
}

/// The chains of all devices in a state directory.
fn chains(directory: &Path) -> Vec<CertificateChain> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        let text = std::fs::read_to_string(directory).unwrap_or_default();
        return CertificateChain::from_pem(&text).ok().into_iter().collect();
    };
    entries.flat_map(|entry| chains(&entry.unwrap().path())).collect()
}

// The authority's algorithm is what was asked for, from the root to what it signs.
#[test]
fn the_authority_is_of_the_algorithm_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    // The length of a SubjectPublicKeyInfo tells the curve.
    for (options, expected) in [(&[][..], 120), (&["--ca-alg", "p256"], 91)] {
        let mut emulator = zerotouch();
        emulator.args(["emulator", "--port", "0", "-o", "json", "--quiet"]).args(options);
        let mut child = emulator.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let state = directory.path().join(options.len().to_string());
        let group = SymmetricKey::from_base64(&text(&ready["enrollmentGroups"][0]["primaryKey"]));
        let attestation = Attestation::SymmetricKey(group.unwrap().derive("d"));
        let scope = IdScope::new(&text(&ready["idScope"])).unwrap();
        let mut config = Config::new(scope, RegistrationId::new("d").unwrap(), attestation);
        config.provisioning_host = "localhost".into();
        config.provisioning_port = ready["port"].as_u64().unwrap().try_into().unwrap();
        config.hub.port = config.provisioning_port;
        config.hub.hosts.allow("localhost");
        let roots = Roots::Pem(std::fs::read(text(&ready["caFile"])).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = FileStore::options().open(&state, "d").unwrap();
            let connected = Device::builder(config).roots(roots).connect(store).await;
            connected.unwrap().0.close().await;
        });
        child.kill().unwrap();
        child.wait().unwrap();
        let chain = chains(&state).into_iter().find(|chain| chain.iter().count() == 3).unwrap();
        let keys: Vec<_> = chain.iter().skip(1).map(|one| one.public_key().len()).collect();
        assert_eq!(keys, [expected, expected], "{options:?}");
    }
}
