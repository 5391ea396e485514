//! How many files, and so connections, this process may have open.

/// What a process has open beside its connections: its output, its poller, its files.
const RESERVED: u64 = 64;

/// Raises the soft limit to the hard one; yields how many connections there is room for, or `None` where
/// there is no limit to ask for.
pub(crate) fn room_for_connections() -> Option<u64> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        // Where it is not allowed, what there is has to do.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
        let current = getrlimit(Resource::Nofile).current?;
        Some(current.saturating_sub(RESERVED))
    }
    #[cfg(not(unix))]
    None
}

/// What `ulimit -n` has to say for so many connections.
pub(crate) fn needed(connections: u64) -> u64 {
    connections + RESERVED
}
