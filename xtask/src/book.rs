//! The book: that its commands do what it shows, its settings exist, and its links lead somewhere.
//!
//! A page with the line [`RUN`] has its `console` blocks run, one after another, by one shell in one
//! empty directory, with the built tool on the PATH. `$ ` begins a command and `> ` goes on with it, as
//! a shell shows them. A command has to end well; where the page shows what it writes, it has to write
//! that, where `…` stands for any characters, and on a line of its own for any lines.

mod links;
mod shown;

use std::fs;
use std::path::{Path, PathBuf};

use crate::process::{Result, process, root, skipped};
use crate::workspace;
use shown::{Block, Command};

const RUN: &str = "<!-- run by cargo xtask book";
/// After [`RUN`] in the same comment: programs without which the page cannot be run.
const NEEDS: &str = ", needs ";
/// The pages as documentation of a crate.
const BOOK: &str = "docs/book.rs";
/// How long a page may take.
const LIMIT_SECONDS: &str = "100";
/// What the devices of the pages and their emulator talk over.
const PORT: u16 = 8883;

/// A page, or another text that links to pages.
struct Page {
    path: PathBuf,
    text: String,
}

impl Page {
    /// As whoever mends it wants to have it.
    fn name(&self) -> String {
        self.path.strip_prefix(root()).unwrap_or(&self.path).display().to_string()
    }
}

pub(crate) fn run() -> Result {
    let tool = workspace::tested_tool()?;
    let pages = pages()?;
    links::check(&pages)?;
    check_examples(&pages)?;
    let directory = workspace::target().join("book");
    empty(&directory)?;
    let mut settings = 0;
    let mut commands = 0;
    for page in &pages {
        settings += check_settings(page, &directory, &tool)?;
        commands += check_commands(page, &directory, &tool)?;
    }
    println!("book: {} pages, {settings} blocks of settings, {commands} commands", pages.len());
    Ok(())
}

/// The pages of the book, in the order of their paths.
fn pages() -> Result<Vec<Page>> {
    let mut directories = vec![root().join("docs/src")];
    let mut pages = Vec::new();
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(&directory).map_err(|error| at(&directory, error))?;
        for entry in entries {
            let path = entry.map_err(|error| at(&directory, error))?.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(read(path)?);
            }
        }
    }
    pages.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(pages)
}

fn read(path: PathBuf) -> Result<Page> {
    let text = fs::read_to_string(&path).map_err(|error| at(&path, error))?;
    Ok(Page { path, text })
}

/// Rust is compiled and run as documentation of the crate `book`: is every page with some in it?
fn check_examples(pages: &[Page]) -> Result {
    let book = read(root().join(BOOK))?;
    for page in pages {
        let name = page.name();
        let included = book.text.contains(name.trim_start_matches("docs/"));
        if !included && shown::blocks(&page.text, "rust").next().is_some() {
            return Err(format!("{BOOK} does not include {name}, and so its Rust is not tested"));
        }
    }
    Ok(())
}

/// Does the tool know what the page says can be set? Blocks of TOML are settings of a device, except for
/// those of cargo, and fixtures of the emulator, which name their `hubs`.
fn check_settings(page: &Page, directory: &Path, tool: &Path) -> Result<usize> {
    let mut checked = 0;
    for block in shown::blocks(&page.text, "toml") {
        if block.text.contains("[dependencies]") {
            continue;
        }
        let file = directory.join("block.toml");
        fs::write(&file, &block.text).map_err(|error| at(&file, error))?;
        let tool = process(tool);
        let told = if block.text.contains("hubs = ") {
            tool.args(["emulator", "--port", "0", "-o", "json", "--config"]).arg(&file).first_line()
        } else {
            tool.args(["config", "show", "--config"]).arg(&file).output()
        };
        told.map_err(|error| format!("{}:{}: {error}", page.name(), block.line))?;
        checked += 1;
    }
    Ok(checked)
}

fn check_commands(page: &Page, directory: &Path, tool: &Path) -> Result<usize> {
    let Some(marker) = page.text.lines().find_map(|line| line.strip_prefix(RUN)) else {
        return Ok(0);
    };
    let needs = marker.strip_prefix(NEEDS).unwrap_or_default();
    for program in needs.trim_end_matches(" -->").split_whitespace() {
        if !process(program).arg("--version").starts() {
            skipped(&page.name(), &format!("it needs {program}"))?;
            return Ok(0);
        }
    }
    if std::net::TcpListener::bind(("127.0.0.1", PORT)).is_err() {
        return Err(format!("port {PORT} is taken, and the book's emulator needs it"));
    }
    let blocks: Vec<Block> = shown::blocks(&page.text, "console").collect();
    let commands: Vec<Command> =
        blocks.iter().map(shown::commands).collect::<Result<Vec<_>>>()?.concat();
    let directory = directory.join(page.path.file_stem().unwrap_or_default());
    let outputs = directory.with_extension("outputs");
    empty(&directory)?;
    empty(&outputs)?;
    let script = outputs.join("script");
    fs::write(&script, shown::script(&commands, &outputs)).map_err(|error| at(&script, error))?;
    let path = std::env::var("PATH").unwrap_or_default();
    let tools = tool.parent().map(|tools| tools.display().to_string()).unwrap_or_default();
    let shell = process("timeout")
        .args(["--kill-after", "5", LIMIT_SECONDS, "env", "--ignore-environment"])
        .arg(format!("PATH={tools}:{path}"))
        .arg(format!("HOME={}", directory.display()))
        .arg(format!("XDG_RUNTIME_DIR={}", outputs.display()))
        .args(["LC_ALL=C.UTF-8", "bash"])
        .arg(&script)
        .directory(&directory);
    let ended = shell.run();
    for (index, command) in commands.iter().enumerate() {
        let place = format!("{}:{}: {}", page.name(), command.line, command.text);
        let written = fs::read(outputs.join(format!("{index}.out"))).unwrap_or_default();
        let written = String::from_utf8_lossy(&written);
        match fs::read_to_string(outputs.join(format!("{index}.code"))) {
            Ok(code) if code.trim() == "0" => {}
            Ok(code) => return Err(format!("{place}\nended with {code}{written}")),
            Err(_) => return Err(format!("{place}\ndid not end\n{written}")),
        }
        if !shown::matches(&command.output, &written) {
            return Err(format!(
                "{place}\nthe page shows\n{}\nit wrote\n{written}",
                command.output
            ));
        }
    }
    ended?;
    Ok(commands.len())
}

fn empty(directory: &Path) -> Result {
    if directory.exists() {
        fs::remove_dir_all(directory).map_err(|error| at(directory, error))?;
    }
    fs::create_dir_all(directory).map_err(|error| at(directory, error))
}

fn at(path: &Path, error: impl std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}
