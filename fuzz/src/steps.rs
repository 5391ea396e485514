//! A fuzzer's bytes as steps of a story.

/// Each step is a kind, a length, and as many bytes, or what is left of them.
pub fn steps(mut input: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let [kind, length, rest @ ..] = input else { return None };
        let (bytes, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        input = rest;
        Some((*kind, bytes))
    })
}
