//! Keys that are made in hardware, two places taking turns, and hardware that is away for a while.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::SeedableRng;
use zerotouch_credentials::{KeyAlgorithm, KeySlots, PrivateKey, SignError, Signer};
use zerotouch_device::{
    Config, Credential, Event, FailureClass, Layer, Scope, State, TransportFailureKind,
};
use zerotouch_store::{Change, Generation, Identity, Key, KeyReference};

use crate::bench::{Bench, fixture};
use crate::{count, last_failure};

const MINUTE: Duration = Duration::from_secs(60);
const SLOTS: [&str; 2] = ["slot:a", "slot:b"];

#[derive(Debug)]
struct Token {
    plugged: AtomicBool,
    keys: Mutex<[Option<Arc<PrivateKey>>; 2]>,
    /// In which slot each key was made.
    made: Mutex<Vec<usize>>,
}

/// A key of a token, as long as that is there.
#[derive(Debug)]
struct TokenKey {
    token: Arc<Token>,
    key: Arc<PrivateKey>,
}

#[derive(Debug)]
struct Slots(Arc<Token>);

fn away() -> SignError {
    SignError::Device(Box::<dyn Error + Send + Sync>::from("the token is not there"))
}

impl Token {
    fn new() -> Arc<Self> {
        let plugged = AtomicBool::new(true);
        Arc::new(Self { plugged, keys: Mutex::default(), made: Mutex::default() })
    }

    fn plug(&self, plugged: bool) {
        self.plugged.store(plugged, Ordering::Relaxed);
    }

    /// The key in that slot is gone for good.
    fn wipe(&self, slot: usize) {
        self.keys.lock().unwrap()[slot] = None;
    }

    fn check(&self) -> Result<(), SignError> {
        if self.plugged.load(Ordering::Relaxed) { Ok(()) } else { Err(away()) }
    }
}

impl Signer for TokenKey {
    fn algorithm(&self) -> KeyAlgorithm {
        self.key.algorithm()
    }

    fn public_key(&self) -> &[u8] {
        self.key.public_key()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.token.check()?;
        self.key.sign(message)
    }
}

impl KeySlots for Slots {
    fn has_room(&self, in_use: &[&str]) -> bool {
        SLOTS.iter().any(|slot| !in_use.contains(slot))
    }

    fn create(
        &self,
        algorithm: KeyAlgorithm,
        in_use: &[&str],
    ) -> Result<(String, Arc<dyn Signer>), SignError> {
        self.0.check()?;
        let slot = SLOTS.iter().position(|slot| !in_use.contains(slot)).ok_or_else(away)?;
        let mut made = self.0.made.lock().unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(made.len() as u64);
        made.push(slot);
        let key = Arc::new(PrivateKey::generate(algorithm, &mut rng).unwrap());
        self.0.keys.lock().unwrap()[slot] = Some(key);
        Ok((SLOTS[slot].into(), self.open(SLOTS[slot])?))
    }

    fn open(&self, address: &str) -> Result<Arc<dyn Signer>, SignError> {
        self.0.check()?;
        let slot = SLOTS.iter().position(|slot| *slot == address).ok_or_else(away)?;
        let key = self.0.keys.lock().unwrap()[slot].clone().ok_or_else(away)?;
        Ok(Arc::new(TokenKey { token: Arc::clone(&self.0), key }))
    }
}

fn with(token: &Arc<Token>) -> impl FnOnce(&mut Config) + use<> {
    let slots = Arc::new(Slots(Arc::clone(token)));
    |config| {
        config.key_algorithm = KeyAlgorithm::EcdsaP256;
        config.key_slots = Some(slots);
    }
}

fn connected(token: &Arc<Token>) -> Bench {
    let mut bench = Bench::with(fixture(), Identity::default(), with(token));
    bench.start();
    bench.run_until(|bench| bench.generation() == 1);
    bench
}

fn renews(bench: &mut Bench) {
    let next = bench.generation() + 1;
    bench.device.renew(bench.now).unwrap();
    bench.pump();
    bench.run_until(|bench| bench.generation() == next && bench.device.state() == State::Connected);
}

/// What a store on a disk gives back: addresses, and nothing to sign with.
fn from_disk(identity: &mut Identity) {
    let bare = |key: &Key| {
        let Key::Reference(reference) = key else { panic!("a key in software") };
        Key::from(KeyReference::unattached(reference.uri(), reference.public_key()).unwrap())
    };
    let generations =
        identity.staged.iter_mut().chain(&mut identity.active).chain(&mut identity.previous);
    for one in generations {
        let (number, key, chain) = (one.number, bare(&one.key), one.chain.clone());
        *one = Arc::new(Generation { number, key, chain });
    }
    if let Some(pending) = &mut identity.pending {
        pending.key = bare(&pending.key);
    }
}

fn restart(bench: Bench, token: &Arc<Token>, after: Duration) -> Bench {
    bench.restart_with(after, from_disk, with(token))
}

// The slot of the certificate before is given up, durably, before a key is made in it; that of the one in
// use never is.
#[test]
fn two_slots_take_turns() {
    let token = Token::new();
    let mut bench = connected(&token);
    for _ in 0..3 {
        renews(&mut bench);
    }
    assert_eq!(*token.made.lock().unwrap(), [0, 1, 0, 1]);
    let first = ["begin", "stage", "activate"];
    let later = ["discard previous", "begin", "stage", "activate"];
    assert_eq!(bench.changes, [&first[..], &first, &later, &later].concat());

    let mut bench = restart(bench, &token, MINUTE);
    bench.start();
    assert_eq!((bench.device.state(), bench.dials.len()), (State::Connected, 1));
    renews(&mut bench);
    assert_eq!(token.made.lock().unwrap().last(), Some(&0));
}

