//! A device on no operating system's library: an allocator over a fixed array, a panic handler, and
//! the whole lifecycle engine up to its first dial. That this links is the check; that it ends with 0
//! shows that the code is alive.

#![no_std]
#![no_main]

use core::panic::PanicInfo;

use rand_core::{TryCryptoRng, TryRng};
use zerotouch_credentials::SymmetricKey;
use zerotouch_device::{Action, Attestation, Config, Device};
use zerotouch_dps::{IdScope, RegistrationId};
use zerotouch_store::{MemoryStore, Store};
use zerotouch_time::{Instant, Now, UnixTime};

/// All the memory there is.
#[global_allocator]
static ALLOCATOR: emballoc::Allocator<{ 128 * 1024 }> = emballoc::Allocator::new();

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}

/// The precompiled `core` and `alloc` name these two; nothing unwinds here.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    loop {}
}

/// A generator for this check: no device may have one like it.
struct Counter(u64);

impl TryRng for Counter {
    type Error = core::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(self.try_next_u64()? as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        Ok(self.0)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        for byte in bytes {
            *byte = (self.try_next_u64()? >> 32) as u8;
        }
        Ok(())
    }
}

impl TryCryptoRng for Counter {}

/// The C runtime calls this, as it would a C program's.
#[unsafe(no_mangle)]
extern "C" fn main() -> i32 {
    first_dial().map_or(1, |port| i32::from(port != 8883))
}

/// Starts a device and yields the port it wants to dial first.
fn first_dial() -> Option<u16> {
    let key = SymmetricKey::from_base64("8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lE=").ok()?;
    let attestation = Attestation::SymmetricKey(key.derive("pump-17"));
    let config = Config::new(IdScope::new("0ne00000A0A").ok()?, RegistrationId::new("pump-17").ok()?, attestation);
    let mut store = MemoryStore::new();
    let now = Now { monotonic: Instant::ZERO, wall: Some(UnixTime::from_secs(1_790_000_000)) };
    let mut device = Device::new(config, store.load().ok()?, Counter(17));
    device.start(now);
    while let Some(action) = device.poll_action() {
        match action {
            Action::Store(change) => {
                let stored = store.apply(&change);
                device.handle_stored(stored, now);
            }
            Action::Dial(dial) => return Some(dial.port),
            _ => {}
        }
    }
    None
}
