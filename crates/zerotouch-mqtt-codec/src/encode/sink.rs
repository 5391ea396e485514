//! Where bytes go: to the start of a slice or to the end of a `Vec`.
//!
//! Most messages are short, and then it is not the bytes that cost but the steps: calls of `memcpy`, and
//! growing a `Vec` field by field. So everything before a payload is put together in one step, by copies of
//! fixed size, and a small payload with it; and a `Vec` is lengthened once for all the fields of a CONNECT but
//! its password, or the entries of a list.

use super::EncodeError;

/// Takes bytes, once room has been made for them.
pub(crate) trait Sink {
    /// Makes room for a whole packet, or says that there is none.
    fn make_room(&mut self, length: usize) -> Result<(), EncodeError>;

    /// Appends bytes whose number is known to the compiler, so that they need no `memcpy`.
    fn array<const N: usize>(&mut self, bytes: [u8; N]);

    /// Appends bytes.
    fn bytes(&mut self, bytes: &[u8]);

    /// Appends all parts in one step, if that can be done here: says whether it was.
    fn in_one_step(&mut self, parts: &Parts<'_>) -> bool;

    /// Appends many parts, for all of which room is made at once, if that can be done here: says whether it was.
    #[inline(always)]
    fn at_once(&mut self, _length: usize, _write: impl FnOnce(&mut Room<'_>)) -> bool {
        false
    }
}

/// Some fields that lie one behind the other.
pub(crate) struct Parts<'a> {
    /// A fixed header, or the length of what follows.
    pub(crate) before: Few,
    pub(crate) field: &'a [u8],
    /// An identifier, a quality of service, another length.
    pub(crate) behind: Few,
    pub(crate) rest: &'a [u8],
}

impl Parts<'_> {
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.before.len + self.field.len() + self.behind.len + self.rest.len()
    }

    /// Writes them to the start of a window, in which there is room for all but perhaps the rest: says
    /// whether that was.
    #[inline(always)]
    fn write_to(&self, window: &mut [u8; WINDOW]) -> bool {
        let at = self.before.len.min(8);
        let end = at + self.field.len();
        window[..8].copy_from_slice(&self.before.bits.to_le_bytes());
        copy_short(&mut window[at..end], self.field);
        window[end..end + 8].copy_from_slice(&self.behind.bits.to_le_bytes());
        let length = self.len();
        let place = window.get_mut(length - self.rest.len()..length);
        place.map(|place| copy_short(place, self.rest)).is_some()
    }

    /// Appends them, for which room has been made.
    #[inline(always)]
    pub(crate) fn append_to(&self, sink: &mut impl Sink) {
        if !sink.in_one_step(self) {
            self.before.append_to(sink);
            sink.bytes(self.field);
            self.behind.append_to(sink);
            sink.bytes(self.rest);
        }
    }
}

/// At most eight bytes, in a register: the first is the lowest.
#[derive(Clone, Copy)]
pub(crate) struct Few {
    bits: u64,
    len: usize,
}

impl Few {
    pub(crate) const NONE: Self = Self { bits: 0, len: 0 };

    #[inline(always)]
    pub(crate) const fn one(byte: u8) -> Self {
        Self { bits: byte as u64, len: 1 }
    }

    /// A number, the highest byte first as everywhere in MQTT.
    #[inline(always)]
    pub(crate) fn u16(number: u16) -> Self {
        Self { bits: u64::from(u16::from_le_bytes(number.to_be_bytes())), len: 2 }
    }

    /// Some behind others. No more than eight come together here.
    #[inline(always)]
    pub(crate) fn and(self, behind: Self) -> Self {
        Self { bits: self.bits | behind.bits << (8 * self.len), len: self.len + behind.len }
    }

    /// Writes them to the start of a place, as eight bytes if it has so many, and gives what is behind.
    #[inline(always)]
    fn write_to(self, place: &mut [u8]) -> &mut [u8] {
        let bytes = self.bits.to_le_bytes();
        if let Some(place) = place.first_chunk_mut() {
            *place = bytes;
        } else {
            for (to, from) in place.iter_mut().zip(bytes) {
                *to = from;
            }
        }
        &mut place[self.len..]
    }

    #[inline(always)]
    fn append_to(self, sink: &mut impl Sink) {
        let bytes = self.bits.to_le_bytes();
        sink.bytes(&bytes[..self.len.min(8)]);
    }
}

