//! Real peers, unchanged, against ours: clients against the emulator and its plain broker, and our
//! client against mosquitto.

use std::fs;
use std::path::PathBuf;

use crate::process::{Process, Result, cargo, process, root, skipped};
use crate::size;
use crate::workspace::{fast_tool, target, tested_tool};

/// The vendor's released client for Python, and the one that is to follow it.
const AZURE_IOT_DEVICE: [&str; 2] = ["azure-iot-device==2.14.0", "azure-iot-device==2.15.0rc1"];
/// The vendor's clients for Node.js; their versions are in its `package.json`.
const AZURE_IOT_NODE: &str = "azure_iot_node";
/// The vendor's service client for Python with a device to serve; it does not say that it needs `six`.
const AZURE_IOT_HUB: [&str; 3] =
    ["azure-iot-hub==2.7.0", "azure-iot-device==2.14.0", "six==1.17.0"];
/// The client most used in Python.
const PAHO_MQTT: &str = "paho-mqtt==2.2.0";
/// The client most used in JavaScript; its version is in its `package.json`.
const MQTT_JS: &str = "mqtt_js";

const CLOUD: &[&str] = &["--port", "8883"];
const PLAIN_BROKER: &[&str] = &["--plain-broker", "--port", "0", "--refuse-subscribe", "refused/#"];

pub(crate) fn run() -> Result {
    // Built with the features of all tests, so that nothing is built twice.
    cargo(["test", "--workspace", "--all-features", "--locked", "--quiet", "--test", "brokers"])
        .run()?;
    for version in AZURE_IOT_DEVICE {
        client(version, python(&[version]), "azure_iot_device.py", CLOUD)?;
        client(version, python(&[version]), "azure_iot_device_x509.py", CLOUD)?;
    }
    client(AZURE_IOT_NODE, node(AZURE_IOT_NODE), "azure_iot_node/main.js", CLOUD)?;
    client(AZURE_IOT_NODE, node(AZURE_IOT_NODE), "azure_iot_node/service.js", CLOUD)?;
    client(AZURE_IOT_HUB[0], python(&AZURE_IOT_HUB), "azure_iot_hub.py", CLOUD)?;
    client(PAHO_MQTT, python(&[PAHO_MQTT]), "paho_mqtt.py", PLAIN_BROKER)?;
    client(MQTT_JS, node(MQTT_JS), "mqtt_js/main.js", PLAIN_BROKER)
}

/// Runs the vendor's client and ours by turns, and says what each took. Ours is built as for a device: for
/// size, and without other libraries.
pub(crate) fn beside(messages: u32, seconds: u32) -> Result {
    let zerotouch = fast_tool()?;
    let built = target().join("telemetry");
    let mut client = cargo(["rustc", "--release", "--locked", "--quiet"])
        .args(["--manifest-path", "tests/interop/telemetry/Cargo.toml", "--target-dir"])
        .arg(&built)
        .arg("--")
        .args(size::smaller());
    if cfg!(target_os = "linux") {
        client = client.arg("-Ctarget-feature=+crt-static");
    }
    client.run()?;
    let [released, _] = AZURE_IOT_DEVICE;
    match python(&[released]) {
        Err(why) => skipped(released, &why),
        Ok(python) => python
            .arg("tests/interop/beside.py")
            .arg(built.join("release/telemetry"))
            .args([messages.to_string(), seconds.to_string()])
            .arg(zerotouch)
            .args(["emulator", "--output", "json"])
            .args(CLOUD)
            .run(),
    }
}

/// Why a client cannot be run here.
type Unavailable<T> = std::result::Result<T, String>;

/// Runs a client's script with the emulator it is to start.
fn client(
    name: &str,
    interpreter: Unavailable<Process>,
    script: &str,
    emulator: &[&str],
) -> Result {
    match interpreter {
        Err(why) => skipped(name, &why),
        Ok(interpreter) => interpreter
            .arg(format!("tests/interop/{script}"))
            .arg(tested_tool()?)
            .args(["emulator", "--output", "json"])
            .args(emulator)
            .run(),
    }
}

/// Python, with packages in a virtual environment of their own.
fn python(packages: &[&str]) -> Unavailable<Process> {
    let python = ["python3", "python"]
        .into_iter()
        .find(|name| process(name).arg("--version").works())
        .ok_or("python3 is not installed")?;
    let environment = root().join("target/interop").join(packages.concat());
    let inside = environment.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let names = packages.iter().map(|package| package.split("==").next().unwrap_or(package));
    let pip = |command: &str| process(&inside).args(["-m", "pip", "--quiet", command]);
    if !pip("show").args(names).works() {
        if !process(python).args(["-m", "venv", "--clear"]).arg(&environment).works() {
            return Err("python3 cannot make a virtual environment".into());
        }
        pip("install")
            .args(packages)
            .run()
            .map_err(|error| format!("it cannot be installed: {error}"))?;
    }
    // No byte code among the scripts.
    Ok(process(inside).arg("-B"))
}

/// Node, with the packages that a script's lock file names.
fn node(script: &str) -> Unavailable<Process> {
    if !process("node").arg("--version").works() || !process("npm").arg("--version").works() {
        return Err("node and npm are not installed".into());
    }
    let (from, to) = (root().join("tests/interop").join(script), root().join("target/interop"));
    let to = to.join(script);
    let install = || {
        fs::create_dir_all(&to).map_err(|error| error.to_string())?;
        for file in ["package.json", "package-lock.json"] {
            fs::copy(from.join(file), to.join(file)).map_err(|error| error.to_string())?;
        }
        process("npm").args(["ci", "--no-audit", "--no-fund", "--prefix"]).arg(&to).run()
    };
    let locked = |folder: &PathBuf| fs::read(folder.join("package-lock.json")).ok();
    // npm writes this file last.
    let is_there = to.join("node_modules/.package-lock.json").is_file();
    if !is_there || locked(&from) != locked(&to) {
        install().map_err(|error| format!("it cannot be installed: {error}"))?;
    }
    Ok(process("node").env("NODE_PATH", to.join("node_modules")))
}
