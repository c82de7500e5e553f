//! HTTP/2, and what bounds it.
//!
//! 1. Frames are counted on the raw bytes ([`crate::http::h2::Counted`]): floods of small ones, and header blocks
//!    that do not end, close the connection.
//! 2. Streams are timed ([`crate::http::h2::Streams`]): a stream whose client does not take its answer within
//!    `write_timeout` is reset. A connection on which that happened, or with no request for `idle_timeout`, is told
//!    to end. A service that pauses is bounded by `response_timeout` instead.
//! 3. hyper and h2 do the rest: concurrent streams, the size of headers, resets, and a PING from time to time to
//!    check that the other side is alive.

use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::header::{CONNECTION, COOKIE, HeaderMap, HeaderValue};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;

use super::context::{Connection, Shared, Stack, last_call};
use super::delivered::{Exchange, delivered, headed};
use crate::event_loop::TIMER_GRACE;
use crate::gate::{Arrival, Body};
use crate::http::RequestBody;
use crate::http::h2::{Counted, FrameTimeouts, Streams, Verdict};
use crate::listen::Io;
use crate::pipeline::poll_request;
use crate::policy::Limits;
use crate::serve::entries::Phase;

/// Concurrent requests on a connection.
const MAX_STREAMS: u32 = 100;
/// Streams that a client may open and reset before they are handled.
const MAX_PENDING_RESETS: usize = 20;
/// Streams that may be reset because the client broke the protocol.
const MAX_ERROR_RESETS: usize = 128;
/// Bytes of an answer that may wait for the client, per stream.
const SEND_BUFFER: usize = 64 << 10;
/// The least room that h2 gets for a target and a header section together, in bytes. Below this, limits that a
/// reload raises take effect on open connections at once.
const MIN_HEAD: usize = 32 << 10;

/// How soon a connection is cut off once nothing holds it any longer.
const CUT_OFF_WITHIN: Duration = Duration::from_millis(20);

