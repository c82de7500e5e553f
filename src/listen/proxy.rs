//! The PROXY protocol, versions 1 and 2: a header at the start of a connection in which a proxy reports the client's address.
//!
//! Exactly the bytes of the header are consumed; everything after them is the client's. A malformed header closes the
//! connection, because the header decides the client's address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The signature of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, including its line end, in bytes.
const MAX_LINE: usize = 107;
/// The longest body of version 2, in bytes. Everything after the addresses is skipped; a client's certificates fit.
const MAX_BODY: usize = 16 << 10;

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// This client.
    Client(IpAddr),
    /// The proxy itself, or a client without an address.
    Proxy,
}

/// What the first bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// The beginning of a header.
    Incomplete,
    /// A whole header: whose connection it is, and the length of the header in bytes.
    Whole(Source, usize),
    /// A malformed header, and what is wrong with it.
    Wrong(&'static str),
}

pub(super) fn parse(bytes: &[u8]) -> Header {
    let begins = |mark: &[u8]| bytes.iter().zip(mark).all(|(byte, mark)| byte == mark);
    if begins(SIGNATURE) {
        return if bytes.len() < 16 { Header::Incomplete } else { binary(bytes) };
    }
    if begins(b"PROXY ") {
        return if bytes.len() < 6 { Header::Incomplete } else { line(bytes) };
    }
    Header::Wrong("no PROXY header")
}

fn line(bytes: &[u8]) -> Header {
    let looked_at = &bytes[..bytes.len().min(MAX_LINE)];
    let Some(end) = looked_at.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < MAX_LINE { Header::Incomplete } else { Header::Wrong("the line does not end") };
    };
    let content = &bytes[6..end];
    // The rest of the line must be ignored and need not be text.
    if content == b"UNKNOWN" || content.starts_with(b"UNKNOWN ") {
        return Header::Whole(Source::Proxy, end + 2);
    }
    let Ok(text) = std::str::from_utf8(content) else { return Header::Wrong("the line is no text") };
    let source = match text.split(' ').collect::<Vec<_>>()[..] {
        ["TCP4", from, to, from_port, to_port] => tcp::<Ipv4Addr>(from, to, from_port, to_port),
        ["TCP6", from, to, from_port, to_port] => tcp::<Ipv6Addr>(from, to, from_port, to_port),
        _ => None,
    };
    source.map_or(Header::Wrong("the line is malformed"), |source| Header::Whole(source, end + 2))
}

fn tcp<A: std::str::FromStr + Into<IpAddr>>(from: &str, to: &str, from_port: &str, to_port: &str) -> Option<Source> {
    to.parse::<A>().ok()?;
    port(from_port)?;
    port(to_port)?;
    Some(Source::Client(from.parse::<A>().ok()?.into().to_canonical()))
}

fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

fn binary(bytes: &[u8]) -> Header {
    let (command, family) = (bytes[12], bytes[13]);
    let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if command & 0xF0 != 0x20 {
        return Header::Wrong("neither version 1 nor 2");
    }
    if length > MAX_BODY {
        return Header::Wrong("the header is too long");
    }
    let Some(body) = bytes.get(16..16 + length) else { return Header::Incomplete };
    let source = match (command & 0x0F, family) {
        // LOCAL: a health check of the proxy.
        (0, _) => Some(Source::Proxy),
        (1, 0x11) => body.first_chunk::<12>().map(|b| Source::Client(Ipv4Addr::new(b[0], b[1], b[2], b[3]).into())),
        (1, 0x21) => body.first_chunk::<36>().and_then(|b| {
            let address = b.first_chunk::<16>()?;
            Some(Source::Client(IpAddr::from(*address).to_canonical()))
        }),
        (1, 0x31) if body.len() >= 216 => Some(Source::Proxy),
        (1, 0x00) => Some(Source::Proxy),
        _ => None,
    };
    source.map_or(Header::Wrong("an unknown command or address"), |source| Header::Whole(source, 16 + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([0x20 | command, family]);
        bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn exactly_the_header_is_consumed_in_pieces_of_any_size() {
        let client = |text: &str| Source::Client(text.parse().unwrap());
        let six: Vec<u8> = [0xfd; 16].into_iter().chain([0; 20]).collect();
        let with_more = [&[192, 0, 2, 7, 10, 0, 0, 1, 0, 80, 1, 187][..], &[0xEE, 0, 2, 9, 9]].concat();
        for (header, source) in [
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n".to_vec(), client("192.0.2.7")),
            (b"PROXY TCP6 2001:db8::7 ::1 1 65535\r\n".to_vec(), client("2001:db8::7")),
            (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n".to_vec(), client("192.0.2.7")),
            (b"PROXY UNKNOWN\r\n".to_vec(), Source::Proxy),
            (b"PROXY UNKNOWN ffff:f anything 1 2\r\n".to_vec(), Source::Proxy),
            (b"PROXY UNKNOWN \xff\xfe 1 2\r\n".to_vec(), Source::Proxy),
            (v2(1, 0x11, &with_more), client("192.0.2.7")),
            (
                v2(1, 0x11, &[&[192, 0, 2, 7, 10, 0, 0, 1, 0, 80, 1, 187][..], &[0xEE; MAX_BODY - 12]].concat()),
                client("192.0.2.7"),
            ),
            (v2(1, 0x21, &six), client("fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd")),
            (v2(1, 0x31, &[0; 216]), Source::Proxy),
            (v2(1, 0, &[]), Source::Proxy),
            (v2(0, 0, &[]), Source::Proxy),
            (v2(0, 0x11, &[1; 12]), Source::Proxy),
        ] {
            for come in 0..header.len() {
                assert_eq!(parse(&header[..come]), Header::Incomplete, "{come} of {header:?}");
            }
            let followed = [&header[..], b"PROXY UNKNOWN\r\nGET /"].concat();
            assert_eq!(parse(&followed), Header::Whole(source, header.len()), "{header:?}");
        }
    }

    #[test]
    fn malformed_headers_are_refused() {
        let mut of_version_1 = v2(1, 0x11, &[1; 12]);
        of_version_1[12] = 0x11;
        let long = format!("PROXY UNKNOWN {}", "x".repeat(MAX_LINE));
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"\r\n\r\nGET",
            b"PROXY\r\n",
            b"proxy TCP4 192.0.2.7 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 1\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2 3\r\n",
            b"PROXY TCP4  192.0.2.7 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 192.0.2.256 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP6 192.0.2.7 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 1 65536\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 +1 2\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 01 2\r\n",
            b"PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 192.0.2.7\n10.0.0.1 1 2\r\n",
            b"PROXY \xff\r\n",
            b"PROXY UNKNOWN\xff\r\n",
            long.as_bytes(),
            &of_version_1,
            &v2(2, 0x11, &[1; 12]),
            &v2(1, 0x12, &[1; 12]),
            &v2(1, 0x11, &[1; 11]),
            &v2(1, 0x21, &[1; 35]),
            &v2(1, 0x31, &[1; 215]),
            &v2(1, 0x00, &[0; MAX_BODY + 1])[..16],
        ] {
            assert!(matches!(parse(bytes), Header::Wrong(_)), "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
