//! An authority and a TLS server on loopback, both thrown away with the test.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::SeedableRng;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyIdMethod, KeyUsagePurpose, PublicKeyData, SignatureAlgorithm, SigningKey,
};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use time::OffsetDateTime;
use zerotouch_credentials::{Certificate, CertificateChain, KeyAlgorithm, PrivateKey, Signer};
use zerotouch_tls::handshake;

/// One of our keys, signing for rcgen.
pub struct Key {
    pub key: Arc<PrivateKey>,
    bits: Vec<u8>,
}

impl Key {
    pub fn new(algorithm: KeyAlgorithm, seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let key = PrivateKey::generate(algorithm, &mut rng).unwrap();
        let spki = key.public_key();
        // What stands before the bits of the key.
        let wrapping = match algorithm {
            KeyAlgorithm::EcdsaP256 => spki.len() - 65,
            KeyAlgorithm::EcdsaP384 => spki.len() - 97,
            _ => 24,
        };
        let bits = spki[wrapping..].to_vec();
        Self { key: Arc::new(key), bits }
    }
}

impl PublicKeyData for &Key {
    fn der_bytes(&self) -> &[u8] {
        &self.bits
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self.key.algorithm() {
            KeyAlgorithm::EcdsaP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyAlgorithm::EcdsaP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            _ => &rcgen::PKCS_RSA_SHA256,
        }
    }
}

impl SigningKey for &Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.key.sign(message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

/// Seconds from now, negative in the past.
pub fn from_now(secs: i64) -> OffsetDateTime {
    OffsetDateTime::now_utc() + time::Duration::seconds(secs)
}

fn params(name: &str, sans: &[&str], valid: (i64, i64)) -> CertificateParams {
    let sans: Vec<String> = sans.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(sans).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = from_now(valid.0);
    params.not_after = from_now(valid.1);
    params.key_identifier_method = KeyIdMethod::PreSpecified(name.as_bytes().to_vec());
    params.serial_number = Some(rcgen::SerialNumber::from_slice(name.as_bytes()));
    params
}

pub struct Authority {
    key: Key,
    params: CertificateParams,
    pub root: CertificateDer<'static>,
}

impl Authority {
    pub fn new(name: &str, seed: u64) -> Self {
        let key = Key::new(KeyAlgorithm::EcdsaP384, seed);
        let mut params = params(name, &[], (-3_600, 86_400));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = params.self_signed(&&key).unwrap().der().clone();
        Self { key, params, root }
    }

    pub fn root_pem(&self) -> Vec<u8> {
        self.chain_of(&[]).to_pem().into_bytes()
    }

    fn issue(
        &self,
        name: &str,
        sans: &[&str],
        valid: (i64, i64),
        key: &Key,
        usage: ExtendedKeyUsagePurpose,
    ) -> CertificateDer<'static> {
        let mut params = params(name, sans, valid);
        params.extended_key_usages = vec![usage];
        let issuer = Issuer::from_params(&self.params, &self.key);
        params.signed_by(&key, &issuer).unwrap().der().clone()
    }

    /// The chain of a device, its root included as the service includes it.
    pub fn device(&self, key: &Key, valid: (i64, i64)) -> CertificateChain {
        let leaf = self.issue("press-7", &[], valid, key, ExtendedKeyUsagePurpose::ClientAuth);
        self.chain_of(&[leaf])
    }

    fn chain_of(&self, below: &[CertificateDer<'_>]) -> CertificateChain {
        let ders = below.iter().chain([&self.root]);
        let certificates = ders.map(|der| Certificate::from_der(der).unwrap()).collect();
        CertificateChain::new(certificates).unwrap()
    }
}

/// What a test's server is like.
pub struct ServerPlan<'a> {
    pub authority: &'a Authority,
    pub name: &'a str,
    pub valid: (i64, i64),
    pub version: &'static rustls::SupportedProtocolVersion,
    /// Whose device certificates it demands, if it does.
    pub demands: Option<&'a Authority>,
    /// How many connections it takes, one after the other.
    pub connections: usize,
}

/// A server that answers each connection with "hello" and reports the last client's certificates.
pub struct Server {
    pub address: SocketAddr,
    thread: JoinHandle<io::Result<Vec<CertificateDer<'static>>>>,
}

impl Server {
    pub fn start(plan: &ServerPlan<'_>) -> Self {
        let key = Key::new(KeyAlgorithm::EcdsaP256, 99);
        let leaf = plan.authority.issue(
            "server",
            &[plan.name],
            plan.valid,
            &key,
            ExtendedKeyUsagePurpose::ServerAuth,
        );
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[plan.version])
            .unwrap();
        let builder = match plan.demands {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.root.clone()).unwrap();
                builder.with_client_cert_verifier(
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .unwrap(),
                )
            }
        };
        let pem = key.key.to_pkcs8_pem().unwrap();
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
        let config = Arc::new(builder.with_single_cert(vec![leaf], key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = plan.connections;
        Self { address, thread: thread::spawn(move || serve_all(&listener, &config, connections)) }
    }

    /// The certificates the client presented; an error if the handshake failed.
    pub fn finish(self) -> io::Result<Vec<CertificateDer<'static>>> {
        self.thread.join().unwrap()
    }
}

fn serve_all(
    listener: &TcpListener,
    config: &Arc<ServerConfig>,
    connections: usize,
) -> io::Result<Vec<CertificateDer<'static>>> {
    let mut last = Vec::new();
    for _ in 0..connections {
        last = serve(listener, Arc::clone(config))?;
    }
    Ok(last)
}

fn serve(
    listener: &TcpListener,
    config: Arc<ServerConfig>,
) -> io::Result<Vec<CertificateDer<'static>>> {
    let (mut socket, _) = listener.accept()?;
    let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
    while tls.is_handshaking() {
        if let Err(error) = tls.complete_io(&mut socket) {
            // The alert that tells the client why is still to be sent.
            while tls.wants_write() {
                tls.write_tls(&mut socket)?;
            }
            // Closing with unread data would reset the connection and take the alert with it.
            socket.shutdown(std::net::Shutdown::Write)?;
            io::copy(&mut socket, &mut io::sink()).ok();
            return Err(error);
        }
    }
    tls.writer().write_all(b"hello")?;
    tls.send_close_notify();
    tls.complete_io(&mut socket)?;
    Ok(tls.peer_certificates().unwrap_or_default().to_vec())
}

/// Dials as a driver does, and reads what the server says.
pub fn greet(address: SocketAddr, name: &str, config: Arc<ClientConfig>) -> io::Result<String> {
    let mut stream = connect(address, name, config)?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

/// Dials up to the end of our side's handshake.
pub fn connect(
    address: SocketAddr,
    name: &str,
    config: Arc<ClientConfig>,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let name = ServerName::try_from(name.to_string()).unwrap();
    let mut connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
    let mut socket = TcpStream::connect(address)?;
    handshake(&mut connection, &mut socket, Duration::from_secs(60))?;
    Ok(StreamOwned::new(connection, socket))
}
