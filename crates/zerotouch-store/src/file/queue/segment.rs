//! One file of a queue: records behind each other, each with its length and its checksum.
//!
//! ```text
//! "ztq1" · kind (1) · length of the body (4) · number (8) · checksum (8) · body
//! ```
//!
//! Numbers are big-endian. The checksum is the beginning of a SHA-256 over everything else, the number of
//! the file and the place in it: a record counts only where it was written, so that no payload can hold
//! what would be taken for another record.

use std::vec::Vec;

use sha2::{Digest, Sha256};

const MAGIC: &[u8; 4] = b"ztq1";
const CHECK_AT: usize = 17;
const BODY_AT: usize = 25;

/// What a record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    /// The first in each file: the number that the next message gets.
    Begin { next: u64 },
    /// A message, from the application or out of an older file.
    Message { number: u64, moved: bool, body: &'a [u8] },
    /// These messages are finished.
    Finished(Vec<u64>),
}

impl Record<'_> {
    /// Appends the record to `out`, which is to be written `offset` bytes into file `segment`.
    pub(crate) fn encode_to(&self, out: &mut Vec<u8>, segment: u64, offset: usize) {
        let (kind, number, body) = match self {
            Self::Begin { next } => (0, *next, Vec::new()),
            Self::Message { number, moved: false, body } => (1, *number, body.to_vec()),
            Self::Message { number, moved: true, body } => (2, *number, body.to_vec()),
            Self::Finished(numbers) => {
                (3, 0, numbers.iter().flat_map(|number| number.to_be_bytes()).collect())
            }
        };
        let start = out.len();
        out.extend_from_slice(MAGIC);
        out.push(kind);
        // A record is far below 4 GiB: see `MAX_RECORD_LEN`.
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&number.to_be_bytes());
        let check = check(segment, offset + start, &out[start..start + CHECK_AT], &body);
        out.extend_from_slice(&check);
        out.extend_from_slice(&body);
    }

    /// The record at the beginning of `bytes`, and its length.
    fn decode(bytes: &[u8], segment: u64, offset: usize) -> Option<(Record<'_>, usize)> {
        let (header, rest) = bytes.split_at_checked(BODY_AT)?;
        if !header.starts_with(MAGIC) {
            return None;
        }
        let length = u32::from_be_bytes(header[5..9].try_into().ok()?);
        let number = u64::from_be_bytes(header[9..CHECK_AT].try_into().ok()?);
        let body = rest.get(..usize::try_from(length).ok()?)?;
        if header[CHECK_AT..] != check(segment, offset, &header[..CHECK_AT], body) {
            return None;
        }
        let record = match header[4] {
            0 => Record::Begin { next: number },
            1 | 2 => Record::Message { number, moved: header[4] == 2, body },
            3 => {
                let numbers = body.as_chunks::<8>().0;
                Record::Finished(numbers.iter().map(|number| u64::from_be_bytes(*number)).collect())
            }
            _ => return None,
        };
        Some((record, BODY_AT + body.len()))
    }
}

fn check(segment: u64, offset: usize, header: &[u8], body: &[u8]) -> [u8; 8] {
    let mut sum = Sha256::new();
    sum.update(segment.to_be_bytes());
    sum.update((offset as u64).to_be_bytes());
    sum.update(header);
    sum.update(body);
    let mut check = [0; 8];
    check.copy_from_slice(&sum.finalize()[..8]);
    check
}

/// How long a message's record is.
pub(crate) const fn record_len(body: &[u8]) -> usize {
    BODY_AT + body.len()
}

/// Reads the records of file `segment`. What is none is passed over: at the end of a file it was being
/// written when the power went, elsewhere it is damage.
pub(crate) fn read(segment: u64, bytes: &[u8], mut on_record: impl FnMut(Record<'_>)) {
    let mut offset = 0;
    while offset < bytes.len() {
        if let Some((record, length)) = Record::decode(&bytes[offset..], segment, offset) {
            on_record(record);
            offset += length;
        } else {
            let rest = &bytes[offset + 1..];
            let next = rest.windows(MAGIC.len()).position(|window| window == MAGIC);
            offset += next.map_or(bytes.len(), |next| next + 1);
        }
    }
}
