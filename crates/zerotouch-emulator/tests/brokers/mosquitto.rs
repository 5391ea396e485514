//! Debian's mosquitto, with a configuration and a directory of the test's own.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;
use zerotouch_emulator::server::crypto_provider;

use super::{Broker, PASSWORD, PATIENCE, USERNAME, socket};

/// Where Debian puts it is not in everybody's path.
const PROGRAMS: [&str; 2] = ["mosquitto", "/usr/sbin/mosquitto"];

const LOG: &str = "mosquitto.log";

struct Running {
    child: Child,
    directory: TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.directory.path().join(LOG));
            println!("mosquitto's own words:\n{}", log.unwrap_or_default());
        }
    }
}

/// One broker with two listeners, plaintext and TLS, under a name each; none if it is not installed.
pub(crate) fn brokers() -> Vec<Broker> {
    let Some(program) = PROGRAMS.into_iter().find(|program| is_there(program)) else {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "mosquitto is not installed");
        eprintln!("skipped: mosquitto is not installed (apt-get install mosquitto)");
        return Vec::new();
    };
    let directory = tempfile::tempdir().unwrap();
    let certificate = certify(directory.path());
    run(Command::new("mosquitto_passwd")
        .args(["-b", "-c", "passwords", USERNAME, str::from_utf8(PASSWORD).unwrap()])
        .current_dir(directory.path()));
    // Between choosing ports and listening on them another program may take one.
    let (child, [plain, tls]) =
        (0..10).find_map(|_| start(program, directory.path())).expect("mosquitto does not start");
    let running = Arc::new(Running { child, directory });
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let config = ClientConfig::builder_with_provider(crypto_provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    let dial = move || {
        let name = ServerName::try_from("localhost").unwrap();
        let tls_client = ClientConnection::new(Arc::clone(&config), name).unwrap();
        Box::new(StreamOwned::new(tls_client, socket(([127, 0, 0, 1], tls).into()))) as Box<_>
    };
    vec![
        Broker::at("mosquitto", ([127, 0, 0, 1], plain).into(), Arc::clone(&running)),
        Broker::new("mosquitto over TLS", dial, running),
    ]
}

fn is_there(program: &str) -> bool {
    // It has no option that ends with success.
    let probe =
        Command::new(program).arg("-h").stdout(Stdio::null()).stderr(Stdio::null()).status();
    !matches!(probe, Err(error) if error.kind() == ErrorKind::NotFound)
}

fn start(program: &str, directory: &Path) -> Option<(Child, [u16; 2])> {
    let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let ports = ports.map(|listener| listener.local_addr().unwrap().port());
    // No window: Debian's 2.0.11 does not go on with its queue once all QoS 2 messages of a window are
    // released at one blow.
    let configuration = format!(
        "user root\nallow_anonymous false\npassword_file passwords\nset_tcp_nodelay true\n\
         max_inflight_messages 0\nlog_dest file {LOG}\n\
         listener {} 127.0.0.1\n\
         listener {} 127.0.0.1\ncertfile certificate.pem\nkeyfile key.pem\n",
        ports[0], ports[1],
    );
    std::fs::write(directory.join("mosquitto.conf"), configuration).unwrap();
    std::fs::write(directory.join(LOG), "").unwrap();
    let mut child = Command::new(program)
        .args(["-c", "mosquitto.conf"])
        .current_dir(directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Somebody who answers on a port may be the one who took it: only its own word counts.
    let begun = Instant::now();
    while !std::fs::read_to_string(directory.join(LOG)).unwrap().contains(" running\n") {
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        if begun.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("mosquitto does not say that it runs");
        }
        sleep(Duration::from_millis(10));
    }
    Some((child, ports))
}

/// A certificate for `localhost` that answers for itself.
fn certify(directory: &Path) -> CertificateDer<'static> {
    run(Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-days", "2"])
        .args(["-keyout", "key.pem", "-out", "certificate.pem"])
        .current_dir(directory));
    CertificateDer::from_pem_file(directory.join("certificate.pem")).unwrap()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
