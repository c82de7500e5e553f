//! HTTP/1.1 messages for both ends of the bench: a head, and a body with `Content-Length` or in chunks.

/// A complete message within the received bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct Message<'b> {
    /// The first line, without its end.
    pub start: &'b [u8],
    /// The body, without chunk sizes.
    pub body: Vec<u8>,
    /// Whether the sender closes the connection after it.
    pub close: bool,
    /// Its length in bytes.
    pub length: usize,
}

/// The first message in `received`; `None` while it is incomplete.
pub fn first(received: &[u8]) -> Option<Message<'_>> {
    let mut at = 0;
    let mut start: &[u8] = &[];
    let (mut length, mut chunked, mut close) = (0, false, false);
    loop {
        let end = at + received[at..].iter().position(|&byte| byte == b'\n')?;
        let line = received[at..end].strip_suffix(b"\r").unwrap_or(&received[at..end]);
        let first = at == 0;
        at = end + 1;
        if first {
            start = line;
            continue;
        }
        if line.is_empty() {
            break;
        }
        match line[0] | 0x20 {
            b'c' | b't' => {}
            _ => continue,
        }
        if let Some(value) = field(line, b"content-length:") {
            length = number(value, 10)?;
        } else if let Some(value) = field(line, b"transfer-encoding:") {
            chunked = value.eq_ignore_ascii_case(b"chunked");
        } else if let Some(value) = field(line, b"connection:") {
            close = value.eq_ignore_ascii_case(b"close");
        }
    }
    if chunked {
        let (body, taken) = chunks(&received[at..])?;
        return Some(Message { start, body, close, length: at + taken });
    }
    let body = received.get(at..at + length)?.to_vec();
    Some(Message { start, body, close, length: at + length })
}

/// The status in the first line of an answer; 0 if there is none.
pub fn status(start: &[u8]) -> u16 {
    start.get(9..12).and_then(|digits| number(digits, 10)).map_or(0, |status| status as u16)
}

fn field<'b>(line: &'b [u8], name: &[u8]) -> Option<&'b [u8]> {
    let (head, value) = line.split_at_checked(name.len())?;
    head.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

fn number(digits: &[u8], radix: u32) -> Option<usize> {
    usize::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()
}

fn chunks(mut rest: &[u8]) -> Option<(Vec<u8>, usize)> {
    let whole = rest.len();
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let size = number(&rest[..end], 16)?;
        rest = &rest[end + 2..];
        let data = rest.get(..size)?;
        body.extend_from_slice(data);
        if rest.get(size..size + 2)? != b"\r\n" {
            return None;
        }
        rest = &rest[size + 2..];
        if size == 0 {
            return Some((body, whole - rest.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_only_when_it_is_whole() {
        let texts: [(&[u8], &[u8]); 3] = [
            (b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 3\r\n\r\nabc", b"abc"),
            (b"HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", b"abc"),
            (b"DELETE /x HTTP/1.1\r\nHost: a\r\n\r\n", b""),
        ];
        for (text, body) in texts {
            for cut in 0..text.len() {
                assert_eq!(first(&text[..cut]), None, "{}", String::from_utf8_lossy(&text[..cut]));
            }
            let message = first(text).expect("whole");
            assert_eq!((message.body.as_slice(), message.length, message.close), (body, text.len(), false));
        }
        assert_eq!(status(b"HTTP/1.1 401 Unauthorized"), 401);
        assert!(first(b"HTTP/1.1 200 OK\r\nConnection: Close\r\n\r\n").expect("whole").close);
    }
}
