use std::convert::Infallible;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::Service;

use super::framing::Watched;
use crate::config::Config;
use crate::gate::{Arrival, Body};

/// How long to wait before accepting again when there are no descriptors left.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(50);

/// What connections may take of the process.
#[derive(Clone)]
pub(super) struct Limits {
    connections: Arc<Semaphore>,
    header_timeout: Duration,
    max_head: usize,
}

impl Limits {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            connections: Arc::new(Semaphore::new(config.limits.max_connections)),
            header_timeout: config.limits.header_timeout,
            // Room for a head somewhat over its limits, so that it can be answered as such; what
            // is far over gets the HTTP reader's bare status.
            max_head: 2 * (config.limits.max_header_bytes + config.limits.max_target_bytes).max(8192),
        }
    }
}

/// Accepts until `closing`, then waits until every connection has ended.
pub(super) async fn accept<S>(listener: TcpListener, stack: S, limits: Limits, mut closing: watch::Receiver<bool>)
where
    S: Service<Arrival<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the listener cannot be used"),
    };
    let mut connections = JoinSet::new();
    loop {
        // A connection that there is no room for waits in the kernel's queue.
        let room = limits.connections.clone().acquire_owned();
        let accepted = tokio::select! {
            _ = closing.wait_for(|closing| *closing) => break,
            accepted = async { let room = room.await; listener.accept().await.map(|it| (room, it)) } => accepted,
        };
        match accepted {
            Ok((room, (stream, peer))) => {
                let (stack, limits, closing) = (stack.clone(), limits.clone(), closing.clone());
                connections.spawn(async move {
                    let _room = room;
                    serve(stream, peer, stack, &limits, closing).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(OUT_OF_DESCRIPTORS).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve<S>(
    stream: TcpStream,
    peer: std::net::SocketAddr,
    stack: S,
    limits: &Limits,
    mut closing: watch::Receiver<bool>,
) where
    S: Service<Arrival<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    // Without it a small answer could wait for the acknowledgement of the one before.
    drop(stream.set_nodelay(true));
    let (stream, doubt) = Watched::new(stream);
    let service =
        service_fn(move |request| stack.clone().call(Arrival { request, peer, framing_in_doubt: doubt.is_cast() }));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.max_head)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async { drop(closing.wait_for(|closing| *closing).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, client = %peer, "a connection ended early");
    }
}
