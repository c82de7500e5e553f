//! The other side of a connection, and who sent a request on it: `X-Forwarded-For` counts only from a trusted
//! proxy.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{HeaderMap, HeaderName};

use crate::net::{Client, Network};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Who may report the address of a client. Nobody, unless it is configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trusted {
    /// The proxies' addresses.
    pub networks: Vec<Network>,
    /// Everybody who may connect to the Unix socket.
    pub unix: bool,
}

impl Trusted {
    /// Whether a sender at this address is trusted. `None` means a Unix socket.
    pub fn holds(&self, address: Option<IpAddr>) -> bool {
        match address {
            Some(address) => self.networks.iter().any(|network| network.holds(address)),
            None => self.unix,
        }
    }

    /// Whether nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.unix
    }
}

/// The other side of a connection.
#[derive(Clone)]
pub(crate) struct Peer {
    client: Client,
    /// The trusted proxies, if the other side is one of them.
    trusted: Option<Arc<Trusted>>,
}

impl Peer {
    /// The other side at `address`: the address of the connection, or the one in its PROXY header.
    pub(crate) fn new(address: Option<IpAddr>, https: bool, trusted: &Arc<Trusted>) -> Self {
        let client = Client::new(address.map(|address| address.to_canonical()), https);
        Self { client, trusted: None }.judged_by(trusted)
    }

    /// The same peer, judged by another list of trusted proxies.
    pub(crate) fn judged_by(&self, trusted: &Arc<Trusted>) -> Self {
        let trusted = trusted.holds(self.address()).then(|| trusted.clone());
        Self { client: self.client.by_trusted_proxy(trusted.is_some()), trusted }
    }

    /// Whether it is a trusted proxy.
    pub(crate) fn is_trusted(&self) -> bool {
        self.trusted.is_some()
    }

    /// Its own address.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.client.address()
    }

    /// The client that sent a request on this connection.
    ///
    /// If the other side is trusted, this is the rightmost address in `X-Forwarded-For` that is not trusted: the client may
    /// have written everything to the left of it. If all addresses are trusted, it is the leftmost. If an entry to the right
    /// of that address is not an address, the list is ignored and the proxy itself counts as the client.
    pub(crate) fn client_of(&self, headers: &HeaderMap) -> Client {
        let Some(trusted) = &self.trusted else { return self.client };
        let mut client = self.client.address();
        for line in headers.get_all(X_FORWARDED_FOR).iter().rev() {
            for entry in line.as_bytes().rsplit(|byte| *byte == b',') {
                // An unreadable entry matters only here: one to the left of the result is never looked at.
                let entry = std::str::from_utf8(entry).ok().map(|entry| entry.trim_matches([' ', '\t']));
                let Some(address) = entry.and_then(address) else { return self.client };
                client = Some(address);
                if !trusted.holds(client) {
                    return self.client.at(client);
                }
            }
        }
        self.client.at(client)
    }
}

/// An address, with or without a port, since some proxies write one.
fn address(entry: &str) -> Option<IpAddr> {
    let (address, port) = match entry.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            (IpAddr::V6(address.parse().ok()?), port)
        }
        None => match entry.find(':') {
            Some(colon) if !entry[colon + 1..].contains(':') => {
                (IpAddr::V4(entry[..colon].parse().ok()?), &entry[colon..])
            }
            _ => (entry.parse().ok()?, ""),
        },
    };
    let is_port = |port: &str| port.bytes().all(|digit| digit.is_ascii_digit()) && port.parse::<u16>().is_ok();
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then(|| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_client_is_the_rightmost_untrusted_address() {
        let networks = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap()).to_vec();
        let trusted = Arc::new(Trusted { networks, unix: false });
        let rows: &[(&str, &[&str], &str)] = &[
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.1"], "192.0.2.1"),
            ("192.0.2.9", &["192.0.2.1"], "192.0.2.9"),
            ("::ffff:10.0.0.1", &["192.0.2.1"], "192.0.2.1"),
            ("10.0.0.1", &["198.51.100.1, 192.0.2.1"], "192.0.2.1"),
            ("10.0.0.1", &["198.51.100.1, 192.0.2.1 ,10.9.9.9"], "192.0.2.1"),
            ("10.0.0.1", &["198.51.100.1", "192.0.2.1, 10.9.9.9", "fd00::1"], "192.0.2.1"),
            ("10.0.0.1", &["10.1.1.1, 10.2.2.2"], "10.1.1.1"),
            ("10.0.0.1", &["garbage, 192.0.2.1"], "192.0.2.1"),
            ("10.0.0.1", &["192.0.2.1, garbage"], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.1, garbage, 10.2.2.2"], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.1,"], "10.0.0.1"),
            ("10.0.0.1", &[""], "10.0.0.1"),
            ("10.0.0.1", &["unknown"], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.1:4711"], "192.0.2.1"),
            ("10.0.0.1", &["192.0.2.1:port"], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.1:+80"], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.1:"], "10.0.0.1"),
            ("10.0.0.1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("10.0.0.1", &["[2001:db8::1]4711"], "10.0.0.1"),
            ("10.0.0.1", &["[2001:db8::1]:"], "10.0.0.1"),
            ("10.0.0.1", &["[2001:db8::1]"], "2001:db8::1"),
            ("10.0.0.1", &["2001:db8::1"], "2001:db8::1"),
            ("10.0.0.1", &["::ffff:192.0.2.1"], "192.0.2.1"),
            ("fd00::7", &["2001:db8::1, ::ffff:10.1.1.1"], "2001:db8::1"),
            ("10.0.0.1", &["\u{e9}, 192.0.2.1"], "192.0.2.1"),
            ("10.0.0.1", &["\u{e9}", "192.0.2.1, 10.9.9.9"], "192.0.2.1"),
            ("10.0.0.1", &["\u{e9}, 198.51.100.1, 192.0.2.1", "10.9.9.9"], "192.0.2.1"),
            ("10.0.0.1", &["192.0.2.1, \u{e9}"], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.1", "\u{e9}"], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.1\u{e9}"], "10.0.0.1"),
        ];
        for (peer, lines, client) in rows {
            let peer = Peer::new(Some(peer.parse().unwrap()), false, &trusted);
            // Latin-1 text: its non-ASCII bytes are not UTF-8.
            let latin = |line: &str| line.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect::<Vec<u8>>();
            let lines = lines.iter().map(|line| (X_FORWARDED_FOR, HeaderValue::from_bytes(&latin(line)).unwrap()));
            let judged = peer.client_of(&lines.collect::<HeaderMap>());
            assert_eq!(judged.to_string(), *client, "{client}");
        }
    }

    #[test]
    fn a_unix_socket_is_trusted_only_by_name() {
        let headers: HeaderMap = [(X_FORWARDED_FOR, "192.0.2.1".parse().unwrap())].into_iter().collect();
        for (unix, client) in [(false, "unix"), (true, "192.0.2.1")] {
            let peer = Peer::new(None, true, &Arc::new(Trusted { networks: Vec::new(), unix }));
            assert_eq!(peer.client_of(&headers).to_string(), client);
            assert_eq!(peer.client_of(&headers).scheme(), "https");
        }
    }
}
