//! Finding one key in one token.

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

use crate::signer::Pkcs11Error;
use crate::uri::KeyUri;

/// Loads the module and opens a session with the one token that `uri` names, logged in if a PIN is
/// given.
pub(crate) fn open_session(
    uri: &KeyUri,
    pin: Option<&Zeroizing<String>>,
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
    let session = module.open_ro_session(slot)?;
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
    for slot in module.get_slots_with_initialized_token()? {
        let token = module.get_token_info(slot)?;
        let fits = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
        if fits(&uri.token, token.label())
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
    let mut template =
        vec![Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::KeyType(KeyType::EC)];
    template.extend(uri.object.as_ref().map(|label| Attribute::Label(label.clone().into_bytes())));
    template.extend(uri.id.clone().map(Attribute::Id));
    match session.find_objects(&template)?.as_slice() {
        [only] => Ok(*only),
        found => Err(Pkcs11Error::Key { found: found.len() }),
    }
}

/// The curve of `private` and the point of its public half, as the token encodes them.
///
/// Private keys do not have the point; it is on the public key object of the same `CKA_ID`, which
/// PKCS#11 §4.8 has for this purpose.
pub(crate) fn read_public_key(
    session: &Session,
    private: ObjectHandle,
) -> Result<(Vec<u8>, Vec<u8>), Pkcs11Error> {
    let read = session.get_attributes(
        private,
        &[AttributeType::EcParams, AttributeType::Id, AttributeType::AlwaysAuthenticate],
    )?;
    let mut curve = None;
    let mut id = Vec::new();
    for attribute in read {
        match attribute {
            Attribute::EcParams(parameters) => curve = Some(parameters),
            Attribute::Id(identifier) => id = identifier,
            Attribute::AlwaysAuthenticate(true) => return Err(Pkcs11Error::AlwaysAuthenticate),
            _ => {}
        }
    }
    let template = [
        Attribute::Class(ObjectClass::PUBLIC_KEY),
        Attribute::KeyType(KeyType::EC),
        Attribute::Id(id),
    ];
    let public = session.find_objects(&template)?;
    let public = public.first().ok_or(Pkcs11Error::NoPublicKey)?;
    let point = session.get_attributes(*public, &[AttributeType::EcPoint])?.into_iter().find_map(
        |attribute| match attribute {
            Attribute::EcPoint(point) => Some(point),
            _ => None,
        },
    );
    curve.zip(point).ok_or(Pkcs11Error::NoPublicKey)
}
