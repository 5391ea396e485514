//! Whether bytes are text, and looking for forbidden characters, several bytes at a time.
//!
//! Every text that arrives is searched for U+0000, and every topic for wildcards too, so this is on
//! the hot path: first a question that is answered 16 bytes at a time, in a form that compiles to
//! vector instructions, and only where the answer is no, a search that says where. The search is
//! arithmetic on `u64`, so that topics can be checked in constants as well.

use core::str::Utf8Error;

use ascii::AsciiStr;

const ONES: u64 = u64::from_le_bytes([0x01; 8]);
const HIGHS: u64 = u64::from_le_bytes([0x80; 8]);
const PLUS: u64 = u64::from_le_bytes([b'+'; 8]);
// `#` (0x23) and `+` (0x2B) differ in this bit alone, so setting it makes one comparison of two.
const HASH_TO_PLUS: u8 = b'#' ^ b'+';
const HASHES_TO_PLUS: u64 = u64::from_le_bytes([HASH_TO_PLUS; 8]);

/// The bytes as text, if they are UTF-8.
///
/// Nearly all text in MQTT is ASCII, and that is known in a fraction of the time `from_utf8` takes for
/// some tens of bytes. What makes a `str` of them without a second look is a cast, which the `ascii`
/// crate has done for us.
#[inline(always)]
pub(crate) fn text(bytes: &[u8]) -> Result<&str, Utf8Error> {
    match AsciiStr::from_ascii(bytes) {
        Ok(text) => Ok(text.as_str()),
        Err(_) => core::str::from_utf8(bytes),
    }
}

/// Whether there is no U+0000, `+` or `#`.
#[inline(always)]
pub(crate) fn is_plain(bytes: &[u8]) -> bool {
    is_free::<true>(bytes)
}

/// Whether there is no U+0000.
#[inline(always)]
pub(crate) fn is_text(bytes: &[u8]) -> bool {
    is_free::<false>(bytes)
}

#[inline(always)]
fn is_free<const WILDCARDS: bool>(bytes: &[u8]) -> bool {
    if let Some(last) = bytes.last_chunk() {
        // The last chunk overlaps the one before it, which is cheaper than what is left byte by byte.
        let mut least = lesser::<WILDCARDS>([u8::MAX; 16], last);
        for chunk in bytes.as_chunks().0 {
            least = lesser::<WILDCARDS>(least, chunk);
        }
        // Not `contains`, for which the vector would go through memory.
        let mut hit = false;
        for byte in least {
            hit |= byte == 0;
        }
        !hit
    } else if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let hits = |word: &[u8; 8]| hits::<WILDCARDS>(u64::from_le_bytes(*word));
        hits(first) | hits(last) == 0
    } else {
        find::<WILDCARDS>(bytes).is_none()
    }
}

/// The lesser of each two bytes, where a byte that is looked for counts as zero. No closure: one is a call, with
/// the vector in memory, wherever the compiler thinks so.
#[inline(always)]
fn lesser<const WILDCARDS: bool>(mut least: [u8; 16], chunk: &[u8; 16]) -> [u8; 16] {
    for (least, byte) in least.iter_mut().zip(chunk) {
        let byte = if WILDCARDS { (*byte).min((byte | HASH_TO_PLUS) ^ b'+') } else { *byte };
        *least = byte.min(*least);
    }
    least
}

/// Where the first U+0000 is.
pub(crate) const fn find_nul(bytes: &[u8]) -> Option<usize> {
    find::<false>(bytes)
}

/// Where the first U+0000, `+` or `#` is.
#[inline(always)]
pub(crate) const fn find_nul_or_wildcard(bytes: &[u8]) -> Option<usize> {
    find::<true>(bytes)
}

#[inline(always)]
const fn find<const WILDCARDS: bool>(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    while let Some((word, behind)) = rest.split_first_chunk() {
        if let Some(position) = first_hit::<WILDCARDS>(*word) {
            return Some(bytes.len() - rest.len() + position);
        }
        rest = behind;
    }
    // What is left is shorter than a word: the last whole word once more, in which there can be no hit
    // but in what is left, or, if there never was a whole word, one filled up with letters.
    if rest.is_empty() {
        None
    } else if let Some(word) = bytes.last_chunk() {
        match first_hit::<WILDCARDS>(*word) {
            Some(position) => Some(bytes.len() - 8 + position),
            None => None,
        }
    } else {
        let mut word = [b'a'; 8];
        let mut position = 0;
        while position < rest.len() {
            word[position] = rest[position];
            position += 1;
        }
        first_hit::<WILDCARDS>(word)
    }
}

/// Where the first hit within a word is.
#[inline(always)]
const fn first_hit<const WILDCARDS: bool>(word: [u8; 8]) -> Option<usize> {
    let hits = hits::<WILDCARDS>(u64::from_le_bytes(word));
    if hits == 0 { None } else { Some(hits.trailing_zeros() as usize / 8) }
}

/// The high bit of the first hit within a word, and perhaps of bytes behind it.
#[inline(always)]
const fn hits<const WILDCARDS: bool>(word: u64) -> u64 {
    let nul = zero_bytes(word);
    if WILDCARDS { nul | zero_bytes((word | HASHES_TO_PLUS) ^ PLUS) } else { nul }
}

/// The high bit of each byte that is zero. A borrow may mark bytes above such a one as well, so only
/// the lowest mark is to be believed; and nobody looks at another.
#[inline(always)]
const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The word arithmetic must agree with the obvious loop for every byte value at every position
    /// of every length that takes another path (short, exact words and chunks, overlapping tails).
    #[test]
    fn the_fast_search_agrees_with_the_obvious_one() {
        for length in 0..=40 {
            for position in 0..length {
                for byte in 0..=u8::MAX {
                    let mut bytes = [b'a'; 40];
                    bytes[position] = byte;
                    let bytes = &bytes[..length];
                    let nul = (byte == 0).then_some(position);
                    assert_eq!(find_nul(bytes), nul, "{bytes:?}");
                    let forbidden = matches!(byte, 0 | b'+' | b'#').then_some(position);
                    assert_eq!(find_nul_or_wildcard(bytes), forbidden, "{bytes:?}");
                    assert_eq!(is_text(bytes), nul.is_none(), "{bytes:?}");
                    assert_eq!(is_plain(bytes), forbidden.is_none(), "{bytes:?}");
                }
            }
        }
    }

    /// Of several hits the first, also where a borrow marks bytes behind it that are none.
    #[test]
    fn the_first_of_several_is_found() {
        for (bytes, expected) in [
            (&b"aa\0\x01\x01\x01aaa"[..], 2),
            (b"a+,,#\0aaaaaaa", 1),
            (b"aaaaaaaaa#+", 9),
            (b"aaaaaaa+\0", 7),
            (b"\x01\x02,\x24\x2A\0", 5),
        ] {
            assert_eq!(find_nul_or_wildcard(bytes), Some(expected), "{bytes:?}");
        }
    }
}
