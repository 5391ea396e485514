//! A real PKCS#11 module, `SoftHSM`, with a token made for the test.
//!
//! It finds its tokens through an environment variable, which a test must not set for its whole
//! process; so the outer tests prepare a token and run the inner one in a process of its own.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod life;
mod tls;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use rsa::pkcs8::DecodePublicKey;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;
use zerotouch_credentials::{
    CertificateRequest, KeyAlgorithm, SignError, Signer, verify_signature,
};
use zerotouch_pkcs11::{KeyReference, KeyUri, Pkcs11Error, Pkcs11Signer};

const TOKEN: &str = "zerotouch test";
const PIN: &str = "98765";
/// Names the directory of the token to the inner test.
const DIRECTORY: &str = "ZEROTOUCH_SOFTHSM_DIRECTORY";

const P256: &[u8] = &[0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x22];
const P521: &[u8] = &[0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x23];

fn module() -> Option<PathBuf> {
    ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
}

#[test]
fn a_key_in_a_token_signs() {
    if module().is_none() {
        assert!(std::env::var_os("CI").is_none(), "softhsm2 is not installed");
        eprintln!("skipped: softhsm2 is not installed (apt-get install softhsm2)");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::create_dir(path.join("tokens")).unwrap();
    let configuration = format!("directories.tokendir = {}\n", path.join("tokens").display());
    std::fs::write(path.join("softhsm2.conf"), configuration).unwrap();
    std::fs::write(path.join("pin"), format!("{PIN}\n")).unwrap();
    std::fs::write(path.join("wrong-pin"), "00000").unwrap();
    run(
        path,
        Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", TOKEN])
            .args(["--pin", PIN, "--so-pin", "12345678"]),
    );
    let told = run(
        path,
        Command::new(std::env::current_exe().unwrap()).args([
            "--exact",
            "inside_the_process_with_the_token",
            "--ignored",
            "--nocapture",
        ]),
    );
    assert!(told.contains("1 passed"), "the inner test was not found: {told}");
}

fn run(directory: &Path, command: &mut Command) -> String {
    let command =
        command.env("SOFTHSM2_CONF", directory.join("softhsm2.conf")).env(DIRECTORY, directory);
    let output = command.output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(output.status.success(), "{told}");
    told
}

#[test]
#[ignore = "run by a_key_in_a_token_signs"]
fn inside_the_process_with_the_token() {
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
    let session = session();
    generate(&session, "identity-256", &[1], P256);
    generate(&session, "identity-384", &[2], P384);
    generate(&session, "identity-521", &[3], P521);
    generate(&session, "twin", &[4], P256);
    generate(&session, "twin", &[5], P256);
    generate_rsa(&session, "rsa-2048", &[6], 2048);
    generate_rsa(&session, "rsa-3072", &[7], 3072);
    generate_rsa(&session, "rsa-1024", &[8], 1024);
    drop(session);

    for (object, algorithm) in [
        ("identity-256", KeyAlgorithm::EcdsaP256),
        ("identity-384", KeyAlgorithm::EcdsaP384),
        ("rsa-2048", KeyAlgorithm::Rsa2048),
        ("rsa-3072", KeyAlgorithm::Rsa3072),
    ] {
        // By the reference that may stand wherever a key file may.
        let reference = uri_text(&directory, &format!("object={object}"));
        let signer = reference.parse::<KeyReference>().unwrap().open().unwrap();
        assert_eq!(signer.algorithm(), algorithm);
        let request = CertificateRequest::new(&*signer, "press-7").unwrap();
        CertificateRequest::from_der(request.as_der()).unwrap().verify().unwrap();
        openssl_verifies(&directory, &request);
        signs_by_pss(&*signer);
        shakes_hands(&signer);
        // r and s are short now and then; their encoding must hold for all lengths.
        for round in 0..50_u8 {
            let signature = signer.sign(&[round]).unwrap();
            verify_signature(signer.public_key(), &[round], &signature).unwrap();
        }
        assert_eq!(format!("{signer:?}"), format!("Pkcs11Signer({algorithm}, ..)"));
    }

    // Two signers of one process share the module and the login.
    let by_id = |id: &str| Pkcs11Signer::open(&uri(&directory, &format!("id={id}")));
    let (first, second) = (by_id("%01").unwrap(), by_id("%02").unwrap());
    assert!(first.sign(b"message").is_ok() && second.sign(b"message").is_ok());
    drop(first);
    assert!(second.sign(b"message").is_ok());
    drop(second);

    let refused = |uri: &KeyUri| Pkcs11Signer::open(uri).unwrap_err();
    let of = |object: &str| uri(&directory, &format!("object={object}"));
    assert!(matches!(refused(&of("nobody")), Pkcs11Error::Key { found: 0 }));
    assert!(matches!(refused(&of("twin")), Pkcs11Error::Key { found: 2 }));
    assert!(by_id("%05").is_ok());
    for object in ["identity-521", "rsa-1024"] {
        assert!(matches!(refused(&of(object)), Pkcs11Error::UnsupportedKey), "{object}");
    }
    let mut other_token = of("identity-256");
    other_token.token = Some("another".into());
    assert!(matches!(refused(&other_token), Pkcs11Error::Token { found: 0 }));
    let mut no_module = of("identity-256");
    no_module.module_path = "/nowhere.so".into();
    assert!(matches!(refused(&no_module), Pkcs11Error::Module { .. }));
    let mut no_pin = of("identity-256");
    no_pin.pin_source = Some(directory.join("nothing"));
    assert!(matches!(refused(&no_pin), Pkcs11Error::PinSource { .. }));
    // Nobody is logged in any more: the last session of the process has ended.
    no_pin.pin_source = None;
    assert!(matches!(refused(&no_pin), Pkcs11Error::Key { found: 0 }));
    no_pin.pin_source = Some(directory.join("wrong-pin"));
    let wrong = refused(&no_pin);
    assert!(matches!(wrong, Pkcs11Error::Login { .. }));
    assert!(!format!("{wrong} {wrong:?}").contains("00000"));

    life::a_device_lives_by_its_token(&directory);
    life::a_refused_pin_is_tried_once(&directory);
    lost_sessions(&directory);
    // The last: after it there is no token.
    a_removed_token(&directory);
}

/// Whoever logs out in this process takes the login from every session, and with it the key.
fn lost_sessions(directory: &Path) {
    let with_file = uri(directory, "object=identity-256");
    let reopens = Pkcs11Signer::open(&with_file).unwrap();
    let pin = Zeroizing::new(PIN.to_string());
    let with_pin = Pkcs11Signer::open_with_pin(&with_file, Some(&pin)).unwrap();
    let log_out = || session_logged_in_already().logout().unwrap();
    log_out();
    assert!(matches!(cause(with_pin.sign(b"message")), Pkcs11Error::SessionLost { .. }));
    let signature = reopens.sign(b"message").unwrap();
    verify_signature(reopens.public_key(), b"message", &signature).unwrap();

    // Without its file of the PIN it is as helpless, and says why.
    log_out();
    std::fs::rename(directory.join("pin"), directory.join("pin-away")).unwrap();
    assert!(matches!(cause(reopens.sign(b"message")), Pkcs11Error::PinSource { .. }));
    std::fs::rename(directory.join("pin-away"), directory.join("pin")).unwrap();
    reopens.sign(b"message").unwrap();

    // A token that was set up anew, with another key by the same name, is another device.
    let session = session_logged_in_already();
    for object in session.find_objects(&[Attribute::Label(b"identity-256".to_vec())]).unwrap() {
        session.destroy_object(object).unwrap();
    }
    generate(&session, "identity-256", &[1], P256);
    drop(session);
    log_out();
    assert!(matches!(cause(reopens.sign(b"message")), Pkcs11Error::KeyMismatch));
}

/// `SoftHSM`'s token is a directory.
fn a_removed_token(directory: &Path) {
    let signer = Pkcs11Signer::open(&uri(directory, "object=identity-384")).unwrap();
    std::fs::remove_dir_all(directory.join("tokens")).unwrap();
    let error = cause(signer.sign(b"message"));
    assert!(matches!(error, Pkcs11Error::TokenRemoved { .. }), "{error:?}");
    assert!(error.to_string().contains("the token was removed; put it back"));
}

fn cause(signed: Result<Vec<u8>, SignError>) -> Pkcs11Error {
    match signed.unwrap_err() {
        SignError::Device(error) => *error.downcast().unwrap(),
        other => panic!("{other:?}"),
    }
}

/// The witness that is none of ours.
fn openssl_verifies(directory: &Path, request: &CertificateRequest) {
    std::fs::write(directory.join("request.der"), request.as_der()).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-inform", "DER", "-in", "request.der", "-verify", "-noout"]);
    if let Ok(output) = openssl.current_dir(directory).output() {
        assert!(output.status.success(), "{output:?}");
        return;
    }
    assert!(std::env::var_os("CI").is_none(), "openssl is not installed");
    eprintln!("skipped: openssl is not installed");
}

/// TLS 1.3 takes nothing else from an RSA key.
fn signs_by_pss(signer: &dyn Signer) {
    let signature = signer.sign_pss(b"message");
    if signer.algorithm().rsa_bits().is_none() {
        assert!(matches!(signature, Err(SignError::Unsupported)));
        return;
    }
    let key = rsa::PublicKey::from_public_key_der(signer.public_key()).unwrap();
    let digest = Sha256::digest(b"message");
    key.verify(rsa::Pss::<Sha256>::new(), &digest, &signature.unwrap()).unwrap();
}

/// The same signer in both versions of TLS, before a server that wants its certificate.
fn shakes_hands(signer: &Arc<dyn Signer>) {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        tls::presents_its_certificate(signer, version);
    }
}

