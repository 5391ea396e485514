//! Links between pages, and from what stands outside of the book into it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use super::{Page, read};
use crate::process::{Result, root};

const SUMMARY: &str = "docs/src/SUMMARY.md";

/// A link of a text.
struct Link<'a> {
    line: usize,
    target: &'a str,
}

pub(super) fn check(pages: &[Page]) -> Result {
    let book = root().join("docs/src");
    let others = outside()?;
    let anchors: BTreeMap<&Path, BTreeSet<String>> =
        pages.iter().map(|page| (page.path.as_path(), anchors(&page.text))).collect();
    let mut complaints = Vec::new();
    let mut listed = BTreeSet::from([root().join(SUMMARY)]);
    for page in pages.iter().chain(&others) {
        let inside = page.path.starts_with(&book);
        for link in links(&page.text) {
            let (file, anchor) = link.target.split_once('#').unwrap_or((link.target, ""));
            let path = if file.is_empty() { page.path.clone() } else { resolve(&page.path, file) };
            let place = format!("{}:{}: {}", page.name(), link.line, link.target);
            if inside && !path.starts_with(&book) {
                complaints.push(format!("{place} leaves the book"));
            } else if !path.exists() {
                complaints.push(format!("{place} is not there"));
            } else if let Some(anchors) = anchors.get(path.as_path())
                && !anchor.is_empty()
                && !anchors.contains(anchor)
            {
                complaints.push(format!("{place} has no such heading"));
            }
            if page.path.ends_with(SUMMARY) {
                listed.insert(path);
            }
        }
    }
    let unlisted = pages.iter().filter(|page| !listed.contains(&page.path));
    complaints.extend(unlisted.map(|page| format!("{SUMMARY} does not list {}", page.name())));
    if complaints.is_empty() { Ok(()) } else { Err(complaints.join("\n")) }
}

/// Texts that are no pages and link to some.
fn outside() -> Result<Vec<Page>> {
    let crates = root().join("crates");
    let entries = std::fs::read_dir(&crates).map_err(|error| super::at(&crates, error))?;
    let readmes = entries.flatten().map(|entry| entry.path().join("README.md"));
    let others = ["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(|name| root().join(name));
    readmes.chain(others).map(read).collect()
}

/// Links to files, outside of blocks; what has a scheme is another's.
fn links(text: &str) -> impl Iterator<Item = Link<'_>> {
    prose(text).flat_map(|(content, line)| {
        content
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')'))
            .map(move |(target, _)| Link { line, target })
            .filter(|link| !link.target.contains("://") && !link.target.starts_with("mailto:"))
    })
}

/// The names that headings get in the book and where the project is hosted.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|(line, _)| line.starts_with('#'));
    headings
        .map(|(line, _)| {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

fn prose(text: &str) -> impl Iterator<Item = (&str, usize)> {
    let mut fenced = false;
    text.lines().zip(1..).filter(move |(line, _)| {
        let fence = line.starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

fn resolve(page: &Path, file: &str) -> PathBuf {
    let mut path = page.parent().unwrap_or(page).to_owned();
    for component in Path::new(file).components() {
        match component {
            Component::ParentDir => drop(path.pop()),
            other => path.push(other),
        }
    }
    path
}
