//! Lines as the node sends them: a time, a space, the text.

use std::io;

use chrono::{DateTime, Utc};
use futures::{AsyncBufRead, AsyncBufReadExt};

/// Bytes of a line that are kept.
const LONGEST: usize = 64 * 1024;

/// A line as it came, without its end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Raw {
    pub bytes: Vec<u8>,
    /// How many bytes are missing at its end.
    pub cut: usize,
}

/// Reads one line; none at the end. Bytes after the last line's end are a line too: a program's last words.
pub(super) async fn read(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Raw>> {
    let mut line = Raw::default();
    let mut any = false;
    loop {
        let chunk = from.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(any.then_some(line));
        }
        any = true;
        let end = chunk.iter().position(|&byte| byte == b'\n');
        line.push(&chunk[..end.unwrap_or(chunk.len())]);
        let used = end.map_or(chunk.len(), |end| end + 1);
        from.consume_unpin(used);
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

impl Raw {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let kept = bytes.len().min(LONGEST - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..kept]);
        self.cut += bytes.len() - kept;
    }

    /// The time and the text; no time in the node's own messages.
    pub(super) fn parse(&self) -> (Option<DateTime<Utc>>, String) {
        let space = self
            .bytes
            .iter()
            .position(|&byte| byte == b' ')
            .unwrap_or(self.bytes.len());
        let time = std::str::from_utf8(&self.bytes[..space]).ok();
        let time = time.and_then(|time| DateTime::parse_from_rfc3339(time).ok());
        let text = match time {
            Some(_) => self.bytes.get(space + 1..).unwrap_or_default(),
            None => &self.bytes,
        };
        let mut text =
            String::from_utf8_lossy(text.strip_suffix(b"\r").unwrap_or(text)).into_owned();
        if self.cut > 0 {
            text.push_str(&format!(" … ({} bytes more)", self.cut));
        }
        (time.map(|time| time.with_timezone(&Utc)), text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(input: &[u8]) -> Vec<(bool, String)> {
        let mut from = futures::io::BufReader::with_capacity(7, input);
        let mut lines = Vec::new();
        while let Some(line) = read(&mut from).await.unwrap() {
            let (time, text) = line.parse();
            lines.push((time.is_some(), text));
        }
        lines
    }

    #[tokio::test]
    async fn lines_are_taken_apart() {
        let input = b"2026-11-21T08:09:52.123456789Z one two\n2026-11-21T08:09:52Z \r\nno time\n2026-11-21T08:09:52+02:00 \xff last words";
        let expected = [
            (true, "one two"),
            (true, ""),
            (false, "no time"),
            (true, "\u{fffd} last words"),
        ];
        let expected: Vec<_> = expected.map(|(time, text)| (time, text.to_owned())).into();
        assert_eq!(all(input).await, expected);
        assert_eq!(all(b"").await, []);
    }

    #[tokio::test]
    async fn a_long_line_is_cut_and_the_next_one_is_whole() {
        let input = [vec![b'x'; LONGEST + 5], b"\nnext\n".to_vec()].concat();
        let lines = all(&input).await;
        assert_eq!(lines[0].1.len(), LONGEST + " … (5 bytes more)".len());
        assert!(lines[0].1.ends_with("x … (5 bytes more)"));
        assert_eq!(lines[1].1, "next");
    }
}
