//! How big the tool is, on disk and in memory, against its goals, and which crates make it so.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::memory;
use crate::process::{Result, cargo, process, root, skipped};
use crate::workspace::{binary, target};

/// Which features of the tool are built, by the profile `dist`, and how big that may become.
pub(crate) struct Build {
    name: &'static str,
    pub(crate) features: &'static str,
    goal: u64,
}

/// What is handed out: all but AWS-LC.
pub(crate) const WHOLE: Build = Build {
    name: "whole",
    features: "agent,bundled-roots,completions,emulator,pkcs11,rsa,tools",
    goal: 6_000_000,
};
/// For gateways: no emulator.
pub(crate) const AGENT: Build = Build { name: "agent", features: "agent", goal: 2_500_000 };
/// So many crates are told by name, the others together.
const NAMED: usize = 20;

/// Resident memory of the agent, connected and idle.
const MEMORY: u64 = 8_000_000;

pub(crate) fn run() -> Result {
    let mut missed = Vec::new();
    let mut made = Vec::new();
    let kept = target().join("size");
    fs::create_dir_all(&kept).map_err(|error| error.to_string())?;
    for build in [&AGENT, &WHOLE] {
        let (name, goal) = (build.name, build.goal);
        let by_crate = text_by_crate(build)?;
        // The next one takes its place.
        let binary = kept.join(binary(name));
        let bytes = fs::copy(build.make("symbols")?, &binary).map_err(|error| error.to_string())?;
        let verdict = if bytes <= goal { "within" } else { "MISSES" };
        println!("{name}: {bytes} bytes, {verdict} the goal of {goal}");
        if bytes > goal {
            missed.push(name);
        }
        print_crates(&by_crate);
        made.push(binary);
    }
    if let ([agent, tool], true) = (&made[..], cfg!(target_os = "linux")) {
        let bytes = memory::resident(agent, tool)?;
        let verdict = if bytes < MEMORY { "within" } else { "MISSES" };
        println!("the agent, connected and idle: {bytes} bytes resident, {verdict} {MEMORY}");
        if bytes >= MEMORY {
            missed.push("memory");
        }
    }
    if missed.is_empty() {
        Ok(())
    } else {
        Err(format!("the goal is missed: {}", missed.join(", ")))
    }
}

/// Builds what is handed out, and tells where it is.
pub(crate) fn distributed() -> Result<PathBuf> {
    WHOLE.make("symbols")
}

impl Build {
    /// Without the symbols, or with them: `strip` is that of rustc.
    fn make(&self, strip: &str) -> Result<PathBuf> {
        let mut build = cargo(["rustc", "--quiet", "--locked", "--package=zerotouch-cli"]);
        build = build.args(["--bin=zerotouch", "--profile=dist", "--no-default-features"]);
        build = build.args(["--features", self.features, "--", "-C", &format!("strip={strip}")]);
        build.args(smaller()).run()?;
        Ok(target().join("dist").join(binary("zerotouch")))
    }
}

/// What makes it smaller and no profile can say, where panics abort.
pub(crate) fn smaller() -> Vec<String> {
    let mut flags = vec!["-Cllvm-args=-enable-machine-outliner=always".to_owned()];
    if cfg!(all(target_os = "linux", target_env = "gnu")) {
        let packaging = root().join("packaging");
        flags.push(format!("-Lnative={}", packaging.join("libgcc").display()));
        if packs_relocations() {
            flags.push("-Clink-arg=-Wl,-z,pack-relative-relocs".into());
        }
        if merges_functions() {
            flags.push("-Clink-arg=-Wl,--icf=all".into());
        }
        let script = packaging.join("no-unwinding.ld");
        flags.push(format!("-Clink-arg=-Wl,-T,{}", script.display()));
    }
    flags
}

/// A relocation takes a byte or two instead of 24, and glibc 2.36 or later to run.
fn packs_relocations() -> bool {
    let version = process("getconf").arg("GNU_LIBC_VERSION").output().unwrap_or_default();
    minor(&version, "glibc 2.").is_some_and(|minor| minor >= 36)
}

/// Of functions that are alike lld keeps one; rustc brings it from 1.90, and for this architecture alone.
fn merges_functions() -> bool {
    let version = process("rustc").arg("--version").output().unwrap_or_default();
    cfg!(target_arch = "x86_64") && minor(&version, "rustc 1.").is_some_and(|minor| minor >= 90)
}

