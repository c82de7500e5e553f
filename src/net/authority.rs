//! A host and a port, read strictly.
//!
//! 1. A port is a whole number from 1 to 65535: digits only, no sign, no leading zero. A default port is used only
//!    if the text names no port.
//! 2. An IPv6 address stands in brackets, with nothing between `]` and `:port`. Zones (`%eth0`) are refused,
//!    because they have a meaning on one machine only. Link-local addresses are refused, because they have none
//!    without a zone.
//! 3. If the last label of a host is a number, the host must be an IPv4 address of four plain decimal numbers.
//!    Resolvers read `010.0.0.1` as 8.0.0.1 and `127.1` as 127.0.0.1.
//! 4. A name consists of labels of 1 to 63 letters, digits, `-` and `_`, 253 bytes in all; one final dot is
//!    allowed.
//!
//! Text that violates a rule is refused, never repaired.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A host and a port. Only [`Authority::parse`] and [`Authority::new`] make one, so it is always well formed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Authority {
    host: Box<str>,
    address: Option<IpAddr>,
    port: u16,
}

/// Why text is not a host and port. Never quotes the text, which may contain a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// There is no host.
    #[error("names no host")]
    NoHost,
    /// There is no port, and no default for one.
    #[error("names no port")]
    NoPort,
    /// The port is not a whole number from 1 to 65535.
    #[error("has a port that is not a whole number from 1 to 65535, in plain digits")]
    Port,
    /// An IPv6 address without brackets, or with brackets that do not enclose it.
    #[error("has an IPv6 address that is not in brackets of its own, as in [::1]:8080")]
    Brackets,
    /// The text in brackets is not an IPv6 address.
    #[error("has brackets around something that is not an IPv6 address")]
    Ipv6,
    /// An IPv6 address with a zone.
    #[error("has an IPv6 address with a zone (%), which cannot be used here")]
    Zone,
    /// An IPv6 address that has no meaning without a zone.
    #[error("has a link-local IPv6 address, which needs a zone (%) and cannot be used here")]
    LinkLocal,
    /// A host that ends in a number but is not an IPv4 address.
    #[error("has a host that ends in a number and is not an IPv4 address of four plain numbers from 0 to 255")]
    Ipv4,
    /// A name that is not a valid host name.
    #[error("has a host that is neither a name of letters, digits, `-`, `_` and dots nor an address")]
    Name,
    /// A name in place of an address.
    #[error("has a name where an IP address is needed")]
    NotAnAddress,
}

impl Authority {
    /// Parses `host`, `host:port`, `192.0.2.1:port` or `[2001:db8::1]:port`. `default_port` is used if the text
    /// names no port.
    ///
    /// # Errors
    /// The rule of this module that the text violates.
    pub fn parse(text: &str, default_port: Option<u16>) -> Result<Self, AuthorityError> {
        let (host, port) = split(text)?;
        let port = match port {
            Some(port) => parse_port(port)?,
            None => default_port.ok_or(AuthorityError::NoPort)?,
        };
        Self::new(host, port)
    }

    /// A host, without brackets if it is an IPv6 address, and a port, as another program reports them.
    ///
    /// # Errors
    /// If the host is neither a name nor an address, or the port is 0.
    pub fn new(host: &str, port: u16) -> Result<Self, AuthorityError> {
        if port == 0 {
            return Err(AuthorityError::Port);
        }
        let address = address(host)?;
        Ok(Self { host: host.into(), address, port })
    }

    /// The name or the address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The address, if the host is one.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// The port; never 0.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// In the form of a `Host` field or a URL.
impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, .. } = self;
        match self.address {
            Some(IpAddr::V6(_)) => write!(f, "[{host}]:{port}"),
            _ => write!(f, "{host}:{port}"),
        }
    }
}

/// A port from 1 to 65535, in digits alone.
///
/// # Errors
/// If it is anything else.
pub(crate) fn parse_port(text: &str) -> Result<u16, AuthorityError> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| plain).ok_or(AuthorityError::Port)
}

/// Parses an address to listen on: an IP address and a port. Port 0 stands for any free port.
///
/// # Errors
/// The rule of this module that the text violates.
pub(crate) fn parse_socket_address(text: &str) -> Result<SocketAddr, AuthorityError> {
    let (host, port) = split(text)?;
    let port = match port.ok_or(AuthorityError::NoPort)? {
        "0" => 0,
        port => parse_port(port)?,
    };
    let address = address(host)?.ok_or(AuthorityError::NotAnAddress)?;
    Ok(SocketAddr::new(address, port))
}

/// The host, without brackets, and the text after the colon. An IPv6 address was already recognised.
fn split(text: &str) -> Result<(&str, Option<&str>), AuthorityError> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, behind) = rest.split_once(']').ok_or(AuthorityError::Brackets)?;
        if host.contains('%') {
            return Err(AuthorityError::Zone);
        }
        host.parse::<Ipv6Addr>().map_err(|_| AuthorityError::Ipv6)?;
        return match behind.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if behind.is_empty() => Ok((host, None)),
            None => Err(AuthorityError::Brackets),
        };
    }
    match text.split_once(':') {
        Some((_, port)) if port.contains(':') => Err(AuthorityError::Brackets),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((text, None)),
    }
}

