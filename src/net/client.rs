//! Who sent a message.

use std::fmt::{self, Write};
use std::net::IpAddr;

/// Who sent a message, as far as the connection and trusted proxies report it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Client {
    address: Option<IpAddr>,
    https: bool,
    /// Whether the other side of the connection is one of `trusted_proxies`.
    by_trusted_proxy: bool,
    /// The address as text, formatted once for a connection and not for each of its messages.
    text: Text,
}

/// The text of an address; the longest, of an IPv6 address, has 45 bytes. The rest is zero: whole aligned blocks are
/// faster to check for UTF-8.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(align(8))]
struct Text {
    bytes: [u8; 48],
    len: u8,
}

impl Client {
    /// A client at `address`, or without one on a Unix socket where no trusted proxy reports an address. Pass an
    /// IPv4 address as IPv4, not mapped into IPv6. `https` is whether the message came over TLS that ended here.
    pub fn new(address: Option<IpAddr>, https: bool) -> Self {
        let mut text = Text { bytes: [0; 48], len: 0 };
        // Cannot fail: no address is longer than 45 bytes.
        let _ = match address {
            Some(address) => write!(text, "{address}"),
            None => text.write_str("unix"),
        };
        Self { address, https, by_trusted_proxy: false, text }
    }

    /// Sets whether the other side of the connection is one of `trusted_proxies`.
    #[must_use]
    pub fn by_trusted_proxy(self, by_trusted_proxy: bool) -> Self {
        Self { by_trusted_proxy, ..self }
    }

    /// The client at another address, which a trusted proxy reported.
    pub fn at(self, address: Option<IpAddr>) -> Self {
        if address == self.address { self } else { Self { text: Self::new(address, self.https).text, address, ..self } }
    }

    /// Whether one of `trusted_proxies` sent the message, so that its forwarding headers may be believed.
    pub fn came_by_trusted_proxy(&self) -> bool {
        self.by_trusted_proxy
    }

    /// Its address, if it has one.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// The address as text, or `unix`.
    pub fn as_str(&self) -> &str {
        let Text { bytes, len } = &self.text;
        std::str::from_utf8(bytes).ok().and_then(|text| text.get(..usize::from(*len))).unwrap_or_default()
    }

    /// The scheme it used, as in `X-Forwarded-Proto`.
    pub fn scheme(self) -> &'static str {
        if self.https { "https" } else { "http" }
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let at = usize::from(self.len);
        let room = self.bytes.get_mut(at..at + text.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len += text.len() as u8;
        Ok(())
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("address", &self.address).field("https", &self.https).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_written_completely() {
        let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        for address in ["127.0.0.1", "255.255.255.255", "::1", longest, "::ffff:255.255.255.255"] {
            let client = Client::new(Some(address.parse().unwrap()), false);
            assert_eq!((client.as_str(), client.to_string().as_str()), (address, address));
        }
        assert_eq!(Client::new(None, true).as_str(), "unix");
    }
}
