//! The book, for `cargo doc`; and so that what it shows of Rust is compiled and run.

// Prose has names that are no items.
#![allow(clippy::doc_markdown)]

#[doc = include_str!("src/introduction.md")]
pub mod introduction {}

#[doc = include_str!("src/tutorial.md")]
pub mod tutorial {}

#[doc = include_str!("src/install.md")]
pub mod install {}

#[doc = include_str!("src/how-to/azure-setup.md")]
pub mod azure_setup {}

#[doc = include_str!("src/how-to/x509-factory.md")]
pub mod x509_factory {}

#[doc = include_str!("src/how-to/hardware-key.md")]
pub mod hardware_key {}

#[doc = include_str!("src/how-to/proxy.md")]
pub mod proxy {}

#[doc = include_str!("src/how-to/test-your-product.md")]
pub mod test_your_product {}

#[doc = include_str!("src/how-to/one-crate-alone.md")]
pub mod one_crate_alone {}

#[doc = include_str!("src/how-to/smol.md")]
pub mod smol {}

#[doc = include_str!("src/how-to/no-std.md")]
pub mod no_std {}

#[doc = include_str!("src/how-to/migrate-from-azure-sdks.md")]
pub mod migrate_from_azure_sdks {}

#[doc = include_str!("src/cli.md")]
pub mod cli {}

#[doc = include_str!("src/settings.md")]
pub mod settings {}

#[doc = include_str!("src/agent.md")]
pub mod agent {}

#[doc = include_str!("src/emulator.md")]
pub mod emulator {}

#[doc = include_str!("src/errors.md")]
pub mod errors {}

#[doc = include_str!("src/observability.md")]
pub mod observability {}

#[doc = include_str!("src/wire-protocol.md")]
pub mod wire_protocol {}

#[doc = include_str!("src/benchmarks.md")]
pub mod benchmarks {}

#[doc = include_str!("src/figures.md")]
pub mod figures {}

#[doc = include_str!("src/load.md")]
pub mod load {}

#[doc = include_str!("src/architecture.md")]
pub mod architecture {}

#[doc = include_str!("src/why-sans-io.md")]
pub mod why_sans_io {}

#[doc = include_str!("src/failures.md")]
pub mod failures {}

#[doc = include_str!("src/simulation.md")]
pub mod simulation {}

#[doc = include_str!("src/queue.md")]
pub mod queue {}

#[doc = include_str!("src/store.md")]
pub mod store {}

#[doc = include_str!("src/security.md")]
pub mod security {}
