//! What the project asks of itself. `cargo xtask test` is what must pass; the other commands are its
//! parts, and what takes longer.

mod bill;
mod book;
mod conformance;
mod dist;
mod fuzz;
mod interop;
mod layers;
mod load;
mod memory;
mod process;
mod release;
mod server;
mod sim;
mod size;
mod test;
mod workflows;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use process::{Result, cargo, process, root};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "What the project asks of itself")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Format, layers, clippy, all tests, conformance, doc tests, docs, no_std, real peers, book, fuzzing
    Test,
    /// Tests alone, without those of hardware tokens and brokers of others
    Portable,
    /// Hold the table in docs/src/architecture.md against the dependencies
    Layers,
    /// Link the no_std crates into a program without std
    NoStd,
    /// Run the tests of the MQTT standard's statements and print statement, result, tests
    Conformance,
    /// Run the commands of the book, and check its settings and links
    Book,
    /// Run real clients against the emulator and its broker, and our client against mosquitto
    Interop,
    /// Run every fuzz target
    Fuzz {
        /// How long to run each
        #[arg(long, default_value_t = 10)]
        seconds: u32,
    },
    /// Run the simulated world, 100,000 seeds of it if nothing else is said, and keep what it finds
    Sim {
        /// For so long, from a seed that the clock gives
        #[arg(long)]
        minutes: Option<u64>,
        /// So many seeds, from 0
        #[arg(long, conflicts_with = "minutes")]
        seeds: Option<u64>,
    },
    /// Run the benches beside their peers
    Bench {
        /// Run each once, to see that it works, and measure nothing
        #[arg(long)]
        check: bool,
        /// Run the codec's three times and print ours beside the fastest peer, as Markdown
        #[arg(long, conflicts_with = "check")]
        table: bool,
        /// Run the device's alone, and the vendor's client beside ours
        #[arg(long, conflicts_with_all = ["check", "table"])]
        device: bool,
        /// Load the emulator, and mosquitto beside it
        #[arg(long, conflicts_with_all = ["table", "device"])]
        load: bool,
    },
    /// Build the tool as it is handed out, and hold its size against the goals
    Size,
    /// Make a Debian package and an archive of the tool, in target/dist
    Dist {
        /// Also install the package on a systemd of its own and try the service there: as root, by sudo
        #[arg(long = "try")]
        try_out: bool,
    },
    /// Walk what a release does
    Release {
        /// Publish nothing: that is done by hand, in the order that is told
        #[arg(long, required = true)]
        dry_run: bool,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Test => test::run(),
        Command::Portable => test::portable(),
        Command::Layers => layers::check(),
        Command::NoStd => no_std(),
        Command::Conformance => conformance::run(),
        Command::Book => book::run(),
        Command::Interop => interop::run(),
        Command::Fuzz { seconds } => fuzz::run(seconds),
        Command::Sim { minutes, seeds } => sim::run(minutes, seeds),
        Command::Bench { check, load: true, .. } => load::run(check),
        Command::Bench { check, table, device, .. } => bench(check, table, device),
        Command::Size => size::run(),
        Command::Dist { try_out } => dist::run(try_out),
        Command::Release { dry_run: _ } => release::dry_run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Builds and runs a program that has a global allocator, a panic handler, the no_std crates and
/// nothing else; with each that may be left away, and without.
fn no_std() -> Result {
    let manifest = root().join("xtask/no-std/Cargo.toml");
    for features in ["--no-default-features", "--all-features"] {
        let run = ["run", "--quiet", "--release", "--locked", features, "--manifest-path"];
        cargo(run).arg(&manifest).run()?;
    }
    Ok(())
}

/// How often the codec's table is measured, each time for a moment: a machine that others use as well changes
/// its speed within seconds, and each codec is to have met it at its best.
const TABLE_PASSES: u32 = 30;
const TABLE_MOMENT: [&str; 6] =
    ["--warm-up-time", "0.01", "--measurement-time", "0.03", "--sample-size", "10"];

fn bench(check: bool, table: bool, device: bool) -> Result {
    let manifest = root().join("benches/Cargo.toml");
    let run = |command| cargo([command, "--quiet", "--locked", "--manifest-path"]).arg(&manifest);
    if table {
        // What was measured before is of another state of the code, or of the machine.
        run("run").args(["--release", "--bin", "table", "--", "--forget"]).run()?;
        // The table takes the fastest of all passes; where a process has its memory counts, too.
        for pass in 1..=TABLE_PASSES {
            let pass = format!("pass-{pass}");
            let options = ["--bench", "codec", "--", "--save-baseline", &pass];
            run("bench").args(options).args(TABLE_MOMENT).output()?;
        }
        return run("run").args(["--release", "--bin", "table"]).run();
    }
    if device {
        run("bench").args(["--bench", "device"]).run()?;
        return interop::beside(1000, 10);
    }
    let mut bench = run("bench");
    if process("pkg-config").args(["--exists", "openssl"]).works() {
        bench = bench.args(["--features", "openssl"]);
    } else {
        process::skipped("openssl in the benches", "it needs libssl-dev and pkg-config")?;
    }
    if check {
        bench.args(["--", "--test"]).run()?;
        return interop::beside(1, 0);
    }
    bench.run()?;
    interop::beside(1000, 10)
}