/// The address that a host is; `None` for a name.
fn address(host: &str) -> Result<Option<IpAddr>, AuthorityError> {
    if host.is_empty() {
        return Err(AuthorityError::NoHost);
    }
    if host.contains(':') {
        let address: Ipv6Addr = host.parse().map_err(|_| AuthorityError::Ipv6)?;
        return if address.is_unicast_link_local() { Err(AuthorityError::LinkLocal) } else { Ok(Some(address.into())) };
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let is_label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(plain) && !label.starts_with('-') && !label.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(AuthorityError::Name);
    }
    if is_number(name.rsplit('.').next().unwrap_or(name)) {
        return host.parse::<Ipv4Addr>().map(|address| Some(address.into())).map_err(|_| AuthorityError::Ipv4);
    }
    Ok(None)
}

/// Whether a resolver may take a host with this last label for an IPv4 address.
fn is_number(label: &str) -> bool {
    let hexadecimal = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    match hexadecimal {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_host_and_a_port() {
        for (text, host, port, shown) in [
            ("h", "h", 80, "h:80"),
            ("h:1", "h", 1, "h:1"),
            ("crm_1.internal-2.:65535", "crm_1.internal-2.", 65535, "crm_1.internal-2.:65535"),
            ("192.0.2.1:9000", "192.0.2.1", 9000, "192.0.2.1:9000"),
            ("[::1]:9000", "::1", 9000, "[::1]:9000"),
            ("[2001:db8::ffff:192.0.2.1]", "2001:db8::ffff:192.0.2.1", 80, "[2001:db8::ffff:192.0.2.1]:80"),
            ("1.example", "1.example", 80, "1.example:80"),
            ("0xyz", "0xyz", 80, "0xyz:80"),
        ] {
            let authority = Authority::parse(text, Some(80)).unwrap();
            assert_eq!((authority.host(), authority.port(), authority.to_string().as_str()), (host, port, shown));
            assert_eq!(authority.address(), host.parse().ok(), "{text}");
            assert_eq!(Authority::parse(shown, None), Ok(authority), "as it is shown it is read");
        }
    }

    #[test]
    fn text_that_violates_a_rule_is_refused_and_the_rule_is_named() {
        use AuthorityError::{Brackets, Ipv4, Ipv6, LinkLocal, Name, NoHost, NoPort, Port, Zone};
        let long = format!("{}:1", "x.".repeat(128));
        let label = format!("{}:1", "x".repeat(64));
        for (text, error) in [
            ("", NoPort),
            (":1", NoHost),
            ("h", NoPort),
            ("h:", Port),
            ("h:0", Port),
            ("h:65536", Port),
            ("h:99999", Port),
            ("h:18446744073709551617", Port),
            ("h:-1", Port),
            ("h:+80", Port),
            ("h:080", Port),
            ("h:80a", Port),
            ("h:1e3", Port),
            ("h:80 ", Port),
            ("h:٨", Port),
            ("h:1;x", Port),
            ("h:1:2", Brackets),
            ("::1", Brackets),
            ("[::1", Brackets),
            ("[::1]9000", Brackets),
            ("[::1] :9000", Brackets),
            ("[]:1", Ipv6),
            ("[192.0.2.1]:1", Ipv6),
            ("[h]:1", Ipv6),
            ("[fe80::1%25eth0]:1", Zone),
            ("[fe80::1%3]:1", Zone),
            ("[fe80::1]:1", LinkLocal),
            ("10.0.0.256:1", Ipv4),
            ("010.0.0.1:1", Ipv4),
            ("127.1:1", Ipv4),
            ("127.0.0.1.:1", Ipv4),
            ("2130706433:1", Ipv4),
            ("0x7f000001:1", Ipv4),
            ("x.0x1:1", Ipv4),
            ("h..i:1", Name),
            (".h:1", Name),
            ("h..:1", Name),
            ("-h:1", Name),
            ("h%41:1", Name),
            ("a b:1", Name),
            ("u@h:1", Name),
            ("높:1", Name),
            (&long, Name),
            (&label, Name),
        ] {
            assert_eq!(Authority::parse(text, None), Err(error), "{text:?}");
        }
    }

    #[test]
    fn an_address_to_listen_on_may_have_port_0_but_no_name() {
        for (text, address) in [("127.0.0.1:0", "127.0.0.1:0"), ("[::]:8080", "[::]:8080"), ("0.0.0.0:1", "0.0.0.0:1")]
        {
            assert_eq!(parse_socket_address(text), Ok(address.parse().unwrap()));
        }
        for (text, error) in [
            ("127.0.0.1", AuthorityError::NoPort),
            (":8080", AuthorityError::NoHost),
            ("localhost:80", AuthorityError::NotAnAddress),
            ("127.0.0.1:00", AuthorityError::Port),
            ("127.0.0.1:65536", AuthorityError::Port),
        ] {
            assert_eq!(parse_socket_address(text), Err(error), "{text}");
        }
    }
}
