//! The bill of materials of what is handed out, in the format of `CycloneDX`.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::process::{Result, cargo, root};
use crate::size;
use crate::workspace::{target, text};

/// Writes it to `target/dist`.
pub(crate) fn write() -> Result {
    let options = ["sbom", "--cargo-package=zerotouch-cli", "--output-format=cyclone_dx_json_1_6"];
    let mut bill = serde_json::from_str(&cargo(options).output()?)
        .map_err(|error| format!("cargo-sbom wrote no JSON: {error}"))?;
    strike_out(&mut bill, &handed_out()?);
    let path = target().join("dist/zerotouch.cdx.json");
    fs::create_dir_all(target().join("dist")).map_err(|error| error.to_string())?;
    fs::write(&path, bill.to_string()).map_err(|error| format!("{}: {error}", path.display()))?;
    println!("{}", path.strip_prefix(root()).unwrap_or(&path).display());
    Ok(())
}

/// The crates of it, each by name and version.
fn handed_out() -> Result<BTreeSet<(String, String)>> {
    let options = ["tree", "--package=zerotouch-cli", "--no-default-features", "--locked"];
    let tree = cargo(options)
        .args(["--features", size::WHOLE.features])
        .args(["--edges=normal", "--prefix=none", "--format={p}"])
        .output()?;
    let named = |line: &str| {
        let mut words = line.split(' ');
        let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
        Some((name.to_owned(), version.to_owned()))
    };
    Ok(tree.lines().filter_map(named).collect())
}

/// Strikes out what is not handed out: cargo-sbom knows neither of features nor of platforms.
fn strike_out(bill: &mut Value, kept: &BTreeSet<(String, String)>) {
    let mut struck = BTreeSet::new();
    retain(&mut bill["components"], |component| {
        let [name, version] = ["name", "version"].map(|part| text(component, part).to_owned());
        let known = kept.contains(&(name, version));
        if !known {
            struck.insert(text(component, "bom-ref").to_owned());
        }
        known
    });
    retain(&mut bill["dependencies"], |entry| !struck.contains(text(entry, "ref")));
    for entry in bill["dependencies"].as_array_mut().into_iter().flatten() {
        let on = |reference: &Value| reference.as_str().is_some_and(|name| !struck.contains(name));
        retain(&mut entry["dependsOn"], on);
    }
}

fn retain(list: &mut Value, keep: impl FnMut(&Value) -> bool) {
    if let Some(entries) = list.as_array_mut() {
        entries.retain(keep);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    // A bill that lists what is not there is as wrong as one that does not list what is.
    #[test]
    fn what_is_not_handed_out_is_struck_out() {
        let component = |name: &str| json!({ "name": name, "version": "1.0.0", "bom-ref": name });
        let depends = |name: &str, on: &[&str]| json!({ "ref": name, "dependsOn": on });
        let mut bill = json!({
            "components": [component("rustls"), component("ring"), component("aws-lc-rs")],
            "dependencies": [depends("rustls", &["ring", "aws-lc-rs"]), depends("aws-lc-rs", &[])],
        });
        let kept = ["rustls", "ring"].map(|name| (name.to_owned(), "1.0.0".to_owned()));
        strike_out(&mut bill, &kept.into());
        let expected = json!({
            "components": [component("rustls"), component("ring")],
            "dependencies": [depends("rustls", &["ring"])],
        });
        assert_eq!(bill, expected);
    }

    #[test]
    fn what_is_handed_out_is_known_by_its_features() {
        let crates = handed_out().unwrap();
        let has = |name| crates.iter().any(|(known, _)| known == name);
        assert!(has("rustls") && has("cryptoki") && has("zerotouch-emulator"), "{crates:?}");
        assert!(!has("aws-lc-rs") && !has("mimalloc"), "{crates:?}");
    }
}
