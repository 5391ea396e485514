//! Shared access signatures: made by a device, checked by the service.
//!
//! ```text
//! SharedAccessSignature sr=<resource>&sig=<base64 HMAC>&se=<unix seconds>[&skn=<policy>]
//! ```
//!
//! The string to sign is `sr` exactly as sent (percent-encoded), a newline, and `se` in decimal; the
//! key is the decoded symmetric key. DPS wants `skn=registration`; a device key at a hub has none.
//! Source: "How to use symmetric keys over HTTPS with DPS" and the vendor's SDKs.

use alloc::string::{String, ToString};
use core::fmt;
use core::time::Duration;

use base64ct::{Base64, Encoding};
use zeroize::Zeroizing;
use zerotouch_time::UnixTime;
use zerotouch_wire::{percent_decode, percent_encode_to};

use crate::key::{SymmetricKey, hmac_sha256, hmac_sha256_matches};

const SCHEME: &str = "SharedAccessSignature ";
/// 9999-12-31T23:59:59Z; beyond it an expiry is no date but an attempt.
const LATEST_EXPIRY: i64 = 253_402_300_799;

/// A signed token, wiped when dropped. It is a bearer secret until it expires.
pub struct SasToken {
    text: Zeroizing<String>,
    expiry: UnixTime,
}

impl SasToken {
    /// A token for registering `registration_id` with the provisioning service.
    pub fn for_dps(
        key: &SymmetricKey,
        id_scope: &str,
        registration_id: &str,
        expiry: UnixTime,
    ) -> Self {
        let resource = [id_scope, "/registrations/", registration_id].concat();
        Self::sign(key.as_bytes(), &resource, expiry, Some("registration"))
    }

    /// A token for connecting `device_id` to the hub `host`.
    pub fn for_hub(key: &SymmetricKey, host: &str, device_id: &str, expiry: UnixTime) -> Self {
        let resource = [host, "/devices/", device_id].concat();
        Self::sign(key.as_bytes(), &resource, expiry, None)
    }

    /// A token for the service API of a hub, or of a provisioning service, by a shared access policy.
    pub fn for_service(key: &SymmetricKey, host: &str, policy: &str, expiry: UnixTime) -> Self {
        Self::sign(key.as_bytes(), host, expiry, Some(policy))
    }

    fn sign(key: &[u8], resource: &str, expiry: UnixTime, key_name: Option<&str>) -> Self {
        let mut sr = String::new();
        percent_encode_to(&mut sr, resource);
        let se = expiry.as_secs().to_string();
        let mac = hmac_sha256(key, &[sr.as_bytes(), b"\n", se.as_bytes()]);
        let signature = Zeroizing::new(Base64::encode_string(&*mac));

        // Reserved at once, so that growing the buffer leaves no unwiped copy of the signature.
        let mut text = Zeroizing::new(String::with_capacity(sr.len() + 256));
        text.push_str(SCHEME);
        text.push_str("sr=");
        text.push_str(&sr);
        text.push_str("&sig=");
        percent_encode_to(&mut text, &signature);
        text.push_str("&se=");
        text.push_str(&se);
        if let Some(key_name) = key_name {
            text.push_str("&skn=");
            text.push_str(key_name);
        }
        Self { text, expiry }
    }

    /// The token as it goes into the password of CONNECT.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The last second at which the service accepts the token.
    pub const fn expiry(&self) -> UnixTime {
        self.expiry
    }
}

impl fmt::Debug for SasToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SasToken").field("expiry", &self.expiry).finish_non_exhaustive()
    }
}

/// A field of a shared access signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SasField {
    /// `sr`, the resource the token opens.
    Resource,
    /// `sig`, the signature.
    Signature,
    /// `se`, the expiry.
    Expiry,
    /// `skn`, the name of the policy or key.
    KeyName,
}

impl fmt::Display for SasField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resource => "sr",
            Self::Signature => "sig",
            Self::Expiry => "se",
            Self::KeyName => "skn",
        })
    }
}

