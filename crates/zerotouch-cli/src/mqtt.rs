//! `zerotouch mqtt decode`: what bytes of MQTT 3.1.1 mean, or which rule they break.

#![allow(clippy::doc_markdown, reason = "comments on arguments are read in a terminal, as help")]

mod meaning;

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use thiserror::Error;
use zerotouch_mqtt_codec::{DecodeErrorKind, Decoded, Decoder, Packet, PacketType, Sender};

use self::meaning::Line;
use crate::failure::{CliError, exit};

/// What is read at once, in bytes.
const STEP: usize = 64 * 1024;

#[derive(Debug, Args)]
pub(crate) struct Mqtt {
    #[command(subcommand)]
    command: MqttCommand,
}

#[derive(Debug, Subcommand)]
enum MqttCommand {
    /// Decode MQTT 3.1.1 packets, each to a line of JSON
    ///
    /// Strictly: malformed bytes end it with code 65, the rule of the standard that they break and where;
    /// a packet that is cut short ends it with 66. What came before is written first. Passwords and
    /// payloads are written as they are, in hexadecimal.
    Decode(Decode),
}

#[derive(Debug, Args)]
struct Decode {
    /// Who sent it: packets that this end does not send are refused [default: either end]
    #[arg(long, value_enum)]
    from: Option<From>,
    #[command(flatten)]
    input: Input,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Input {
    /// The bytes in hexadecimal; white space and colons between them do not count
    #[arg(long, value_name = "HEX")]
    hex: Option<String>,
    /// A file of the bytes themselves, or - for standard input
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum From {
    /// A client
    Client,
    /// A server
    Server,
}

/// Why it did not decode to the end.
#[derive(Debug, Error)]
pub(crate) enum MqttError {
    #[error("{0}")]
    Hex(HexError),
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("malformed {} at byte {offset}{}: {kind} {}", packet_name(*packet_type), Within(*offset, *start), kind.rule())]
    Malformed {
        kind: DecodeErrorKind,
        packet_type: Option<PacketType>,
        /// Where the fault is, in bytes from the start of the input.
        offset: u64,
        /// Where its packet begins.
        start: u64,
    },
    #[error("{} at byte {start}: at least {needed} more byte{} missing", cut(*packet_type), if *.needed == 1 { " is" } else { "s are" })]
    Incomplete { packet_type: Option<PacketType>, start: u64, needed: usize },
}

impl MqttError {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Hex(_) | Self::Read { .. } => exit::USAGE,
            Self::Malformed { .. } => exit::MALFORMED,
            Self::Incomplete { .. } => exit::INCOMPLETE,
        }
    }

    pub(crate) fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Hex(_) => Some("give the bytes as pairs of hexadecimal digits, as in 'c0 00'"),
            Self::Malformed { kind: DecodeErrorKind::WrongDirection(_), .. } => {
                Some("say with --from which end sent it, or leave that away to accept both")
            }
            Self::Read { .. } | Self::Malformed { .. } | Self::Incomplete { .. } => None,
        }
    }
}

/// Why a text is not bytes in hexadecimal. Positions are counted in characters from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum HexError {
    #[error("--hex: {character:?} at position {position} is no hexadecimal digit")]
    Digit { character: char, position: usize },
    #[error("--hex: the digit at position {position} is only half a byte")]
    HalfByte { position: usize },
}

fn packet_name(packet_type: Option<PacketType>) -> &'static str {
    packet_type.map_or("packet", PacketType::name)
}

fn cut(packet_type: Option<PacketType>) -> String {
    match packet_type {
        Some(packet_type) => format!("incomplete {packet_type}"),
        None => "no packet".into(),
    }
}

/// Where in its packet the fault is, if other packets came before.
struct Within(u64, u64);

impl std::fmt::Display for Within {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(offset, start) = self;
        match start {
            0 => Ok(()),
            _ => write!(f, " (byte {} of the packet that begins at {start})", offset - start),
        }
    }
}

