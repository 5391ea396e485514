//! Packets out of a stream that arrives in pieces of any size.
//!
//! | state | what is held | next |
//! |---|---|---|
//! | between | nothing, or packets that were read in and not yet taken | a packet is whole: it is taken |
//! | | the beginning of a packet, its fixed header incomplete | more bytes |
//! | | its fixed header | in body, with room for all of it |
//! | in body | a part of the packet | it is whole: taken, and between |
//! | failed | nothing | for ever |

use alloc::vec::Vec;
use core::fmt;

use crate::decode::{DecodeError, DecodeErrorKind, Decoder, FixedHeader, decode_body};
use crate::packet::Packet;

/// The least of the buffer that is filled with zeroes at once, what is offered to a reader for packets of
/// unknown size, and the capacity that is always kept once it was needed, in bytes.
const STEP: usize = 16 * 1024;

/// The shortest fixed header.
const MIN_HEADER_LEN: usize = 2;

/// Takes packets off a stream. The stream's bytes come in one of two ways, and may do so by turns.
///
/// - Handed over: a packet that lies whole in the input is borrowed from it, and only one whose bytes
///   come in several pieces is gathered in a buffer.
/// - Read in: [`unfilled`](Self::unfilled) lends the buffer itself to whoever reads the stream, and
///   [`advance`](Self::advance) says how much was read. Nothing is copied but a packet cut by the
///   buffer's end, once.
///
/// Nothing is gathered that cannot become a packet: type, flags, direction and size are judged with
/// the fixed header. The buffer is then allocated once, for the size the packet claims (and touched only
/// as bytes arrive), so whoever takes bytes from strangers should set [`Decoder::max_packet_size`]. It is
/// kept for the next packet, and given back in part some packets after an unusually large one.
///
/// ```
/// use zerotouch_mqtt_codec::{Decoder, Framer, Packet};
///
/// let mut framer = Framer::new(Decoder::new());
/// let mut packets = 0;
/// // A PINGREQ, a PUBACK and another PINGREQ, cut where it hurts.
/// for piece in [&[0xC0, 0x00, 0x40][..], &[0x02, 0x00], &[0x07, 0xC0], &[0x00]] {
///     let mut input = piece;
///     while let Some(packet) = framer.next_packet(&mut input)? {
///         assert!(matches!(packet, Packet::PingReq | Packet::PubAck(_)));
///         packets += 1;
///     }
/// }
/// assert_eq!(packets, 3);
/// assert!(!framer.is_mid_packet());
/// # Ok::<(), zerotouch_mqtt_codec::DecodeError>(())
/// ```
///
/// A reader:
///
/// ```
/// use std::io::Read;
/// use zerotouch_mqtt_codec::{Decoder, Framer, Packet};
///
/// # let mut socket = &[0xC0, 0x00, 0xC0, 0x00][..];
/// let mut framer = Framer::new(Decoder::new());
/// loop {
///     let count = socket.read(framer.unfilled())?;
///     framer.advance(count);
///     while let Some(packet) = framer.next_packet(&mut &[][..])? {
///         assert_eq!(packet, Packet::PingReq);
///     }
///     if count == 0 {
///         break;
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Framer {
    decoder: Decoder,
    state: State,
    /// Its length is what may be written to; `start` to `end` is held. Before that lies what was taken, the
    /// packet handed out last included.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Where the packet in whose body we are will end, otherwise nowhere (0): a byte that does not complete it
    /// is taken in without a look at anything else.
    until: usize,
    /// About the most held of late, in bytes.
    usual: usize,
}

#[derive(Clone, Copy)]
enum State {
    Between,
    /// The fixed header of the packet whose beginning is held; the buffer has the capacity for all of it.
    InBody(FixedHeader),
    /// The stream has no meaning any more.
    Failed(DecodeError),
}

impl Framer {
    /// At the start of a stream.
    pub const fn new(decoder: Decoder) -> Self {
        let state = State::Between;
        Self { decoder, state, buffer: Vec::new(), start: 0, end: 0, until: 0, usual: 0 }
    }

