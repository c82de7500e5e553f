use std::fmt;
use std::net::IpAddr;

/// Who sent a message, as far as the connection and trusted proxies tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The address; none for a client on a Unix socket of whom no trusted proxy tells. An IPv4
    /// client of a dual-stack socket is an IPv4 client.
    pub address: Option<IpAddr>,
    /// Whether the message came over TLS that ended here.
    pub https: bool,
}

impl Client {
    /// The scheme it used, as `X-Forwarded-Proto` tells it.
    pub fn scheme(self) -> &'static str {
        if self.https { "https" } else { "http" }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => address.fmt(f),
            None => f.write_str("unix"),
        }
    }
}