/// Why a token is refused. For the service's log: on the wire every reason looks the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SasError {
    /// The text does not begin with `SharedAccessSignature `.
    #[error("not a shared access signature")]
    Scheme,
    /// A part of the token is no `name=value` that tokens have.
    #[error("the token has a parameter that tokens do not have")]
    UnknownField,
    /// A field occurs twice.
    #[error("the token has {0} twice")]
    Duplicate(SasField),
    /// A field is missing.
    #[error("the token has no {0}")]
    Missing(SasField),
    /// A field's percent-encoding or base64 is broken.
    #[error("{0} is not encoded as it must be")]
    Encoding(SasField),
    /// `se` is not a number of seconds up to the year 9999.
    #[error("se is not a time")]
    Expiry,
    /// The signature was not made with this key over this resource and expiry.
    #[error("the signature does not match the key")]
    SignatureMismatch,
    /// The token was good, and is no longer.
    #[error("the token expired at {expiry}")]
    Expired {
        /// When it expired.
        expiry: UnixTime,
    },
}

/// A token as the service reads it: parsed, and not yet believed.
pub struct SasClaims<'a> {
    sr: &'a str,
    se: &'a str,
    signature: Zeroizing<String>,
    resource: String,
    expiry: UnixTime,
    key_name: Option<String>,
}

impl<'a> SasClaims<'a> {
    /// Takes a token apart. Each field may occur once, in any order; others are refused.
    pub fn parse(token: &'a str) -> Result<Self, SasError> {
        let fields = token.strip_prefix(SCHEME).ok_or(SasError::Scheme)?;
        let (mut sr, mut sig, mut se, mut skn) = (None, None, None, None);
        for field in fields.split('&') {
            let (name, value) = field.split_once('=').ok_or(SasError::UnknownField)?;
            let (slot, field) = match name {
                "sr" => (&mut sr, SasField::Resource),
                "sig" => (&mut sig, SasField::Signature),
                "se" => (&mut se, SasField::Expiry),
                "skn" => (&mut skn, SasField::KeyName),
                _ => return Err(SasError::UnknownField),
            };
            if slot.replace(value).is_some() {
                return Err(SasError::Duplicate(field));
            }
        }
        let sr = sr.ok_or(SasError::Missing(SasField::Resource))?;
        let sig = sig.ok_or(SasError::Missing(SasField::Signature))?;
        let se = se.ok_or(SasError::Missing(SasField::Expiry))?;
        let decode = |text, field| percent_decode(text).map_err(|_| SasError::Encoding(field));
        Ok(Self {
            sr,
            se,
            signature: Zeroizing::new(decode(sig, SasField::Signature)?),
            resource: decode(sr, SasField::Resource)?,
            expiry: parse_expiry(se)?,
            key_name: skn.map(|skn| decode(skn, SasField::KeyName)).transpose()?,
        })
    }

    /// The resource, decoded: `scope/registrations/id` or `host/devices/id`.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// Whether the token is for `resource`; hosts and ids are compared without regard to case, as
    /// the service does.
    pub fn is_for(&self, resource: &str) -> bool {
        self.resource.eq_ignore_ascii_case(resource)
    }

    /// The policy or key the token says it was signed with, `registration` at DPS.
    pub fn key_name(&self) -> Option<&str> {
        self.key_name.as_deref()
    }

    /// The last second at which the token is good.
    pub const fn expiry(&self) -> UnixTime {
        self.expiry
    }

    /// Checks the signature over the literal `sr` in constant time, then the expiry against `now`,
    /// forgiving a clock that is off by `skew`.
    ///
    /// Whether the token is for the resource at hand ([`SasClaims::is_for`]) and names the right
    /// key ([`SasClaims::key_name`]) is the caller's to check.
    pub fn verify(
        &self,
        key: &SymmetricKey,
        now: UnixTime,
        skew: Duration,
    ) -> Result<(), SasError> {
        let signature = Base64::decode_vec(&self.signature)
            .map(Zeroizing::new)
            .map_err(|_| SasError::Encoding(SasField::Signature))?;
        let signed: &[&[u8]] = &[self.sr.as_bytes(), b"\n", self.se.as_bytes()];
        if !hmac_sha256_matches(key.as_bytes(), signed, &signature) {
            return Err(SasError::SignatureMismatch);
        }
        if now > self.expiry + skew {
            return Err(SasError::Expired { expiry: self.expiry });
        }
        Ok(())
    }
}

impl fmt::Debug for SasClaims<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SasClaims")
            .field("resource", &self.resource)
            .field("expiry", &self.expiry)
            .field("key_name", &self.key_name)
            .finish_non_exhaustive()
    }
}

