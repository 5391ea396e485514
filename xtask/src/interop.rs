//! Real clients, unchanged, against the emulator.

use std::path::PathBuf;

use crate::process::{Result, process, root, skipped};

/// The vendor's released client for Python.
const AZURE_IOT_DEVICE: &str = "azure-iot-device==2.14.0";

pub(crate) fn run() -> Result {
    let Some(python) =
        ["python3", "python"].into_iter().find(|name| process(name).arg("--version").works())
    else {
        return skipped("azure-iot-device", "python3 is not installed");
    };
    let environment = root().join("target/interop-venv");
    let inside = environment.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    if !process(&inside).args(["-c", "import azure.iot.device"]).works() {
        if !process(python).args(["-m", "venv", "--clear"]).arg(&environment).works() {
            return skipped("azure-iot-device", "python3 cannot make a virtual environment");
        }
        let install = process(&inside).args(["-m", "pip", "install", "--quiet", AZURE_IOT_DEVICE]);
        if let Err(error) = install.run() {
            return skipped("azure-iot-device", &format!("it cannot be installed: {error}"));
        }
    }
    process(inside)
        .arg("tests/interop/azure_iot_device.py")
        .arg(zerotouch()?)
        .args(["emulator", "--port", "8883", "--output", "json"])
        .run()
}

/// The tool as `cargo build --release` leaves it.
fn zerotouch() -> Result<PathBuf> {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let binary = target.join("release").join(format!("zerotouch{}", std::env::consts::EXE_SUFFIX));
    if binary.is_file() {
        Ok(binary)
    } else {
        Err(format!("{} is missing: cargo build --release --bin zerotouch", binary.display()))
    }
}
