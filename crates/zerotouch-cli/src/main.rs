//! The `zerotouch` tool.
fn main() {}
