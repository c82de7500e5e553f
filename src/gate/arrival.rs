//! What a connection hands to the stack.

use http::Request;

use crate::net::Client;

/// A request as the connection read it.
pub struct Arrival<B> {
    /// The request.
    pub request: Request<B>,
    /// Who sent it, as determined by the listener.
    pub client: Client,
}
