//! `zerotouch pki`: what a person needs to try X.509 attestation.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use zerotouch_credentials::{
    Certificate, CertificateChain, MAX_COMMON_NAME_CHARS, PrivateKey, Signer,
};
use zerotouch_dps::RegistrationId;
use zerotouch_driver::{Clock, DeviceRng, device_rng};
use zerotouch_emulator::pki::{CertificationAuthority, Validity};
use zerotouch_pkcs11::KeyReference;
use zerotouch_time::UnixTime;

use crate::arguments::{self, PkiCommand};
use crate::certificate_file::read_chain;
use crate::document;
use crate::emulation::EmulationError;
use crate::failure::CliError;
use crate::output_file::{self, Kind};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const CERTIFICATE_ENDING: &str = ".cert.pem";
const KEY_ENDING: &str = ".key.pem";

pub(crate) fn run(arguments: &arguments::Pki) -> Result<(), CliError> {
    let outcome = match &arguments.command {
        PkiCommand::Root(root) => Making::new(&root.made).and_then(|making| making.root(root)),
        PkiCommand::Intermediate(intermediate) => {
            Making::new(&intermediate.made).and_then(|making| making.intermediate(intermediate))
        }
        PkiCommand::Device(device) => {
            Making::new(&device.made).and_then(|making| making.device(device))
        }
        PkiCommand::Verification(verification) => {
            Making::new(&verification.made).and_then(|making| making.verification(verification))
        }
    };
    document::tell(arguments.command.output(), &outcome, Made::words, Made::json);
    outcome.map(drop)
}

/// What was made, for people and machines.
struct Made {
    certificate_path: PathBuf,
    /// None if the key was there before.
    key_path: Option<PathBuf>,
    chain: CertificateChain,
    next: String,
}

impl Made {
    fn json(&self) -> Value {
        let leaf = self.chain.leaf();
        json!({
            "certificateFile": self.certificate_path,
            "keyFile": self.key_path,
            "subject": leaf.subject(),
            "issuer": leaf.issuer(),
            "notBefore": leaf.not_before().to_string(),
            "notAfter": leaf.not_after().to_string(),
            "thumbprint": leaf.thumbprint().to_string(),
            "chainLength": self.chain.iter().count(),
        })
    }

    fn words(&self) -> String {
        let leaf = self.chain.leaf();
        let key = match &self.key_path {
            Some(path) => format!("{} (keep it secret)", path.display()),
            None => "as given".into(),
        };
        format!(
            "  certificate  {}\n  key          {key}\n  subject      {}\n  issuer       {}\n  \
             valid        {} to {}\n  thumbprint   {}\n\n  {}",
            self.certificate_path.display(),
            leaf.subject(),
            leaf.issuer(),
            leaf.not_before(),
            leaf.not_after(),
            leaf.thumbprint(),
            self.next,
        )
    }
}

/// What every making needs.
struct Making<'a> {
    made: &'a arguments::Made,
    now: UnixTime,
    rng: DeviceRng,
}

impl<'a> Making<'a> {
    fn new(made: &'a arguments::Made) -> Result<Self, CliError> {
        let now = Clock::new().now().wall.ok_or(CliError::ClockUnset)?;
        Ok(Self { made, now, rng: device_rng().map_err(CliError::Randomness)? })
    }

    fn root(mut self, arguments: &arguments::Root) -> Result<Made, CliError> {
        let files = self.files("root", arguments.new_key.key.is_none())?;
        let (key, new) = self.key(&arguments.new_key)?;
        let validity = self.validity(90, None);
        let root = CertificationAuthority::root(&arguments.name, validity, key, &mut self.rng)?;
        let next = format!(
            "Upload the certificate to DPS, then answer its verification code:\n  \
             zerotouch pki verification --issuer {} --code CODE",
            files.stem.display()
        );
        self.finish(files, new, root.certificate().clone(), &[], next)
    }

    fn intermediate(mut self, arguments: &arguments::Intermediate) -> Result<Made, CliError> {
        let files = self.files("intermediate", arguments.new_key.key.is_none())?;
        let issuer = Issuer::open(&arguments.issuer)?;
        let (key, new) = self.key(&arguments.new_key)?;
        let validity = self.validity(90, Some(&issuer));
        let made = issuer.authority.subordinate(&arguments.name, validity, key, &mut self.rng)?;
        let next = "Devices it issues for send it along: their files hold the whole chain.";
        self.finish(files, new, made.certificate().clone(), &issuer.chain, next.into())
    }

    fn device(mut self, arguments: &arguments::DeviceCertificate) -> Result<Made, CliError> {
        let name = RegistrationId::new(&arguments.registration_id)?;
        check_common_name("registration id", name.as_str())?;
        let files = self.files(name.as_str(), arguments.new_key.key.is_none())?;
        let issuer = Issuer::open(&arguments.issuer)?;
        let (key, new) = self.key(&arguments.new_key)?;
        let validity = self.validity(30, Some(&issuer));
        let certificate = issuer.authority.certify_device(
            name.as_str(),
            key.public_key(),
            validity,
            &mut self.rng,
        )?;
        let next = format!(
            "It registers as {name} with an enrolment group of the root, or with an individual \
             enrolment of this certificate."
        );
        self.finish(files, new, certificate, &issuer.chain, next)
    }

