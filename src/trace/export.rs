//! Delivers traces to the collector, from a thread of its own.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, Method, StatusCode};
use tokio::runtime::{Builder, Runtime};

use super::complaints::Complaints;
use super::finished::FinishedTrace;
use super::otlp;
use super::queue::SpanQueue;
use super::settings::{TraceEndpoint, TraceSettings};
use super::tracer::{Tracer, Tracing};
use crate::clock::Clock;
use crate::telemetry::Metrics;
use crate::upstream::{
    InvalidRequestHead, InvalidSetting, Outgoing, RequestHead, SendError, Servers, Unjudged, Upstream, UpstreamSettings,
};

/// How often a batch is sent before it is dropped.
const ATTEMPTS: u32 = 5;
/// The pause before the second attempt; it doubles with each further one.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause, also if the collector asks for a longer one.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// How long the end of the gateway waits for the last spans.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// The thread that exports. Dropping it waits up to two seconds for the last spans.
pub(crate) struct SpanExporter {
    queue: Arc<SpanQueue>,
    thread: Option<JoinHandle<()>>,
}

/// Why `[trace]` cannot be used.
#[derive(Debug)]
pub(crate) enum TraceStartError {
    /// The endpoint is not usable: TLS has no authorities.
    Endpoint(String),
    /// There is no thread.
    Thread(io::Error),
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    #[error("{0}")]
    NotSent(#[from] InvalidRequestHead),
    #[error("{0}")]
    Unreachable(String),
    #[error("no whole answer")]
    NoAnswer,
    #[error("answered {0}")]
    Status(StatusCode, Option<Duration>),
}

impl NotTaken {
    /// How long to wait before the batch is sent again; `None` if that cannot help.
    fn pause(&self, usual: Duration) -> Option<Duration> {
        match self {
            Self::Unreachable(_) | Self::NoAnswer => Some(usual),
            // The statuses for which OTLP asks to send again.
            Self::Status(status, asked) if matches!(status.as_u16(), 429 | 502 | 503 | 504) => {
                Some(asked.unwrap_or(usual).min(MAX_PAUSE))
            }
            Self::NotSent(_) | Self::Status(..) => None,
        }
    }
}

impl SpanExporter {
    /// Starts what `[trace]` asks for: nothing without an endpoint.
    ///
    /// # Errors
    /// If TLS cannot be used, or there is no thread.
    pub(crate) fn start(
        settings: &TraceSettings,
        clock: &Clock,
        metrics: &Arc<Metrics>,
    ) -> Result<(Tracing, Option<Self>), TraceStartError> {
        let TraceSettings { endpoint, ratio, trust } = settings;
        let Some(endpoint) = endpoint else { return Ok((Tracing { trust: *trust, tracer: None }, None)) };
        let servers = servers(endpoint, clock).map_err(|unfit| TraceStartError::Endpoint(unfit.why))?;
        let queue = Arc::new(SpanQueue::new(metrics.clone()));
        let delivery = Delivery {
            upstream: Upstream::new(&Arc::new(servers)),
            endpoint: endpoint.clone(),
            instance: format!("{:016x}", getrandom::u64().unwrap_or_default()),
            queue: queue.clone(),
            metrics: metrics.clone(),
            complaints: Complaints::new(endpoint, clock, metrics),
        };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(TraceStartError::Thread)?;
        let thread = std::thread::Builder::new().name("traces".into()).spawn(move || delivery.run(&runtime));
        let thread = Some(thread.map_err(TraceStartError::Thread)?);
        let tracer = Some(Tracer::new(*trust, *ratio, queue.clone()));
        Ok((Tracing { trust: *trust, tracer }, Some(Self { queue, thread })))
    }
}

impl Drop for SpanExporter {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The collector as a server of its own, so that nothing is shared with the connections to the service. Each batch has a new
/// connection: there is one a second at most.
fn servers(endpoint: &TraceEndpoint, clock: &Clock) -> Result<Servers, InvalidSetting> {
    let settings = UpstreamSettings {
        connect_timeout: Duration::from_secs(5),
        response_timeout: Duration::from_secs(10),
        idle_timeout: Duration::ZERO,
        fresh: Duration::ZERO,
        ..UpstreamSettings::new(vec![endpoint.server.clone()])
    };
    Servers::new(settings, clock.clone(), None)
}

struct Delivery {
    upstream: Upstream<Unjudged>,
    endpoint: TraceEndpoint,
    instance: String,
    queue: Arc<SpanQueue>,
    metrics: Arc<Metrics>,
    complaints: Complaints,
}

impl Delivery {
    fn run(mut self, runtime: &Runtime) {
        let queue = self.queue.clone();
        let late = async {
            queue.closed().await;
            tokio::time::sleep(LAST_SPANS).await;
        };
        runtime.block_on(async {
            tokio::select! {
                () = self.deliver_all() => {}
                () = late => {}
            }
        });
        queue.give_up();
    }

