//! Finding one key in one token, and making one.

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use zeroize::Zeroizing;
use zerotouch_credentials::KeyAlgorithm;

use crate::signer::{P256, P384, Pkcs11Error};
use crate::uri::KeyUri;

/// What a session is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// Loads the module and opens a session with the one token that `uri` names, logged in if a PIN is
/// given.
pub(crate) fn open_session(
    uri: &KeyUri,
    pin: Option<&Zeroizing<String>>,
    access: Access,
) -> Result<Session, Pkcs11Error> {
    let module = Pkcs11::new(&uri.module_path)
        .map_err(|source| Pkcs11Error::Module { path: uri.module_path.clone(), source })?;
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        // Another signer of this process uses the same module.
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(source) => {
            return Err(Pkcs11Error::Module { path: uri.module_path.clone(), source });
        }
    }
    let slot = find_slot(&module, uri)?;
    let session = match access {
        Access::Read => module.open_ro_session(slot)?,
        Access::Write => module.open_rw_session(slot)?,
    };
    if let Some(pin) = pin {
        match session.login(UserType::User, Some(&AuthPin::from(pin.as_str()))) {
            // Login is the process's, not the session's.
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
            Err(source) => return Err(Pkcs11Error::Login { source }),
        }
    }
    Ok(session)
}

fn find_slot(module: &Pkcs11, uri: &KeyUri) -> Result<Slot, Pkcs11Error> {
    let mut matching = Vec::new();
    for slot in module.get_slots_with_token()? {
        // A token that is broken or just leaving is not the one; another may be.
        let Ok(token) = module.get_token_info(slot) else { continue };
        let fits = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
        if token.token_initialized()
            && fits(&uri.token, token.label())
            && fits(&uri.manufacturer, token.manufacturer_id())
            && fits(&uri.model, token.model())
            && fits(&uri.serial, token.serial_number())
            && uri.slot_id.is_none_or(|wanted| wanted == slot.id())
        {
            matching.push(slot);
        }
    }
    match matching.as_slice() {
        [only] => Ok(*only),
        found => Err(Pkcs11Error::Token { found: found.len() }),
    }
}

/// The private key that `uri` names.
pub(crate) fn find_private_key(
    session: &Session,
    uri: &KeyUri,
) -> Result<ObjectHandle, Pkcs11Error> {
    let mut template = vec![Attribute::Class(ObjectClass::PRIVATE_KEY)];
    template.extend(uri.object.as_ref().map(|label| Attribute::Label(label.clone().into_bytes())));
    template.extend(uri.id.clone().map(Attribute::Id));
    match session.find_objects(&template)?.as_slice() {
        [only] => Ok(*only),
        found => Err(Pkcs11Error::Key { found: found.len() }),
    }
}

/// Makes a key pair under the label that `uri` names, in place of the one that is there.
pub(crate) fn replace_key_pair(
    session: &Session,
    uri: &KeyUri,
    algorithm: KeyAlgorithm,
) -> Result<(), Pkcs11Error> {
    let label = uri.object.clone().unwrap_or_default().into_bytes();
    // The public half is found by it.
    let id = uri.id.clone().unwrap_or_else(|| label.clone());
    let named = [Attribute::Label(label), Attribute::Id(id)];
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
        let template = [&named[..], &[Attribute::Class(class)]].concat();
        for object in session.find_objects(&template)? {
            session.destroy_object(object)?;
        }
    }
    let (mechanism, parameters) = if let Some(bits) = algorithm.rsa_bits() {
        // At most 4,096.
        let bits = u64::try_from(bits).unwrap_or_default();
        let size = Attribute::ModulusBits(bits.into());
        let exponent = Attribute::PublicExponent(vec![1, 0, 1]);
        (Mechanism::RsaPkcsKeyPairGen, vec![size, exponent])
    } else {
        let curve = if algorithm == KeyAlgorithm::EcdsaP256 { P256 } else { P384 };
        (Mechanism::EccKeyPairGen, vec![Attribute::EcParams(curve.to_vec())])
    };
    let public = [&named[..], &parameters, &[Attribute::Token(true), Attribute::Verify(true)]];
    let private = [
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
    ];
    let private = [&named[..], &private];
    session.generate_key_pair(&mechanism, &public.concat(), &private.concat())?;
    Ok(())
}

/// A public key as the token encodes it.
pub(crate) enum PublicKey {
    Ec { curve: Vec<u8>, point: Vec<u8> },
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
}

/// The public half of `private`.
///
/// Not all of it is on the private key object; the rest is on the public key object of the same
/// `CKA_ID`, which PKCS#11 §4.8 has for this purpose.
pub(crate) fn read_public_key(
    session: &Session,
    private: ObjectHandle,
) -> Result<PublicKey, Pkcs11Error> {
    let kinds = [AttributeType::KeyType, AttributeType::Id, AttributeType::AlwaysAuthenticate];
    let (mut kind, mut id) = (None, Vec::new());
    for attribute in session.get_attributes(private, &kinds)? {
        match attribute {
            Attribute::KeyType(key_type) => kind = Some(key_type),
            Attribute::Id(identifier) => id = identifier,
            Attribute::AlwaysAuthenticate(true) => return Err(Pkcs11Error::AlwaysAuthenticate),
            _ => {}
        }
    }
    let kind = kind
        .filter(|k| [KeyType::EC, KeyType::RSA].contains(k))
        .ok_or(Pkcs11Error::UnsupportedKey)?;
    let template =
        [Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::KeyType(kind), Attribute::Id(id)];
    let public = session.find_objects(&template)?;
    let public = *public.first().ok_or(Pkcs11Error::NoPublicKey)?;
    let parts = [
        AttributeType::EcParams,
        AttributeType::EcPoint,
        AttributeType::Modulus,
        AttributeType::PublicExponent,
    ];
    let parts = if kind == KeyType::EC { &parts[..2] } else { &parts[2..] };
    let mut found = [const { None }; 2];
    for attribute in session.get_attributes(public, parts)? {
        match attribute {
            Attribute::EcParams(bytes) | Attribute::Modulus(bytes) => found[0] = Some(bytes),
            Attribute::EcPoint(bytes) | Attribute::PublicExponent(bytes) => found[1] = Some(bytes),
            _ => {}
        }
    }
    match found {
        [Some(curve), Some(point)] if kind == KeyType::EC => Ok(PublicKey::Ec { curve, point }),
        [Some(modulus), Some(exponent)] => Ok(PublicKey::Rsa { modulus, exponent }),
        _ => Err(Pkcs11Error::NoPublicKey),
    }
}
