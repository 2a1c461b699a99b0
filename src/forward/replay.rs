//! Whether what a client sent may be sent a second time, to another pod.

/// How much of what a client sends is kept for another pod, in bytes.
pub(super) const KEPT: usize = 64 * 1024;

/// Methods that RFC 9110 calls idempotent.
const IDEMPOTENT: [&str; 6] = ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"];

/// Whether `sent` is (the beginning of) one idempotent HTTP/1 request, and nothing else.
///
/// Nothing else is replayed: the pod may have acted on it before it died, and only HTTP says what may be done
/// twice. A second POST may charge twice; in any other protocol llmdev can't tell a query from a write.
pub(super) fn may_repeat(sent: &[u8]) -> bool {
    let method = sent.split(|&byte| byte == b' ').next().unwrap_or_default();
    if !IDEMPOTENT.iter().any(|known| known.as_bytes() == method) || method.len() == sent.len() {
        return false;
    }
    // Nobody acts on half a line.
    let Some(line_end) = sent.iter().position(|&byte| byte == b'\n') else {
        return true;
    };
    let version = std::str::from_utf8(&sent[..line_end])
        .ok()
        .and_then(|line| line.rsplit(' ').next());
    if !version.is_some_and(|version| version.starts_with("HTTP/1.") && version.ends_with('\r')) {
        return false;
    }
    match sent.windows(4).position(|window| window == b"\r\n\r\n") {
        // The head is still on its way: what follows goes straight to the next pod.
        None => true,
        Some(head) => body_length(&sent[..head]).is_some_and(|body| {
            // Beyond the request's end a pipelined one begins, which may be anything.
            sent.len() - (head + 4) <= body
        }),
    }
}

/// The body's length by the head's fields; none when only reading the body would tell.
fn body_length(fields: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(fields).ok()?;
    let mut length = 0;
    for line in text.lines() {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        if name.eq_ignore_ascii_case("transfer-encoding") || name.eq_ignore_ascii_case("upgrade") {
            return None;
        }
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_idempotent_request_is_repeated() {
        let table: &[(&[u8], bool)] = &[
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
            (b"DELETE /x HTTP/1.0\r\n\r\n", true),
            (b"PUT /x HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", true),
            (b"PUT /x HTTP/1.1\r\ncontent-length: 500\r\n\r\nhello", true),
            (b"HEAD / HTTP/1.1\r\nHost:", true),
            (b"", false),
            (b"GET / HT", true),
            (b"GET", false),
            (b"SET a b", false),
            (b"GET key\r\n", false),
            (b"GET /\r\n", false),
            (b"GET / HTTP/1.1\n\n", false),
            (b"POST / HTTP/1.1\r\n\r\n", false),
            (b"PATCH / HTTP/1.1\r\n\r\n", false),
            (b"GET / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\n\r\n", false),
            (
                b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
                false,
            ),
            (b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", false),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", false),
            (b"*1\r\n$4\r\nPING\r\n", false),
            (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", false),
        ];
        for (sent, may) in table {
            assert_eq!(
                may_repeat(sent),
                *may,
                "{:?}",
                String::from_utf8_lossy(sent)
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(sent: Vec<u8>) {
            may_repeat(&sent);
            may_repeat(&[b"GET / HTTP/1.1\r\n".as_slice(), &sent].concat());
        }
    }
}
