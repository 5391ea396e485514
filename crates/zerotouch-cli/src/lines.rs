//! Lines of bounded length from whoever may write.

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// The longest line: a message of the largest size in Base64, and room for its properties.
const MAX_LINE_LEN: usize = 512 * 1024;

/// The line that was read, after which the next may be.
pub(crate) fn take(line: &mut Vec<u8>) -> Result<String, &'static str> {
    let taken = std::mem::take(line);
    if taken.len() > MAX_LINE_LEN {
        return Err("the line has more than 512 KiB");
    }
    String::from_utf8(taken).map_err(|_| "the line is no UTF-8")
}

/// Appends up to a line's end, or a little more than a line may have; the rest of it is passed over.
/// `false` at the end of the input. Cancel safe: what was read stays in `line`.
pub(crate) async fn read(
    input: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
) -> std::io::Result<bool> {
    loop {
        let room = MAX_LINE_LEN + 1 - line.len().min(MAX_LINE_LEN + 1);
        if room == 0 {
            let bytes = input.fill_buf().await?;
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let (length, ended) = (bytes.len(), bytes.is_empty());
            input.consume(end.map_or(length, |end| end + 1));
            if end.is_some() || ended {
                return Ok(true);
            }
            continue;
        }
        let read = (&mut *input).take(room as u64).read_until(b'\n', line).await?;
        if line.ends_with(b"\n") {
            line.pop();
            if line.ends_with(b"\r") {
                line.pop();
            }
            return Ok(true);
        }
        if read == 0 {
            // A last line without its end counts.
            return Ok(!line.is_empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::BufReader;

    async fn lines(input: &[u8]) -> Vec<Result<String, &'static str>> {
        let mut input = BufReader::with_capacity(100, input);
        let (mut line, mut lines) = (Vec::new(), Vec::new());
        while read(&mut input, &mut line).await.unwrap() {
            lines.push(take(&mut line));
        }
        lines
    }

    // Whoever writes without end must not fill the memory, and the next line must be read as what it is.
    #[tokio::test]
    async fn a_line_that_is_too_long_is_passed_over() {
        for excess in [1, 2, 5_000] {
            let long = "x".repeat(MAX_LINE_LEN + excess);
            let read = lines(format!("a\n{long}\nb\n").as_bytes()).await;
            assert_eq!(read[0].as_deref(), Ok("a"));
            assert!(read[1].is_err());
            assert_eq!(read[2].as_deref(), Ok("b"));
            assert_eq!(read.len(), 3, "{excess}");
        }
        let longest = "x".repeat(MAX_LINE_LEN);
        let read = lines(format!("{longest}\nb").as_bytes()).await;
        assert_eq!(read, [Ok(longest), Ok("b".into())]);
    }

    // A last line without its end counts, bytes that are no text are told, and empty input has no lines.
    #[tokio::test]
    async fn what_is_a_line() {
        assert_eq!(lines(b"").await, []);
        assert_eq!(lines(b"\n").await, [Ok(String::new())]);
        assert_eq!(lines(b"a\r\nb").await, [Ok("a".into()), Ok("b".into())]);
        assert_eq!(lines(b"\xff\na").await, [Err("the line is no UTF-8"), Ok("a".into())]);
    }
}
