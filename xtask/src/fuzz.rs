//! Fuzzing: every target of `fuzz/`, from its checked-in seeds.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::{fs, thread};

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
    let next = Mutex::new(targets()?.into_iter());
    let work = || {
        while let Some(target) = next.lock().ok().and_then(|mut targets| targets.next()) {
            // What is found goes into the first corpus, which is not checked in.
            let corpus = format!("fuzz/corpus/{target}");
            fs::create_dir_all(root().join(&corpus))
                .map_err(|error| format!("{corpus}: {error}"))?;
            let seeds = format!("fuzz/seeds/{target}");
            let limit = format!("-max_total_time={seconds}");
            let seeds = root().join(&seeds).is_dir().then_some(seeds);
            cargo_fuzz("run")
                .arg(&target)
                .arg(corpus)
                .args(seeds)
                .args(["--", &limit, "-verbosity=0", "-print_final_stats=1"])
                .run_aside()?;
        }
        Ok(())
    };
    // A target uses one processor.
    let workers = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let mut results = workers.into_iter().map(thread::ScopedJoinHandle::join);
        results.try_for_each(|result| result.unwrap_or_else(|_| Err("a thread died".into())))
    })
}

fn targets() -> Result<Vec<String>> {
    let list = process("cargo").args(["+nightly", "fuzz", "list"]).output()?;
    let targets: Vec<_> = list.lines().map(str::to_owned).collect();
    if targets.is_empty() { Err("fuzz/ has no targets".into()) } else { Ok(targets) }
}