// Nor is the one before while it is what the hub accepts, and the store does not know it yet.
#[test]
fn the_certificate_that_the_hub_accepts_is_not_given_up() {
    let token = Token::new();
    let mut bench = connected(&token);
    renews(&mut bench);
    let refused = bench.device.identity().active.clone().unwrap().chain.leaf().thumbprint();
    let mut bench = restart(bench, &token, MINUTE);
    bench.dial_fails = Box::new(move |dial| {
        let leaf = dial.identity.as_ref()?.chain.leaf().thumbprint();
        (leaf == refused).then_some(TransportFailureKind::ClientCertificateRefused)
    });
    bench.store_fails = Box::new(|change| matches!(change, Change::RollBack));
    bench.start();
    bench.run_until(|bench| bench.device.state() == State::Connected);
    bench.device.renew(bench.now).unwrap();
    bench.pump();
    assert!(bench.changes.is_empty(), "{:?}", bench.changes);
    assert_eq!(token.made.lock().unwrap().len(), 2);
    assert_eq!(count(&bench, |event| matches!(event, Event::RenewalFailed { .. })), 1);
}

// A slot that cannot be given up durably is not written to, and the certificate in use stays.
#[test]
fn a_slot_is_free_when_the_store_says_so() {
    let token = Token::new();
    let mut bench = connected(&token);
    renews(&mut bench);
    bench.store_fails = Box::new(|_| true);
    bench.device.renew(bench.now).unwrap();
    bench.pump();
    assert_eq!(count(&bench, |event| matches!(event, Event::RenewalFailed { .. })), 1);
    assert_eq!((token.made.lock().unwrap().len(), bench.device.state()), (2, State::Connected));
    bench.store_fails = Box::new(|_| false);
    renews(&mut bench);
}

// A certificate that ended before a hub saw it holds a slot that is needed more.
#[test]
fn a_staged_certificate_that_is_over_makes_room() {
    let token = Token::new();
    let mut bench = connected(&token);
    bench.dial_fails = Box::new(|_| Some(TransportFailureKind::Unreachable));
    bench.device.renew(bench.now).unwrap();
    bench.pump();
    bench.run_until(|bench| bench.changes.last() == Some(&"stage"));
    let mut bench = restart(bench, &token, Duration::from_secs(400 * 24 * 3600));
    bench.start();
    bench.run_until(|bench| bench.generation() == 3);
    assert_eq!(bench.changes, ["discard staged", "begin", "stage", "activate"]);
}

// Without its token a device can prove nothing, and loses nothing: neither at the start nor later.
#[test]
fn a_token_that_is_away_is_waited_for() {
    let token = Token::new();
    token.plug(false);
    let mut bench = Bench::with(fixture(), Identity::default(), with(&token));
    bench.start();
    let waits = |bench: &Bench, scope, credential| {
        let (found, shown, class, failure, retry_in) = last_failure(bench);
        assert_eq!((found, shown, class), (scope, credential, FailureClass::Terminal));
        assert_eq!(failure.layer(), Layer::Credentials);
        assert!(retry_in.is_some());
        assert!(bench.dials.is_empty() && bench.changes.is_empty());
    };
    waits(&bench, Scope::Dps, Credential::Bootstrap);
    token.plug(true);
    bench.run_until(|bench| bench.generation() == 1);

    token.plug(false);
    let mut bench = restart(bench, &token, MINUTE);
    bench.start();
    waits(&bench, Scope::Hub, Credential::Active);
    token.plug(true);
    bench.run_until(|bench| bench.device.state() == State::Connected);
    assert_eq!((bench.dials.len(), bench.generation()), (1, 1));

    token.plug(false);
    bench.device.renew(bench.now).unwrap();
    bench.pump();
    assert_eq!(count(&bench, |event| matches!(event, Event::RenewalFailed { .. })), 1);
    assert_eq!(bench.device.state(), State::Connected);
    token.plug(true);
    renews(&mut bench);
}

// A token that was reset or exchanged: nobody comes to say so, and the device gets another identity by
// itself. Whether the certificate was accepted before or not makes no difference.
#[test]
fn a_key_that_is_gone_is_replaced() {
    let days = 3 * 24 * 60 * MINUTE;
    let token = Token::new();
    let bench = connected(&token);
    token.wipe(0);
    let mut bench = restart(bench, &token, MINUTE);
    bench.start();
    bench.run_until_within(days, |bench| bench.generation() == 2);

    bench.dial_fails = Box::new(|_| Some(TransportFailureKind::Unreachable));
    bench.device.renew(bench.now).unwrap();
    bench.pump();
    bench.run_until(|bench| bench.changes.last() == Some(&"stage"));
    token.wipe(0);
    token.wipe(1);
    let mut bench = restart(bench, &token, MINUTE);
    bench.start();
    bench.run_until_within(days, |bench| bench.generation() == 4);
}

// The same of a key that waits for its certificate: another is made for the next request.
#[test]
fn a_pending_key_that_is_gone_is_replaced() {
    let token = Token::new();
    let mut bench = Bench::with(fixture(), Identity::default(), with(&token));
    bench.dial_fails = Box::new(|_| Some(TransportFailureKind::Unreachable));
    bench.start();
    assert_eq!(bench.changes, ["begin"]);
    token.wipe(0);
    let mut bench = restart(bench, &token, MINUTE);
    bench.start();
    bench.run_until_within(180 * MINUTE, |bench| bench.generation() == 1);
    assert_eq!(bench.changes, ["discard pending", "begin", "stage", "activate"]);
}
