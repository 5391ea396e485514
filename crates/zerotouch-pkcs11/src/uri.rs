//! `pkcs11:` URIs (RFC 7512): the name of a key in hardware, standing where a key file may stand.

use std::path::PathBuf;
use std::str::FromStr;

/// Which key, in which token, behind which module.
///
/// ```
/// use zerotouch_pkcs11::KeyUri;
///
/// let key: KeyUri = "pkcs11:token=press;object=identity;id=%01%02\
///     ?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/press/pin".parse()?;
/// assert_eq!(key.token.as_deref(), Some("press"));
/// assert_eq!(key.id.as_deref(), Some(&[1, 2][..]));
/// # Ok::<(), zerotouch_pkcs11::KeyUriError>(())
/// ```
///
/// What it names must be found exactly once: attributes that are absent match everything.
/// `pin-value` is refused, because a URI is seen in process lists, configuration and logs; the PIN
/// comes from the file that `pin-source` names, one trailing newline taken off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyUri {
    /// The token's label.
    pub token: Option<String>,
    /// The token's manufacturer.
    pub manufacturer: Option<String>,
    /// The token's model.
    pub model: Option<String>,
    /// The token's serial number.
    pub serial: Option<String>,
    /// The number of the slot.
    pub slot_id: Option<u64>,
    /// The key's label (`CKA_LABEL`).
    pub object: Option<String>,
    /// The key's identifier (`CKA_ID`).
    pub id: Option<Vec<u8>>,
    /// The module: a shared library.
    pub module_path: PathBuf,
    /// The file that holds the PIN. Without it there is no login.
    pub pin_source: Option<PathBuf>,
}

/// Why a text does not name a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyUriError {
    /// It does not begin with `pkcs11:`.
    #[error("not a pkcs11: URI")]
    Scheme,
    /// A part is not `name=value`.
    #[error("{part:?} is not an attribute of a pkcs11: URI (name=value)")]
    NotAnAttribute {
        /// The part.
        part: String,
    },
    /// An attribute that would narrow the choice and is not understood, or occurs twice.
    #[error("the attribute {name} of the pkcs11: URI is unknown or occurs twice")]
    Attribute {
        /// Its name.
        name: String,
    },
    /// A value is not percent-encoded, not text, or not what its attribute takes.
    #[error("the value of {name} in the pkcs11: URI is malformed")]
    Value {
        /// The attribute's name.
        name: String,
    },
    /// The PIN itself is in the URI.
    #[error(
        "a pkcs11: URI must not hold the PIN; put it into a file and name that: pin-source=file:…"
    )]
    PinValue,
    /// There is no `module-path`.
    #[error("the pkcs11: URI names no module; add ?module-path=/path/to/module.so")]
    NoModule,
    /// Neither `object` nor `id`: any key of the token would do.
    #[error("the pkcs11: URI names no key; add object=LABEL or id=%XX")]
    NoKey,
}

impl FromStr for KeyUri {
    type Err = KeyUriError;

    fn from_str(text: &str) -> Result<Self, KeyUriError> {
        // RFC 3986: schemes are case-insensitive.
        let is_scheme = |scheme: &str| scheme.eq_ignore_ascii_case("pkcs11");
        let (_, rest) = text
            .split_once(':')
            .filter(|(scheme, _)| is_scheme(scheme))
            .ok_or(KeyUriError::Scheme)?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut uri = Self::default();
        let mut module = None;
        for part in path.split(';').filter(|part| !part.is_empty()) {
            uri.take_path_attribute(part)?;
        }
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = attribute(part)?;
            match name {
                "module-path" => set(&mut module, name, PathBuf::from(decode_text(name, value)?))?,
                "pin-source" => {
                    let source = decode_text(name, value)?;
                    let file = source.strip_prefix("file:").unwrap_or(&source);
                    // `file:///path`, with an empty host, is the same file.
                    let file = file.strip_prefix("//").unwrap_or(file);
                    if !file.starts_with('/') {
                        return Err(KeyUriError::Value { name: name.into() });
                    }
                    set(&mut uri.pin_source, name, PathBuf::from(file))?;
                }
                "pin-value" => return Err(KeyUriError::PinValue),
                // RFC 7512 §2.3: what is not understood in the query narrows nothing; ignored.
                _ => {}
            }
        }
        if uri.object.is_none() && uri.id.is_none() {
            return Err(KeyUriError::NoKey);
        }
        uri.module_path = module.ok_or(KeyUriError::NoModule)?;
        Ok(uri)
    }
}

