//! Looking for forbidden characters, eight bytes at a time.
//!
//! Every topic that arrives is searched for U+0000 and the wildcards, so this is on the hot path. It
//! is arithmetic on `u64` rather than an iterator so that topics can be checked in constants too.

const ONES: u64 = u64::from_le_bytes([0x01; 8]);
const HIGHS: u64 = u64::from_le_bytes([0x80; 8]);
const PLUS: u64 = u64::from_le_bytes([b'+'; 8]);
// `#` (0x23) and `+` (0x2B) differ in this bit alone, so setting it makes one comparison of two.
const HASH_TO_PLUS: u64 = u64::from_le_bytes([b'#' ^ b'+'; 8]);

/// Whether a byte is U+0000, `+` or `#`.
pub(crate) const fn has_nul_or_wildcard(bytes: &[u8]) -> bool {
    let mut found = 0;
    let mut rest = bytes;
    while let Some((word, tail)) = rest.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        found |= zero_bytes(word) | zero_bytes((word | HASH_TO_PLUS) ^ PLUS);
        rest = tail;
    }
    // The last, shorter word: the final eight bytes again where there are eight, else one by one.
    if let Some(word) = bytes.last_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        found |= zero_bytes(word) | zero_bytes((word | HASH_TO_PLUS) ^ PLUS);
        return found != 0;
    }
    while let [byte, tail @ ..] = rest {
        if matches!(*byte, 0 | b'+' | b'#') {
            return true;
        }
        rest = tail;
    }
    false
}

/// Whether a byte is U+0000.
pub(crate) const fn has_nul(bytes: &[u8]) -> bool {
    let mut found = 0;
    let mut rest = bytes;
    while let Some((word, tail)) = rest.split_first_chunk::<8>() {
        found |= zero_bytes(u64::from_le_bytes(*word));
        rest = tail;
    }
    while let [byte, tail @ ..] = rest {
        if *byte == 0 {
            return true;
        }
        rest = tail;
    }
    found != 0
}

/// Not zero exactly when one of the eight bytes is zero. (Which one it was is exact only for the
/// first: a borrow may mark bytes above it. Nobody asks.)
const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The word arithmetic must agree with the obvious loop for every byte value at every position
    /// of every length that takes another path (short, exact words, overlapping tail).
    #[test]
    fn the_fast_search_agrees_with_the_obvious_one() {
        for length in 0..=25 {
            for position in 0..length {
                for byte in 0..=u8::MAX {
                    let mut bytes = [b'a'; 25];
                    bytes[position] = byte;
                    let bytes = &bytes[..length];
                    assert_eq!(has_nul(bytes), byte == 0, "{bytes:?}");
                    let forbidden = matches!(byte, 0 | b'+' | b'#');
                    assert_eq!(has_nul_or_wildcard(bytes), forbidden, "{bytes:?}");
                }
            }
        }
    }
}
