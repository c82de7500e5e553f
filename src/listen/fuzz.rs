//! Fuzz targets for the client addresses that proxies report, checked against a second reader.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};

use super::proxy::{self, Header, Source};
use super::{Peer, Trusted};

/// How many bytes of an incomplete header are given one by one.
const SOME: usize = 300;

/// A PROXY header: the result does not depend on how it arrives or what follows, and equals that of the second
/// reader.
pub(crate) fn proxy(bytes: &[u8]) {
    let found = proxy::parse(bytes);
    let end = match found {
        Header::Whole(_, end) => end,
        Header::Incomplete | Header::Wrong(_) => bytes.len().min(SOME),
    };
    let come: Vec<Header> = (0..end).map(|come| proxy::parse(&bytes[..come])).collect();
    match found {
        Header::Incomplete => assert!(come.iter().all(|header| *header == Header::Incomplete)),
        Header::Wrong(why) => {
            assert!(!why.is_empty());
            let at = come.iter().position(|header| *header != Header::Incomplete).unwrap_or(end);
            assert!(come[at..].iter().all(|header| matches!(header, Header::Wrong(_))), "once wrong, always wrong");
        }
        Header::Whole(source, end) => {
            assert!(come.iter().all(|header| *header == Header::Incomplete), "it ends in one place");
            let header = &bytes[..end];
            for more in [&b""[..], b"\r\n", b"PROXY UNKNOWN\r\n", b"\0"] {
                assert_eq!(proxy::parse(&[header, more].concat()), Header::Whole(source, end), "what follows matters");
            }
            assert_eq!(second_reading(header), source);
        }
    }
}

/// The client that a correct header reports.
fn second_reading(header: &[u8]) -> Source {
    if header.starts_with(b"PROXY ") {
        assert!(header.len() <= 107);
        // The text after UNKNOWN need not be UTF-8.
        let line = String::from_utf8_lossy(header);
        let line = line.strip_suffix("\r\n").expect("a line");
        assert!(!line.contains("\r\n"));
        let words: Vec<&str> = line.split(' ').collect();
        let [_, family, from, to, from_port, to_port] = words[..] else { return unknown(words[1]) };
        let client = match family {
            "TCP4" => ip::<Ipv4Addr>(from, to),
            "TCP6" => ip::<Ipv6Addr>(from, to).to_canonical(),
            family => return unknown(family),
        };
        for port in [from_port, to_port] {
            assert_eq!(port.parse::<u16>().expect("a port").to_string(), port);
        }
        return Source::Client(client);
    }
    let (command, family, body) = (header[12], header[13], &header[16..]);
    assert_eq!(header[..12], *b"\r\n\r\n\0\r\nQUIT\n");
    assert_eq!(body.len(), usize::from(header[14]) << 8 | usize::from(header[15]));
    match (command, family) {
        (0x21, 0x11) => Source::Client(IpAddr::from(<[u8; 4]>::try_from(&body[..4]).expect("four bytes"))),
        (0x21, 0x21) => {
            Source::Client(IpAddr::from(<[u8; 16]>::try_from(&body[..16]).expect("sixteen bytes")).to_canonical())
        }
        (0x20, _) | (0x21, 0x00 | 0x31) => Source::Proxy,
        _ => panic!("command {command:#x}, family {family:#x}"),
    }
}

fn unknown(family: &str) -> Source {
    assert_eq!(family, "UNKNOWN");
    Source::Proxy
}

fn ip<A: std::str::FromStr + Into<IpAddr>>(from: &str, to: &str) -> IpAddr {
    assert!(to.parse::<A>().is_ok());
    from.parse::<A>().ok().expect("an address").into()
}

/// `X-Forwarded-For`, each line of the input a field of its own. The first byte says whether the sender is trusted.
pub(crate) fn forwarded(bytes: &[u8]) {
    let Some((first, lines)) = bytes.split_first() else { return };
    let networks = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().expect("a network")).to_vec();
    let trusted = Arc::new(Trusted { networks, unix: first & 4 != 0 });
    let own = [Some("10.0.0.1"), Some("192.0.2.9"), Some("::ffff:10.0.0.1"), None][usize::from(first & 3)];
    let own: Option<IpAddr> = own.map(|own| own.parse().expect("an address"));
    let peer = Peer::new(own, first & 8 != 0, &trusted);
    let own = own.map(|own| own.to_canonical());
    assert_eq!((peer.address(), peer.is_trusted()), (own, trusted.holds(own)));

    let lines: Vec<HeaderValue> =
        lines.split(|b| *b == b'\n').filter_map(|b| HeaderValue::from_bytes(b).ok()).collect();
    let headers: HeaderMap =
        lines.iter().map(|line| (http::HeaderName::from_static("x-forwarded-for"), line.clone())).collect();
    let client = peer.client_of(&headers);
    assert_eq!(client.scheme(), if first & 8 != 0 { "https" } else { "http" });
    assert_eq!(client.came_by_trusted_proxy(), trusted.holds(own));
    let expected = if trusted.holds(own) { told(&lines, &trusted, own) } else { own };
    assert_eq!(client.address(), expected, "{lines:?}");
    assert_eq!(client.as_str(), expected.map_or("unix".to_owned(), |address| address.to_string()));
}

/// The rightmost address that is not trusted, or else the leftmost; `own` if an entry to the right of it is
/// unreadable.
fn told(lines: &[HeaderValue], trusted: &Trusted, own: Option<IpAddr>) -> Option<IpAddr> {
    let entries: Vec<Option<IpAddr>> = lines
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(|entry| std::str::from_utf8(entry).ok().and_then(address))
        .collect();
    let stop = entries.iter().rposition(|entry| entry.is_none_or(|entry| !trusted.holds(Some(entry))));
    match stop.or(if entries.is_empty() { None } else { Some(0) }) {
        None => own,
        Some(at) => entries[at].or(own),
    }
}

fn address(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim_matches([' ', '\t']);
    // A scope has a meaning only on its own machine.
    if entry.contains('%') {
        return None;
    }
    let bracketed = || entry.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::from);
    let with_port = || entry.parse::<SocketAddr>().ok().map(|address| address.ip());
    let address = entry.parse::<IpAddr>().ok().or_else(bracketed).or_else(with_port);
    address.map(|address| address.to_canonical())
}
