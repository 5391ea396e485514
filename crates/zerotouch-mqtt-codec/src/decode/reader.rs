//! Reads the fields of one packet in turn, and says which one is missing, and where.

use super::{DecodeError, DecodeErrorKind, Field};
use crate::packet::PacketType;
use crate::scan;
use crate::text::{Text, TextError};
use crate::topic::{TopicError, TopicFilter, TopicName};
use crate::types::PacketIdentifier;

/// What is left of a packet.
///
/// Small and `Copy`, and handed to the error paths by value: so it stays in registers where a packet is
/// good.
///
/// Lengths inside the packet are measured against the packet's end, never
/// against what happens to lie behind it.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    packet_type: PacketType,
    packet_len: usize,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `rest`, the end of a packet of `packet_len` bytes.
    #[inline]
    pub(crate) fn new(packet_type: PacketType, packet_len: usize, rest: &'a [u8]) -> Self {
        Self { packet_type, packet_len, rest }
    }

    /// Where the next byte lies, from the start of the packet.
    #[inline]
    pub(crate) fn offset(self) -> usize {
        self.packet_len - self.rest.len()
    }

    /// All that is left.
    #[inline]
    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    #[cold]
    pub(crate) fn error(self, kind: DecodeErrorKind, offset: usize) -> DecodeError {
        DecodeError::new(kind, offset, Some(self.packet_type))
    }

    /// An error at the byte read last.
    #[cold]
    pub(crate) fn error_before(self, kind: DecodeErrorKind) -> DecodeError {
        self.error(kind, self.offset() - 1)
    }

    #[cold]
    fn truncated(self, field: Field) -> DecodeError {
        self.error(DecodeErrorKind::Truncated(field), self.offset())
    }

    #[inline]
    pub(crate) fn u8(&mut self, field: Field) -> Result<u8, DecodeError> {
        let Some((byte, rest)) = self.rest.split_first() else {
            return Err(self.truncated(field));
        };
        self.rest = rest;
        Ok(*byte)
    }

    #[inline(always)]
    pub(crate) fn u16(&mut self, field: Field) -> Result<u16, DecodeError> {
        let Some((bytes, rest)) = self.rest.split_first_chunk() else {
            return Err(self.truncated(field));
        };
        self.rest = rest;
        Ok(u16::from_be_bytes(*bytes))
    }

    #[inline(always)]
    pub(crate) fn packet_identifier(&mut self) -> Result<PacketIdentifier, DecodeError> {
        let number = self.u16(Field::PacketIdentifier)?;
        let Some(identifier) = PacketIdentifier::new(number) else {
            let packet_type = self.packet_type;
            let kind = DecodeErrorKind::ZeroPacketIdentifier { packet_type };
            return Err(self.error(kind, self.offset() - 2));
        };
        Ok(identifier)
    }

    /// Bytes behind their length in two bytes.
    #[inline(always)]
    pub(crate) fn binary(&mut self, field: Field) -> Result<&'a [u8], DecodeError> {
        let Some((length, rest)) = self.rest.split_first_chunk() else {
            return Err(self.truncated(field));
        };
        let Some((bytes, rest)) = rest.split_at_checked(u16::from_be_bytes(*length).into()) else {
            return Err(self.truncated(field));
        };
        self.rest = rest;
        Ok(bytes)
    }

    /// Text that must be UTF-8; U+0000 is for the caller to refuse.
    #[inline(always)]
    fn utf8(&mut self, field: Field) -> Result<&'a str, DecodeError> {
        let bytes = self.binary(field)?;
        match scan::text(bytes) {
            Ok(text) => Ok(text),
            Err(error) => Err(self.error_within(
                bytes,
                DecodeErrorKind::IllFormedUtf8(field),
                error.valid_up_to(),
            )),
        }
    }

    #[inline]
    pub(crate) fn text(&mut self, field: Field) -> Result<Text<'a>, DecodeError> {
        let text = self.utf8(field)?;
        match Text::from_wire(text) {
            Ok(text) => Ok(text),
            Err(error) => Err(self.text_error(text, field, error)),
        }
    }

    #[inline(always)]
    pub(crate) fn topic_name(&mut self, field: Field) -> Result<TopicName<'a>, DecodeError> {
        let text = self.utf8(field)?;
        match TopicName::from_wire(text) {
            Ok(name) => Ok(name),
            Err(error) => Err(self.topic_error(text, field, error)),
        }
    }

    #[inline]
    pub(crate) fn topic_filter(&mut self) -> Result<TopicFilter<'a>, DecodeError> {
        let text = self.utf8(Field::TopicFilter)?;
        match TopicFilter::from_wire(text) {
            Ok(filter) => Ok(filter),
            Err(error) => Err(self.topic_error(text, Field::TopicFilter, error)),
        }
    }

    #[cold]
    fn topic_error(self, text: &str, field: Field, error: TopicError) -> DecodeError {
        let (kind, position) = match error {
            TopicError::Empty => (DecodeErrorKind::EmptyTopic(field), 0),
            // No length on the wire says more than 65,535.
            TopicError::TooLong { .. } => (DecodeErrorKind::Truncated(field), 0),
            TopicError::Nul { position } => (DecodeErrorKind::NulCharacter(field), position),
            TopicError::WildcardInName { position } => {
                (DecodeErrorKind::WildcardInTopicName(field), position)
            }
            TopicError::MultiLevelWildcard { position } => {
                (DecodeErrorKind::MisplacedMultiLevelWildcard, position)
            }
            TopicError::SingleLevelWildcard { position } => {
                (DecodeErrorKind::MisplacedSingleLevelWildcard, position)
            }
        };
        self.error_within(text.as_bytes(), kind, position)
    }

    #[cold]
    fn text_error(self, text: &str, field: Field, error: TextError) -> DecodeError {
        let (kind, position) = match error {
            // No length on the wire says more than 65,535.
            TextError::TooLong { .. } => (DecodeErrorKind::Truncated(field), 0),
            TextError::Nul { position } => (DecodeErrorKind::NulCharacter(field), position),
        };
        self.error_within(text.as_bytes(), kind, position)
    }

    /// An error at `position` within the field just read.
    #[cold]
    fn error_within(self, field: &[u8], kind: DecodeErrorKind, position: usize) -> DecodeError {
        self.error(kind, self.offset() - field.len() + position)
    }
}
