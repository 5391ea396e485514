//! Arrows run only downward: the table of the architecture against the dependencies as they are.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::process::{Result, root};
use crate::workspace;

const TABLE: &str = "docs/src/architecture.md";
/// Where TLS may be named, and nowhere else.
const TLS_CRATES: [&str; 3] = ["zerotouch-tls", "zerotouch-driver", "zerotouch-emulator"];

/// A row of the table.
#[derive(Debug)]
struct Room {
    floor: u32,
    may_use: MayUse,
    no_std: bool,
}

#[derive(Debug)]
enum MayUse {
    Everything,
    These(Vec<String>),
}

pub(crate) fn check() -> Result {
    let text =
        fs::read_to_string(root().join(TABLE)).map_err(|error| format!("{TABLE}: {error}"))?;
    let rooms = parse(&text)?;
    let packages = workspace::members()?;
    let mut complaints = Vec::new();
    let mut seen = 0;
    for package in &packages {
        let name = package["name"].as_str().unwrap_or_default();
        if !name.starts_with("zerotouch-") {
            continue;
        }
        seen += 1;
        let Some(room) = rooms.get(name) else {
            complaints.push(format!("{name} is not in the table"));
            continue;
        };
        for dependency in normal_dependencies(package) {
            complaints.extend(complaint(name, room, dependency, &rooms));
        }
        if room.no_std && !is_no_std(name)? {
            complaints.push(format!("{name} is not #![no_std]"));
        }
    }
    if seen != rooms.len() {
        complaints.push(format!("the table has {} crates, the workspace {seen}", rooms.len()));
    }
    if complaints.is_empty() {
        println!("layers: {seen} crates, every arrow runs downward");
        Ok(())
    } else {
        Err(format!("{TABLE} and the dependencies disagree:\n  {}", complaints.join("\n  ")))
    }
}

fn complaint(
    name: &str,
    room: &Room,
    dependency: &str,
    rooms: &BTreeMap<String, Room>,
) -> Option<String> {
    if matches!(dependency, "rustls" | "tokio-rustls") && !TLS_CRATES.contains(&name) {
        return Some(format!(
            "{name} names {dependency}, which only {} may",
            TLS_CRATES.join(", ")
        ));
    }
    let short = dependency.strip_prefix("zerotouch-")?;
    let listed = match &room.may_use {
        MayUse::Everything => true,
        MayUse::These(names) => names.iter().any(|name| name == short),
    };
    if !listed {
        return Some(format!("{name} uses {dependency}, which its row does not list"));
    }
    match rooms.get(dependency) {
        Some(below) if below.floor < room.floor => None,
        Some(_) => Some(format!("{name} uses {dependency}, which is not below it")),
        None => Some(format!("{name} uses {dependency}, which is not in the table")),
    }
}

/// Dependencies of the crate itself; those of its tests may run in any direction.
fn normal_dependencies(package: &Value) -> impl Iterator<Item = &str> {
    let dependencies = package["dependencies"].as_array().into_iter().flatten();
    dependencies.filter(|d| d["kind"].is_null()).filter_map(|d| d["name"].as_str())
}

fn is_no_std(name: &str) -> Result<bool> {
    let path = root().join("crates").join(name).join("src/lib.rs");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text.lines().any(|line| line == "#![no_std]"))
}

/// Rows look like ``| 1 | `crate` | what it owns | a, b | no_std |``.
fn parse(text: &str) -> Result<BTreeMap<String, Room>> {
    let mut rooms = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [floor, name, _, may_use, std] = cells[..] else { continue };
        let (Ok(floor), Some(name)) =
            (floor.parse(), name.strip_prefix('`').and_then(|n| n.strip_suffix('`')))
        else {
            continue;
        };
        let may_use = match may_use {
            "everything above" => MayUse::Everything,
            names => MayUse::These(names.split(',').map(|name| name.trim().to_owned()).collect()),
        };
        rooms.insert(name.to_owned(), Room { floor, may_use, no_std: std.starts_with("no_std") });
    }
    if rooms.is_empty() { Err(format!("{TABLE} has no table of crates")) } else { Ok(rooms) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &str = "| floor | crate | owns | may use | std |\n|---|---|---|---|---|\n\
        | 0 | `zerotouch-a` | x | | no_std |\n| 1 | `zerotouch-b` | x | a | std |\n| 1 | `zerotouch-c` | x | b | std |\n| 2 | `zerotouch-d` | x | everything above | std |";

    // The check must be able to fail: each way of breaking the table is told.
    #[test]
    fn upward_sideways_and_unlisted_arrows_are_told() {
        let rooms = parse(ROWS).unwrap();
        assert_eq!(rooms.len(), 4);
        let told = |name: &str, dependency: &str| complaint(name, &rooms[name], dependency, &rooms);
        assert_eq!(told("zerotouch-b", "zerotouch-a"), None);
        assert_eq!(told("zerotouch-b", "serde"), None);
        assert_eq!(told("zerotouch-d", "zerotouch-b"), None);
        assert!(told("zerotouch-a", "zerotouch-b").unwrap().contains("does not list"));
        assert!(told("zerotouch-c", "zerotouch-b").unwrap().contains("not below"));
        assert!(told("zerotouch-d", "zerotouch-x").unwrap().contains("not in the table"));
        assert!(told("zerotouch-a", "rustls").unwrap().contains("only"));
    }
}