    fn verification(mut self, arguments: &arguments::Verification) -> Result<Made, CliError> {
        let code = arguments.code.trim();
        if code.is_empty() || !code.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(EmulationError::VerificationCode.into());
        }
        check_common_name("verification code", code)?;
        let files = self.files("verification", false)?;
        let issuer = Issuer::open(&arguments.issuer)?;
        // Nobody uses this key again: what is proved is that the issuer's signed.
        let key = PrivateKey::generate(issuer.key.algorithm(), &mut self.rng)?;
        let validity = self.validity(7, Some(&issuer));
        let certificate =
            issuer.authority.certify_device(code, key.public_key(), validity, &mut self.rng)?;
        let next = format!(
            "Upload it beside {} to prove that you hold its key.",
            issuer.authority.certificate().subject()
        );
        self.finish(files, None, certificate, &[], next)
    }

    /// Looked at before anything is made, so that nothing is made in vain.
    fn files(&self, default: &str, new_key: bool) -> Result<Files, CliError> {
        let stem = self.made.out.clone().unwrap_or_else(|| default.into());
        let certificate = with_ending(&stem, CERTIFICATE_ENDING);
        let key = with_ending(&stem, KEY_ENDING);
        for (path, is_written) in [(&certificate, true), (&key, new_key)] {
            if is_written && !self.made.force && path.symlink_metadata().is_ok() {
                return Err(CliError::Exists { path: path.clone() });
            }
        }
        Ok(Files { stem, certificate, key })
    }

    /// The key to certify, and the same once more if it is a new one and has to be kept.
    fn key(
        &mut self,
        arguments: &arguments::NewKey,
    ) -> Result<(Arc<dyn Signer>, NewKey), CliError> {
        if let Some(reference) = &arguments.key {
            return Ok((reference.open()?, None));
        }
        let key = Arc::new(PrivateKey::generate(arguments.key_algorithm.into(), &mut self.rng)?);
        Ok((Arc::clone(&key) as _, Some(key)))
    }

    /// As long as was asked for; if nothing was, `days`, and no longer than the issuer.
    fn validity(&self, days: u32, issuer: Option<&Issuer>) -> Validity {
        let asked = self.made.days.map(|days| DAY * days);
        let lifetime = asked.unwrap_or_else(|| {
            let left =
                issuer.map(|issuer| issuer.authority.certificate().not_after().since(self.now));
            left.unwrap_or(Duration::MAX).min(DAY * days)
        });
        Validity { from: self.now, lifetime }
    }

    fn finish(
        self,
        files: Files,
        new_key: NewKey,
        certificate: Certificate,
        issuers: &[Certificate],
        next: String,
    ) -> Result<Made, CliError> {
        let chain = std::iter::once(certificate).chain(issuers.iter().cloned()).collect();
        let chain = CertificateChain::new(chain).ok_or(CliError::Stopped)?;
        let force = self.made.force;
        let key_path = match new_key {
            Some(key) => {
                let pem = key.to_pkcs8_pem()?;
                output_file::write(&files.key, pem.as_bytes(), Kind::Secret, force)?;
                Some(files.key)
            }
            None => None,
        };
        let pem = chain.to_pem();
        let written = output_file::write(&files.certificate, pem.as_bytes(), Kind::Public, force);
        if let (Err(_), Some(path), false) = (&written, &key_path, force) {
            // A new key without its certificate is of no use, and would be in the way.
            let _ = std::fs::remove_file(path);
        }
        written?;
        Ok(Made { certificate_path: files.certificate, key_path, chain, next })
    }
}

/// A key that was made and has to be kept; none if it was there before.
type NewKey = Option<Arc<PrivateKey>>;

struct Files {
    /// The two paths without their endings.
    stem: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

/// An authority to issue with.
pub(crate) struct Issuer {
    pub(crate) authority: CertificationAuthority,
    key: Arc<dyn Signer>,
    /// Its certificate, and those above it.
    pub(crate) chain: Vec<Certificate>,
}

impl Issuer {
    pub(crate) fn open(arguments: &arguments::Issuer) -> Result<Self, CliError> {
        let path = with_ending(&arguments.issuer, CERTIFICATE_ENDING);
        let chain = read_chain(&path)?;
        let key_path = with_ending(&arguments.issuer, KEY_ENDING);
        let reference = arguments.issuer_key.clone();
        let key = reference.unwrap_or_else(|| KeyReference::from(&*key_path)).open()?;
        let authority = CertificationAuthority::open(chain.leaf().clone(), Arc::clone(&key))
            .map_err(|source| EmulationError::Issuer { path, source })?;
        Ok(Self { authority, key, chain: chain.iter().cloned().collect() })
    }
}

fn check_common_name(what: &'static str, name: &str) -> Result<(), CliError> {
    let found = name.chars().count();
    if found > MAX_COMMON_NAME_CHARS {
        return Err(EmulationError::NameTooLong { what, found }.into());
    }
    Ok(())
}

/// The path with more at its end: unlike an extension, what is there already stays.
fn with_ending(stem: &Path, ending: &str) -> PathBuf {
    let mut path = stem.as_os_str().to_owned();
    path.push(ending);
    path.into()
}
