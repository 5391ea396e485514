//! What a release does, walked without publishing anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use crate::process::{Result, cargo, process, skipped};
use crate::workspace::{self, target, text};
use crate::{bill, dist, size};

/// A step of it, by the name under which it is told.
type Step = (&'static str, fn() -> Result);

/// What takes no time: `cargo xtask test` does it as well.
const QUICK: [Step; 4] = [
    ("versions", versions),
    ("changelogs", changelogs),
    ("publish order", publish_order),
    ("minimum Rust of what is used", dependencies_msrv),
];
const SLOW: [Step; 9] = [
    ("licences, bans, advisories", deny),
    ("semver", semver),
    ("minimum Rust", msrv),
    ("documentation", documentation),
    ("book", book),
    ("packages", packages),
    ("size", size::run),
    ("bill of materials", bill_of_materials),
    ("dist", || dist::run(false)),
];

pub(crate) fn dry_run() -> Result {
    walk(QUICK.iter().chain(&SLOW))
}

pub(crate) fn quick() -> Result {
    walk(QUICK.iter())
}

/// All of it, whatever fails: a release is prepared in one go, not one complaint at a time.
fn walk<'a>(steps: impl Iterator<Item = &'a Step>) -> Result {
    let mut failed = Vec::new();
    for (name, step) in steps {
        let began = Instant::now();
        println!("-- {name}");
        if let Err(error) = step() {
            eprintln!("-- {name}: FAILED: {error}");
            failed.push(*name);
        } else {
            println!("-- {name}: {:.1} s", began.elapsed().as_secs_f64());
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join("; "))) }
}

/// What is published: `publish = false` shows as a list of no registries.
fn published() -> Result<Vec<Value>> {
    let mut members = workspace::members()?;
    members.retain(|package| package["publish"].is_null());
    Ok(members)
}

fn versions() -> Result {
    let packages = published()?;
    let versions: BTreeSet<_> = packages.iter().map(|package| text(package, "version")).collect();
    let [version] = versions.iter().collect::<Vec<_>>()[..] else {
        return Err(format!("the crates have different versions: {versions:?}"));
    };
    let tag = format!("v{version}");
    if tags()?.lines().any(|line| line == tag) {
        return Err(format!("{tag} is tagged already: raise the version in Cargo.toml"));
    }
    println!("{} crates of version {version}, not yet tagged", packages.len());
    Ok(())
}

fn tags() -> Result<String> {
    process("git").args(["tag", "--list", "v*", "--sort=-version:refname"]).output()
}

fn changelogs() -> Result {
    let mut complaints = Vec::new();
    for package in published()? {
        let path = Path::new(text(&package, "manifest_path")).with_file_name("CHANGELOG.md");
        let log = fs::read_to_string(&path).unwrap_or_default();
        if !is_told(&log, text(&package, "version")) {
            complaints.push(text(&package, "name").to_owned());
        }
    }
    if complaints.is_empty() {
        return Ok(());
    }
    Err(format!("no CHANGELOG.md, or none that tells of this version: {}", complaints.join(", ")))
}

fn is_told(log: &str, version: &str) -> bool {
    log.lines().filter_map(|line| line.strip_prefix("## ")).any(|heading| {
        let heading = heading.trim_start_matches('[');
        let name = heading.split([']', ' ']).next().unwrap_or_default();
        name == "Unreleased" || name == version
    })
}

fn publish_order() -> Result {
    println!("{}", order(&published()?)?.join("\n"));
    Ok(())
}

/// Each after what it needs. A dependency of tests counts if it has a version: cargo leaves out the
/// others when it publishes.
fn order(packages: &[Value]) -> Result<Vec<String>> {
    let names: BTreeSet<_> = packages.iter().map(|package| text(package, "name")).collect();
    let mut waiting: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in packages {
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        let needs = dependencies
            .filter(|needed| text(needed, "kind") != "dev" || text(needed, "req") != "*")
            .map(|needed| text(needed, "name"))
            .filter(|needed| names.contains(needed));
        waiting.insert(text(package, "name"), needs.collect());
    }
    let mut order = Vec::new();
    while !waiting.is_empty() {
        let ready: Vec<_> = waiting
            .iter()
            .filter(|(_, needs)| needs.iter().all(|needed| !waiting.contains_key(needed)))
            .map(|(name, _)| *name)
            .collect();
        if ready.is_empty() {
            return Err(format!("these need each other in a circle, or what does: {waiting:?}"));
        }
        for name in ready {
            waiting.remove(name);
            order.push(name.to_owned());
        }
    }
    Ok(order)
}

