//! Serves one HTTP/1 connection: the server of the http room, with the gates behind it.

use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};

use super::context::{Connection, Shared, Stack, last_call};
use super::unread::refuse_unread;
use crate::gate::{Arrival, Body, Current};
use crate::http::RequestBody;
use crate::http::fault::MessageFault;
use crate::http::h1::{ConnectionPolicy, ServeError, Server, Sizes, StrictStream, Times, whole_answer};
use crate::listen::{Activity, Io};
use crate::net::Client;
use crate::pipeline::poll_request;
use crate::policy::KeepAlive;
use crate::serve::entries::Phase;

/// Serves an HTTP/1 connection to its end.
pub(super) async fn serve(io: Io, connection: Connection, stack: impl Stack, shared: &Shared) {
    let connection = Arc::new(connection);
    let closed = async {
        connection.entry.reached(Phase::Closing).await;
        // A first request may be on its way.
        if !connection.spoken.load(Ordering::Relaxed) {
            last_call(&connection.entry).await;
        }
    };
    let exchange = Arc::new(Exchange::new(&connection.activity));
    // A message that does not become a request is attributed to the connection's peer.
    let watcher = Watcher::new(shared, connection.client_of(&HeaderMap::new()), exchange.clone());
    let (served_for, under_way) = (connection.clone(), exchange.clone());
    let call = move |request: Request<RequestBody>| {
        let (connection, exchange) = (served_for.clone(), under_way.clone());
        connection.spoken.store(true, Ordering::Relaxed);
        let keep_alive = connection.keep_alive();
        exchange.begin(keep_alive, request.method());
        let client = connection.client_of(request.headers());
        let answer = exchange.is_under_way().then(|| stack.clone().call(Arrival { request, client }));
        async move {
            // If there is none, this same poll closes the connection.
            let Some(answer) = answer else { return pending().await };
            let mut answer = pin!(answer);
            let answered = poll_fn(|cx| {
                let (polled, committed) = poll_request(answer.as_mut(), cx);
                exchange.holds.store(committed, Ordering::Relaxed);
                if committed {
                    exchange.activity.prove();
                }
                polled
            });
            let Ok(mut answer) = answered.await;
            exchange.holds.store(!matches!(answer.body(), Body::Passed(_)), Ordering::Relaxed);
            if connection.entry.is_leaving() || exchange.closes_after(keep_alive, answer.status()) {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            answer
        }
    };
    let mut served = Served(Some(Server::new(StrictStream::new(io, watcher), shared.clock.clone(), call)));
    let mut closed = pin!(closed);
    let mut heard: Option<Waker> = None;
    let ended = poll_fn(|cx| {
        if let Poll::Ready(ended) = served.poll(cx) {
            return Poll::Ready(Some(ended));
        }
        // When the listener leaves, this waker is called, so that no request has to poll for it.
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
            served.leave();
            let mut cutting = pin!(connection.entry.reached(Phase::Cutting));
            let ended = poll_fn(|cx| {
                if let Poll::Ready(ended) = served.poll(cx) {
                    return Poll::Ready(Some(ended));
                }
                let cut = connection.entry.is_cutting() || cutting.as_mut().poll(cx).is_ready();
                if cut && !exchange.holds.load(Ordering::Relaxed) { Poll::Ready(None) } else { Poll::Pending }
            });
            match ended.await {
                Some(ended) => ended,
                None => return served.reset(),
            }
        }
    };
    // From here on the connection can be evicted; finishing it cleanly is only a courtesy.
    exchange.end();
    match ended {
        Ok(()) => served.finish(exchange.closes.load(Ordering::Relaxed)).await,
        Err(error) => {
            served.reset();
            tracing::debug!(%error, client = ?connection.peer.address(), "a connection ended early");
        }
    }
}

/// A connection while it is served. If it is dropped within an answer (a drain ran out of time, or a handler
/// panicked), it is reset: if the answer has no length, a plain close would look like its regular end.
struct Served<C, F, B>(Option<Server<Io, Watcher, C, F, B>>);

impl<C, F, B> Served<C, F, B>
where
    C: FnMut(Request<RequestBody>) -> F,
    F: Future<Output = Box<Response<B>>>,
    B: http_body::Body<Data = Bytes> + Unpin,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ServeError<B::Error>>> {
        self.0.as_mut().map_or(Poll::Ready(Ok(())), |server| server.poll(cx))
    }

    fn leave(&mut self) {
        if let Some(server) = &mut self.0 {
            server.leave();
        }
    }

    async fn finish(mut self, early: bool) {
        if let Some(server) = self.0.take() {
            server.into_wire().finish(early).await;
        }
    }
}