    async fn deliver_all(&mut self) {
        while let Some(batch) = self.queue.take().await {
            self.deliver(&batch).await;
            self.upstream.sweep();
        }
    }

    /// Sends a batch until it is taken, or drops it.
    async fn deliver(&mut self, batch: &[FinishedTrace]) {
        let body = Bytes::from(otlp::request(batch, &self.instance));
        let mut undelivered = Undelivered {
            spans: batch.iter().map(|finished| finished.trace.spans()).sum(),
            metrics: self.metrics.clone(),
        };
        let mut usual = PAUSE;
        for attempt in 1..=ATTEMPTS {
            let not_taken = match self.send(body.clone()).await {
                Ok(()) => {
                    self.metrics.deliveries().spans_sent(std::mem::take(&mut undelivered.spans));
                    return self.complaints.works();
                }
                Err(not_taken) => not_taken,
            };
            self.complaints.fails(&not_taken);
            let Some(pause) = not_taken.pause(usual).filter(|_| attempt < ATTEMPTS) else { return };
            usual *= 2;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // At its end the gateway does not wait for a collector that just failed.
                () = self.queue.closed() => return,
            }
        }
    }

    async fn send(&self, body: Bytes) -> Result<(), NotTaken> {
        let mut head = RequestHead::new(&Method::POST, &self.endpoint.path, None)?;
        head.text("content-type: ", "application/x-protobuf")?;
        head.text("user-agent: ", concat!("saltgate/", env!("CARGO_PKG_VERSION")))?;
        head.text("connection: ", "close")?;
        let answer = self.upstream.forward(head, Outgoing::Whole(body)).await.map_err(|error| match error {
            SendError::Unreachable(why) | SendError::ConnectTimeout(why) => NotTaken::Unreachable(why),
            SendError::Lapsed | SendError::AnswerLost(..) | SendError::AnswerTimeout(_) => NotTaken::NoAnswer,
        })?;
        let status = answer.status();
        if status.is_success() { Ok(()) } else { Err(NotTaken::Status(status, retry_after(answer.headers()))) }
    }
}

/// The spans of a batch that is being delivered: dropping this counts them as dropped.
struct Undelivered {
    spans: u64,
    metrics: Arc<Metrics>,
}

impl Drop for Undelivered {
    fn drop(&mut self) {
        self.metrics.deliveries().spans_dropped(self.spans);
    }
}

/// The seconds of `Retry-After`. A date is not read: the usual pause serves.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_sent_again_only_when_that_may_help_and_never_much_later() {
        let usual = Duration::from_secs(4);
        let status = |status: u16, asked: Option<u64>| {
            let asked = asked.map(Duration::from_secs);
            NotTaken::Status(StatusCode::from_u16(status).unwrap(), asked).pause(usual).map(|pause| pause.as_secs())
        };
        assert_eq!(
            (status(429, None), status(503, None), status(502, None), status(504, None)),
            (Some(4), Some(4), Some(4), Some(4))
        );
        assert_eq!(
            (status(429, Some(7)), status(503, Some(0)), status(429, Some(u64::MAX))),
            (Some(7), Some(0), Some(60))
        );
        for final_one in [301, 400, 401, 404, 413, 500] {
            assert_eq!(status(final_one, Some(1)), None, "{final_one}");
        }
        assert_eq!(NotTaken::NoAnswer.pause(usual), Some(usual));
        let headers = |value: &str| HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
        assert_eq!(retry_after(&headers("3")), Some(Duration::from_secs(3)));
        assert_eq!(retry_after(&headers("Wed, 21 Oct 2026 07:28:00 GMT")), None);
        assert_eq!(retry_after(&headers("-1")), None);
    }
}
