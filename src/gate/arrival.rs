//! What a connection hands to the stack.

use http::Request;

use crate::net::Client;

/// A message as a connection hands it over.
pub struct Arrival<B> {
    /// The message.
    pub request: Request<B>,
    /// Who sent it, as the listener judges.
    pub client: Client,
}
