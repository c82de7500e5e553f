//! Answers messages that did not become a request.

use std::sync::Arc;

use http::{Method, Response};

use crate::gate::{Body, Observation, WorkerState, own};
use crate::net::Client;
use crate::refusal::Refused;
use crate::upstream::headers::X_REQUEST_ID;

/// Refuses a message that did not become a request: it is counted, logged and answered like any other. `request` is
/// its method and target, if they are unambiguous.
pub(super) fn refuse_unread(
    worker_state: Arc<WorkerState>,
    client: Client,
    request: Option<(&[u8], &[u8])>,
    refused: Refused,
) -> Response<Body> {
    let (method, target) = request.unwrap_or((b"-", b""));
    // `from_bytes` accepts every token.
    let method = Method::from_bytes(method).unwrap_or_default();
    let target = std::str::from_utf8(target).unwrap_or_default();
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let mut observation = Observation::new(worker_state, client, method, path);
    let answer = observation.refused(&refused);
    observation.detail = Some(answer.message().into_owned());
    let id = observation.id().clone();
    let mut response = own(answer);
    response.headers_mut().insert(X_REQUEST_ID, id);
    response
}
