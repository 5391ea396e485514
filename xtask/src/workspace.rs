//! What cargo knows of the workspace.

use std::path::PathBuf;

use serde_json::Value;

use crate::process::{Result, cargo, root};

/// The workspace's own packages.
pub(crate) fn members() -> Result<Vec<Value>> {
    packages(&["--no-deps"])
}

/// All packages of the lock file: the workspace's, and what they need on any platform.
pub(crate) fn all() -> Result<Vec<Value>> {
    packages(&["--all-features"])
}

/// The tool as it is tested: with debug assertions, and quickly built.
pub(crate) fn tested_tool() -> Result<PathBuf> {
    // Along with one of its tests, with the features of all tests, so that nothing is built twice.
    cargo(["test", "--workspace", "--all-features", "--locked", "--quiet", "--no-run"])
        .args(["--test", "manual"])
        .run()?;
    Ok(target().join("debug").join(binary("zerotouch")))
}

/// The tool as `cargo build --release` leaves it.
pub(crate) fn fast_tool() -> Result<PathBuf> {
    cargo(["build", "--release", "--locked", "--quiet", "--bin", "zerotouch"]).run()?;
    Ok(target().join("release").join(binary("zerotouch")))
}

/// What a program's file is called.
pub(crate) fn binary(name: &str) -> String {
    format!("{name}{}", std::env::consts::EXE_SUFFIX)
}

/// The tool's.
pub(crate) fn tool() -> Result<Value> {
    let mut members = members()?.into_iter();
    let tool = members.find(|package| package["name"] == "zerotouch-cli");
    tool.ok_or_else(|| "there is no zerotouch-cli".to_owned())
}

/// Where cargo builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

fn packages(options: &[&str]) -> Result<Vec<Value>> {
    let metadata = cargo(["metadata", "--format-version=1", "--locked"]).args(options).output()?;
    let mut metadata: Value = serde_json::from_str(&metadata).map_err(|error| error.to_string())?;
    match metadata["packages"].take() {
        Value::Array(packages) => Ok(packages),
        _ => Err("cargo metadata tells no packages".to_owned()),
    }
}

/// A text of a package, or of one of its dependencies.
pub(crate) fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_default()
}
