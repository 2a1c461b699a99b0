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

    /// The time and the text. What has no time is no line of a container's but the node's own words about why it can't
    /// read on: they come after what it could read.
    pub(super) fn parse(&self) -> Result<(DateTime<Utc>, String), String> {
        let space = self.bytes.iter().position(|&byte| byte == b' ');
        let (time, text) = self.bytes.split_at(space.unwrap_or(self.bytes.len()));
        let time = std::str::from_utf8(time).ok();
        match time.and_then(|time| DateTime::parse_from_rfc3339(time).ok()) {
            Some(time) => Ok((time.to_utc(), self.text(text.get(1..).unwrap_or_default()))),
            None => Err(self.text(&self.bytes)),
        }
    }

    fn text(&self, bytes: &[u8]) -> String {
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let mut text = String::from_utf8_lossy(bytes).into_owned();
        if self.cut > 0 {
            text.push_str(&format!(" … ({} bytes more)", self.cut));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(input: &[u8]) -> Vec<Result<String, String>> {
        let mut from = futures::io::BufReader::with_capacity(7, input);
        let mut lines = Vec::new();
        while let Some(line) = read(&mut from).await.unwrap() {
            lines.push(line.parse().map(|(_, text)| text));
        }
        lines
    }

    #[tokio::test]
    async fn lines_are_taken_apart() {
        let input = b"2026-11-21T08:09:52.123456789Z one two\n2026-11-21T08:09:52Z \r\n2026-11-21T08:09:52+02:00 \xff last words\nthe node's own words";
        let expected = [
            Ok("one two"),
            Ok(""),
            Ok("\u{fffd} last words"),
            Err("the node's own words"),
        ];
        let expected = expected.map(|line| line.map(str::to_owned).map_err(str::to_owned));
        assert_eq!(all(input).await, expected);
        assert_eq!(all(b"").await, []);
    }

    #[tokio::test]
    async fn a_long_line_is_cut_and_the_next_one_is_whole() {
        let input = [vec![b'x'; LONGEST + 5], b"\nnext\n".to_vec()].concat();
        let lines = all(&input).await;
        let long = lines[0].as_ref().unwrap_err();
        assert_eq!(long.len(), LONGEST + " … (5 bytes more)".len());
        assert!(long.ends_with("x … (5 bytes more)"));
        assert_eq!(lines[1], Err("next".to_owned()));
    }
}
