//! zerotouch devices on tokio
