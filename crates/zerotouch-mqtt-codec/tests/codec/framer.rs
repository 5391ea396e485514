//! The framer's promises beyond "pieces are the same as the whole".

use zerotouch_mqtt_codec::{
    DecodeErrorKind, Decoder, Delivery, Framer, Packet, PacketType, Publish, TopicName,
};

use crate::hex;

/// A PUBLISH of `size` bytes as a whole, with a payload of sevens.
fn publish(size: usize) -> Vec<u8> {
    let payload = vec![7; size];
    let of_payload = |length: usize| {
        let topic = TopicName::new("t").unwrap();
        let delivery = Delivery::AtMostOnce;
        let publish = Publish { topic, payload: &payload[..length], retain: false, delivery };
        let mut bytes = Vec::new();
        Packet::from(publish).encode_to(&mut bytes).unwrap();
        bytes
    };
    // Two to five bytes of fixed header, three of topic.
    (5..=8).map(|head| of_payload(size - head)).find(|bytes| bytes.len() == size).unwrap()
}

/// A packet that is whole in the input is borrowed from it; no byte is copied.
#[test]
fn whole_packets_are_borrowed_from_the_input() {
    let stream = [publish(100), publish(200)].concat();
    let mut framer = Framer::new(Decoder::new());
    let mut input = &stream[..];
    for end in [100, 300] {
        let Ok(Some(Packet::Publish(publish))) = framer.next_packet(&mut input) else { panic!() };
        assert_eq!(publish.payload.as_ptr_range().end, stream[..end].as_ptr_range().end);
    }
    assert!(input.is_empty());
}

/// After a packet in pieces, the next whole one is borrowed again.
#[test]
fn a_gathered_packet_leaves_the_rest_of_the_piece() {
    let (first, second) = (publish(100), publish(50));
    let tail = [&first[60..], &second[..]].concat();
    let mut framer = Framer::new(Decoder::new());
    assert_eq!(framer.next_packet(&mut &first[..60]), Ok(None));
    assert!(framer.is_mid_packet());
    let mut input = &tail[..];
    let Ok(Some(Packet::Publish(gathered))) = framer.next_packet(&mut input) else { panic!() };
    assert_eq!(gathered.payload.len(), 95);
    assert_eq!(input, &second[..], "took bytes of the next packet");
    let Ok(Some(Packet::Publish(borrowed))) = framer.next_packet(&mut input) else { panic!() };
    assert_eq!(borrowed.payload.as_ptr_range().end, tail.as_ptr_range().end);
}

/// The size limit holds for the whole packet, and falls with the fixed header: not a byte of the body
/// is waited for.
#[test]
fn too_large_is_refused_with_the_fixed_header() {
    let decoder = Decoder::new().max_packet_size(1000);
    let packet = publish(1000);
    assert!(matches!(Framer::new(decoder).next_packet(&mut &packet[..]), Ok(Some(_))));
    for size in [1001, 70_000, 3_000_000] {
        let kind = DecodeErrorKind::PacketTooLarge { size, limit: 1000 };
        let packet = publish(usize::try_from(size).unwrap());
        let header = 1 + packet[1..].iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let mut framer = Framer::new(decoder);
        assert_eq!(framer.next_packet(&mut &packet[..header - 1]), Ok(None), "{size}");
        let error = framer.next_packet(&mut &packet[header - 1..header]).unwrap_err();
        assert_eq!((error.kind(), error.packet_type()), (kind, Some(PacketType::Publish)));
        assert_eq!(decoder.decode(&packet[..header]).unwrap_err().kind(), kind);
    }
}

/// What follows an error on a stream has no meaning, so the framer does not look at it.
#[test]
fn a_failed_framer_stays_failed() {
    for bytes in ["f0", "40 02 00 00", "30 03 00 01 2b"] {
        for size in 1..=5 {
            let bytes = hex(bytes);
            let mut framer = Framer::new(Decoder::new());
            let failed = bytes.chunks(size).find_map(|mut p| framer.next_packet(&mut p).err());
            let error = failed.unwrap();
            assert!(!framer.is_mid_packet());
            assert_eq!(framer.next_packet(&mut &hex("d0 00")[..]), Err(error));
            assert_eq!(framer.next_packet(&mut &[][..]), Err(error));
            assert!(framer.unfilled().is_empty());
        }
    }
}

/// The end of the stream within a packet can be told from the end between two.
#[test]
fn mid_packet_is_known_from_the_first_byte_to_the_last() {
    let bytes = hex("40 02 00 07");
    let mut framer = Framer::new(Decoder::new());
    assert!(!framer.is_mid_packet());
    for byte in bytes[..3].chunks(1) {
        assert_eq!(framer.next_packet(&mut &byte[..]), Ok(None));
        assert!(framer.is_mid_packet());
    }
    assert!(framer.next_packet(&mut &bytes[3..]).unwrap().is_some());
    assert!(!framer.is_mid_packet());
    assert_eq!(framer.next_packet(&mut &[][..]), Ok(None), "no packet twice");
}

/// A reader that puts bytes where they are to go has them copied nowhere, cannot overrun, and may take
/// turns with bytes that are handed over.
#[test]
fn bytes_may_be_read_into_place() {
    let packet = publish(5000);
    let mut framer = Framer::new(Decoder::new());
    assert_eq!(framer.next_packet(&mut &packet[..1000]), Ok(None));
    for piece in [&packet[1000..4000], &packet[4000..]] {
        framer.unfilled()[..piece.len()].copy_from_slice(piece);
        assert_eq!(framer.next_packet(&mut &[][..]), Ok(None), "counted too early");
        framer.advance(piece.len());
    }
    let place = framer.unfilled().as_ptr();
    let Ok(Some(Packet::Publish(publish))) = framer.next_packet(&mut &[][..]) else { panic!() };
    assert!(publish.payload == [7; 4994]);
    assert_eq!(publish.payload.as_ptr_range().end, place, "copied");
    let room = framer.unfilled().len();
    framer.unfilled().fill(0x30);
    framer.advance(room + 1);
    let mut taken = 0;
    while let Ok(None) = framer.next_packet(&mut &[0x30][..]) {
        taken += 1;
        assert!(taken < 100, "took bytes of a packet for ever");
    }
}

