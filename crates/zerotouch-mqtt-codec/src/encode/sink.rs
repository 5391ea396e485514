//! Where bytes go: to the start of a slice or to the end of a `Vec`.

use super::EncodeError;

/// Takes bytes, once room has been made for them.
pub(crate) trait Sink {
    /// Makes room for a whole packet, or says that there is none.
    fn make_room(&mut self, length: usize) -> Result<(), EncodeError>;

    /// Appends bytes whose number is known to the compiler, so that they need no `memcpy`.
    fn array<const N: usize>(&mut self, bytes: [u8; N]);

    /// Appends bytes.
    fn bytes(&mut self, bytes: &[u8]);
}

#[cfg(feature = "alloc")]
impl Sink for alloc::vec::Vec<u8> {
    #[inline(always)]
    fn make_room(&mut self, length: usize) -> Result<(), EncodeError> {
        self.reserve(length);
        Ok(())
    }

    #[inline(always)]
    fn array<const N: usize>(&mut self, bytes: [u8; N]) {
        self.extend_from_slice(&bytes);
    }

    #[inline(always)]
    fn bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// The part of a slice that is still to be written.
pub(crate) struct Slice<'o>(pub(crate) &'o mut [u8]);

impl Sink for Slice<'_> {
    #[inline(always)]
    fn make_room(&mut self, needed: usize) -> Result<(), EncodeError> {
        let available = self.0.len();
        if needed > available {
            return Err(EncodeError::BufferTooSmall { needed, available });
        }
        Ok(())
    }

    #[inline(always)]
    fn array<const N: usize>(&mut self, bytes: [u8; N]) {
        if let Some((head, rest)) = core::mem::take(&mut self.0).split_first_chunk_mut() {
            *head = bytes;
            self.0 = rest;
        }
    }

    #[inline(always)]
    fn bytes(&mut self, bytes: &[u8]) {
        if let Some((head, rest)) = core::mem::take(&mut self.0).split_at_mut_checked(bytes.len()) {
            head.copy_from_slice(bytes);
            self.0 = rest;
        }
    }
}
