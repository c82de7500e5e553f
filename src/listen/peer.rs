use std::net::IpAddr;
use std::sync::Arc;

use http::header::{HeaderMap, HeaderName};

use crate::gate::Client;
use crate::policy::Network;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Whose word about a client's address is taken. Nobody's, unless it is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trusted {
    /// The proxies' addresses.
    pub networks: Vec<Network>,
    /// Whoever may connect to the Unix socket.
    pub unix: bool,
}

impl Trusted {
    /// Whether the word of whoever sends from here is taken. No address is a Unix socket's.
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
pub struct Peer {
    client: Client,
    /// Whose word is taken, if the other side is such a one.
    trusted: Option<Arc<Trusted>>,
}

impl Peer {
    /// The other side is at `address`: the connection's own, or what a PROXY header told.
    pub fn new(address: Option<IpAddr>, https: bool, trusted: &Arc<Trusted>) -> Self {
        let address = address.map(|address| address.to_canonical());
        let trusted = trusted.holds(address).then(|| trusted.clone());
        Self { client: Client::new(address, https), trusted }
    }

    /// Whether its word about others is taken.
    pub fn is_trusted(&self) -> bool {
        self.trusted.is_some()
    }

    /// Its own address.
    pub fn address(&self) -> Option<IpAddr> {
        self.client.address()
    }

    /// Who sent a message that came on this connection.
    ///
    /// Where the other side is trusted it is the rightmost address of `X-Forwarded-For` that is
    /// not: whatever stands left of that was the client's to write. If all are trusted it is the
    /// leftmost. A list that cannot be read tells nothing, and the proxy itself counts as the
    /// client.
    pub fn client_of(&self, headers: &HeaderMap) -> Client {
        let Some(trusted) = &self.trusted else { return self.client };
        let mut told = self.client.address();
        for line in headers.get_all(X_FORWARDED_FOR).iter().rev() {
            let Ok(line) = line.to_str() else { return self.client };
            for entry in line.rsplit(',') {
                let Some(address) = address(entry.trim_matches([' ', '\t'])) else { return self.client };
                told = Some(address);
                if !trusted.holds(told) {
                    return self.client.at(told);
                }
            }
        }
        self.client.at(told)
    }
}

/// An address, with or without a port: there are proxies that write one.
fn address(entry: &str) -> Option<IpAddr> {
    let address = match entry.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            let port = port.strip_prefix(':').unwrap_or(port);
            if !port.is_empty() {
                port.parse::<u16>().ok()?;
            }
            IpAddr::V6(address.parse().ok()?)
        }
        None => match entry.split_once(':') {
            Some((address, port)) if !port.contains(':') => {
                port.parse::<u16>().ok()?;
                IpAddr::V4(address.parse().ok()?)
            }
            _ => entry.parse().ok()?,
        },
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_the_rightmost_that_is_not_trusted() {
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
            ("10.0.0.1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("10.0.0.1", &["[2001:db8::1]"], "2001:db8::1"),
            ("10.0.0.1", &["2001:db8::1"], "2001:db8::1"),
            ("10.0.0.1", &["::ffff:192.0.2.1"], "192.0.2.1"),
            ("fd00::7", &["2001:db8::1, ::ffff:10.1.1.1"], "2001:db8::1"),
        ];
        for (peer, lines, client) in rows {
            let peer = Peer::new(Some(peer.parse().unwrap()), false, &trusted);
            let lines = lines.iter().map(|line| (X_FORWARDED_FOR, line.parse().unwrap()));
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
