//! An emulator as a program of its own: prints one JSON line when it is ready, then one for each
//! event, until its standard input ends.
//!
//! ```text
//! cargo run --example emulator -- --port 8883 --ca-file ca.pem
//! ```

use std::error::Error;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use zerotouch_emulator::Emulator;

fn main() -> Result<(), Box<dyn Error>> {
    let mut port = 0;
    let mut ca_file = PathBuf::from("emulator-ca.pem");
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{argument} needs a value"))?;
        match argument.as_str() {
            "--port" => port = value.parse()?,
            "--ca-file" => ca_file = value.into(),
            _ => return Err(format!("unknown argument {argument}").into()),
        }
    }
    let emulator = Emulator::builder().port(port).start()?;
    emulator.write_ca_certificate(&ca_file)?;
    let groups: Vec<_> = emulator
        .enrollment_groups()
        .iter()
        .map(|group| {
            json!({
                "id": group.id,
                "attestation": if group.primary_key.is_some() { "symmetricKey" } else { "x509" },
                "primaryKey": group.primary_key.as_ref().map(|key| key.to_base64().to_string()),
                "credentialPolicy": group.credential_policy,
            })
        })
        .collect();
    println!(
        "{}",
        json!({
            "ready": true,
            "host": "localhost",
            "port": emulator.port(),
            "idScope": emulator.id_scope(),
            "caFile": ca_file,
            "enrollmentGroups": groups,
        })
    );
    // Whoever started this ends it by closing its input: no process is left behind.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    loop {
        if let Some(event) = emulator.next_event(Duration::from_secs(3600)) {
            println!("{}", serde_json::to_string(&event)?);
        }
    }
}
