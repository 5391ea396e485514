//! The workflows call tasks and hold no commands of their own: whoever has the project has the checks,
//! and they run on any host alike.

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::process::root;

    /// What a workflow may run besides tasks: it sets up the machine for them.
    const SET_UP: [&str; 3] = ["rustup ", "cargo install --locked ", "sudo apt-get "];

    /// The commands of `run:` steps, of one line or of several.
    fn commands(workflow: &str) -> Vec<&str> {
        let mut commands = Vec::new();
        let mut block = None;
        for line in workflow.lines().filter(|line| !line.trim().is_empty()) {
            let indent = line.len() - line.trim_start().len();
            if block.is_some_and(|outer| indent > outer) {
                commands.push(line.trim());
                continue;
            }
            block = None;
            let Some(command) = line.trim_start_matches([' ', '-']).strip_prefix("run:") else {
                continue;
            };
            match command.trim() {
                "|" | ">" | "|-" | ">-" => block = Some(indent),
                command => commands.push(command),
            }
        }
        commands
    }

    fn is_allowed(command: &str) -> bool {
        let one = !command.contains(['&', ';', '|', '`', '$']);
        let starts = |start: &&str| command.starts_with(*start);
        one && (starts(&"cargo xtask ") || SET_UP.iter().any(starts))
    }

    // What only a workflow runs, nobody can run before it, and another host not at all.
    #[test]
    fn workflows_run_tasks_and_nothing_else() {
        let folder = root().join(".github/workflows");
        let mut seen = 0;
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let workflow = fs::read_to_string(&path).unwrap();
            for command in commands(&workflow) {
                seen += 1;
                assert!(is_allowed(command), "{}: {command}", path.display());
            }
            // An action changes under a branch's name; a tag at least says which it was.
            for line in workflow.lines().filter_map(|line| line.split_once("uses:")) {
                let version = line.1.split_once('@').map_or("", |(_, version)| version);
                assert!(version.starts_with('v'), "{}: {}", path.display(), line.1);
            }
        }
        assert!(seen > 0, "no commands were found");
    }

    // The check above must be able to fail.
    #[test]
    fn commands_are_found_in_lines_and_blocks() {
        let workflow = "steps:\n  - run: cargo xtask test\n  - name: more\n    run: |\n      make\n\n      cargo test\n    env:\n      A: b\n";
        assert_eq!(commands(workflow), ["cargo xtask test", "make", "cargo test"]);
        for refused in ["make", "cargo test", "cargo xtask test && make", "cargo xtask test; make"]
        {
            assert!(!is_allowed(refused), "{refused}");
        }
    }
}
