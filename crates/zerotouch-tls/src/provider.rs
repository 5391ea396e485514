//! What the services speak, by ring: AES-GCM over P-256 and P-384, and certificates signed by ECDSA and RSA.
//! Whatever else ring has would be carried for nothing; so its parts are named one by one. P-256 is not by
//! ring, whose table for it alone is a twentieth of a device's program, but by what makes the device's keys.

use std::sync::Arc;

use rustls::SignatureScheme as Scheme;
use rustls::crypto::ring::cipher_suite as suite;
use rustls::crypto::ring::kx_group::SECP384R1;
use rustls::crypto::{
    CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom, WebPkiSupportedAlgorithms,
};
use rustls::sign::SigningKey;
use rustls_pki_types::PrivateKeyDer;
use webpki::ring as verify;
use zerotouch_credentials::{ECDSA_P256_SHA256, ECDSA_P256_SHA384};

use crate::key_exchange::P256;

pub(crate) fn ring() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            suite::TLS13_AES_256_GCM_SHA384,
            suite::TLS13_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        ],
        kx_groups: vec![&P256, SECP384R1],
        signature_verification_algorithms: SIGNATURES,
        secure_random: &System,
        key_provider: &SignersAlone,
    }
}

static SIGNATURES: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[
        ECDSA_P256_SHA256,
        ECDSA_P256_SHA384,
        verify::ECDSA_P384_SHA256,
        verify::ECDSA_P384_SHA384,
        verify::RSA_PKCS1_2048_8192_SHA256,
        verify::RSA_PKCS1_2048_8192_SHA384,
        verify::RSA_PKCS1_2048_8192_SHA512,
        verify::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        verify::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
        verify::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
    ],
    // Of TLS 1.2 a scheme names no curve; of TLS 1.3 it is the first here.
    mapping: &[
        (Scheme::ECDSA_NISTP384_SHA384, &[verify::ECDSA_P384_SHA384, ECDSA_P256_SHA384]),
        (Scheme::ECDSA_NISTP256_SHA256, &[ECDSA_P256_SHA256, verify::ECDSA_P384_SHA256]),
        (Scheme::RSA_PSS_SHA512, &[verify::RSA_PSS_2048_8192_SHA512_LEGACY_KEY]),
        (Scheme::RSA_PSS_SHA384, &[verify::RSA_PSS_2048_8192_SHA384_LEGACY_KEY]),
        (Scheme::RSA_PSS_SHA256, &[verify::RSA_PSS_2048_8192_SHA256_LEGACY_KEY]),
        (Scheme::RSA_PKCS1_SHA512, &[verify::RSA_PKCS1_2048_8192_SHA512]),
        (Scheme::RSA_PKCS1_SHA384, &[verify::RSA_PKCS1_2048_8192_SHA384]),
        (Scheme::RSA_PKCS1_SHA256, &[verify::RSA_PKCS1_2048_8192_SHA256]),
    ],
};

#[derive(Debug)]
struct System;

impl SecureRandom for System {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), GetRandomFailed> {
        getrandom::fill(buffer).map_err(|_| GetRandomFailed)
    }
}

/// No key is ever loaded: a [`Signer`](zerotouch_credentials::Signer) has it.
#[derive(Debug)]
struct SignersAlone;

impl KeyProvider for SignersAlone {
    fn load_private_key(
        &self,
        _: PrivateKeyDer<'static>,
    ) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        Err(rustls::Error::General("keys are behind signers here, and none is loaded".into()))
    }
}