fn parse_expiry(se: &str) -> Result<UnixTime, SasError> {
    // `parse` alone would take a sign.
    if !se.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(SasError::Expiry);
    }
    let secs: i64 = se.parse().map_err(|_| SasError::Expiry)?;
    if secs > LATEST_EXPIRY {
        return Err(SasError::Expiry);
    }
    Ok(UnixTime::from_secs(secs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::format;

    const REGISTRATION: &str = "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6";

    fn device_key() -> SymmetricKey {
        SymmetricKey::from_base64("Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=").unwrap()
    }

    fn at(secs: i64) -> UnixTime {
        UnixTime::from_secs(secs)
    }

    // S1, vectors c, d and e: signatures of the vendor's Node SDK. Its test keys are shorter than
    // the service allows, so they meet the function below the key type.
    #[test]
    fn s01_signs_like_the_node_sdk() {
        let c = SasToken::sign(&[0x91, 0xEC], "host/devices/device", at(12345), None);
        assert_eq!(
            c.as_str(),
            "SharedAccessSignature sr=host%2Fdevices%2Fdevice&sig=wM3XiP6gD960IxP7J5WHqnxQHEcWC6YaQCtoMT%2BkKHc%3D&se=12345"
        );
        // What Node makes of the base64 "fakeKey", whose last bits strict decoders refuse.
        let fake_key = [0x7D, 0xA9, 0x1E, 0x29, 0xEC];
        let d = SasToken::sign(&fake_key, "fake.host.name/devices/fakeDeviceId", at(10), None);
        assert!(d.as_str().contains("&sig=bYz5R2IFTaejB6pgYOxns2mw6lcuA4VSy8kJbYQp0Sc%3D&"));
        let e = SasToken::sign(b"password", "uri", at(12345), None);
        assert!(e.as_str().contains("&sig=kcWxXAK2OAaAoq2oCkaGzX2NMqDB8nCyNuq2fPYCDhk%3D&"));
    }

    // S1, vectors g and h: whole tokens for DPS and for a hub.
    #[test]
    fn s01_whole_tokens() {
        let dps = SasToken::for_dps(&device_key(), "0ne00000000", REGISTRATION, at(1_700_000_000));
        assert_eq!(
            dps.as_str(),
            "SharedAccessSignature sr=0ne00000000%2Fregistrations%2Fsn-007-888-abc-mac-a1-b2-c3-d4-e5-f6&sig=UcaBdA4L3Se7NlFQZcBFRndkqyymINWtRUmVT5QYWng%3D&se=1700000000&skn=registration"
        );
        let hub = SasToken::for_hub(
            &device_key(),
            "contoso.azure-devices.net",
            REGISTRATION,
            at(1_700_000_000),
        );
        assert_eq!(
            hub.as_str(),
            "SharedAccessSignature sr=contoso.azure-devices.net%2Fdevices%2Fsn-007-888-abc-mac-a1-b2-c3-d4-e5-f6&sig=aogMFXumN5h359Jd2lkt0nG5blAJKPNVgoseKPYlK6o%3D&se=1700000000"
        );
    }

    // S5: each way a token can be wrong has its own reason in the log.
    #[test]
    fn s05_every_refusal_has_its_reason() {
        let good = SasToken::for_dps(&device_key(), "scope", "Id", at(1000));
        let claims = SasClaims::parse(good.as_str()).unwrap();
        assert_eq!(claims.resource(), "scope/registrations/Id");
        assert!(claims.is_for("SCOPE/registrations/id"));
        assert!(!claims.is_for("scope/registrations/other"));
        assert_eq!(claims.key_name(), Some("registration"));
        let skew = Duration::from_secs(300);
        assert_eq!(claims.verify(&device_key(), at(1300), skew), Ok(()));
        assert_eq!(
            claims.verify(&device_key(), at(1301), skew),
            Err(SasError::Expired { expiry: at(1000) })
        );
        let other = device_key().derive("another device");
        assert_eq!(claims.verify(&other, at(0), skew), Err(SasError::SignatureMismatch));

        let tampered = good.as_str().replace("Id&", "id&");
        let tampered = SasClaims::parse(&tampered).unwrap();
        assert_eq!(
            tampered.verify(&device_key(), at(0), skew),
            Err(SasError::SignatureMismatch),
            "sr is signed literally, its case included"
        );
        let short = SasClaims::parse("SharedAccessSignature sr=a&sig=AAAA&se=1").unwrap();
        assert_eq!(short.verify(&device_key(), at(0), skew), Err(SasError::SignatureMismatch));
        assert_eq!(short.key_name(), None);
        let unpadded = SasClaims::parse("SharedAccessSignature sr=a&sig=AAA&se=1").unwrap();
        assert_eq!(
            unpadded.verify(&device_key(), at(0), skew),
            Err(SasError::Encoding(SasField::Signature))
        );

        let refused = |fields: &str| {
            SasClaims::parse(&format!("SharedAccessSignature {fields}")).unwrap_err()
        };
        assert_eq!(SasClaims::parse("Bearer x").unwrap_err(), SasError::Scheme);
        assert_eq!(refused(""), SasError::UnknownField);
        assert_eq!(refused("sr=a&sig=b&se=1&x=y"), SasError::UnknownField);
        assert_eq!(refused("sr=a&sig=b&se=1&"), SasError::UnknownField);
        assert_eq!(refused("sr=a&sr=a&sig=b&se=1"), SasError::Duplicate(SasField::Resource));
        assert_eq!(refused("sr=a&sig=b&sig=b&se=1"), SasError::Duplicate(SasField::Signature));
        assert_eq!(refused("sig=b&se=1"), SasError::Missing(SasField::Resource));
        assert_eq!(refused("sr=a&se=1"), SasError::Missing(SasField::Signature));
        assert_eq!(refused("sr=a&sig=b"), SasError::Missing(SasField::Expiry));
        assert_eq!(refused("sr=%zz&sig=b&se=1"), SasError::Encoding(SasField::Resource));
        for se in ["", "-1", "+1", "1.5", "0x10", "99999999999999999999", "253402300800"] {
            assert_eq!(refused(&format!("sr=a&sig=b&se={se}")), SasError::Expiry, "{se}");
        }
    }

    // Clients disagree about the case of escapes (%2f, %2F); the signature is over what was sent.
    #[test]
    fn s02_verifies_lower_case_escapes() {
        let sr = "scope%2fregistrations%2fid";
        let mac = hmac_sha256(device_key().as_bytes(), &[sr.as_bytes(), b"\n10"]);
        let mut token = format!("SharedAccessSignature sr={sr}&se=10&skn=registration&sig=");
        percent_encode_to(&mut token, &Base64::encode_string(&*mac));
        let claims = SasClaims::parse(&token).unwrap();
        assert!(claims.is_for("scope/registrations/id"));
        assert_eq!(claims.verify(&device_key(), at(5), Duration::ZERO), Ok(()));
    }

    // S8: a token is a bearer secret, so a log line shows no part of its signature.
    #[test]
    fn s08_debug_redacts() {
        let token = SasToken::for_dps(&device_key(), "scope", "id", at(1000));
        let claims = SasClaims::parse(token.as_str()).unwrap();
        let sig = token.as_str().split("sig=").nth(1).unwrap();
        let shown = format!("{token:?} {claims:?}");
        assert!(!shown.contains(&sig[..10]), "{shown}");
    }

    proptest! {
        // S1, S2: whatever ids hold, the two sides agree about what was signed.
        #[test]
        fn s01_the_service_verifies_what_the_device_signs(
            scope in "[ -~]{1,20}", id in "[ -~]{1,40}", expiry in 0..LATEST_EXPIRY,
        ) {
            let token = SasToken::for_dps(&device_key(), &scope, &id, at(expiry));
            let claims = SasClaims::parse(token.as_str()).unwrap();
            prop_assert_eq!(claims.resource(), format!("{scope}/registrations/{id}"));
            prop_assert_eq!(claims.verify(&device_key(), at(expiry), Duration::ZERO), Ok(()));
        }

        // The emulator parses whatever a client sends as a password.
        #[test]
        fn parsing_never_panics(token in "(SharedAccessSignature )?([a-z%=&0-9]|sr=|sig=|se=|skn=)*") {
            if let Ok(claims) = SasClaims::parse(&token) {
                prop_assert!(claims.verify(&device_key(), at(0), Duration::ZERO).is_err());
            }
        }
    }
}
