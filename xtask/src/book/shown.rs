//! What a page shows: blocks, commands, and what these write.

use std::fmt::Write as _;
use std::path::Path;

use crate::process::Result;

/// Stands for what is different each time.
const ANY: &str = "…";

/// A fenced block.
pub(super) struct Block {
    /// Of its first line, from 1.
    pub(super) line: usize,
    pub(super) text: String,
}

/// A command and what the page says it writes; nothing if it does not say.
#[derive(Clone)]
pub(super) struct Command {
    pub(super) line: usize,
    pub(super) text: String,
    pub(super) output: String,
}

/// The fenced blocks of this language.
pub(super) fn blocks<'a>(page: &'a str, language: &'a str) -> impl Iterator<Item = Block> + 'a {
    let mut lines = page.lines().zip(1..);
    std::iter::from_fn(move || {
        loop {
            let (opening, line) = lines.by_ref().find(|(line, _)| line.starts_with("```"))?;
            let inside = lines.by_ref().map(|(line, _)| line).take_while(|line| *line != "```");
            let text = inside.fold(String::new(), |text, line| text + line + "\n");
            if opening[3..].split([',', ' ']).next() == Some(language) {
                return Some(Block { line: line + 1, text });
            }
        }
    })
}

pub(super) fn commands(block: &Block) -> Result<Vec<Command>> {
    let mut commands: Vec<Command> = Vec::new();
    for (line, number) in block.text.lines().zip(block.line..) {
        if let Some(text) = line.strip_prefix("$ ") {
            commands.push(Command { line: number, text: text.to_owned(), output: String::new() });
            continue;
        }
        let Some(command) = commands.last_mut() else {
            return Err(format!("line {number}: a console block begins with a command"));
        };
        let more = if line == ">" { Some("") } else { line.strip_prefix("> ") };
        match more.filter(|_| command.output.is_empty()) {
            Some(more) => command.text = format!("{}\n{more}", command.text),
            None => command.output = format!("{}{line}\n", command.output),
        }
    }
    Ok(commands)
}

/// One script for all, so that variables, jobs and open files last; it ends at the first command that
/// fails, and what it has started ends with it.
pub(super) fn script(commands: &[Command], outputs: &Path) -> String {
    let mut script = "trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n".to_owned();
    for (index, command) in commands.iter().enumerate() {
        let file = outputs.join(index.to_string());
        let file = file.display();
        // Writing to a String cannot fail.
        let _ = write!(
            script,
            "{{ {}\n}} >'{file}.out' 2>&1 </dev/null\ncode=$?; echo $code >'{file}.code'\n\
             [ $code = 0 ] || exit 0\n",
            command.text
        );
    }
    script
}

/// Is it what the page shows? Nothing shown fits all.
pub(super) fn matches(shown: &str, written: &str) -> bool {
    let shown: Vec<&str> = shown.lines().map(str::trim_end).collect();
    let written: Vec<&str> = written.lines().map(str::trim_end).collect();
    shown.is_empty() || lines_match(&shown, &written)
}

fn lines_match(shown: &[&str], written: &[&str]) -> bool {
    match (shown, written) {
        ([], _) => written.is_empty(),
        ([any, rest @ ..], _) if any.trim() == ANY => {
            (0..=written.len()).any(|passed| lines_match(rest, &written[passed..]))
        }
        ([first, rest @ ..], [line, lines @ ..]) => {
            line_matches(first, line) && lines_match(rest, lines)
        }
        (_, []) => false,
    }
}

fn line_matches(shown: &str, written: &str) -> bool {
    let Some((beginning, shown)) = shown.split_once(ANY) else { return shown == written };
    let Some(mut written) = written.strip_prefix(beginning) else { return false };
    let mut pieces: Vec<&str> = shown.split(ANY).collect();
    let end = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let Some(found) = written.find(piece) else { return false };
        written = &written[found + piece.len()..];
    }
    written.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    // A checker that takes everything looks like one that finds nothing wrong.
    #[test]
    fn what_is_elided_may_differ_and_nothing_else() {
        for (shown, written) in [
            ("", "anything\n"),
            ("id …, until …Z\n", "id 7, until 2026Z\n"),
            ("a\n…\nb\n", "a\nb\n"),
            ("a\n…\nb\n", "a\n1\n2\nb\n"),
            ("…\nb\n…\n", "a\nb\n"),
        ] {
            assert!(matches(shown, written), "{shown:?} is {written:?}");
        }
        for (shown, written) in [
            ("a\n", "a\nb\n"),
            ("a\nb\n", "a\n"),
            ("id …, until …Z\n", "id 7, until 2026\n"),
            ("a…a\n", "a\n"),
            ("…\nb\n", "b\na\n"),
        ] {
            assert!(!matches(shown, written), "{shown:?} is not {written:?}");
        }
    }

    #[test]
    fn commands_have_their_lines_and_outputs() {
        let page =
            "# A\n\n```console\n$ cat <<E\n> a\n> E\na\n$ true\n```\n\n```toml\nb = 1\n```\n";
        let [block] = blocks(page, "console").collect::<Vec<_>>().try_into().ok().unwrap();
        let commands = commands(&block).unwrap();
        let seen: Vec<_> =
            commands.iter().map(|c| (c.line, c.text.as_str(), c.output.as_str())).collect();
        assert_eq!(seen, [(4, "cat <<E\na\nE", "a\n"), (8, "true", "")]);
        assert_eq!(blocks(page, "toml").next().unwrap().line, 12);
    }
}
