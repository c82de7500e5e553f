//! Reports an upstream answer that breaks off.

use std::sync::Arc;

use http::HeaderValue;

use crate::telemetry::{Ended, Metrics};
use crate::upstream::RelayError;

/// What to report about an answer that breaks off.
pub(super) struct Truncation {
    metrics: Arc<Metrics>,
    request_id: HeaderValue,
    ended: Ended,
    upstream_status: Option<u16>,
}

impl Truncation {
    pub(crate) fn new(
        metrics: Arc<Metrics>,
        request_id: HeaderValue,
        ended: Ended,
        upstream_status: Option<u16>,
    ) -> Self {
        Self { metrics, request_id, ended, upstream_status }
    }

    pub(super) fn tell(&self, error: &RelayError) {
        self.metrics.truncated(self.ended);
        tracing::warn!(
            request_id = self.request_id.to_str().unwrap_or_default(),
            outcome = self.ended.as_str(),
            upstream_status = self.upstream_status,
            %error,
            "truncated: an answer of the upstream ended before its end, and the client's was reset"
        );
    }
}