/// Serves an HTTP/2 connection to its end.
pub(super) async fn serve(io: Io, connection: Connection, stack: impl Stack, shared: &Shared) {
    let (limits, mut reloads) = (shared.limits(), shared.current.reloads());
    let streams = Streams::new(Instant::now() + limits.first_byte_timeout());
    let current = shared.current.clone();
    let io = Counted::new(io, streams.clone(), move || {
        let limits = current.load().limits;
        FrameTimeouts { header: limits.header_timeout, body: limits.body_timeout }
    });
    let fixed = Fixed::by(&limits);
    let connection = Arc::new(connection);
    let entry = &connection.entry;
    // A client that connects while the listener is leaving may take as long for its first request as others may
    // take to connect.
    let hurries = if entry.is_leaving() { Phase::Closing } else { Phase::Announcing };
    let service = {
        let (connection, streams) = (connection.clone(), streams.clone());
        service_fn(move |mut request: http::Request<Incoming>| {
            join_cookies(request.headers_mut());
            let client = connection.client_of(request.headers());
            let only_head = request.method() == Method::HEAD;
            // The frames say how long a message is, and h2 compares that with the head.
            let request = request.map(RequestBody::Stream);
            let begun = Exchange::begin(&connection.activity, &streams)
                .map(|exchange| (exchange, stack.clone().call(Arrival { request, client })));
            async move {
                // If there is none, this same poll closes the connection.
                let Some((mut exchange, answer)) = begun else { return std::future::pending().await };
                let (mut answer, mut held) = (pin!(answer), false);
                let mut answer = poll_fn(|cx| {
                    let (polled, committed) = poll_request(answer.as_mut(), cx);
                    if committed != held {
                        held = committed;
                        exchange.stream.held(held);
                    }
                    if committed {
                        exchange.activity.prove();
                    }
                    polled
                })
                .await?;
                exchange.stream.held(!matches!(answer.body(), Body::Passed(_)));
                answer.headers_mut().remove(CONNECTION);
                exchange.stream.offers();
                Ok::<_, Infallible>(if only_head { headed(*answer, exchange) } else { delivered(*answer, exchange) })
            }
        })
    };
    let window = u32::try_from(limits.max_body_bytes).unwrap_or(u32::MAX).clamp(64 << 10, 1 << 20);
    let served = http2::Builder::new(streams.clone())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS)
        .max_header_list_size(fixed.max_head)
        .initial_stream_window_size(window)
        .initial_connection_window_size(4 * window)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(fixed.ping_after)
        .keep_alive_timeout(fixed.ping_timeout)
        .serve_connection(TokioIo::new(io), service);
    let mut served = pin!(served);
    let mut closed = pin!(async {
        entry.reached(Phase::Announcing).await;
        // A first request may be on its way, and a client that was told to end would not send it.
        tokio::select! {
            () = streams.first_request() => {}
            () = async {
                entry.reached(hurries).await;
                last_call(entry).await;
            } => {}
        }
    });
    let mut cutting = pin!(entry.reached(Phase::Cutting));
    let mut tick = pin!(tokio::time::sleep(until_next_look(&limits)));
    let mut leaving: Option<Instant> = None;
    let (mut cut, mut slow) = (false, false);
    let mut too_slow = || {
        if !std::mem::replace(&mut slow, true) {
            shared.metrics.connection_refused("too_slow");
        }
    };
    let ended = loop {
        tokio::select! {
            biased;
            ended = served.as_mut() => break ended.map_err(|error| {
                streams.lock().flooded |= is_flood(&error);
                error.to_string()
            }),
            () = closed.as_mut(), if leaving.is_none() => {
                leaving = Some(Instant::now());
                served.as_mut().graceful_shutdown();
            }
            () = cutting.as_mut(), if !cut => {
                cut = true;
                tick.as_mut().reset(Instant::now());
            }
            _ = reloads.changed(), if leaving.is_none() => {
                let limits = shared.limits();
                if !fixed.is_enough_for(&limits) {
                    leaving = Some(Instant::now());
                    served.as_mut().graceful_shutdown();
                }
                // The next check may be due sooner now.
                tick.as_mut().reset(Instant::now() + until_next_look(&limits));
            }
            () = tick.as_mut() => {
                let (now, limits) = (Instant::now(), shared.limits());
                // A worker that was paused finds this timer expired before it learns what has arrived meanwhile.
                if now > tick.deadline() + TIMER_GRACE {
                    tick.as_mut().reset(now + TIMER_GRACE);
                    continue;
                }
                if connection.is_outdated() && leaving.is_none() {
                    leaving = Some(now);
                    served.as_mut().graceful_shutdown();
                }
                tick.as_mut().reset(now + if cut { CUT_OFF_WITHIN } else { until_next_look(&limits) });
                if cut && !streams.hold(now) {
                    break Err("it was cut off at the end of the process".to_owned());
                }
                let verdict = streams.judge(now, leaving, &limits);
                match verdict {
                    Verdict::Fine | Verdict::Idle => {}
                    Verdict::NotTaken => too_slow(),
                    Verdict::Unfinished => {
                        too_slow();
                        streams.deafen();
                    }
                    Verdict::Broken(why) => {
                        too_slow();
                        break Err(why.to_owned());
                    }
                }
                if verdict != Verdict::Fine && leaving.is_none() {
                    leaving = Some(now);
                    served.as_mut().graceful_shutdown();
                }
            }
        }
    };
    if streams.lock().flooded {
        shared.metrics.connection_refused("flood");
    }
    if let Err(error) = ended {
        tracing::debug!(%error, client = ?connection.peer.address(), "a connection ended early");
    }
}

/// Joins the cookies of a request into one field, as HTTP/1.1 requires: in HTTP/2 they may be spread over several
/// (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let (Some(first), Some(second)) = (cookies.next(), cookies.next()) else { return };
    let all: Vec<&[u8]> = [first, second].into_iter().chain(cookies).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// Whether h2 closed the connection because the client caused too much work, such as resets, before too many frames
/// were counted.
fn is_flood(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| cause.is_library() && cause.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM))
}

/// The limits that h2 gets when a connection begins, and cannot change. When a reload changes them, the connection
/// is told to end: requests in progress are answered, and the client's next connection has the new limits.
struct Fixed {
    /// Twice the allowed size of a head, in bytes, so that a head that is somewhat too large gets Saltgate's own
    /// answer; one that is far too large gets the bare status of h2.
    max_head: u32,
    ping_after: Duration,
    ping_timeout: Duration,
}

impl Fixed {
    fn by(limits: &Limits) -> Self {
        let head = 2 * (limits.max_header_bytes + limits.max_target_bytes).max(MIN_HEAD);
        Self {
            max_head: u32::try_from(head).unwrap_or(u32::MAX),
            ping_after: limits.idle_timeout,
            ping_timeout: limits.write_timeout,
        }
    }

    fn is_enough_for(&self, limits: &Limits) -> bool {
        let wanted = Self::by(limits);
        wanted.max_head <= self.max_head
            && (wanted.ping_after, wanted.ping_timeout) == (self.ping_after, self.ping_timeout)
    }
}

/// How often a connection is checked: often enough for its shortest limit.
fn until_next_look(limits: &Limits) -> Duration {
    let shortest = limits.header_timeout.min(limits.write_timeout).min(limits.idle_timeout);
    (shortest / 4).clamp(Duration::from_millis(5), Duration::from_secs(1))
}
