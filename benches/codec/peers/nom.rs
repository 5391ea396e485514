//! A plain nom 8 parser, to decide whether the codec should be written with it. As strict as the codec
//! where it goes; decodes only, and only the packets that are measured.

use std::hint::black_box;

use nom::bytes::complete::take;
use nom::combinator::{map_opt, map_res, rest};
use nom::multi::{length_data, many1};
use nom::number::complete::{be_u8, be_u16};
use nom::{IResult, Parser};
use zerotouch_benches::Spec;
use zerotouch_mqtt_codec::{
    Connect, Delivery, Login, Packet, PacketIdentifier, Publish, QoS, Text, TopicFilter, TopicName,
};

use crate::Peer;

pub struct Nom;

type Parsed<'a, T> = IResult<&'a [u8], T>;

enum Found<'a> {
    Packet(Packet<'a>),
    Subscribe(PacketIdentifier, Vec<(TopicFilter<'a>, QoS)>),
}

fn utf8(input: &[u8]) -> Parsed<'_, &str> {
    map_res(binary, core::str::from_utf8).parse_complete(input)
}

fn text(input: &[u8]) -> Parsed<'_, Text<'_>> {
    map_res(utf8, Text::new).parse_complete(input)
}

fn binary(input: &[u8]) -> Parsed<'_, &[u8]> {
    length_data(be_u16).parse_complete(input)
}

fn identifier(input: &[u8]) -> Parsed<'_, PacketIdentifier> {
    map_opt(be_u16, PacketIdentifier::new).parse_complete(input)
}

fn qos(input: &[u8]) -> Parsed<'_, QoS> {
    map_opt(be_u8, QoS::from_u8).parse_complete(input)
}

/// First byte and remaining length.
fn header(input: &[u8]) -> Parsed<'_, (u8, usize)> {
    let (mut input, first) = be_u8(input)?;
    let mut remaining = 0;
    for shift in [0, 7, 14, 21] {
        let (behind, byte) = be_u8(input)?;
        input = behind;
        remaining |= usize::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Ok((input, (first, remaining)));
        }
    }
    Err(nom::Err::Failure(nom::error::Error::new(input, nom::error::ErrorKind::TooLarge)))
}

fn publish(flags: u8) -> impl FnMut(&[u8]) -> Parsed<'_, Publish<'_>> {
    move |input| {
        let (input, topic) = map_res(utf8, TopicName::new).parse_complete(input)?;
        let dup = flags & 8 != 0;
        let (input, delivery) = match flags & 6 {
            0 => (input, Delivery::AtMostOnce),
            2 => identifier.map(|id| Delivery::AtLeastOnce { id, dup }).parse_complete(input)?,
            _ => identifier.map(|id| Delivery::ExactlyOnce { id, dup }).parse_complete(input)?,
        };
        let (input, payload) = rest(input)?;
        Ok((input, Publish { topic, payload, retain: flags & 1 != 0, delivery }))
    }
}

fn connect(input: &[u8]) -> Parsed<'_, Connect<'_>> {
    let name = nom::bytes::complete::tag(&b"\0\x04MQTT\x04\xC2"[..]);
    let (input, (_, keep_alive, client_id, username, password)) =
        (name, be_u16, text, text, binary).parse_complete(input)?;
    let login = Some(Login { username, password: Some(password) });
    Ok((input, Connect { client_id, clean_session: true, keep_alive, will: None, login }))
}

fn packet(input: &[u8]) -> Parsed<'_, Found<'_>> {
    let (input, (first, remaining)) = header(input)?;
    let (input, body) = take(remaining)(input)?;
    let found = match first {
        0x10 => Found::Packet(connect(body)?.1.into()),
        0x30..0x40 => Found::Packet(publish(first)(body)?.1.into()),
        0x40 => Found::Packet(Packet::PubAck(identifier(body)?.1)),
        _ => {
            let filter = (map_res(utf8, TopicFilter::new), qos);
            let (_, (id, filters)) = (identifier, many1(filter)).parse_complete(body)?;
            Found::Subscribe(id, filters)
        }
    };
    Ok((input, found))
}

impl Peer for Nom {
    const NAME: &'static str = "nom 8 by hand";
    type Packet<'a> = ();
    type Output = Vec<u8>;
    type Input = Vec<u8>;

    fn packet(_: &Spec) -> Option<()> {
        None
    }

    fn encode((): &(), _: &mut Vec<u8>) {}

    fn decode(buffer: &mut Vec<u8>, piece: &[u8]) -> usize {
        buffer.extend_from_slice(piece);
        let (mut count, mut input) = (0, &buffer[..]);
        while let Ok((behind, ref found)) = packet(input) {
            match found {
                Found::Packet(packet) => drop(black_box(packet)),
                Found::Subscribe(id, filters) => drop(black_box((id, filters))),
            }
            input = behind;
            count += 1;
        }
        let kept = input.len();
        let start = buffer.len() - kept;
        buffer.copy_within(start.., 0);
        buffer.truncate(kept);
        count
    }
}
