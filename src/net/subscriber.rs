//! What counts as one client when clients share connections or failed signatures.

use std::net::IpAddr;

/// An IPv4 address, or the /64 of an IPv6 address, because a subscriber can use any address in that network.
///
/// IPv4 is stored as mapped into IPv6, so that the two never coincide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Subscriber(u128);

impl Subscriber {
    /// The subscriber with this address. An IPv4 address mapped into IPv6 counts as IPv4.
    pub(crate) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
            IpAddr::V6(address) => address.to_bits() & !u128::from(u64::MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscriber_is_the_same_in_every_spelling_of_its_address() {
        let rows = [
            ("::ffff:192.0.2.1", "192.0.2.1", true),
            ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("192.0.2.1", "192.0.2.2", false),
            ("::", "0.0.0.0", false),
        ];
        for (one, other, same) in rows {
            let subscriber = |text: &str| Subscriber::of(text.parse().unwrap());
            assert_eq!(subscriber(one) == subscriber(other), same, "{one} and {other}");
        }
    }
}
