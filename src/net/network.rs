//! One address, or a network in CIDR notation.

use std::net::IpAddr;
use std::str::FromStr;

/// A set of addresses: one, or a network such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: u128,
    mask: u128,
    v4: bool,
}

/// The text is neither an address nor a network.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not an address or a network; expected one such as \"10.0.0.0/8\" or \"fd00::1\"")]
pub struct NetworkError;

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError)?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => bits,
            // Rust parses `+8` and `0008` as numbers; here they count as typing errors.
            Some(text) if text.len() > 3 || !text.bytes().all(|b| b.is_ascii_digit()) => return Err(NetworkError),
            Some(text) => text.parse().map_err(|_| NetworkError)?,
        };
        if length > bits {
            return Err(NetworkError);
        }
        let (value, v4) = number(address);
        let mask = u128::MAX.checked_shl(bits - length).unwrap_or(0) & (u128::MAX >> (128 - bits));
        // Bits outside the mask are a typing error: `10.0.0.1/8` may mean one host or the whole network.
        if value & !mask != 0 && length != bits {
            return Err(NetworkError);
        }
        Ok(Self { base: value & mask, mask, v4 })
    }
}

impl Network {
    /// Whether it is all of IPv4, or all of IPv6.
    pub fn is_everybody(&self) -> bool {
        self.mask == 0
    }

    /// Whether this address is in the network. An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn holds(&self, address: IpAddr) -> bool {
        let (value, v4) = number(address.to_canonical());
        v4 == self.v4 && value & self.mask == self.base
    }
}

fn number(address: IpAddr) -> (u128, bool) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), true),
        IpAddr::V6(address) => (address.to_bits(), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.1.2", "11.0.0.0"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("192.168.4.0/22", "192.168.7.255", "192.168.8.0"),
            ("10.0.0.0/8", "::ffff:10.1.1.1", "::10.1.1.1"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("fd00::1", "fd00::1", "fd00::2"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "ffff::", "1.2.3.4"),
        ] {
            let network: Network = network.parse().unwrap();
            assert!(network.holds(inside.parse().unwrap()), "{inside}");
            assert!(!network.holds(outside.parse().unwrap()), "{outside}");
        }
    }

    #[test]
    fn likely_typing_errors_are_not_networks() {
        for text in
            ["", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "fd00::/129", "host", "::/0008"]
        {
            assert_eq!(text.parse::<Network>(), Err(NetworkError), "{text}");
        }
    }
}
