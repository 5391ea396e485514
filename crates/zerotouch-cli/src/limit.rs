//! How long a person waits for an answer that may not come.

use std::time::Duration;

use crate::failure::CliError;

/// A hub answers within a second or two; one that is throttled takes longer.
const LIMIT: Duration = Duration::from_secs(60);

/// What comes of the future, or that nothing did in time.
pub(crate) async fn within<T>(
    what: &'static str,
    future: impl Future<Output = T>,
) -> Result<T, CliError> {
    let timed_out = |_| CliError::TimedOut { what, after: LIMIT };
    tokio::time::timeout(LIMIT, future).await.map_err(timed_out)
}
