//! Prints what the last `codec` bench measured as Markdown: nanoseconds per packet, and how far ahead
//! of the fastest peer ours is.
//!
//! The figure is the fastest of criterion's samples: on a machine that does other things as well, what
//! disturbs a sample only ever makes it slower. Baselines count as well, so several passes (`cargo bench
//! -- --save-baseline a`, `b`, …) make a steadier table. `--forget` removes all that was measured.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::{env, fs};

use serde_json::Value;

/// Not peers: the floor, ours, and the question whether ours should have been written otherwise.
const NOT_PEERS: [&str; 3] = ["memcpy", OURS, "nom 8 by hand"];
const OURS: &str = "zerotouch";

/// Nanoseconds per packet by codec, by row.
type Rows = BTreeMap<String, BTreeMap<String, f64>>;

fn main() {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/target");
    let target = env::var_os("CARGO_TARGET_DIR").map_or(own.into(), PathBuf::from);
    let measured = target.join("criterion");
    if env::args().any(|argument| argument == "--forget") {
        if let Err(error) = fs::remove_dir_all(&measured)
            && error.kind() != ErrorKind::NotFound
        {
            eprintln!("{}: {error}", measured.display());
            std::process::exit(1);
        }
        return;
    }
    let mut rows = Rows::new();
    read(&measured, &mut rows);
    if rows.is_empty() {
        eprintln!("nothing measured yet: run `cargo bench` first");
        std::process::exit(1);
    }
    summary(&rows);
    println!();
    everything(&rows);
}

/// Collects every measurement below a folder.
fn read(folder: &Path, rows: &mut Rows) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten().map(|entry| entry.path()) {
        let json = |name: &str| -> Option<Value> {
            serde_json::from_slice(&fs::read(entry.join(name)).ok()?).ok()
        };
        let (Some(benchmark), Some(samples)) = (json("benchmark.json"), json("sample.json")) else {
            read(&entry, rows);
            continue;
        };
        let text = |name: &str| benchmark[name].as_str().unwrap_or_default().to_owned();
        // Other benches write to the same folder, and measure no packets.
        if benchmark["throughput"].is_null() {
            continue;
        }
        let packets = benchmark["throughput"]["Elements"].as_f64().unwrap_or(1.0);
        let numbers = |name: &str| -> Vec<f64> {
            samples[name].as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
        };
        let per_iteration = numbers("times").into_iter().zip(numbers("iters")).map(|(t, n)| t / n);
        let row = rows.entry(text("group_id")).or_default();
        let fastest = row.entry(text("value_str")).or_insert(f64::INFINITY);
        *fastest = per_iteration.map(|time| time / packets).fold(*fastest, f64::min);
    }
}

/// One line per row: ours, the floor, and the fastest peer.
fn summary(rows: &Rows) {
    println!("| work | zerotouch | memcpy | fastest peer | its time | ahead by |");
    println!("|---|---:|---:|---|---:|---:|");
    for (row, times) in rows {
        let Some(ours) = times.get(OURS) else { continue };
        let memcpy = times.get("memcpy").map_or("–".into(), |time| nanoseconds(*time));
        let peers = times.iter().filter(|(name, _)| !NOT_PEERS.contains(&name.as_str()));
        let Some((peer, best)) = peers.min_by(|a, b| a.1.total_cmp(b.1)) else { continue };
        println!(
            "| {row} | {} | {} | {peer} | {} | {:.2}× |",
            nanoseconds(*ours),
            memcpy,
            nanoseconds(*best),
            best / ours
        );
    }
}

/// Every time of every codec: a line for each row.
fn everything(rows: &Rows) {
    let mut codecs: Vec<&String> = rows.values().flat_map(BTreeMap::keys).collect();
    codecs.sort_unstable();
    codecs.dedup();
    let names = codecs.iter().map(|codec| codec.as_str()).collect::<Vec<_>>();
    println!("| ns per packet | {} |", names.join(" | "));
    println!("|---|{}", "---:|".repeat(codecs.len()));
    for (row, times) in rows {
        let cells =
            codecs.iter().map(|codec| times.get(*codec).map_or("–".into(), |t| nanoseconds(*t)));
        println!("| {row} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
}

fn nanoseconds(time: f64) -> String {
    if time < 100.0 { format!("{time:.1}") } else { format!("{time:.0}") }
}
