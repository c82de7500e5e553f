//! HTTP/2, and what bounds it.
//!
//! 1. Frames are counted on the raw bytes ([`super::frames`]): floods of small ones, and header
//!    blocks that do not end, close the connection.
//! 2. Streams are counted here: an answer that its client does not take within `write_timeout`, and
//!    a connection on which nothing is under way for `idle_timeout`, are not kept.
//! 3. hyper and h2 do the rest: streams at a time, the size of headers, resets, and a PING now and
//!    then to see whether the other side lives.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, HeaderMap, HeaderValue};
use http::{Method, Response};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::Instant;

use super::connection::{Connection, Limits, Stack, closing};
use super::entries::Phase;
use super::frames::Counted;
use super::streams::{Stream, Streams, Verdict};
use crate::gate::{Arrival, Body};
use crate::listen::Io;

/// Requests at a time on a connection.
const MAX_STREAMS: u32 = 100;
/// Streams that a client may open and reset before anybody sees them.
const MAX_PENDING_RESETS: usize = 20;
/// Streams that may be reset because the client broke the protocol.
const MAX_ERROR_RESETS: usize = 128;
/// Bytes of an answer that wait for the client, per stream.
const SEND_BUFFER: usize = 64 << 10;
/// Serves a connection of HTTP/2 to its end.
pub(super) async fn serve(io: Io, connection: Connection, stack: impl Stack, limits: &Limits) {
    let streams = Streams::new();
    let io = Counted::new(io, streams.clone(), limits);
    let Connection { peer, entry, .. } = connection;
    let (came_late, closed) = (entry.is_leaving(), closing(&entry));
    let mut phase = entry.watch();
    let service = {
        let (peer, streams) = (peer.clone(), streams.clone());
        service_fn(move |mut request: http::Request<Incoming>| {
            let stream = streams.begin();
            join_cookies(request.headers_mut());
            let client = peer.client_of(request.headers());
            let only_head = request.method() == Method::HEAD;
            // How long a message is is told by frames, and h2 holds them to what the head says.
            let answer = stack.clone().call(Arrival { request, client });
            async move {
                let mut answer = answer.await?;
                answer.headers_mut().remove(CONNECTION);
                stream.moved();
                Ok::<_, Infallible>(if only_head { headed(answer, stream) } else { delivered(answer, stream) })
            }
        })
    };
    let window = u32::try_from(limits.max_body).unwrap_or(u32::MAX).clamp(64 << 10, 1 << 20);
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS)
        .max_header_list_size(u32::try_from(limits.max_head).unwrap_or(u32::MAX))
        .initial_stream_window_size(window)
        .initial_connection_window_size(4 * window)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(limits.idle_timeout)
        .keep_alive_timeout(limits.write_timeout)
        .serve_connection(TokioIo::new(io), service);
    let mut served = pin!(served);
    let mut closed = pin!(async {
        // Who came while we were leaving has a use of the connection first.
        if !came_late {
            drop(phase.wait_for(|phase| *phase > Phase::Open).await);
        } else {
            closed.await;
        }
    });
    let mut ticks = tokio::time::interval(tick(limits));
    let mut leaving: Option<Instant> = None;
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
            now = ticks.tick() => match streams.judge(now, leaving, limits) {
                Verdict::Fine => {}
                Verdict::Idle => {
                    leaving = Some(now);
                    served.as_mut().graceful_shutdown();
                }
                Verdict::Broken(why) => {
                    limits.metrics.connection_refused("too_slow");
                    break Err(why.to_owned());
                }
            }
        }
    };
    if streams.lock().flooded {
        limits.metrics.connection_refused("flood");
    }
    if let Err(error) = ended {
        tracing::debug!(%error, client = ?peer.address(), "a connection ended early");
    }
}

/// HTTP/2 lets a client spread its cookies over several fields, which a message of HTTP/1 must have
/// in one (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let (Some(first), Some(second)) = (cookies.next(), cookies.next()) else { return };
    let all: Vec<&[u8]> = [first, second].into_iter().chain(cookies).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// Whether h2 had enough before the frames were too many: of streams that are reset, say. It tells
/// so by no type that is ours to name.
fn is_flood(error: &hyper::Error) -> bool {
    let told = format!("{error:?}");
    told.contains("ENHANCE_YOUR_CALM") && told.contains("Library")
}

/// How often a connection is looked at: often enough for its shortest limit.
fn tick(limits: &Limits) -> Duration {
    let shortest = limits.header_timeout.min(limits.write_timeout).min(limits.idle_timeout);
    (shortest / 4).clamp(Duration::from_millis(5), Duration::from_secs(1))
}

/// The body of an answer, which tells when it moves.
struct Delivered {
    /// None in an answer to HEAD.
    body: Option<Body>,
    stream: Stream,
}

fn delivered(answer: Response<Body>, mut stream: Stream) -> Response<Delivered> {
    // One without a body is never asked for it.
    stream.whole = answer.body().is_end_stream();
    answer.map(|body| Delivered { body: Some(body), stream })
}

/// An answer to HEAD: what it would be to GET, less the body, which hyper would send.
fn headed(answer: Response<Body>, mut stream: Stream) -> Response<Delivered> {
    stream.whole = true;
    let (mut parts, body) = answer.into_parts();
    // Of what the service answered its own head says the length, or it does not.
    if let (Body::Own(_), Some(length)) = (&body, body.size_hint().exact()) {
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(parts, Delivered { body: None, stream })
}

impl http_body::Body for Delivered {
    type Data = Bytes;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Self { body: Some(body), stream } = &mut *self else { return Poll::Ready(None) };
        let polled = Pin::new(&mut *body).poll_frame(cx);
        stream.moved();
        if let Poll::Ready(frame) = &polled {
            stream.whole = frame.is_none() || body.is_end_stream();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}
