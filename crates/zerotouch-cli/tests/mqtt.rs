//! `zerotouch mqtt decode` as a person runs it, over the golden vectors of the codec: what it prints is read
//! by other programs, which hold it against those files member by member.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Map, Value};

const VALID: &str = include_str!("../../zerotouch-mqtt-codec/tests/vectors/valid.csv");
const MALFORMED: &str = include_str!("../../zerotouch-mqtt-codec/tests/vectors/malformed.csv");

/// The rows of a CSV file (RFC 4180, no line breaks in fields), without the heading.
fn rows<const N: usize>(csv: &str) -> Vec<[String; N]> {
    let row = |line: &str| {
        let mut fields = vec![String::new()];
        let (mut quoted, mut characters) = (false, line.chars().peekable());
        while let Some(character) = characters.next() {
            match character {
                '"' if quoted && characters.next_if_eq(&'"').is_some() => {
                    fields.last_mut().unwrap().push('"');
                }
                '"' => quoted = !quoted,
                ',' if !quoted => fields.push(String::new()),
                other => fields.last_mut().unwrap().push(other),
            }
        }
        fields.try_into().unwrap()
    };
    csv.lines().skip(1).map(row).collect()
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zerotouch"));
    command.args(["mqtt", "decode"]).args(arguments).stdin(Stdio::null());
    command
}

/// The exit code, the lines on standard output, and standard error.
fn outcome(output: Output) -> (i32, Vec<Map<String, Value>>, String) {
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (output.status.code().unwrap(), lines, String::from_utf8(output.stderr).unwrap())
}

fn decode(arguments: &[&str]) -> (i32, Vec<Map<String, Value>>, String) {
    outcome(command(arguments).output().unwrap())
}

fn from(direction: &str) -> &'static [&'static str] {
    match direction {
        "client->server" => &["--from", "client"],
        "server->client" => &["--from", "server"],
        "any" => &[],
        other => panic!("direction {other}"),
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

/// The rows of valid.csv, each as the lines that its bytes become: several packets each have their line,
/// and the direction on it.
fn meanings(json: &str) -> (String, Vec<Map<String, Value>>) {
    let mut meaning: Map<String, Value> = serde_json::from_str(json).unwrap();
    let direction = meaning["direction"].clone();
    let lines = match meaning.remove("packets") {
        None => vec![meaning],
        Some(packets) => {
            let with_direction = |packet: &Value| {
                let mut line = Map::from_iter([("direction".into(), direction.clone())]);
                line.extend(packet.as_object().unwrap().clone());
                line
            };
            packets.as_array().unwrap().iter().map(with_direction).collect()
        }
    };
    (direction.as_str().unwrap().into(), lines)
}

/// Every row, by `--hex` and by `--file`, gives its members, all of them, in the order of the file, and no
/// other; whoever may send it.
#[test]
fn every_valid_vector_is_printed_as_the_file_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("packets");
    let rows = rows::<3>(VALID);
    assert_eq!(rows.len(), 32, "the file was read whole");
    for [name, bytes, json] in rows {
        std::fs::write(&file, hex(&bytes)).unwrap();
        let (direction, mut expected) = meanings(&json);
        let senders = if direction == "any" {
            &["any", "client->server", "server->client"][..]
        } else {
            &[direction.as_str(), "any"]
        };
        for sender in senders {
            for line in &mut expected {
                line["direction"] = (*sender).into();
            }
            let sources = [["--hex", bytes.as_str()], ["--file", file.to_str().unwrap()]];
            for source in sources {
                let (code, lines, error) = decode(&[from(sender), &source].concat());
                assert_eq!((code, error.as_str()), (0, ""), "{name} {sender}");
                assert_eq!(lines, expected, "{name} {sender}");
                let keys = |lines: &[Map<String, Value>]| -> Vec<String> {
                    lines.iter().flat_map(|line| line.keys().cloned()).collect()
                };
                assert_eq!(keys(&lines), keys(&expected), "{name} {sender}: another order");
            }
        }
    }
}

/// Every row is refused, waited on or accepted as the file says; what is refused names a rule and the byte.
#[test]
fn every_malformed_vector_ends_with_its_code() {
    let rows = rows::<5>(MALFORMED);
    assert_eq!(rows.len(), 111, "the file was read whole");
    for [name, bytes, direction, expect, _] in rows {
        let (code, lines, error) = decode(&[from(&direction), &["--hex", &bytes]].concat());
        let expected = match expect.as_str() {
            "reject" => 65,
            "incomplete" => 66,
            "accept" => 0,
            other => panic!("{name}: {other}"),
        };
        assert_eq!(code, expected, "{name}: {error}");
        assert_eq!(lines.len(), usize::from(code == 0), "{name}");
        match code {
            65 => {
                assert!(error.starts_with("error: malformed "), "{name}: {error}");
                assert!(error.contains(" at byte "), "{name}: {error}");
                // Which rule it has to be, the codec's own tests see to.
                let line = error.lines().next().unwrap();
                assert!(line.ends_with(']') && line.contains(" ["), "{name}: {error}");
            }
            66 => assert!(error.contains("missing"), "{name}: {error}"),
            _ => assert_eq!(error, "", "{name}"),
        }
    }
}

/// Offsets count from the start of the input, whatever came before; and what came before is printed.
#[test]
fn offsets_are_those_of_the_whole_input() {
    let (code, lines, error) =
        decode(&["--from", "client", "--hex", "c000 40020009 100d00044d5154540442003c000164"]);
    assert_eq!(code, 65);
    let types: Vec<_> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["PINGREQ", "PUBACK"]);
    assert_eq!(
        error,
        "error: malformed CONNECT at byte 15 (byte 9 of the packet that begins at 6): a password \
         without a user name [MQTT-3.1.2-22]\n"
    );
    let (code, lines, error) = decode(&["--hex", "c000 300a000161"]);
    assert_eq!((code, lines.len()), (66, 1));
    assert_eq!(error, "error: incomplete PUBLISH at byte 2: at least 7 more bytes are missing\n");
    let (code, _, error) = decode(&["--hex", "c000 30"]);
    assert_eq!(code, 66);
    assert!(error.contains("at least 1 more byte is missing"), "{error}");
}

