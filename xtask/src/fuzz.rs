//! Fuzzing: every target of `fuzz/`, from its checked-in seeds.

use std::fs;

use crate::process::{Result, process, root, skipped};

pub(crate) fn run(seconds: u32) -> Result {
    if !process("cargo").args(["+nightly", "fuzz", "--version"]).works() {
        return skipped(
            "fuzzing",
            "it needs a nightly toolchain and `cargo install --locked cargo-fuzz`",
        );
    }
    // The workspace forbids unsafe code, so the address sanitizer would only slow it down.
    let cargo_fuzz =
        |command: &str| process("cargo").args(["+nightly", "fuzz", command, "--sanitizer", "none"]);
    cargo_fuzz("build").run()?;
    for target in targets()? {
        println!("\n== fuzzing {target} for {seconds} s");
        // What is found goes into the first corpus, which is not checked in.
        let corpus = format!("fuzz/corpus/{target}");
        fs::create_dir_all(root().join(&corpus)).map_err(|error| format!("{corpus}: {error}"))?;
        let seeds = format!("fuzz/seeds/{target}");
        let limit = format!("-max_total_time={seconds}");
        let seeds = root().join(&seeds).is_dir().then_some(seeds);
        cargo_fuzz("run")
            .arg(&target)
            .arg(corpus)
            .args(seeds)
            .args(["--", &limit, "-verbosity=0", "-print_final_stats=1"])
            .run()?;
    }
    Ok(())
}

fn targets() -> Result<Vec<String>> {
    let list = process("cargo").args(["+nightly", "fuzz", "list"]).output()?;
    let targets: Vec<_> = list.lines().map(str::to_owned).collect();
    if targets.is_empty() { Err("fuzz/ has no targets".into()) } else { Ok(targets) }
}
