//! Where bytes go: into a slice or to the end of a `Vec`, both with room made beforehand.

use super::EncodeError;

/// Takes bytes, for which room has been made.
pub(crate) trait Sink {
    /// Appends bytes whose number is known to the compiler, so that they need no `memcpy`.
    fn array<const N: usize>(&mut self, bytes: [u8; N]);

    /// Appends bytes.
    fn bytes(&mut self, bytes: &[u8]);
}

#[cfg(feature = "alloc")]
impl Sink for alloc::vec::Vec<u8> {
    #[inline]
    fn array<const N: usize>(&mut self, bytes: [u8; N]) {
        self.extend_from_slice(&bytes);
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// The part of a slice that is still to be written.
pub(crate) struct SliceSink<'o>(&'o mut [u8]);

impl<'o> SliceSink<'o> {
    /// Has `length` bytes written to the start of `out`, if they fit.
    #[inline]
    pub(crate) fn write(
        out: &'o mut [u8],
        length: usize,
        write: impl FnOnce(&mut Self),
    ) -> Result<usize, EncodeError> {
        let available = out.len();
        let Some(out) = out.get_mut(..length) else {
            return Err(EncodeError::BufferTooSmall { needed: length, available });
        };
        write(&mut SliceSink(out));
        Ok(length)
    }
}

impl Sink for SliceSink<'_> {
    #[inline]
    fn array<const N: usize>(&mut self, bytes: [u8; N]) {
        if let Some((head, rest)) = core::mem::take(&mut self.0).split_first_chunk_mut() {
            *head = bytes;
            self.0 = rest;
        }
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        if let Some((head, rest)) = core::mem::take(&mut self.0).split_at_mut_checked(bytes.len()) {
            head.copy_from_slice(bytes);
            self.0 = rest;
        }
    }
}