#[test]
fn hexadecimal_is_read_as_tools_print_it() {
    for text in ["c0 00\n", "C0:00", " c0\t0 0 ", "c000"] {
        let (code, lines, error) = decode(&["--hex", text]);
        assert_eq!((code, lines.len()), (0, 1), "{text:?}: {error}");
    }
    let missing = "no/such/file";
    for (arguments, words) in [
        (&["--hex", "c0 0g"][..], "'g' at position 4 is no hexadecimal digit"),
        (&["--hex", "0xc000"], "'x' at position 1"),
        (&["--hex", "c0 0"], "the digit at position 3 is only half a byte"),
        (&["--file", missing], "cannot read no/such/file"),
        (&["--file", "."], "cannot read ."),
        (&[], "--hex"),
        (&["--hex", "c000", "--file", missing], "cannot be used with"),
        (&["--from", "broker", "--hex", "c000"], "broker"),
    ] {
        let (code, lines, error) = decode(arguments);
        assert_eq!((code, lines.len()), (2, 0), "{arguments:?}: {error}");
        assert!(error.contains(words), "{arguments:?}: {error}");
    }
}

/// A line is there before the next packet is: for whoever looks on while a capture runs. Cut into pieces by
/// the pipe, packets stay whole.
#[test]
fn packets_on_standard_input_are_printed_as_they_arrive() {
    let mut child = command(&["--file", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    for (pieces, name) in
        [(&[&b"\xc0\x00\x40"[..]][..], "PINGREQ"), (&[b"\x02\x00", b"\x09"], "PUBACK")]
    {
        for piece in pieces {
            input.write_all(piece).unwrap();
        }
        line.clear();
        output.read_line(&mut line).unwrap();
        assert!(line.contains(&format!("\"type\":\"{name}\"")), "{line}");
    }
    input.write_all(b"\x00").unwrap();
    drop(input);
    let (code, _, error) = outcome(child.wait_with_output().unwrap());
    assert_eq!(code, 65, "{error}");
    assert!(error.contains("at byte 6 "), "{error}");
}

/// A reader that goes away early is no failure.
#[test]
fn a_closed_pipe_ends_it_quietly() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("packets");
    std::fs::write(&file, [0xC0, 0x00].repeat(100_000)).unwrap();
    let mut child = command(&["--file", file.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

/// Of a long input no more is held than the packet in hand: 24 MiB pass through a process that may have
/// less than that. And a packet that only claims to be large takes no room.
#[cfg(target_os = "linux")]
#[test]
fn memory_is_that_of_one_packet() {
    let directory = tempfile::tempdir().unwrap();
    let limited = |path: &Path| {
        let script = "ulimit -d 20480; exec \"$0\" mqtt decode --file \"$1\" | wc -l";
        let output = Command::new("sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_zerotouch")])
            .arg(path)
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        (String::from_utf8(output.stdout).unwrap().trim().parse::<usize>().unwrap(), error)
    };
    let file = directory.path().join("packets");
    let mut packet = vec![0x30, 0x80, 0x80, 0x40, 0x00, 0x01, b't'];
    packet.resize(4 + 1024 * 1024, b'x');
    std::fs::write(&file, packet.repeat(24)).unwrap();
    assert_eq!(limited(&file), (24, String::new()));
    std::fs::write(&file, [0x30, 0xFF, 0xFF, 0xFF, 0x7F, 0x00]).unwrap();
    let (lines, error) = limited(&file);
    assert_eq!(lines, 0);
    assert!(error.contains("incomplete PUBLISH at byte 0: at least 268435454"), "{error}");
}