/// The longest message that a `Vec` takes in one step, in bytes.
const WINDOW: usize = 64;

/// The most that is written at once of a packet of many parts, in bytes. So many zeroes are there first, in a
/// number that the compiler knows: to fill no more than is needed takes longer.
#[cfg(feature = "alloc")]
const AT_ONCE: usize = 192;

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

    #[inline(always)]
    fn in_one_step(&mut self, parts: &Parts<'_>) -> bool {
        let length = parts.len();
        let start = self.len();
        let room = self.capacity() - start;
        // Both parts of few bytes are written as eight.
        if parts.field.len() > WINDOW - 16 || room < WINDOW || room < length {
            return false;
        }
        self.extend_from_slice(&[0; WINDOW]);
        let written = self.last_chunk_mut().is_some_and(|window| parts.write_to(window));
        if written {
            self.truncate(start + length);
        } else {
            self.truncate(start + length - parts.rest.len());
            self.extend_from_slice(parts.rest);
        }
        true
    }

    #[inline(always)]
    fn at_once(&mut self, length: usize, write: impl FnOnce(&mut Room<'_>)) -> bool {
        let start = self.len();
        if length > AT_ONCE || self.capacity() - start < AT_ONCE {
            return false;
        }
        self.extend_from_slice(&[0; AT_ONCE]);
        if let Some(place) = self.last_chunk_mut::<AT_ONCE>() {
            write(&mut Room(Slice(place)));
        }
        self.truncate(start + length);
        true
    }
}

/// A place for many parts; what lies behind them may be written over.
pub(crate) struct Room<'o>(Slice<'o>);

impl Sink for Room<'_> {
    #[inline(always)]
    fn make_room(&mut self, _length: usize) -> Result<(), EncodeError> {
        Ok(())
    }

    #[inline(always)]
    fn array<const N: usize>(&mut self, bytes: [u8; N]) {
        self.0.array(bytes);
    }

    #[inline(always)]
    fn bytes(&mut self, bytes: &[u8]) {
        let Slice(place) = &mut self.0;
        if let Some((to, rest)) = core::mem::take(place).split_at_mut_checked(bytes.len()) {
            if bytes.len() <= 64 {
                copy_short(to, bytes);
            } else {
                to.copy_from_slice(bytes);
            }
            *place = rest;
        }
    }

    #[inline(always)]
    fn in_one_step(&mut self, parts: &Parts<'_>) -> bool {
        let Slice(place) = &mut self.0;
        let fits = parts.field.len() <= WINDOW - 16;
        if fits && place.first_chunk_mut().is_some_and(|window| parts.write_to(window)) {
            *place = &mut core::mem::take(place)[parts.len()..];
            return true;
        }
        false
    }
}

/// Copies up to 64 bytes, and no fewer than four, as two pieces of fixed size that overlap.
#[inline(always)]
fn copy_short(to: &mut [u8], from: &[u8]) {
    if to.len() == from.len()
        && from.len() <= 64
        && (overlapping::<32>(to, from)
            || overlapping::<16>(to, from)
            || overlapping::<8>(to, from)
            || overlapping::<4>(to, from))
    {
        return;
    }
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

/// Copies `N` to `2 N` bytes; says whether there are so many.
#[inline(always)]
fn overlapping<const N: usize>(to: &mut [u8], from: &[u8]) -> bool {
    let (Some(first), Some(last)) = (from.first_chunk::<N>(), from.last_chunk::<N>()) else {
        return false;
    };
    if let Some(to) = to.first_chunk_mut() {
        *to = *first;
    }
    if let Some(to) = to.last_chunk_mut() {
        *to = *last;
    }
    true
}

/// The part of a slice that is still to be written. What lies behind the packet is the caller's, so nothing
/// is written there, not even for a moment.
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

    #[inline(always)]
    fn in_one_step(&mut self, parts: &Parts<'_>) -> bool {
        let Parts { before, field, behind, rest } = parts;
        if parts.len() > self.0.len() {
            return false;
        }
        let (place, free) = core::mem::take(&mut self.0).split_at_mut(parts.len());
        // Each may reach into what the next one writes over.
        let place = before.write_to(place);
        let (to, place) = place.split_at_mut(field.len());
        to.copy_from_slice(field);
        behind.write_to(place).copy_from_slice(rest);
        self.0 = free;
        true
    }
}
