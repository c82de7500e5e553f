use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};
use std::time::Duration;

use http::header::{CONNECTION, HeaderMap, HeaderValue};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::connection::{Connection, LAST_CALL, Limits, Stack, closing};
use crate::gate::{Arrival, Body, Client, Current, refuse_unread};
use crate::listen::Io;
use crate::refusal::Refused;
use crate::wire::{Fault, Keeper, Kind, Sizes, Times, Wire};

/// hyper has room for a target and a header section of so many bytes each, or more, and for as
/// much that is written.
const MIN_ROOM: usize = 32 << 10;

/// Serves a connection of HTTP/1 to its end.
pub(super) async fn serve(io: Io, connection: Connection, stack: impl Stack, limits: &Limits) {
    let connection = Arc::new(connection);
    let closed = async {
        closing(&connection.entry).await;
        // A first request may be on its way; hyper would close on it.
        if !connection.spoken.load(Ordering::Relaxed) {
            tokio::time::sleep(LAST_CALL).await;
        }
    };
    let sizes = limits.current.load().limits;
    let room = sizes.max_header_bytes.max(sizes.max_target_bytes).max(MIN_ROOM);
    // Of a message that no request came of, only the connection tells who sent it.
    let watcher = Watcher::new(limits, connection.peer.client_of(&HeaderMap::new()), room);
    let served_for = connection.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let connection = served_for.clone();
        connection.spoken.store(true, Ordering::Relaxed);
        let client = connection.peer.client_of(request.headers());
        let answer = stack.clone().call(Arrival { request, client });
        async move {
            let mut answer = answer.await?;
            if connection.entry.is_leaving() {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut served = http1::Builder::new()
        // What ends the stream where the wire refuses, and leaves what came before its answer.
        .half_close(true)
        // The wire owns all time.
        .header_read_timeout(None)
        .max_buf_size(2 * room + 1024)
        // To copy head and body together costs less than to hand the kernel a list of them, and no more where a body is large.
        .writev(false)
        .serve_connection(TokioIo::new(Wire::new(io, watcher)), service);
    let mut closed = pin!(closed);
    let mut heard: Option<Waker> = None;
    let ended = poll_fn(|cx| {
        if let Poll::Ready(ended) = Pin::new(&mut served).poll(cx) {
            return Poll::Ready(Some(ended));
        }
        // Until its listener leaves, which wakes this, there is nothing to ask with every request.
        if !connection.entry.is_leaving() && heard.as_ref().is_some_and(|heard| heard.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        heard = Some(cx.waker().clone());
        closed.as_mut().poll(cx).map(|()| None)
    })
    .await;
    let ended = match ended {
        Some(ended) => ended,
        None => {
            Pin::new(&mut served).graceful_shutdown();
            (&mut served).await
        }
    };
    match ended {
        Ok(()) => served.into_parts().io.into_inner().finish().await,
        Err(error) => tracing::debug!(%error, client = ?connection.peer.address(), "a connection ended early"),
    }
}

/// What the wire of one connection asks.
struct Watcher {
    current: Arc<Current>,
    client: Client,
    head: Duration,
    write: Duration,
    idle: Duration,
    /// What hyper has room for on this connection, whatever a reload has raised since: with a head
    /// that is longer it would answer by itself.
    room: usize,
}

impl Watcher {
    fn new(limits: &Limits, client: Client, room: usize) -> Self {
        Self {
            current: limits.current.clone(),
            client,
            head: limits.header_timeout,
            write: limits.write_timeout,
            idle: limits.idle_timeout,
            room,
        }
    }
}

impl Keeper for Watcher {
    fn limits(&self) -> (Sizes, Times) {
        let Self { head, write, idle, .. } = *self;
        let limits = self.current.load().limits;
        let sizes = Sizes {
            max_header_bytes: limits.max_header_bytes.min(self.room),
            max_target_bytes: limits.max_target_bytes.min(self.room),
        };
        (sizes, Times { head, body: limits.body_timeout, write, idle })
    }

    fn refuse(&self, fault: Fault, request: Option<(&[u8], &[u8])>) -> Vec<u8> {
        let refused = match fault.kind() {
            Kind::Malformed => Refused::MalformedRequest(fault.what()),
            Kind::TargetTooLong => Refused::TargetTooLong,
            Kind::HeadersTooLarge => Refused::HeadersTooLarge,
            Kind::TooSlow => Refused::HeadTooSlow,
        };
        // Whose list of refusals it is put on: all are read as one, and these are few.
        written(refuse_unread(self.current.desk(0), self.client, request, refused))
    }
}

/// An answer of our own, as it goes over the wire.
fn written(answer: Response<Body>) -> Vec<u8> {
    let (parts, body) = answer.into_parts();
    let Body::Own(body) = body else { return Vec::new() };
    let body = body.unwrap_or_default();
    let mut bytes = format!("HTTP/1.1 {}\r\n", parts.status).into_bytes();
    for (name, value) in &parts.headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(&body);
    bytes
}
