//! One connection, from its being accepted to its end.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use http::Response;
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tower::Service;

use super::entries::{Entry, Order, Phase};
use super::{http1, http2};
use crate::config::Config;
use crate::gate::{Arrival, Body, Current, Process};
use crate::listen::{Clients, Http, Listener, Peer, Raw, Refused, greet};
use crate::telemetry::Metrics;

/// How long to wait before accepting again when there are no descriptors left.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(50);

/// How long a client that has said nothing yet, or was told to go, has to speak once its listener is
/// closing: longer than a request or a last word is on its way.
pub(super) const LAST_CALL: Duration = Duration::from_secs(2);

/// What serves a request that came on a connection.
pub(super) trait Stack:
    Service<Arrival<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

impl<S> Stack for S where
    S: Service<Arrival<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

/// What connections may take of the process.
#[derive(Clone)]
pub(super) struct Limits {
    connections: Arc<Semaphore>,
    clients: Arc<Clients>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) current: Arc<Current>,
    pub(super) header_timeout: Duration,
    pub(super) body_timeout: Duration,
    pub(super) write_timeout: Duration,
    pub(super) idle_timeout: Duration,
    /// How long who is there may take to notice that a listener has gone.
    linger: Duration,
    pub(super) max_head: usize,
    pub(super) max_body: usize,
}

impl Limits {
    pub(super) fn new(config: &Config, process: &Arc<Process>, current: &Arc<Current>) -> Self {
        let limits = &config.limits;
        Self {
            connections: Arc::new(Semaphore::new(limits.max_connections)),
            clients: Arc::new(Clients::new(limits.max_connections_per_client)),
            metrics: process.metrics.clone(),
            current: current.clone(),
            header_timeout: limits.header_timeout,
            body_timeout: limits.body_timeout,
            write_timeout: limits.write_timeout,
            idle_timeout: limits.idle_timeout,
            linger: limits.drain_timeout,
            // Room for a head somewhat over its limits, so that it can be answered as such; what
            // is far over gets the HTTP reader's bare status.
            max_head: 2 * (limits.max_header_bytes + limits.max_target_bytes).max(8192),
            max_body: limits.max_body_bytes,
        }
    }
}

/// What is known of a connection while it is served.
pub(super) struct Connection {
    pub(super) peer: Peer,
    pub(super) entry: Arc<Entry>,
    /// Whether a request has come.
    pub(super) spoken: AtomicBool,
}

/// A listener, by tokio.
enum Accepting {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl Accepting {
    fn new(listener: Listener) -> io::Result<Self> {
        Ok(match listener {
            Listener::Tcp(listener) => Self::Tcp(tokio::net::TcpListener::from_std(listener)?),
            Listener::Unix(listener) => Self::Unix(tokio::net::UnixListener::from_std(listener)?),
        })
    }

    async fn accept(&self) -> io::Result<Raw> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Without it a small answer could wait for the acknowledgement of the one before.
                drop(stream.set_nodelay(true));
                Ok(Raw::Tcp(stream))
            }
            Self::Unix(listener) => Ok(Raw::Unix(listener.accept().await?.0)),
        }
    }

    /// What has come and was not accepted yet.
    async fn waiting(&self) -> Option<Raw> {
        let now = std::future::poll_fn(|_| std::task::Poll::Ready(()));
        tokio::select! {
            biased;
            accepted = self.accept() => accepted.ok(),
            () = now => None,
        }
    }
}

/// Accepts until the listener is to leave, then waits until every connection has ended.
pub(super) async fn accept(order: Order, stack: impl Stack, limits: Limits) {
    let (listener, entry) = order;
    let mut stopped = pin!(entry.stopped());
    let mut connections = JoinSet::new();
    match Accepting::new(listener) {
        Ok(listener) => {
            let mut begin = |raw, room| {
                let (stack, limits, entry) = (stack.clone(), limits.clone(), entry.clone());
                connections.spawn(serve(raw, room, stack, limits, entry));
                while connections.try_join_next().is_some() {}
            };
            // A connection that there is no room for is held in hand, and those behind it wait in
            // the kernel's queue.
            let room = || limits.connections.clone().acquire_owned();
            loop {
                let accepted = tokio::select! {
                    () = stopped.as_mut() => break,
                    accepted = listener.accept() => accepted,
                };
                match accepted {
                    Ok(raw) => tokio::select! {
                        biased;
                        room = room() => begin(raw, room.ok()),
                        () = stopped.as_mut() => {
                            begin(raw, None);
                            break;
                        }
                    },
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(OUT_OF_DESCRIPTORS).await;
                    }
                }
            }
            // Who has connected has been let in, as far as its side can tell.
            while let Some(raw) = listener.waiting().await {
                begin(raw, None);
            }
        }
        Err(error) => tracing::error!(%error, "the listener cannot be used"),
    }
    entry.accepts_no_more();
    let all_ended = async { while connections.join_next().await.is_some() {} };
    let mut all_ended = pin!(all_ended);
    tokio::select! {
        () = all_ended.as_mut() => return,
        () = closing(&entry) => {}
        () = tokio::time::sleep(limits.linger) => entry.advance(Phase::Closing),
    }
    all_ended.await;
}

async fn serve(raw: Raw, room: Option<OwnedSemaphorePermit>, stack: impl Stack, limits: Limits, entry: Arc<Entry>) {
    let room = match room {
        Some(room) => Some(room),
        None => limits.connections.clone().acquire_owned().await.ok(),
    };
    let Some(_room) = room else { return };
    let _open = limits.metrics.connection();
    let settings = entry.settings();
    let told_to_end = async {
        closing(&entry).await;
        tokio::time::sleep(LAST_CALL).await;
    };
    let greeted = tokio::select! {
        biased;
        greeted = greet(raw, &settings, &limits.clients) => greeted,
        () = told_to_end => return,
    };
    let greeted = match greeted {
        Ok(greeted) => greeted,
        Err(refused) => {
            if !matches!(refused, Refused::Gone(_)) {
                limits.metrics.connection_refused(refused.as_str());
            }
            return tracing::debug!(reason = refused.as_str(), detail = ?refused, "a connection was closed");
        }
    };
    let _place = greeted.place;
    let connection = Connection { peer: greeted.peer, entry, spoken: AtomicBool::new(false) };
    match greeted.http {
        Http::One => http1::serve(greeted.io, connection, stack, &limits).await,
        Http::Two => http2::serve(greeted.io, connection, stack, &limits).await,
    }
}

/// Waits until connections on which nothing is under way are to be closed.
pub(super) fn closing(entry: &Entry) -> impl Future<Output = ()> + use<> {
    let mut phase = entry.watch();
    async move { drop(phase.wait_for(|phase| *phase >= Phase::Closing).await) }
}
