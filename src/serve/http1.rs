use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tower::Service;

use crate::config::Config;
use crate::gate::{Arrival, Body, Generation, Process, refuse_unread};
use crate::refusal::Refused;
use crate::wire::{Fault, Keeper, Kind, Sizes, Times, Wire};

/// hyper has room for a target and a header section of so many bytes each, or more, and for as
/// much that is written.
const MIN_ROOM: usize = 32 << 10;

/// How connections that speak HTTP/1 are served.
#[derive(Clone)]
pub(super) struct Http1 {
    process: Arc<Process>,
    current: Arc<ArcSwap<Generation>>,
    head: Duration,
    write: Duration,
    idle: Duration,
}

impl Http1 {
    pub(super) fn new(config: &Config, process: Arc<Process>, current: Arc<ArcSwap<Generation>>) -> Self {
        let limits = config.limits;
        let (head, write, idle) = (limits.header_timeout, limits.write_timeout, limits.idle_timeout);
        Self { process, current, head, write, idle }
    }

    /// Serves one connection to its end.
    pub(super) async fn serve<T, S>(&self, stream: T, peer: SocketAddr, stack: S, mut closing: watch::Receiver<bool>)
    where
        T: AsyncRead + AsyncWrite + Unpin,
        S: Service<Arrival<Incoming>, Response = Response<Body>, Error = Infallible> + Clone,
    {
        let limits = self.current.load().limits;
        let room = limits.max_header_bytes.max(limits.max_target_bytes).max(MIN_ROOM);
        let wire = Wire::new(stream, Watcher { http1: self.clone(), peer, room });
        let service = service_fn(move |request| stack.clone().call(Arrival { request, peer }));
        let mut connection = http1::Builder::new()
            // What ends the stream where the wire refuses, and leaves what came before its answer.
            .half_close(true)
            // The wire owns all time.
            .header_read_timeout(None)
            .max_buf_size(2 * room + 1024)
            .serve_connection(TokioIo::new(wire), service);
        let ended = tokio::select! {
            ended = &mut connection => Some(ended),
            () = async { drop(closing.wait_for(|closing| *closing).await) } => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                Pin::new(&mut connection).graceful_shutdown();
                (&mut connection).await
            }
        };
        match ended {
            Ok(()) => connection.into_parts().io.into_inner().finish().await,
            Err(error) => tracing::debug!(%error, client = %peer, "a connection ended early"),
        }
    }
}

/// What the wire of one connection asks.
struct Watcher {
    http1: Http1,
    peer: SocketAddr,
    /// What hyper has room for on this connection, whatever a reload has raised since: with a head
    /// that is longer it would answer by itself.
    room: usize,
}

impl Keeper for Watcher {
    fn limits(&self) -> (Sizes, Times) {
        let Http1 { head, write, idle, ref current, .. } = self.http1;
        let limits = current.load().limits;
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
        written(refuse_unread(&self.http1.process, self.peer, request, refused))
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
