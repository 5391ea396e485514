//! Any bytes in any pieces are the same as those bytes whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zerotouch_mqtt_codec::{DecodeError, Decoded, Decoder, EncodeError, Framer, Packet};

/// What a stream was: its packets, and how it ended.
type Seen = (Vec<Result<Vec<u8>, EncodeError>>, Result<bool, DecodeError>);

fn encoded(packet: &Packet<'_>) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::new();
    packet.encode_to(&mut bytes).map(|_| bytes)
}

fn whole(decoder: Decoder, mut bytes: &[u8]) -> Seen {
    let mut packets = Vec::new();
    loop {
        match decoder.decode(bytes) {
            Ok(Decoded::Complete { packet, used }) => {
                packets.push(encoded(&packet));
                bytes = &bytes[used..];
            }
            Ok(Decoded::Incomplete { .. }) => return (packets, Ok(!bytes.is_empty())),
            Err(error) => return (packets, Err(error)),
        }
    }
}

/// `patient` reads on after every second piece, before it takes what is there.
fn in_pieces(
    decoder: Decoder,
    mut bytes: &[u8],
    sizes: &[u8],
    in_place: bool,
    patient: bool,
) -> Seen {
    let (mut framer, mut packets) = (Framer::new(decoder), Vec::new());
    let mut sizes = sizes.iter().cycle();
    let mut takes = true;
    while !bytes.is_empty() {
        let size = sizes.next().map_or(1, |size| usize::from(*size) + 1);
        let (mut piece, rest) = bytes.split_at(size.min(bytes.len()));
        bytes = rest;
        if in_place {
            let room = framer.unfilled();
            let count = room.len().min(piece.len());
            room[..count].copy_from_slice(&piece[..count]);
            framer.advance(count);
            piece = &piece[count..];
            takes = !(patient && takes);
            if !takes && piece.is_empty() && !bytes.is_empty() {
                continue;
            }
        }
        loop {
            match framer.next_packet(&mut piece) {
                Ok(Some(packet)) => packets.push(encoded(&packet)),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(framer.next_packet(&mut piece), Err(error));
                    return (packets, Err(error));
                }
            }
        }
        assert!(piece.is_empty());
    }
    (packets, Ok(framer.is_mid_packet()))
}

// One byte says whether pieces are read into place (bit 0), two of them before any packet is taken (bit 4), and
// how many bytes of sizes follow (bits 1 to 3); behind those is the stream.
fuzz_target!(|input: &[u8]| {
    let Some((head, rest)) = input.split_first() else { return };
    let Some((sizes, bytes)) = rest.split_at_checked(usize::from(head >> 1 & 7)) else { return };
    let decoder = Decoder::new().max_packet_size(1 << 16);
    let (in_place, patient) = (head & 1 != 0, head & 16 != 0);
    assert_eq!(in_pieces(decoder, bytes, sizes, in_place, patient), whole(decoder, bytes));
});