fn minor(version: &str, before: &str) -> Option<u32> {
    version.trim().strip_prefix(before)?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Bytes of code of each crate, from the symbols of a build that keeps them.
fn text_by_crate(build: &Build) -> Result<BTreeMap<String, u64>> {
    if !process("nm").arg("--version").works() {
        skipped("code by crate", "nm (binutils) is missing")?;
        return Ok(BTreeMap::new());
    }
    let binary = build.make("none")?;
    symbols(&binary).map(|text| sum(&text))
}

fn symbols(binary: &Path) -> Result<String> {
    process("nm")
        .args(["--numeric-sort", "--print-size", "--demangle", "--defined-only"])
        .arg(binary)
        .output()
}

/// Lines look like `address size kind name`; t and w are code.
fn sum(symbols: &str) -> BTreeMap<String, u64> {
    let mut crates = BTreeMap::new();
    let mut last = "";
    for line in symbols.lines() {
        let mut fields = line.splitn(4, ' ');
        let (Some(address), Some(size), Some(kind), Some(name)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        // Functions that were found alike have one body and several names.
        if !matches!(kind, "t" | "T" | "w" | "W") || address == last {
            continue;
        }
        last = address;
        if let Ok(size) = u64::from_str_radix(size, 16) {
            *crates.entry(crate_of(name).to_owned()).or_default() += size;
        }
    }
    crates
}

/// The crate whose code it is. What is generic counts where it was written, not where it is used.
fn crate_of(name: &str) -> &str {
    let path = name.trim_start_matches(['<', '&', '*', '(', '[']);
    let path =
        ["mut ", "const ", "dyn "].iter().fold(path, |path, word| path.trim_start_matches(word));
    let path = path.trim_start_matches(['<', '&', '*', '(', '[']);
    if !name.contains("::") {
        return match name {
            _ if name.starts_with("aws_lc_") => "aws-lc (C)",
            _ if name.starts_with("ring_core_") => "ring (C)",
            _ => "other (C)",
        };
    }
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
    if path[end..].starts_with("::") { &path[..end] } else { "core" }
}

fn print_crates(crates: &BTreeMap<String, u64>) {
    let mut sorted: Vec<_> = crates.iter().collect();
    sorted.sort_by_key(|(_, bytes)| std::cmp::Reverse(**bytes));
    for (name, bytes) in sorted.iter().take(NAMED) {
        println!("  {bytes:>9}  {name}");
    }
    let others: u64 = sorted.iter().skip(NAMED).map(|(_, bytes)| **bytes).sum();
    if others > 0 {
        println!("  {others:>9}  {} others", sorted.len() - NAMED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    // A feature that is forgotten there is missing in what is handed out, and nothing else would tell.
    #[test]
    fn what_is_handed_out_has_all_features_but_those_for_load() {
        let tool = workspace::tool().unwrap();
        let all = tool["features"]["default"].as_array().unwrap().iter();
        let all: Vec<_> = all.filter_map(|one| one.as_str()).collect();
        let for_load = ["aws-lc-rs", "mimalloc"];
        assert!(for_load.iter().all(|one| all.contains(one)));
        let handed_out: Vec<_> = all.into_iter().filter(|one| !for_load.contains(one)).collect();
        assert_eq!(WHOLE.features, handed_out.join(","));
    }

    // A symbol that goes to the wrong crate sends whoever makes the tool smaller to the wrong place.
    #[test]
    fn symbols_count_where_they_were_written_and_once() {
        let symbols = "0000000000001000 0000000000000010 t zerotouch_hub::twin::apply\n\
            0000000000001000 0000000000000010 t zerotouch_dps::same::body\n\
            0000000000001010 0000000000000020 t <zerotouch_hub::A as core::fmt::Debug>::fmt\n\
            0000000000001030 0000000000000004 T <&mut dyn tokio::io::X as std::io::Read>::read\n\
            0000000000001034 0000000000000008 t <[T] as core::fmt::Debug>::fmt\n\
            0000000000001040 0000000000000100 T aws_lc_0_47_0_EVP_DigestInit\n\
            0000000000002000 0000000000000040 d zerotouch_hub::TABLE\n\
            0000000000003000 b a line without a size\n";
        let sums = sum(symbols);
        assert_eq!(sums["zerotouch_hub"], 0x30);
        assert_eq!(sums["tokio"], 4);
        assert_eq!(sums["core"], 8);
        assert_eq!(sums["aws-lc (C)"], 0x100);
        assert_eq!(sums.len(), 4);
    }
}
