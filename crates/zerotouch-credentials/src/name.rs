//! Distinguished names: the common name in and out.

use alloc::string::String;
use alloc::vec::Vec;

use der::asn1::{Any, SetOfVec, Utf8StringRef};
use der::{Decode, Encode, Tag, Tagged};
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::name::{Name, RdnSequence, RelativeDistinguishedName};

use crate::oid::COMMON_NAME;

/// A name of one attribute, the common name, as `UTF8String` (what RFC 5280 §4.1.2.4 asks of new
/// names).
pub(crate) fn with_common_name(common_name: &str) -> der::Result<Name> {
    let value = Any::encode_from(&Utf8StringRef::new(common_name)?)?;
    let attribute = AttributeTypeAndValue { oid: COMMON_NAME, value };
    let mut sequence = RdnSequence::default();
    sequence.push(RelativeDistinguishedName::from(SetOfVec::try_from([attribute])?));
    Name::from_der(&sequence.to_der()?)
}

/// Every common name in `name`, `None` where one is not text.
pub(crate) fn common_names(name: &Name) -> Vec<Option<String>> {
    name.iter()
        .filter(|attribute| attribute.oid == COMMON_NAME)
        .map(|attribute| text(&attribute.value))
        .collect()
}

/// The text of a directory string, whatever its type; authorities differ in the one they choose.
/// `PrintableString` is read as ASCII beyond its alphabet, because ids hold `_` and authorities
/// encode them so.
fn text(value: &Any) -> Option<String> {
    let bytes = value.value();
    match value.tag() {
        Tag::Utf8String => String::from_utf8(bytes.to_vec()).ok(),
        Tag::PrintableString | Tag::Ia5String | Tag::TeletexString => {
            bytes.is_ascii().then(|| bytes.iter().copied().map(char::from).collect())
        }
        Tag::BmpString if bytes.len().is_multiple_of(2) => {
            let units = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            char::decode_utf16(units).collect::<Result<_, _>>().ok()
        }
        _ => None,
    }
}
