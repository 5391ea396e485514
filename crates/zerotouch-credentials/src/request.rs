//! Certificate signing requests: PKCS#10, RFC 2986.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use base64ct::{Base64, Encoding};
use der::asn1::{Any, BitString, SetOfVec};
use der::pem::{self, LineEnding};
use der::{Decode, Encode, Reader, SliceReader};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::request::{CertReq, CertReqInfo, Version};

use crate::name;
use crate::signer::{KeyAlgorithm, SignError, Signer};
use crate::verify::{self, SignatureError};

/// The longest common name X.520 allows (`ub-common-name`), in characters. Registration ids may be
/// longer; no authority would issue for one.
pub const MAX_COMMON_NAME_CHARS: usize = 64;

/// A certificate signing request.
///
/// Built, it holds the registration id as its only name, an empty set of attributes, and a
/// signature that has been verified, if [`Signer::is_verified`]. Parsed, it is a claim until
/// [`CertificateRequest::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    der: Vec<u8>,
    common_name: Option<String>,
    public_key: Vec<u8>,
}

/// Why a request was not made or not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The common name is empty or longer than [`MAX_COMMON_NAME_CHARS`].
    #[error(
        "the name has {found} characters; a certificate's common name takes 1 to {MAX_COMMON_NAME_CHARS}, \
         so choose a shorter registration id"
    )]
    CommonNameLength {
        /// Characters in the name.
        found: usize,
    },
    /// The common name holds a control character.
    #[error("the name holds a control character, which no certificate may")]
    CommonNameCharacter,
    /// The signer failed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The signature of a new request does not verify under the signer's own public key.
    #[error("the signer's signature does not verify under its own public key")]
    SignerMismatch,
    /// The PEM text holds no whole `CERTIFICATE REQUEST` block.
    #[error("no certificate request found in the PEM text")]
    NotPem,
    /// The text is not padded base64 of the standard alphabet without white space.
    #[error("the request is not base64 (standard alphabet, padded, no line breaks)")]
    NotBase64,
    /// The bytes are not one DER `CertificationRequest`.
    #[error("the request is not PKCS#10 DER: {0}")]
    Malformed(der::Error),
    /// The signature or key of a parsed request.
    #[error("the request is not acceptable: {0}")]
    Signature(#[from] SignatureError),
}

impl CertificateRequest {
    /// Requests a certificate for `signer`'s key with `common_name`, which is the registration id.
    pub fn new(signer: &dyn Signer, common_name: &str) -> Result<Self, RequestError> {
        let chars = common_name.chars().count();
        if chars == 0 || chars > MAX_COMMON_NAME_CHARS {
            return Err(RequestError::CommonNameLength { found: chars });
        }
        if common_name.chars().any(char::is_control) {
            return Err(RequestError::CommonNameCharacter);
        }
        let info = CertReqInfo {
            version: Version::V1,
            subject: name::with_common_name(common_name).map_err(RequestError::Malformed)?,
            public_key: SubjectPublicKeyInfoOwned::from_der(signer.public_key())
                .map_err(RequestError::Malformed)?,
            // Present and empty, as RFC 2986 wants it without attributes. An `extensionRequest`
            // holding no extension, which some builders emit, is not valid.
            attributes: SetOfVec::new(),
        };
        let signed = info.to_der().map_err(RequestError::Malformed)?;
        let signature = signer.sign(&signed)?;
        if signer.is_verified() {
            verify::verify_signature(signer.public_key(), &signed, &signature)
                .map_err(|_| RequestError::SignerMismatch)?;
        }
        let request = CertReq {
            info,
            algorithm: signature_algorithm(signer.algorithm()),
            signature: BitString::from_bytes(&signature).map_err(RequestError::Malformed)?,
        };
        Ok(Self {
            der: request.to_der().map_err(RequestError::Malformed)?,
            common_name: Some(common_name.to_string()),
            public_key: signer.public_key().to_vec(),
        })
    }

