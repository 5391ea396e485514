//! The embedded example does what it says, within the memory it says.

#[path = "../examples/embedded/main.rs"]
mod embedded;

// A firmware has the heap it was linked with and no more, and its engineer wants to know before.
#[test]
fn a_life_fits_into_a_small_heap() -> Result<(), Box<dyn std::error::Error>> {
    embedded::main()
}