fn uri(directory: &Path, key: &str) -> KeyUri {
    uri_text(directory, key).parse().unwrap()
}

fn uri_text(directory: &Path, key: &str) -> String {
    let (module, directory) = (module().unwrap(), directory.display());
    format!(
        "pkcs11:token=zerotouch%20test;{key}?module-path={}&pin-source=file:{directory}/pin",
        module.display()
    )
}

fn session() -> Session {
    let module = Pkcs11::new(module().unwrap()).unwrap();
    module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    let session = open_session(&module);
    session.login(UserType::User, Some(&AuthPin::from(PIN))).unwrap();
    session
}

fn session_logged_in_already() -> Session {
    open_session(&Pkcs11::new(module().unwrap()).unwrap())
}

fn open_session(module: &Pkcs11) -> Session {
    let slot = module.get_slots_with_initialized_token().unwrap()[0];
    module.open_rw_session(slot).unwrap()
}

fn generate(session: &Session, label: &str, id: &[u8], curve: &[u8]) {
    generate_pair(
        session,
        label,
        id,
        &Mechanism::EccKeyPairGen,
        &[Attribute::EcParams(curve.to_vec())],
    );
}

fn generate_rsa(session: &Session, label: &str, id: &[u8], bits: u64) {
    let parameters =
        [Attribute::ModulusBits(bits.into()), Attribute::PublicExponent(vec![1, 0, 1])];
    generate_pair(session, label, id, &Mechanism::RsaPkcsKeyPairGen, &parameters);
}

fn generate_pair(
    session: &Session,
    label: &str,
    id: &[u8],
    mechanism: &Mechanism<'_>,
    parameters: &[Attribute],
) {
    let named = [
        Attribute::Token(true),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Id(id.to_vec()),
    ];
    let public = [&named[..], parameters, &[Attribute::Verify(true)]].concat();
    let private = [
        &named[..],
        &[Attribute::Private(true), Attribute::Sensitive(true), Attribute::Sign(true)],
    ]
    .concat();
    session.generate_key_pair(mechanism, &public, &private).unwrap();
}
