//! A device's life beside what it must cost: the processor time of a provisioning beside that of its
//! cryptography alone, and the memory of a thousand connected devices in one process.
//!
//! The cloud runs in a process of its own, so that what is measured is the device's.

mod cloud;
mod fleet;
mod provisioning;

use std::error::Error;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result {
    let has = |wanted: &str| std::env::args().any(|argument| argument == wanted);
    if has(cloud::ARGUMENT) {
        return cloud::serve();
    }
    // As criterion's benches do: once, to see that it works.
    let check = has("--test");
    provisioning::measure(check)?;
    fleet::measure(check)
}
