//! A TLS server on loopback that demands a certificate, and a device whose key is in a token.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chacha20::ChaCha20Rng;
use chacha20::rand_core::SeedableRng;
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    SupportedProtocolVersion,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zerotouch_credentials::{CertificateChain, KeyAlgorithm, PrivateKey, Signer};
use zerotouch_emulator::pki::{CertificationAuthority, Validity};
use zerotouch_time::UnixTime;
use zerotouch_tls::{Roots, TlsClient};

/// Certifies the signer's key, and has the server see that certificate.
pub(crate) fn presents_its_certificate(
    signer: &Arc<dyn Signer>,
    version: &'static SupportedProtocolVersion,
) {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let from = UnixTime::from_secs(i64::try_from(since_epoch).unwrap());
    let validity = Validity { from, lifetime: Duration::from_secs(3_600) };
    let new_key = |rng: &mut ChaCha20Rng| {
        Arc::new(PrivateKey::generate(KeyAlgorithm::EcdsaP256, rng).unwrap())
    };
    let root = new_key(&mut rng);
    let root = CertificationAuthority::root("root", validity, root, &mut rng).unwrap();
    let leaf = root.certify_device("press-7", signer.public_key(), validity, &mut rng).unwrap();
    let server_key = new_key(&mut rng);
    let names = ["localhost".to_string()];
    let server = root.certify_server(&names, server_key.public_key(), validity, &mut rng).unwrap();

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut trusted = RootCertStore::empty();
    trusted.add(CertificateDer::from(root.certificate().as_der())).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(trusted), Arc::clone(&provider));
    let key = PrivateKeyDer::from_pem_slice(server_key.to_pkcs8_pem().unwrap().as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![CertificateDer::from(server.as_der().to_vec())], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serving = std::thread::spawn(move || {
        let connection = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = StreamOwned::new(connection, listener.accept().unwrap().0);
        stream.write_all(b"hello").unwrap();
        stream.conn.send_close_notify();
        stream.flush().unwrap();
        stream.conn.peer_certificates().unwrap()[0].to_vec()
    });

    let chain = CertificateChain::new(vec![leaf, root.certificate().clone()]).unwrap();
    let roots = CertificateChain::new(vec![root.certificate().clone()]).unwrap().to_pem();
    let client = TlsClient::new(&Roots::Pem(roots.into_bytes())).unwrap();
    let config = client.config(Some((Arc::clone(signer), &chain))).unwrap();
    let connection = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(address).unwrap());
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert_eq!(said, "hello");
    assert_eq!(serving.join().unwrap(), chain.leaf().as_der());
}
