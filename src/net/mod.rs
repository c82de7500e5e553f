//! Addresses in configuration, on the wire and of clients. All hosts, ports, socket addresses and networks are
//! parsed here, so that the same text is the same address everywhere.

mod authority;
mod client;
mod network;
mod subscriber;

pub use authority::Authority;
pub(crate) use authority::{AuthorityError, parse_socket_address};
pub use client::Client;
pub(crate) use network::Network;
pub(crate) use subscriber::Subscriber;
