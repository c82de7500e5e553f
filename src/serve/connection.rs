use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::Response;
use hyper::body::Incoming;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::Service;

use super::http1::Http1;
use crate::config::Config;
use crate::gate::{Arrival, Body, Generation, Process};

/// How long to wait before accepting again when there are no descriptors left.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(50);

/// What connections may take of the process.
#[derive(Clone)]
pub(super) struct Limits {
    connections: Arc<Semaphore>,
    http1: Http1,
}

impl Limits {
    pub(super) fn new(config: &Config, process: &Arc<Process>, current: &Arc<ArcSwap<Generation>>) -> Self {
        Self {
            connections: Arc::new(Semaphore::new(config.limits.max_connections)),
            http1: Http1::new(config, process.clone(), current.clone()),
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
                    // Without it a small answer could wait for the acknowledgement of the one before.
                    drop(stream.set_nodelay(true));
                    limits.http1.serve(stream, peer, stack, closing).await;
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