/// The crates' `rust-version` against that of all they use.
fn dependencies_msrv() -> Result {
    let ours = numbers(&rust_version()?);
    let packages = workspace::all()?;
    let newer: Vec<_> = packages
        .iter()
        .filter(|package| numbers(text(package, "rust_version")) > ours)
        .map(|package| {
            let [name, version, rust] =
                ["name", "version", "rust_version"].map(|m| text(package, m));
            format!("{name} {version} needs {rust}")
        })
        .collect();
    let silent = packages.iter().filter(|package| package["rust_version"].is_null()).count();
    println!("{} packages, {silent} of which say nothing", packages.len());
    if newer.is_empty() { Ok(()) } else { Err(newer.join(", ")) }
}

fn rust_version() -> Result<String> {
    Ok(text(&workspace::tool()?, "rust_version").to_owned())
}

fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map_while(|number| number.parse().ok()).collect()
}

fn msrv() -> Result {
    let version = rust_version()?;
    if !process("rustup").args(["run", &version, "rustc", "--version"]).works() {
        return skipped(
            &format!("a build with Rust {version}"),
            &format!("`rustup toolchain install {version}`"),
        );
    }
    let check = ["check", "--workspace", "--all-features", "--locked", "--quiet"];
    let run = process("rustup").args(["run", &version, "cargo"]).args(check);
    run.arg("--target-dir").arg(target().join("msrv")).run()
}

fn packages() -> Result {
    cargo(["publish", "--workspace", "--dry-run", "--locked", "--quiet"]).run()
}

fn deny() -> Result {
    if !installed("deny") {
        return not_installed("cargo-deny");
    }
    // What is allowed and no longer met is struck out.
    let check = |what| {
        let options =
            ["deny", "--workspace", "--all-features", "--locked", "check", "-D", "warnings"];
        cargo(options).arg(what)
    };
    for what in ["licenses", "bans", "sources"] {
        check(what).run()?;
    }
    if cargo(["deny", "--locked", "fetch", "db"]).works() {
        return check("advisories").run();
    }
    skipped("advisories", "their database cannot be fetched")
}

fn semver() -> Result {
    let tags = tags()?;
    let Some(tag) = tags.lines().next() else {
        println!("no baseline: this is the first release");
        return Ok(());
    };
    if !installed("semver-checks") {
        return not_installed("cargo-semver-checks");
    }
    cargo(["semver-checks", "--workspace", "--baseline-rev", tag]).run()
}

fn documentation() -> Result {
    let doc = cargo(["doc", "--workspace", "--all-features", "--no-deps", "--locked", "--quiet"]);
    doc.env("RUSTDOCFLAGS", "-D warnings").run()
}

fn book() -> Result {
    if !process("mdbook").arg("--version").works() {
        return not_installed("mdbook");
    }
    process("mdbook").args(["build", "docs"]).run()
}

fn bill_of_materials() -> Result {
    if !installed("sbom") {
        return not_installed("cargo-sbom");
    }
    bill::write()
}

fn installed(command: &str) -> bool {
    cargo([command, "--version"]).works()
}

fn not_installed(name: &str) -> Result {
    skipped(name, &format!("`cargo install --locked {name}`"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn package(name: &str, needs: &[(&str, Option<&str>, &str)]) -> Value {
        let needs: Vec<_> = needs
            .iter()
            .map(|(name, kind, req)| json!({ "name": name, "kind": kind, "req": req }))
            .collect();
        json!({ "name": name, "dependencies": needs })
    }

    // A wrong order is found out halfway through a release, when what is published cannot be taken back.
    #[test]
    fn each_is_published_after_what_it_needs_and_circles_are_told() {
        let packages = [
            package("a", &[("b", None, "^1"), ("serde", None, "^1")]),
            package("b", &[("a", Some("dev"), "*"), ("c", Some("build"), "^1")]),
            package("c", &[]),
        ];
        assert_eq!(order(&packages).unwrap(), ["c", "b", "a"]);
        let circle =
            [package("a", &[("b", None, "^1")]), package("b", &[("a", Some("dev"), "^1")])];
        assert!(order(&circle).unwrap_err().contains("circle"));
    }

    // A release nobody told of, or one that fails for the way its heading is written.
    #[test]
    fn a_changelog_tells_of_the_version_or_of_what_is_unreleased() {
        for told in ["## [Unreleased]", "## Unreleased", "## [1.2.0] - 2026-01-01", "## 1.2.0"] {
            assert!(is_told(&format!("# Changelog\n\n{told}\n"), "1.2.0"), "{told}");
        }
        for silent in ["", "## [1.2.0-rc.1]", "## 1.2", "### Unreleased", "Unreleased"] {
            assert!(!is_told(silent, "1.2.0"), "{silent}");
        }
    }

    // 1.9 is older than 1.89, and a patch version newer than none.
    #[test]
    fn versions_compare_by_number() {
        assert!(numbers("1.9") < numbers("1.89"));
        assert!(numbers("1.89.1") > numbers("1.89"));
        assert!(numbers("") < numbers("1.0"));
    }
}
