//! How fixtures and records write what serde does not know: each as a text. By `#[serde(with = "…")]`:
//! [`one`], [`optional`], [`several`].

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use base64ct::{Base64, Encoding};
use zerotouch_credentials::{
    Certificate, CertificateChain, CertificateRequest, KeyAlgorithm, PrivateKey, SymmetricKey,
    Thumbprint,
};
use zerotouch_time::UnixTime;

use super::clock::rfc3339;

/// What has a text that it can be read from.
pub(super) trait Text: Sized {
    type Error: Display;

    fn write(&self) -> Result<String, Self::Error>;

    fn read(text: &str) -> Result<Self, Self::Error>;
}

/// Base64, as everywhere in these services.
impl Text for SymmetricKey {
    type Error = zerotouch_credentials::KeyError;

    fn write(&self) -> Result<String, Self::Error> {
        Ok(self.to_base64().to_string())
    }

    fn read(text: &str) -> Result<Self, Self::Error> {
        Self::from_base64(text)
    }
}

/// Base64.
impl Text for Vec<u8> {
    type Error = base64ct::Error;

    fn write(&self) -> Result<String, Self::Error> {
        Ok(Base64::encode_string(self))
    }

    fn read(text: &str) -> Result<Self, Self::Error> {
        Base64::decode_vec(text)
    }
}

/// PEM.
impl Text for Certificate {
    type Error = zerotouch_credentials::PemError;

    fn write(&self) -> Result<String, Self::Error> {
        Ok(crate::pem::certificate(self))
    }

    /// The first certificate of the text.
    fn read(text: &str) -> Result<Self, Self::Error> {
        CertificateChain::from_pem(text).map(|chain| chain.leaf().clone())
    }
}

/// Base64 of DER.
impl Text for CertificateRequest {
    type Error = zerotouch_credentials::RequestError;

    fn write(&self) -> Result<String, Self::Error> {
        Ok(self.to_base64())
    }

    fn read(text: &str) -> Result<Self, Self::Error> {
        Self::from_base64(text)
    }
}

/// `p384` or `p256`: authorities have no other.
impl Text for KeyAlgorithm {
    type Error = &'static str;

    fn write(&self) -> Result<String, Self::Error> {
        match self {
            Self::EcdsaP384 => Ok("p384".into()),
            Self::EcdsaP256 => Ok("p256".into()),
            _ => Err("an authority's key is p384 or p256"),
        }
    }

    fn read(text: &str) -> Result<Self, Self::Error> {
        match text {
            "p384" => Ok(Self::EcdsaP384),
            "p256" => Ok(Self::EcdsaP256),
            _ => Err("an authority's key is p384 or p256"),
        }
    }
}

/// PEM, PKCS#8.
impl Text for Arc<PrivateKey> {
    type Error = zerotouch_credentials::PrivateKeyError;

    fn write(&self) -> Result<String, Self::Error> {
        self.to_pkcs8_pem().map(|pem| pem.to_string())
    }

    fn read(text: &str) -> Result<Self, Self::Error> {
        PrivateKey::from_pem(text).map(Self::new)
    }
}

/// 64 hex digits.
impl Text for Thumbprint {
    type Error = zerotouch_credentials::ThumbprintError;

    fn write(&self) -> Result<String, Self::Error> {
        Ok(self.to_string())
    }

    fn read(text: &str) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// As people write it: `30days`, `12h`, `200ms`.
impl Text for Duration {
    type Error = humantime::DurationError;

    fn write(&self) -> Result<String, Self::Error> {
        Ok(humantime::format_duration(*self).to_string())
    }

    fn read(text: &str) -> Result<Self, Self::Error> {
        humantime::parse_duration(text)
    }
}

/// RFC 3339.
impl Text for UnixTime {
    type Error = &'static str;

    fn write(&self) -> Result<String, Self::Error> {
        Ok(rfc3339(*self))
    }

    fn read(text: &str) -> Result<Self, Self::Error> {
        Self::parse_rfc3339(text).ok_or("not a time as in 2026-01-31T12:52:20Z")
    }
}

pub(super) mod one {
    use serde::{Deserialize, Deserializer, Serializer, de, ser};

    use super::Text;

    pub(in crate::cloud) fn serialize<T: Text, S: Serializer>(
        value: &T,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        s.serialize_str(&value.write().map_err(ser::Error::custom)?)
    }

    pub(in crate::cloud) fn deserialize<'de, T: Text, D: Deserializer<'de>>(
        d: D,
    ) -> Result<T, D::Error> {
        T::read(&String::deserialize(d)?).map_err(de::Error::custom)
    }
}

pub(super) mod optional {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::{Text, one};

    #[expect(clippy::ref_option, reason = "serde hands over what the member is")]
    pub(in crate::cloud) fn serialize<T: Text, S: Serializer>(
        value: &Option<T>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => one::serialize(value, s),
            None => s.serialize_none(),
        }
    }

    pub(in crate::cloud) fn deserialize<'de, T: Text, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<T>, D::Error> {
        let text = Option::<String>::deserialize(d)?;
        text.map(|text| T::read(&text)).transpose().map_err(de::Error::custom)
    }
}

pub(super) mod several {
    use serde::{Deserialize, Deserializer, Serializer, de, ser};

    use super::Text;

    pub(in crate::cloud) fn serialize<T: Text, S: Serializer>(
        values: &[T],
        s: S,
    ) -> Result<S::Ok, S::Error> {
        let texts: Result<Vec<_>, _> = values.iter().map(Text::write).collect();
        s.collect_seq(texts.map_err(ser::Error::custom)?)
    }

    pub(in crate::cloud) fn deserialize<'de, T: Text, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Vec<T>, D::Error> {
        let texts = Vec::<String>::deserialize(d)?;
        let values: Result<_, _> = texts.iter().map(|text| T::read(text)).collect();
        values.map_err(de::Error::custom)
    }
}