pub(crate) fn run(arguments: &Mqtt) -> Result<(), CliError> {
    let MqttCommand::Decode(arguments) = &arguments.command;
    let (decoder, direction) = match arguments.from {
        None => (Decoder::new(), "any"),
        Some(From::Client) => (Decoder::from_sender(Sender::Client), "client->server"),
        Some(From::Server) => (Decoder::from_sender(Sender::Server), "server->client"),
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let mut written = Ok(());
    let mut write = |packet: &Packet<'_>| {
        written = write_line(&mut out, &Line::new(direction, packet));
        written.is_ok()
    };
    let decoded = match (&arguments.input.hex, &arguments.input.file) {
        (Some(text), _) => bytes(text)
            .map_err(MqttError::Hex)
            .and_then(|bytes| decode(decoder, &bytes[..], &PathBuf::new(), &mut write)),
        (None, Some(path)) if path.as_os_str() == "-" => {
            decode(decoder, io::stdin().lock(), path, &mut write)
        }
        (None, Some(path)) => File::open(path)
            .map_err(|source| MqttError::Read { path: path.clone(), source })
            .and_then(|file| decode(decoder, file, path, &mut write)),
        // The group of arguments is required.
        (None, None) => Ok(()),
    };
    match written {
        // A reader that went away early has what it wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(source) => Err(CliError::Write { path: "standard output".into(), source }),
        Ok(()) => Ok(decoded?),
    }
}

/// Hands on packet after packet, until the input ends or `take` wants no more. Of the input no more is held
/// than the packet in hand, which has [`MAX_PACKET_SIZE`](zerotouch_mqtt_codec::MAX_PACKET_SIZE) at most,
/// and what has arrived behind it.
fn decode(
    decoder: Decoder,
    mut input: impl Read,
    path: &std::path::Path,
    mut take: impl FnMut(&Packet<'_>) -> bool,
) -> Result<(), MqttError> {
    let mut held = Vec::new();
    // Where what is held begins in the input, in bytes.
    let mut start = 0;
    loop {
        let mut rest = &held[..];
        let needed = loop {
            match decoder.decode(rest) {
                Ok(Decoded::Complete { packet, used }) => {
                    if !take(&packet) {
                        return Ok(());
                    }
                    rest = &rest[used..];
                    start += used as u64;
                }
                Ok(Decoded::Incomplete { needed }) => break needed,
                Err(error) => {
                    return Err(MqttError::Malformed {
                        kind: error.kind(),
                        packet_type: error.packet_type(),
                        offset: start + error.offset() as u64,
                        start,
                    });
                }
            }
        };
        held.drain(..held.len() - rest.len());
        if !fill(&mut held, &mut input)
            .map_err(|source| MqttError::Read { path: path.into(), source })?
        {
            // Nothing is missing behind a whole packet; where there was none, one is.
            if held.is_empty() && start > 0 {
                return Ok(());
            }
            let packet_type = held.first().and_then(|byte| PacketType::from_u8(byte >> 4));
            return Err(MqttError::Incomplete { packet_type, start, needed });
        }
    }
}

/// Reads what there is now; false at the end.
fn fill(held: &mut Vec<u8>, input: &mut impl Read) -> io::Result<bool> {
    let before = held.len();
    held.resize(before + STEP, 0);
    let read = loop {
        match input.read(&mut held[before..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => break read,
        }
    };
    held.truncate(before + *read.as_ref().unwrap_or(&0));
    Ok(read? > 0)
}

/// At once, for whoever reads along while packets arrive.
fn write_line(out: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// The bytes of hexadecimal text.
fn bytes(text: &str) -> Result<Vec<u8>, HexError> {
    let mut bytes = Vec::with_capacity(text.len() / 2);
    let mut half: Option<(u8, usize)> = None;
    for (position, character) in text.chars().enumerate() {
        if character == ':' || character.is_whitespace() {
            continue;
        }
        let digit = character.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let digit = digit.ok_or(HexError::Digit { character, position })?;
        half = match half {
            Some((high, _)) => {
                bytes.push(high << 4 | digit);
                None
            }
            None => Some((digit, position)),
        };
    }
    match half {
        Some((_, position)) => Err(HexError::HalfByte { position }),
        None => Ok(bytes),
    }
}
