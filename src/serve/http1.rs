use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::header::{CONNECTION, HeaderValue};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::connection::{Connection, LAST_CALL, Limits, Stack, closing};
use super::framing::Watched;
use crate::gate::Arrival;
use crate::listen::Io;

/// Serves a connection of HTTP/1 to its end.
pub(super) async fn serve(io: Io, connection: Connection, stack: impl Stack, limits: &Limits) {
    let connection = Arc::new(connection);
    let (stream, doubt) = Watched::new(io);
    let closed = async {
        closing(&connection.entry).await;
        // A first request may be on its way; hyper would close on it.
        if !connection.spoken.load(Ordering::Relaxed) {
            tokio::time::sleep(LAST_CALL).await;
        }
    };
    let served_for = connection.clone();
    let service = service_fn(move |request: http::Request<Incoming>| {
        let connection = served_for.clone();
        connection.spoken.store(true, Ordering::Relaxed);
        let client = connection.peer.client_of(request.headers());
        let answer = stack.clone().call(Arrival { request, client, framing_in_doubt: doubt.is_cast() });
        async move {
            let mut answer = answer.await?;
            if connection.entry.is_leaving() {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.max_head)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = pin!(served);
    let ended = tokio::select! {
        biased;
        ended = served.as_mut() => ended,
        () = closed => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, client = ?connection.peer.address(), "a connection ended early");
    }
}
