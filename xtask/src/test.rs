//! All that must pass.

use std::num::NonZero;
use std::time::Instant;

use crate::process::{Result, cargo};
use crate::{book, conformance, fuzz, interop, layers, no_std, release, size};

/// How long each fuzz target runs: enough to see that what was found once stays away.
const FUZZING_SECONDS: u32 = 5;

/// How many tests run at once, for each processor: most of them wait for other processes, or for time.
const TESTS_PER_PROCESSOR: usize = 4;

pub(crate) fn run() -> Result {
    let began = Instant::now();
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let tests = cargo([
        "test",
        "--workspace",
        "--all-features",
        "--locked",
        "--quiet",
        "--lib",
        "--bins",
        "--tests",
        "--examples",
    ])
    .env("RUST_TEST_THREADS", (TESTS_PER_PROCESSOR * processors).to_string());
    let doc_tests =
        cargo(["test", "--workspace", "--all-features", "--locked", "--quiet", "--doc"]);
    let clippy = cargo([
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--locked",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]);
    let as_built = |build: size::Build| {
        cargo([
            "clippy",
            "--package=zerotouch-cli",
            "--no-default-features",
            "--features",
            build.features,
            "--locked",
            "--quiet",
            "--",
            "-D",
            "warnings",
        ])
        .run()
    };
    let docs = cargo(["doc", "--workspace", "--no-deps", "--locked", "--quiet"])
        .env("RUSTDOCFLAGS", "-D warnings");
    step("format", || cargo(["fmt", "--all", "--", "--check"]).run())?;
    step("layers", layers::check)?;
    step("release", release::quick)?;
    step("clippy", || {
        clippy.run()?;
        as_built(size::WHOLE)?;
        as_built(size::AGENT)
    })?;
    step("tests", || tests.run())?;
    step("conformance", conformance::run)?;
    step("doc tests", || doc_tests.run())?;
    step("docs", || docs.run())?;
    step("no_std", no_std)?;
    step("real peers", interop::run)?;
    step("book", book::run)?;
    step("fuzzing", || fuzz::run(FUZZING_SECONDS))?;
    println!("\nall passed in {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// What needs neither Linux nor programs of others: for macOS and Windows.
pub(crate) fn portable() -> Result {
    let mut options = vec![
        "--workspace",
        "--exclude=book",
        "--exclude=zerotouch-pkcs11",
        "--all-features",
        "--locked",
    ];
    if cfg!(windows) {
        // Its devices rest on the file store, which is for Unix.
        options.push("--exclude=zerotouch-sim");
    }
    let tests = cargo(["test", "--quiet", "--lib", "--bins", "--tests"]).args(&options);
    step("tests", || tests.args(["--", "--skip", "mosquitto"]).run())?;
    step("doc tests", || cargo(["test", "--quiet", "--doc"]).args(options).run())
}

fn step(name: &str, run: impl FnOnce() -> Result) -> Result {
    println!("\n== {name}");
    let began = Instant::now();
    run().map_err(|error| format!("{name}: {error}"))?;
    println!("== {name}: passed in {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}
