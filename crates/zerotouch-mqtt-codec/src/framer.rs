//! Packets out of a stream that arrives in pieces of any size.

use alloc::vec::Vec;
use core::fmt;

use crate::decode::{DecodeError, DecodeErrorKind, Decoder, FixedHeader, decode_body};
use crate::packet::{Packet, PacketType};

/// The capacity that is always kept once it was needed, in bytes.
const MIN_KEPT: usize = 4 * 1024;

/// The least of the buffer that is filled with zeroes at once, in bytes.
const STEP: usize = 16 * 1024;

/// The most bytes of a fixed header.
const MAX_HEADER_LEN: usize = 5;

/// Takes packets off a stream.
///
/// A packet that lies whole in the input is borrowed from it. Only a packet whose bytes come in more
/// than one piece is gathered in a buffer: its bytes are copied once, and nothing else is. (With
/// [`unfilled`](Self::unfilled), a reader that can choose where its bytes go avoids that copy too.)
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
pub struct Framer {
    decoder: Decoder,
    state: State,
    /// The first `filled` bytes are what is there of the packet being gathered, or the packet handed out
    /// last; what follows is room for more. Within a packet there always is some.
    buffer: Vec<u8>,
    filled: usize,
    /// About the largest packet gathered of late, in bytes.
    usual: usize,
}

#[derive(Clone, Copy)]
enum State {
    /// Between two packets.
    Between,
    /// Within the fixed header of a packet.
    InHeader,
    /// Behind the fixed header of a packet; the buffer has the capacity for all of it.
    InBody(FixedHeader),
    /// The stream has no meaning any more.
    Failed(DecodeError),
}

impl Framer {
    /// At the start of a stream.
    pub const fn new(decoder: Decoder) -> Self {
        Self { decoder, state: State::Between, buffer: Vec::new(), filled: 0, usual: 0 }
    }

