//! The answer to an HTTP/1.1 request, from the bytes of a connection that is closed behind it.

use crate::HttpsResponse as Response;
use zerotouch_device::{TransportFailure, TransportFailureKind as Kind};

/// The longest head and the longest body that are taken, in bytes: the services' answers are small.
const MAX_HEAD: usize = 16 * 1024;
const MAX_BODY: usize = 64 * 1024;
const MAX_HEADERS: usize = 64;

/// Takes bytes until they are an answer.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    bytes: Vec<u8>,
}

/// How long a body is (RFC 9112, section 6.3).
enum Length {
    Exactly(usize),
    Chunked,
    ToTheEnd,
}

impl Reader {
    pub(crate) fn handle_bytes(&mut self, bytes: &[u8]) {
        // One that is longer is refused with the next look at it.
        let room = (MAX_HEAD + 2 * MAX_BODY).saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// The answer, once it is there; `is_end` says that nothing follows.
    pub(crate) fn poll(&mut self, is_end: bool) -> Option<Result<Response, TransportFailure>> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Response::new(&mut headers);
        let begin = match head.parse(&self.bytes) {
            Err(error) => return Some(Err(no_http(&error.to_string()))),
            Ok(httparse::Status::Partial) => {
                let is_long = self.bytes.len() > MAX_HEAD;
                return is_long.then(|| Err(no_http("its head has no end")));
            }
            Ok(httparse::Status::Complete(length)) => length,
        };
        let status = head.code.unwrap_or_default();
        // "100 Continue" and its like come before the answer.
        if (100..200).contains(&status) {
            self.bytes.drain(..begin);
            return self.poll(is_end);
        }
        let length = match length(status, head.headers) {
            Ok(length) => length,
            Err(failure) => return Some(Err(failure)),
        };
        let bytes = &self.bytes[begin..];
        let body = match length {
            Length::Exactly(length) if length > MAX_BODY => Err(no_http("its body is too long")),
            Length::Exactly(length) => Ok(bytes.get(..length).map(<[u8]>::to_vec)),
            Length::ToTheEnd if bytes.len() > MAX_BODY => Err(no_http("its body is too long")),
            Length::ToTheEnd => Ok(is_end.then(|| bytes.to_vec())),
            Length::Chunked => join(bytes),
        };
        let date = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("date"));
        let date = date.map(|date| String::from_utf8_lossy(date.value).into_owned());
        Some(body.transpose()?.map(|body| Response { status, date, body }))
    }
}

fn length(status: u16, headers: &[httparse::Header<'_>]) -> Result<Length, TransportFailure> {
    if matches!(status, 204 | 304) {
        return Ok(Length::Exactly(0));
    }
    let mut length = Length::ToTheEnd;
    for header in headers {
        let value = String::from_utf8_lossy(header.value);
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            let is_chunked = value.trim().eq_ignore_ascii_case("chunked");
            return if is_chunked { Ok(Length::Chunked) } else { Err(no_http("its encoding")) };
        }
        if header.name.eq_ignore_ascii_case("content-length") {
            let number = value.trim().parse().map_err(|_| no_http("its length is none"))?;
            length = Length::Exactly(number);
        }
    }
    Ok(length)
}

/// A body in chunks, once the last is there.
fn join(mut bytes: &[u8]) -> Result<Option<Vec<u8>>, TransportFailure> {
    let mut body = Vec::new();
    loop {
        let (begin, size) = match httparse::parse_chunk_size(bytes) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(no_http("a chunk has no size")),
        };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size.saturating_add(body.len()) > MAX_BODY {
            return Err(no_http("its body is too long"));
        }
        // What may follow the last one, trailers and an empty line, is not waited for.
        if size == 0 {
            return Ok(Some(body));
        }
        let Some((chunk, behind)) = bytes[begin..].split_at_checked(size) else { return Ok(None) };
        body.extend_from_slice(chunk);
        bytes = match behind {
            [b'\r', b'\n', rest @ ..] => rest,
            [] | [b'\r'] => return Ok(None),
            _ => return Err(no_http("a chunk is longer than it says")),
        };
    }
}

fn no_http(what: &str) -> TransportFailure {
    TransportFailure::new(Kind::Broken, format!("the answer is no HTTP: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Byte by byte, so that every cut is tried.
    fn read(text: &str, closes: bool) -> Option<Result<Response, TransportFailure>> {
        let mut reader = Reader::default();
        for byte in text.as_bytes() {
            reader.handle_bytes(&[*byte]);
            if let Some(answer) = reader.poll(false) {
                return Some(answer);
            }
        }
        reader.poll(closes)
    }

    fn answer(text: &str, closes: bool) -> Option<(u16, String)> {
        read(text, closes).map(|answer| {
            let Response { status, body, .. } = answer.unwrap();
            (status, String::from_utf8(body).unwrap())
        })
    }

    // The ways in which a server may say where its answer ends.
    #[test]
    fn answers_end_where_they_say() {
        let expected = Some((200, "hello".to_owned()));
        assert_eq!(answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false), expected);
        let chunked =
            "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\n";
        assert_eq!(answer(chunked, false), expected);
        let to_the_end = "HTTP/1.0 200 OK\r\n\r\nhello";
        assert_eq!(answer(to_the_end, true), expected);
        assert_eq!(answer(to_the_end, false), None);
        assert_eq!(answer("HTTP/1.1 204 No Content\r\n\r\n", false), Some((204, String::new())));
        let patient =
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(answer(patient, false), Some((201, String::new())));
    }

    // A connection that ends early has not answered, and one that never ends is given up.
    #[test]
    fn what_is_no_answer_is_none() {
        let cut = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello";
        assert_eq!(answer(cut, true), None);
        for nonsense in [
            "SSH-2.0-OpenSSH\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 65537\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n",
        ] {
            assert!(read(nonsense, false).unwrap().is_err(), "{nonsense}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(MAX_HEAD));
        assert!(read(&endless, false).unwrap().is_err());
        let long = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(MAX_BODY + 1));
        assert!(read(&long, false).unwrap().is_err());
    }
}
