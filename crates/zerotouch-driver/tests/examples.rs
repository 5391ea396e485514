//! The examples do what they say, against emulators of their own.

#![allow(clippy::duplicate_mod, reason = "each example stands alone, and brings what both share")]

#[path = "../examples/mio.rs"]
mod mio_example;
#[path = "../examples/smol.rs"]
mod smol_example;

// A runtime that this workspace has no driver for.
#[test]
fn a_device_lives_on_smol() -> Result<(), Box<dyn std::error::Error>> {
    smol_example::main()
}

// No runtime at all, and more than one device in a thread.
#[test]
fn two_devices_live_in_one_loop() -> Result<(), Box<dyn std::error::Error>> {
    mio_example::main()
}
