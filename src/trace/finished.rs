//! A request that has ended, as its spans describe it.

use std::time::{Duration, SystemTime};

use http::HeaderValue;

use super::request::Trace;
use crate::refusal::Reason;
use crate::telemetry::Ended;

/// What is known of a request when it has ended.
pub(crate) struct TracedRequest<'r> {
    /// The method, as the client sent it.
    pub(crate) method: &'r str,
    /// The pattern of its route, if it has one.
    pub(crate) route: Option<&'r str>,
    /// Its id.
    pub(crate) request_id: &'r HeaderValue,
    /// How it ended.
    pub(crate) outcome: Ended,
    /// Why.
    pub(crate) reason: Reason,
    /// The status of the service's answer.
    pub(crate) upstream_status: Option<u16>,
    /// When its head had arrived.
    pub(crate) arrived: SystemTime,
    /// How long it took.
    pub(crate) took: Duration,
}

/// A trace that is to be exported.
pub(super) struct FinishedTrace {
    pub(super) trace: Box<Trace>,
    pub(super) method: &'static str,
    pub(super) route: Option<Box<str>>,
    pub(super) request_id: HeaderValue,
    pub(super) outcome: Ended,
    pub(super) reason: Reason,
    pub(super) upstream_status: Option<u16>,
    pub(super) arrived: SystemTime,
    pub(super) took: Duration,
}

impl FinishedTrace {
    pub(super) fn new(trace: Box<Trace>, ended: &TracedRequest<'_>) -> Self {
        let TracedRequest { outcome, reason, upstream_status, arrived, took, .. } = *ended;
        Self {
            trace,
            method: method(ended.method),
            route: ended.route.map(Into::into),
            request_id: ended.request_id.clone(),
            outcome,
            reason,
            upstream_status,
            arrived,
            took,
        }
    }
}

/// The method, unless the client made it up: the names of spans are few.
fn method(method: &str) -> &'static str {
    const KNOWN: [&str; 9] = ["DELETE", "GET", "HEAD", "POST", "PUT", "PATCH", "OPTIONS", "TRACE", "CONNECT"];
    KNOWN.into_iter().find(|known| *known == method).unwrap_or("_OTHER")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_methods_are_named() {
        assert_eq!((method("DELETE"), method("delete"), method("NCSSECRET")), ("DELETE", "_OTHER", "_OTHER"));
    }
}