    /// Takes at most one packet off the front of `input`.
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
        // Asked again after the last packet, or after bytes that were read into place: most often there
        // is nothing to do, which the caller need not be told by a call.
        if input.is_empty() && !self.has_something_to_say() {
            return Ok(None);
        }
        self.take_packet(input)
    }

    /// Whether there is anything to report without further bytes.
    #[inline]
    fn has_something_to_say(&self) -> bool {
        match &self.state {
            State::Between | State::InHeader => false,
            State::InBody(header) => self.filled >= header.packet_len,
            State::Failed(_) => true,
        }
    }

    #[inline]
    fn take_packet<'p, 'i: 'p>(
        &'p mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Packet<'p>>, DecodeError> {
        match &self.state {
            State::Between => match self.decoder.header(input) {
                Ok(Some(header)) => {
                    if let Some((packet, rest)) = input.split_at_checked(header.packet_len) {
                        *input = rest;
                        return finish(&mut self.state, &header, packet);
                    }
                    self.give_back();
                    if let Err(error) = self.begin(header) {
                        return Err(self.fail(error));
                    }
                }
                Ok(None) => {}
                Err(error) => return Err(self.fail(error)),
            },
            // Another piece that does not complete the packet.
            State::InBody(header) => {
                let end = self.filled + input.len();
                if end < header.packet_len.min(self.buffer.len())
                    && let Some(room) = self.buffer.get_mut(self.filled..end)
                {
                    match (&mut *room, *input) {
                        // A stream that trickles: no call of `memcpy` for a byte.
                        ([room], [byte]) => *room = *byte,
                        _ => room.copy_from_slice(input),
                    }
                    self.filled = end;
                    *input = &[];
                    return Ok(None);
                }
            }
            State::InHeader | State::Failed(_) => {}
        }
        self.gather(input)
    }

    /// Whether the stream is within a packet: if it ends here, that packet is cut short.
    pub const fn is_mid_packet(&self) -> bool {
        matches!(self.state, State::InHeader | State::InBody(_))
    }

    /// Room for more of the packet being gathered: a reader may put the stream's next bytes there
    /// itself, then say how many with [`advance`](Self::advance), then ask for
    /// [`next_packet`](Self::next_packet), with the input behind those bytes or none.
    ///
    /// Empty unless the stream is behind the fixed header of a packet and before its end. For a large
    /// packet, it is less than the rest at first, and grows with what is there.
    #[inline]
    pub fn unfilled(&mut self) -> &mut [u8] {
        match &self.state {
            State::InBody(header) => {
                let end = header.packet_len.min(self.buffer.len());
                self.buffer.get_mut(self.filled..end).unwrap_or_default()
            }
            _ => &mut [],
        }
    }

    /// Says that the first `count` bytes of [`unfilled`](Self::unfilled) are the stream's next bytes.
    /// More than there is room for counts as all of it.
    #[inline]
    pub fn advance(&mut self, count: usize) {
        let room = self.unfilled().len();
        self.filled += count.min(room);
        if count >= room {
            self.touch_more();
        }
    }

    /// Moves bytes from `input` to the buffer, until that holds a packet.
    fn gather<'p>(&'p mut self, input: &mut &[u8]) -> Result<Option<Packet<'p>>, DecodeError> {
        let header = match self.state {
            State::InBody(header) => header,
            State::Failed(error) => return Err(error),
            State::Between | State::InHeader => match self.gather_header(input) {
                Ok(Some(header)) => header,
                Ok(None) => return Ok(None),
                Err(error) => return Err(self.fail(error)),
            },
        };
        while self.filled < header.packet_len {
            let room = self.unfilled();
            let (piece, rest) = input.split_at(room.len().min(input.len()));
            room[..piece.len()].copy_from_slice(piece);
            self.advance(piece.len());
            *input = rest;
            if input.is_empty() && self.filled < header.packet_len {
                return Ok(None);
            }
        }
        self.state = State::Between;
        finish(&mut self.state, &header, &self.buffer[..header.packet_len])
    }

    /// Gathers byte by byte until the fixed header is there, and makes room for what it announces.
    #[cold]
    fn gather_header(&mut self, input: &mut &[u8]) -> Result<Option<FixedHeader>, DecodeError> {
        if let State::Between = self.state {
            self.give_back();
        }
        while let Some((byte, rest)) = input.split_first() {
            self.allocate(MAX_HEADER_LEN, None)?;
            self.buffer.resize(self.buffer.len().max(MAX_HEADER_LEN), 0);
            self.buffer[self.filled] = *byte;
            self.filled += 1;
            *input = rest;
            self.state = State::InHeader;
            if let Some(header) = self.decoder.header(&self.buffer[..self.filled])? {
                self.begin(header)?;
                return Ok(Some(header));
            }
        }
        Ok(None)
    }

    /// Makes room for the packet that this fixed header begins.
    fn begin(&mut self, header: FixedHeader) -> Result<(), DecodeError> {
        self.allocate(header.packet_len, Some(header.packet_type))?;
        self.state = State::InBody(header);
        self.touch_more();
        Ok(())
    }

    /// Gives the buffer the capacity for a packet.
    fn allocate(
        &mut self,
        packet_len: usize,
        packet_type: Option<PacketType>,
    ) -> Result<(), DecodeError> {
        let more = packet_len.saturating_sub(self.buffer.len());
        self.buffer.try_reserve_exact(more).map_err(|_| {
            let size = u32::try_from(packet_len).unwrap_or(u32::MAX);
            DecodeError::new(DecodeErrorKind::OutOfMemory { size }, 1, packet_type)
        })
    }

    /// Makes room within the capacity once what there was is used up, in steps that grow with what has
    /// arrived: a claim of 256 MB costs no more than the bytes that follow it.
    fn touch_more(&mut self) {
        if let State::InBody(header) = &self.state {
            let length = (2 * self.filled).max(STEP).min(header.packet_len);
            if length > self.buffer.len() {
                self.buffer.resize(length, 0);
            }
        }
    }

    /// Has done with the packet handed out last, and gives memory back that is unlikely to be needed.
    fn give_back(&mut self) {
        self.usual = self.filled.max(self.usual - self.usual / 8);
        self.filled = 0;
        let kept = self.usual.max(MIN_KEPT);
        if self.buffer.capacity() > 2 * kept {
            self.buffer.truncate(kept);
            self.buffer.shrink_to(kept);
        }
    }

    #[cold]
    fn fail(&mut self, error: DecodeError) -> DecodeError {
        self.state = State::Failed(error);
        self.buffer = Vec::new();
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
            State::Between => "between packets",
            State::InHeader | State::InBody(_) => "mid packet",
            State::Failed(_) => "failed",
        };
        f.debug_struct("Framer")
            .field("decoder", &self.decoder)
            .field("state", &format_args!("{state}"))
            .field("gathered", &self.filled)
            .finish_non_exhaustive()
    }
}