impl<C, F, B> Served<C, F, B> {
    fn reset(mut self) {
        if let Some(server) = self.0.take() {
            server.into_wire().into_inner().reset();
        }
    }
}

impl<C, F, B> Drop for Served<C, F, B> {
    fn drop(&mut self) {
        if let Some(server) = self.0.take().filter(Server::is_answering) {
            server.into_wire().into_inner().reset();
        }
    }
}

/// What the HTTP reader and the gates tell each other about the request in progress.
struct Exchange {
    activity: Arc<Activity>,
    /// A request is in progress.
    under_way: AtomicBool,
    /// The request has arrived completely, and nothing behind it.
    alone: AtomicBool,
    /// Nothing may arrive behind the request before it is answered.
    must_be_alone: AtomicBool,
    /// Saltgate wants the connection closed, and the answer says so.
    closes: AtomicBool,
    /// The request runs to its end, or its client must get the answer: the connection must not be cut off.
    holds: AtomicBool,
}

impl Exchange {
    fn new(activity: &Arc<Activity>) -> Self {
        Self {
            activity: activity.clone(),
            under_way: AtomicBool::default(),
            holds: AtomicBool::default(),
            alone: AtomicBool::default(),
            must_be_alone: AtomicBool::default(),
            closes: AtomicBool::default(),
        }
    }

    /// Whether the request may be answered: not if the connection is being closed to make room for another one.
    fn is_under_way(&self) -> bool {
        self.under_way.swap(true, Ordering::Relaxed) || self.activity.begin()
    }

    /// Notes that no request is in progress any more.
    fn end(&self) {
        if self.under_way.load(Ordering::Relaxed) && self.under_way.swap(false, Ordering::Relaxed) {
            self.activity.end();
        }
    }

    fn begin(&self, keep_alive: KeepAlive, method: &Method) {
        let must_be_alone = match keep_alive {
            KeepAlive::Accepted => !method.is_safe(),
            KeepAlive::Always => false,
            KeepAlive::Never => true,
        };
        self.must_be_alone.store(must_be_alone, Ordering::Relaxed);
        self.holds.store(false, Ordering::Relaxed);
    }

    fn closes_after(&self, keep_alive: KeepAlive, status: StatusCode) -> bool {
        if self.closes.load(Ordering::Relaxed) {
            return true;
        }
        let closes = match keep_alive {
            KeepAlive::Accepted => {
                let pipelined = self.must_be_alone.load(Ordering::Relaxed) && !self.alone.load(Ordering::Relaxed);
                pipelined || status == StatusCode::UNAUTHORIZED
            }
            KeepAlive::Always => false,
            KeepAlive::Never => true,
        };
        if closes {
            self.closes.store(true, Ordering::Relaxed);
        }
        closes
    }
}

/// The callbacks of the strict stream of one connection.
struct Watcher {
    current: Arc<Current>,
    client: Client,
    exchange: Arc<Exchange>,
}

impl Watcher {
    fn new(shared: &Shared, client: Client, exchange: Arc<Exchange>) -> Self {
        Self { current: shared.current.clone(), client, exchange }
    }
}

impl ConnectionPolicy for Watcher {
    fn limits(&self) -> (Sizes, Times) {
        let limits = &self.current.load().limits;
        let sizes = Sizes { max_header_bytes: limits.max_header_bytes, max_target_bytes: limits.max_target_bytes };
        let times = Times {
            head: limits.header_timeout,
            body: limits.body_timeout,
            write: limits.write_timeout,
            first: limits.first_byte_timeout(),
            idle: limits.idle_timeout,
        };
        (sizes, times)
    }

    fn stands_alone(&self, alone: bool) {
        self.exchange.alone.store(alone, Ordering::Relaxed);
    }

    fn must_stand_alone(&self) -> bool {
        self.exchange.must_be_alone.load(Ordering::Relaxed)
    }

    fn idles(&self) {
        self.exchange.end();
    }

    fn refuse(&self, fault: MessageFault, request: Option<(&[u8], &[u8])>) -> Vec<u8> {
        // This goes on the first worker's list of refusals: the lists are read as one, and such refusals are few.
        let answer = refuse_unread(self.current.worker_state(0), self.client, request, fault.into());
        let (parts, body) = answer.into_parts();
        let Body::Own(body) = body else { return Vec::new() };
        whole_answer(&parts, &body.unwrap_or_default())
    }
}