/// Several packets in one read come out one by one, in order, and before what is handed over.
#[test]
fn packets_read_in_together_come_in_order() {
    let sizes = [5, 200, 17_000, 9, 700, 40_000, 6];
    let stream: Vec<u8> = sizes.into_iter().flat_map(publish).collect();
    for read in [1, 2, 3, 1000, 16_000] {
        let (mut framer, mut seen, mut rest) =
            (Framer::new(Decoder::new()), Vec::new(), &stream[..]);
        // The last eight bytes are handed over.
        while rest.len() > 8 {
            let room = framer.unfilled();
            let count = read.min(room.len()).min(rest.len() - 8);
            room[..count].copy_from_slice(&rest[..count]);
            framer.advance(count);
            rest = &rest[count..];
            while let Some(Packet::Publish(p)) = framer.next_packet(&mut &[][..]).unwrap() {
                seen.push(p.payload.len());
            }
        }
        while let Some(Packet::Publish(p)) = framer.next_packet(&mut rest).unwrap() {
            seen.push(p.payload.len());
        }
        let expected = sizes.map(|size| size - publish_overhead(size));
        assert_eq!(seen, expected, "{read}");
        assert!(!framer.is_mid_packet());
    }
}

/// Who reads on, or tries to, before taking what is whole loses nothing, though it is moved meanwhile.
#[test]
fn a_reader_may_read_on_before_it_takes_packets() {
    let stream: Vec<u8> = [9, 200, 17_000, 700].into_iter().flat_map(publish).collect();
    let ends = [9, 209, 17_209, 17_909];
    // Up to where is read before packets are taken: when one is begun, and when it, or more, is whole.
    for stops in [[29, 209], [29, 213], [300, 17_209], [300, 17_909], [17_300, 17_909]] {
        let (mut framer, mut read, mut taken) = (Framer::new(Decoder::new()), 0, 0);
        for stop in stops {
            while read < stop {
                let room = framer.unfilled();
                let count = room.len().min(stop - read);
                room[..count].copy_from_slice(&stream[read..read + count]);
                framer.advance(count);
                read += count;
            }
            framer.unfilled();
            while framer.next_packet(&mut &[][..]).unwrap().is_some() {
                taken += 1;
            }
            assert_eq!(taken, ends.iter().filter(|end| **end <= stop).count(), "{stops:?}");
        }
    }
}

fn publish_overhead(size: usize) -> usize {
    3 + match size {
        0..130 => 2,
        130..16_387 => 3,
        _ => 4,
    }
}

/// A reader is offered no more memory than a packet may have, and always some.
#[test]
fn room_is_bounded_by_the_size_of_a_packet() {
    for (limit, expected) in [(0, 2), (1000, 1000), (1 << 20, 16 * 1024)] {
        let mut framer = Framer::new(Decoder::new().max_packet_size(limit));
        assert_eq!(framer.unfilled().len(), expected);
    }
}

/// The memory of one very large packet is not held for ever.
#[test]
fn memory_of_an_unusually_large_packet_is_given_back() {
    let mut framer = Framer::new(Decoder::new());
    let mut gather = |size: usize| {
        let packet = publish(size);
        let (first, second) = packet.split_at(size / 2);
        let info = allocation_counter::measure(|| {
            assert_eq!(framer.next_packet(&mut &first[..]), Ok(None));
            assert!(framer.next_packet(&mut &second[..]).unwrap().is_some());
        });
        info.bytes_current
    };
    let held = gather(1_000_000);
    assert!((1_000_000..1_100_000).contains(&held), "{held}");
    assert_eq!(gather(1_000_000), 0, "kept for the next");
    let given_back: i64 = (0..50).map(|_| gather(1000)).sum();
    let kept = held + given_back;
    assert!(kept <= 32 * 1024, "{kept}");
}

/// A claim costs what follows it, not what it says: five bytes do not have 256 MB filled with zeroes.
#[test]
fn a_large_claim_is_not_believed_before_its_bytes_arrive() {
    let mut framer = Framer::new(Decoder::new());
    assert_eq!(framer.next_packet(&mut &hex("30 ff ff ff 7f")[..]), Ok(None));
    let mut there = 5;
    while there < 1_000_000 {
        let room = framer.unfilled().len();
        assert!((1..=there.max(16 * 1024)).contains(&room), "{room} bytes after {there}");
        framer.advance(room);
        there += room;
    }
    // The same without reading into place.
    let mut framer = Framer::new(Decoder::new());
    let claim = [&hex("30 ff ff ff 7f 0001 74")[..], &vec![7; 100_000]].concat();
    assert_eq!(framer.next_packet(&mut &claim[..]), Ok(None));
    assert!((1..=claim.len()).contains(&framer.unfilled().len()));
}

/// What a framer has gathered may hold a password.
#[test]
fn secrets_and_buffers_do_not_show_in_debug() {
    let mut framer = Framer::new(Decoder::new());
    let bytes = hex("10 12 00 04 4d515454 04 c2 003c 0001 64 0001");
    assert_eq!(framer.next_packet(&mut &bytes[..]), Ok(None));
    let debug = format!("{framer:?}");
    assert!(debug.contains("mid packet") && !debug.contains("77, 81"), "{debug}");
}
