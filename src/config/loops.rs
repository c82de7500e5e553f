//! Finds upstream servers that are this gateway itself: each request would be forwarded to itself forever.

use std::net::IpAddr;

use super::places::is_same_socket;
use crate::listen::{ListenAddress, ListenerSettings};
use crate::net::Authority;
use crate::upstream;

/// The first server that is one of these listeners, and that listener.
pub(super) fn own_listener<'c>(
    servers: &'c [upstream::ServerAddress],
    listeners: &'c [ListenerSettings],
) -> Option<(usize, &'c ListenAddress)> {
    servers.iter().enumerate().find_map(|(number, server)| {
        let own = listeners.iter().map(|listener| &listener.address).find(|address| is_same(server, address))?;
        Some((number, own))
    })
}

fn is_same(server: &upstream::ServerAddress, address: &ListenAddress) -> bool {
    match (server, address) {
        (upstream::ServerAddress::Unix(path), ListenAddress::Unix(socket)) => is_same_socket(path, socket),
        (upstream::ServerAddress::Network { at, .. }, ListenAddress::Tcp(listener)) => {
            at.port() == listener.port() && listener.port() != 0 && leads_to(at, listener.ip())
        }
        (upstream::ServerAddress::Unix(_), ListenAddress::Tcp(_))
        | (upstream::ServerAddress::Network { .. }, ListenAddress::Unix(_))
        | (_, ListenAddress::Passed(_)) => false,
    }
}

/// Whether a connection to this host reaches a listener with this address on the same machine.
fn leads_to(at: &Authority, listener: IpAddr) -> bool {
    let name = at.host().strip_suffix('.').unwrap_or(at.host());
    let host = match at.address() {
        Some(address) => address.to_canonical(),
        None if name.eq_ignore_ascii_case("localhost") => {
            return listener.is_loopback() || listener.is_unspecified();
        }
        None => return false,
    };
    // Connecting to the unspecified address connects to this machine.
    let local = host.is_loopback() || host.is_unspecified();
    let listener = listener.to_canonical();
    host == listener || local && listener.is_unspecified() || host.is_unspecified() && listener.is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_matched_with_the_listeners_that_it_reaches() {
        let leads =
            |host: &str, listener: &str| leads_to(&Authority::new(host, 80).unwrap(), listener.parse().unwrap());
        for (host, listener) in [
            ("127.0.0.1", "127.0.0.1"),
            ("127.0.0.1", "0.0.0.0"),
            ("127.9.9.9", "0.0.0.0"),
            ("127.0.0.1", "::"),
            ("::1", "::"),
            ("::ffff:127.0.0.1", "127.0.0.1"),
            ("0.0.0.0", "127.0.0.1"),
            ("192.0.2.1", "192.0.2.1"),
            ("localhost", "127.0.0.1"),
            ("LOCALHOST", "::"),
            ("localhost.", "::"),
        ] {
            assert!(leads(host, listener), "{host} {listener}");
        }
        for (host, listener) in [
            ("127.0.0.1", "127.0.0.2"),
            ("192.0.2.1", "127.0.0.1"),
            ("crm.internal", "0.0.0.0"),
            ("localhost", "192.0.2.1"),
        ] {
            assert!(!leads(host, listener), "{host} {listener}");
        }
    }
}