    /// Reads the DER form. Trailing bytes are an error.
    pub fn from_der(der: &[u8]) -> Result<Self, RequestError> {
        let request = CertReq::from_der(der).map_err(RequestError::Malformed)?;
        let mut names = name::common_names(&request.info.subject).into_iter();
        let common_name = match (names.next(), names.next()) {
            (Some(only), None) => only,
            _ => None,
        };
        Ok(Self {
            der: der.to_vec(),
            common_name,
            public_key: request.info.public_key.to_der().map_err(RequestError::Malformed)?,
        })
    }

    /// Reads the form that the `csr` member of a registration has.
    pub fn from_base64(text: &str) -> Result<Self, RequestError> {
        Self::from_der(&Base64::decode_vec(text).map_err(|_| RequestError::NotBase64)?)
    }

    /// Reads a request from a file's bytes, whatever its form: PEM (RFC 7468 §7), DER, or base64 of DER
    /// as [`CertificateRequest::to_base64`] writes it, a newline at its end allowed.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RequestError> {
        // The tag of a SEQUENCE, with which no base64 of one begins.
        if bytes.first() == Some(&0x30) {
            return Self::from_der(bytes);
        }
        match core::str::from_utf8(bytes) {
            Ok(text) if text.contains("-----BEGIN ") => {
                let der = CertificateSigningRequestDer::from_pem_slice(bytes)
                    .map_err(|_| RequestError::NotPem)?;
                Self::from_der(&der)
            }
            Ok(text) => Self::from_base64(text.trim_end()),
            Err(_) => Err(RequestError::NotBase64),
        }
    }

    /// The DER form.
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// The DER in base64, without armour or line breaks: what the `csr` member of a registration
    /// and of a renewal holds.
    pub fn to_base64(&self) -> String {
        Base64::encode_string(&self.der)
    }

    /// The request as a `CERTIFICATE REQUEST` block (RFC 7468 §7).
    pub fn to_pem(&self) -> Result<String, RequestError> {
        let text = pem::encode_string("CERTIFICATE REQUEST", LineEnding::LF, &self.der);
        text.map_err(|error| RequestError::Malformed(error.into()))
    }

    /// The subject, as RFC 4514 writes names.
    pub fn subject(&self) -> String {
        // It was parsed before.
        CertReq::from_der(&self.der)
            .map(|request| request.info.subject.to_string())
            .unwrap_or_default()
    }

    /// The subject's common name, if it has exactly one and it is text.
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// The requester's public key, as the DER of a `SubjectPublicKeyInfo`.
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// The kind of the requester's key.
    pub fn key_algorithm(&self) -> Result<KeyAlgorithm, SignatureError> {
        verify::key_algorithm(&self.public_key)
    }

    /// Checks that the requester holds the private key: the request's signature under its own
    /// public key. ECDSA on P-256 and P-384, each with SHA-256 or SHA-384; RSA of 2,048 to 4,096 bits
    /// by PKCS #1 v1.5 with SHA-256, SHA-384 or SHA-512.
    pub fn verify(&self) -> Result<(), RequestError> {
        let request = CertReq::from_der(&self.der).map_err(RequestError::Malformed)?;
        let signature =
            request.signature.as_bytes().ok_or(RequestError::Signature(SignatureError::Invalid))?;
        let signed = first_element(&self.der).map_err(RequestError::Malformed)?;
        verify::verify_with(&self.public_key, request.algorithm.oid, signed, signature)?;
        Ok(())
    }
}

/// How a signer of this kind signs: of the two families, RSA's identifiers have a NULL for parameters
/// and ECDSA's have none (RFC 4055 §5, RFC 5758 §3.2).
fn signature_algorithm(key: KeyAlgorithm) -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned {
        oid: verify::signature_oid(key),
        parameters: key.rsa_bits().map(|_| Any::null()),
    }
}

/// The bytes of the first element of the SEQUENCE `der`, as they were received: what is signed in
/// a request and in a certificate. Encoding the parsed form again might not give the same bytes.
pub(crate) fn first_element(der: &[u8]) -> der::Result<&[u8]> {
    let mut reader = SliceReader::new(der)?;
    reader.sequence(|sequence| {
        let first = sequence.tlv_bytes()?;
        sequence.drain(sequence.remaining_len())?;
        Ok(first)
    })
}
