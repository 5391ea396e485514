//! What is handed out: the tool with its unit, completions and pages, as a Debian package and an archive.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::process::{Result, cargo, process, root, skipped};
use crate::size::distributed;
use crate::workspace::{self, target, text};

const SHELLS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/zerotouch"),
    ("zsh", "usr/share/zsh/vendor-completions/_zerotouch"),
    ("fish", "usr/share/fish/vendor_completions.d/zerotouch.fish"),
];
/// From `packaging/` to where it is installed.
const FILES: [(&str, &str); 4] = [
    ("systemd/zerotouch.service", "usr/lib/systemd/system/zerotouch.service"),
    ("sysusers.d/zerotouch.conf", "usr/lib/sysusers.d/zerotouch.conf"),
    ("tmpfiles.d/zerotouch.conf", "usr/lib/tmpfiles.d/zerotouch.conf"),
    ("zerotouch.toml", "etc/zerotouch/zerotouch.toml"),
];
/// Where nothing of systemd runs, the tool goes alone.
const HAS_UNITS: bool = cfg!(target_os = "linux");

pub(crate) fn run(try_out: bool) -> Result {
    let binary = distributed()?;
    let dist = target().join("dist");
    // All that is installed, laid out as it will lie.
    let stage = dist.join("stage");
    if stage.exists() {
        fs::remove_dir_all(&stage).map_err(|error| told(&stage, &error))?;
    }
    let program = format!("usr/bin/{}", workspace::binary("zerotouch"));
    copy(&binary, &stage.join(program))?;
    for (shell, path) in SHELLS {
        let script = process(&binary).args(["completions", shell]).output()?;
        write(&stage.join(path), &script)?;
    }
    let pages = stage.join("usr/share/man/man1");
    fs::create_dir_all(&pages).map_err(|error| told(&pages, &error))?;
    process(&binary).args(["man", "--out-dir"]).arg(&pages).run()?;
    for name in ["LICENSE-MIT", "LICENSE-APACHE"] {
        copy(&root().join(name), &stage.join("usr/share/doc/zerotouch").join(name))?;
    }
    let mut made = Vec::new();
    if HAS_UNITS {
        for (from, to) in FILES {
            copy(&root().join("packaging").join(from), &stage.join(to))?;
        }
        needs_libc_alone(&binary)?;
        made.extend(debian_package(&dist)?);
    }
    made.push(archive(&dist, &stage)?);
    sums(&dist, &made)?;
    for path in &made {
        println!("{}", path.display());
    }
    let is_package = |path: &&PathBuf| path.extension().is_some_and(|one| one == "deb");
    match made.iter().find(is_package) {
        Some(package) if try_out => try_service(package),
        None if try_out => Err("there is no package to try".to_owned()),
        _ => Ok(()),
    }
}

/// Under systemd, with what a configuration cannot show: readiness, watchdog, journal, permissions.
fn try_service(package: &Path) -> Result {
    let is_root = process("id").arg("-u").output()?.trim() == "0";
    let run = if is_root { process("bash") } else { process("sudo").arg("bash") };
    run.arg("tests/systemd/run.sh").arg(package).run()
}

/// libm and the loader are parts of it.
fn needs_libc_alone(binary: &Path) -> Result {
    const ALLOWED: [&str; 3] = ["libc.so.6", "libm.so.6", "ld-linux"];
    if !process("readelf").arg("--version").works() {
        return skipped("what the binary needs", "readelf (binutils) is missing");
    }
    let text = process("readelf").args(["--dynamic", "--wide"]).arg(binary).output()?;
    let needed = text.lines().filter(|line| line.contains("(NEEDED)"));
    let needed: Vec<_> =
        needed.filter_map(|line| line.split_once('[')?.1.strip_suffix(']')).collect();
    println!("the binary needs {}", needed.join(", "));
    let others =
        needed.iter().find(|name| !ALLOWED.iter().any(|allowed| name.starts_with(allowed)));
    others.map_or(Ok(()), |name| Err(format!("the binary needs {name}, which is not libc")))
}

/// What goes into it, and where, is in the manifest of zerotouch-cli.
fn debian_package(dist: &Path) -> Result<Option<PathBuf>> {
    if !cargo(["deb", "--version"]).works() {
        skipped("the Debian package", "install it with `cargo install --locked cargo-deb`")?;
        return Ok(None);
    }
    let options = ["deb", "--quiet", "--locked", "--no-build", "--no-strip", "--profile=dist"];
    let made = cargo(options).args(["--package=zerotouch-cli", "--output"]).arg(dist).output()?;
    let path = made.lines().next_back().ok_or("cargo deb does not say what it has made")?;
    Ok(Some(PathBuf::from(path)))
}

fn archive(dist: &Path, stage: &Path) -> Result<PathBuf> {
    let tool = workspace::tool()?;
    let version = text(&tool, "version");
    let platform = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
    let path = dist.join(format!("zerotouch-{version}-{platform}.tar.gz"));
    let mut tar = process("tar").arg("-czf").arg(&path);
    if cfg!(target_os = "linux") {
        // The same bytes from the same files, whoever packs them, whenever.
        tar = tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0"]);
        tar = tar.arg("--mode=u=rwX,go=rX");
    }
    // Its top folders by name: as `.`, unpacking would change the folder it is unpacked into.
    let folders = ["etc", "usr"].into_iter().filter(|folder| stage.join(folder).exists());
    tar.arg("-C").arg(stage).args(folders).run()?;
    Ok(path)
}

/// As `sha256sum --check` reads it.
fn sums(dist: &Path, made: &[PathBuf]) -> Result {
    let mut sums = String::new();
    for path in made {
        let bytes = fs::read(path).map_err(|error| told(path, &error))?;
        for byte in Sha256::digest(bytes) {
            let _ = write!(sums, "{byte:02x}");
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let _ = writeln!(sums, "  {name}");
    }
    write(&dist.join("SHA256SUMS"), &sums)
}

fn copy(from: &Path, to: &Path) -> Result {
    let parent = to.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(|error| told(parent, &error))?;
    fs::copy(from, to).map_err(|error| told(from, &error))?;
    Ok(())
}

fn write(path: &Path, text: &str) -> Result {
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(|error| told(parent, &error))?;
    fs::write(path, text).map_err(|error| told(path, &error))
}

fn told(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}
