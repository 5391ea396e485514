//! The embedded example's firmware on no operating system's library: an allocator over a fixed array, a
//! panic handler, and a board without a network. That this links is the check; that it ends with 0 shows
//! that the code is alive. The whole life of the same firmware is a test of `zerotouch-device`.

#![no_std]
#![no_main]

#[path = "../../../crates/zerotouch-device/examples/embedded/firmware.rs"]
mod firmware;

use core::panic::PanicInfo;

use rand_core::{TryCryptoRng, TryRng};
use zerotouch_credentials::SymmetricKey;
use zerotouch_device::{Attestation, Config, TlsIdentity};
use zerotouch_dps::{IdScope, RegistrationId};
use zerotouch_time::{Instant, Now, UnixTime};

use firmware::{Board, Firmware, HEAP};

#[global_allocator]
static ALLOCATOR: emballoc::Allocator<HEAP> = emballoc::Allocator::new();

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

/// A board that only hears where it shall connect to.
struct Offline {
    port: Option<u16>,
}

impl Board for Offline {
    fn now(&self) -> Now {
        Now { monotonic: Instant::ZERO, wall: Some(UnixTime::from_secs(1_790_000_000)) }
    }

    fn dial(&mut self, _: &str, port: u16, _: Option<&TlsIdentity>) -> bool {
        self.port = Some(port);
        false
    }

    fn hang_up(&mut self) {}

    fn transmit(&mut self, _: &[u8]) -> usize {
        0
    }

    fn receive(&mut self, _: &mut [u8]) -> Option<usize> {
        None
    }

    fn sleep(&mut self, _: Option<Instant>) {}
}

/// Starts a device and yields the port it wants to dial first.
fn first_dial() -> Option<u16> {
    let key = SymmetricKey::from_base64("8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lE=").ok()?;
    let attestation = Attestation::SymmetricKey(key.derive("pump-17"));
    let id = RegistrationId::new("pump-17").ok()?;
    let config = Config::new(IdScope::new("0ne00000A0A").ok()?, id, attestation);
    let mut firmware = Firmware::new(config, Counter(17));
    let mut board = Offline { port: None };
    for _ in 0..16 {
        firmware.turn(&mut board, |_, _| {});
    }
    board.port
}