    /// Takes at most one packet off what was read in, and then off the front of `input`.
    ///
    /// `None` means that all of `input` is taken and more is needed.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], with offsets from the start of the packet at fault, as soon as it is certain.
    /// The framer stays failed: every later call gives the same error.
    #[inline]
    pub fn next_packet<'p, 'i: 'p>(
        &'p mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Packet<'p>>, DecodeError> {
        if self.start < self.end {
            return self.next_held(input);
        }
        if let State::Failed(error) = self.state {
            return Err(error);
        }
        if input.is_empty() {
            return Ok(None);
        }
        match self.decoder.header(input) {
            Ok(Some(header)) => {
                if let Some((packet, rest)) = input.split_at_checked(header.packet_len) {
                    *input = rest;
                    return finish(&mut self.state, &header, packet);
                }
                self.give_back();
                self.begin(header)?;
            }
            Ok(None) => self.give_back(),
            Err(error) => return Err(self.fail(error)),
        }
        self.gather(input)
    }

    /// Takes a packet whose beginning is held.
    #[inline]
    fn next_held<'p>(&'p mut self, input: &mut &[u8]) -> Result<Option<Packet<'p>>, DecodeError> {
        if self.end < self.until && input.is_empty() {
            return Ok(None);
        }
        let header = match self.state {
            State::InBody(header) => header,
            State::Failed(error) => return Err(error),
            State::Between => match self.decoder.header(&self.buffer[self.start..self.end]) {
                Ok(Some(header)) => header,
                Ok(None) => return self.gather(input),
                Err(error) => return Err(self.fail(error)),
            },
        };
        if self.end - self.start < header.packet_len {
            return self.gather(input);
        }
        self.take(&header)
    }

    /// Takes a packet that is held whole.
    #[inline]
    fn take(&mut self, header: &FixedHeader) -> Result<Option<Packet<'_>>, DecodeError> {
        self.state = State::Between;
        self.until = 0;
        let packet = self.start..self.start + header.packet_len;
        self.start = packet.end;
        finish(&mut self.state, header, &self.buffer[packet])
    }

    /// Moves bytes from `input` to the buffer, until that holds a packet.
    fn gather(&mut self, input: &mut &[u8]) -> Result<Option<Packet<'_>>, DecodeError> {
        loop {
            let missing = match self.state {
                State::InBody(_) if self.end < self.until => self.until - self.end,
                State::InBody(header) => return self.take(&header),
                State::Failed(error) => return Err(error),
                State::Between => match self.decoder.header(&self.buffer[self.start..self.end]) {
                    Ok(Some(header)) => {
                        self.begin(header)?;
                        continue;
                    }
                    Ok(None) => 1,
                    Err(error) => return Err(self.fail(error)),
                },
            };
            if input.is_empty() {
                return Ok(None);
            }
            let room = self.room(1);
            let count = room.len().min(missing).min(input.len());
            match (&mut *room, *input) {
                // A stream that trickles: no call of `memcpy` for a byte.
                ([room, ..], [byte]) => *room = *byte,
                _ => room[..count].copy_from_slice(&input[..count]),
            }
            self.end += count;
            *input = &input[count..];
        }
    }

    /// Whether the stream is within a packet: if it ends here, that packet is cut short. To be asked when
    /// [`next_packet`](Self::next_packet) has none to give.
    pub const fn is_mid_packet(&self) -> bool {
        self.start < self.end && !matches!(self.state, State::Failed(_))
    }

    /// Room for the stream's next bytes: a reader puts them there, says how many with
    /// [`advance`](Self::advance), and takes packets off until there is none.
    ///
    /// 16 KiB or the greatest size of a packet, whichever is less, when nothing is held, and never none,
    /// but where [`next_packet`](Self::next_packet) gives an error.
    #[inline]
    pub fn unfilled(&mut self) -> &mut [u8] {
        if let State::Failed(_) = self.state {
            return &mut [];
        }
        if self.end < self.until {
            return self.room(1);
        }
        if self.start == self.end && self.start > 0 {
            self.give_back();
        }
        if self.buffer.len() - self.end >= STEP {
            return &mut self.buffer[self.end..];
        }
        self.room(STEP.min(self.decoder.limit()).max(MIN_HEADER_LEN))
    }

    /// Says that the first `count` bytes of [`unfilled`](Self::unfilled) are the stream's next bytes.
    /// More than there is room for counts as all of it.
    #[inline]
    pub fn advance(&mut self, count: usize) {
        self.end += count.min(self.buffer.len() - self.end);
    }

    /// What may be written to: at least `wanted` bytes, or, within a packet, one.
    #[inline]
    fn room(&mut self, wanted: usize) -> &mut [u8] {
        if self.buffer.len() - self.end < wanted {
            self.make_room(wanted);
        }
        &mut self.buffer[self.end..]
    }

    /// Within a packet, in steps that grow with what has arrived: a claim of 256 MB costs no more than
    /// the bytes that follow it.
    #[cold]
    fn make_room(&mut self, wanted: usize) {
        let held = self.end - self.start;
        let length = if self.end < self.until {
            (self.start + (2 * held).max(STEP)).min(self.until)
        } else {
            self.move_to_front();
            held + wanted
        };
        if let Err(error) = self.reserve(length, None) {
            self.fail(error);
        } else if length > self.buffer.len() {
            self.buffer.resize(length, 0);
        }
    }

    /// Makes room for the packet that this fixed header begins, at once and in one piece.
    fn begin(&mut self, header: FixedHeader) -> Result<(), DecodeError> {
        if self.start + header.packet_len > self.buffer.capacity() {
            self.move_to_front();
        }
        if let Err(error) = self.reserve(self.start + header.packet_len, Some(&header)) {
            return Err(self.fail(error));
        }
        self.state = State::InBody(header);
        self.until = self.start + header.packet_len;
        Ok(())
    }

    fn move_to_front(&mut self) {
        self.buffer.copy_within(self.start..self.end, 0);
        self.until = self.until.saturating_sub(self.start);
        (self.start, self.end) = (0, self.end - self.start);
    }

    /// Gives the buffer a capacity.
    fn reserve(
        &mut self,
        capacity: usize,
        header: Option<&FixedHeader>,
    ) -> Result<(), DecodeError> {
        let more = capacity.saturating_sub(self.buffer.len());
        self.buffer.try_reserve_exact(more).map_err(|_| {
            let size = u32::try_from(capacity).unwrap_or(u32::MAX);
            let packet_type = header.map(|header| header.packet_type);
            DecodeError::new(DecodeErrorKind::OutOfMemory { size }, 1, packet_type)
        })
    }

    /// Has done with all that was held, and gives memory back that is unlikely to be needed.
    #[inline]
    fn give_back(&mut self) {
        let held = core::mem::take(&mut self.end);
        self.start = 0;
        if self.buffer.capacity() > 2 * STEP {
            self.shrink(held);
        }
    }

    #[inline(never)]
    fn shrink(&mut self, held: usize) {
        self.usual = held.max(self.usual - self.usual / 8);
        let kept = self.usual.max(STEP);
        if self.buffer.capacity() > 2 * kept {
            self.buffer.truncate(kept);
            self.buffer.shrink_to(kept);
        }
    }

    #[cold]
    fn fail(&mut self, error: DecodeError) -> DecodeError {
        self.state = State::Failed(error);
        self.buffer = Vec::new();
        (self.start, self.end, self.until) = (0, 0, 0);
        error
    }
}

/// Decodes a packet that is all there.
#[inline]
fn finish<'p>(
    state: &mut State,
    header: &FixedHeader,
    packet: &'p [u8],
) -> Result<Option<Packet<'p>>, DecodeError> {
    let result = decode_body(header, &packet[header.len..], Some);
    if let Err(error) = result {
        *state = State::Failed(error);
    }
    result
}

impl fmt::Debug for Framer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Failed(_) => "failed",
            _ if self.is_mid_packet() => "mid packet",
            _ => "between packets",
        };
        f.debug_struct("Framer")
            .field("decoder", &self.decoder)
            .field("state", &format_args!("{state}"))
            .field("held", &(self.end - self.start))
            .finish_non_exhaustive()
    }
}
