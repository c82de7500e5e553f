//! Addresses: as people write them, and of clients. Everything that reads a host, a port, a socket address or a network
//! reads it here, so that the same text is the same address everywhere.

mod authority;
mod client;
mod network;
mod subscriber;

pub use authority::Authority;
pub(crate) use authority::{AuthorityError, parse_socket_address};
pub use client::Client;
pub(crate) use network::Network;
pub(crate) use subscriber::Subscriber;