impl KeyUri {
    fn take_path_attribute(&mut self, part: &str) -> Result<(), KeyUriError> {
        let (name, value) = attribute(part)?;
        let slot = match name {
            "token" => &mut self.token,
            "manufacturer" => &mut self.manufacturer,
            "model" => &mut self.model,
            "serial" => &mut self.serial,
            "object" => &mut self.object,
            "id" => {
                let id = decode(value).ok_or_else(|| KeyUriError::Value { name: name.into() })?;
                return set(&mut self.id, name, id);
            }
            "slot-id" => {
                let slot = value.parse().map_err(|_| KeyUriError::Value { name: name.into() })?;
                return set(&mut self.slot_id, name, slot);
            }
            // The private key is what signs; its public half and certificate have the same name.
            "type" if value == "private" => return Ok(()),
            "type" => return Err(KeyUriError::Value { name: name.into() }),
            // Unlike in the query, ignoring one here would match keys that are not meant.
            _ => return Err(KeyUriError::Attribute { name: name.into() }),
        };
        set(slot, name, decode_text(name, value)?)
    }
}

fn attribute(part: &str) -> Result<(&str, &str), KeyUriError> {
    part.split_once('=').ok_or_else(|| KeyUriError::NotAnAttribute { part: part.into() })
}

fn set<T>(slot: &mut Option<T>, name: &str, value: T) -> Result<(), KeyUriError> {
    if slot.replace(value).is_some() {
        return Err(KeyUriError::Attribute { name: name.into() });
    }
    Ok(())
}

fn decode_text(name: &str, value: &str) -> Result<String, KeyUriError> {
    decode(value)
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| KeyUriError::Value { name: name.into() })
}

fn decode(value: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high << 4 | low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<KeyUri, KeyUriError> {
        text.parse()
    }

    // The attributes of the standard, percent-encoded as its examples are.
    #[test]
    fn reads_every_attribute() {
        let uri = parse(
            "PKCS11:token=The%20Software;manufacturer=Snake%20Oil;model=1.0;serial=%3f7;\
             slot-id=327;object=my-key;type=private;id=%69%00\
             ?module-path=/lib/m.so&pin-source=file:///etc/pin&x-vendor=ignored",
        )
        .unwrap();
        let text = |text: &str| Some(text.to_string());
        assert_eq!(
            uri,
            KeyUri {
                token: text("The Software"),
                manufacturer: text("Snake Oil"),
                model: text("1.0"),
                serial: text("?7"),
                slot_id: Some(327),
                object: text("my-key"),
                id: Some(vec![0x69, 0]),
                module_path: "/lib/m.so".into(),
                pin_source: Some("/etc/pin".into()),
            }
        );
        for source in ["/etc/pin", "file:/etc/pin", "file:///etc/pin", "%2fetc%2Fpin"] {
            let uri = parse(&format!("pkcs11:id=a?module-path=m&pin-source={source}")).unwrap();
            assert_eq!(uri.pin_source, Some("/etc/pin".into()), "{source}");
        }
    }

    // A mistyped attribute must not quietly widen the choice to another key.
    #[test]
    fn refuses_what_it_does_not_understand() {
        let value = |name: &str| KeyUriError::Value { name: name.into() };
        let unknown = |name: &str| KeyUriError::Attribute { name: name.into() };
        let cases = [
            ("/etc/key.pem", KeyUriError::Scheme),
            ("file:/etc/key.pem", KeyUriError::Scheme),
            ("pkcs11:tokn=a;object=b?module-path=m", unknown("tokn")),
            ("pkcs11:object=b;object=c?module-path=m", unknown("object")),
            ("pkcs11:object=b?module-path=m&module-path=n", unknown("module-path")),
            ("pkcs11:object?module-path=m", KeyUriError::NotAnAttribute { part: "object".into() }),
            ("pkcs11:object=%zz?module-path=m", value("object")),
            ("pkcs11:object=%ff?module-path=m", value("object")),
            ("pkcs11:id=%0?module-path=m", value("id")),
            ("pkcs11:object=b;slot-id=x?module-path=m", value("slot-id")),
            ("pkcs11:object=b;type=cert?module-path=m", value("type")),
            ("pkcs11:object=b?module-path=m&pin-source=pin.txt", value("pin-source")),
            ("pkcs11:object=b?module-path=m&pin-source=%7cprogram", value("pin-source")),
            ("pkcs11:object=b?module-path=m&pin-value=1234", KeyUriError::PinValue),
            ("pkcs11:object=b", KeyUriError::NoModule),
            ("pkcs11:token=a?module-path=m", KeyUriError::NoKey),
        ];
        for (text, error) in cases {
            assert_eq!(parse(text), Err(error), "{text}");
        }
        let error = parse("pkcs11:object=b?module-path=m&pin-value=1234").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("1234"));
    }
}
