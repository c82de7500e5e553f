//! One request and its answer, on one connection.
//!
//! It is known at any time whether a byte of the request may have been sent. Dropping an unfinished exchange closes its
//! connection, so that nothing more is sent.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use tokio::time::Instant;

use super::AskError;
use super::connect::Made;
use super::pool::Connection;
use super::traffic::{Probe, Traffic};
use super::wire::Wire;
use crate::clock::Lease;
use crate::event_loop::{TIMER_GRACE, turn_instant};
use crate::http::h1::{self, Framing, MalformedResponse, Outgoing, RequestHead, ResponseHead};

/// A request.
pub(super) struct Message {
    pub(super) head: RequestHead,
    pub(super) body: Outgoing,
    /// What must hold when its first byte leaves.
    pub(super) lease: Option<Arc<Lease>>,
}

/// A request of which no byte was sent. Boxed because it is rare, to keep the futures small.
pub(super) type Unsent = Box<Message>;

/// An answer whose head was received.
pub(super) struct Answered<T: Traffic> {
    pub(super) answer: Response<()>,
    pub(super) rest: Rest<T>,
    /// When the last part of the request was written.
    pub(super) asked: Instant,
}

/// A request on a connection, until the head of its answer is received.
///
/// The error contains the request if it is certain that no byte of it was sent.
pub(super) struct Sending<T: Traffic>(Option<Underway<T>>);

struct Underway<T: Traffic> {
    connection: Connection<T>,
    head: RequestHead,
    lease: Option<Arc<Lease>>,
    writing: RequestWrite,
    asked: Instant,
    /// How long to wait for the head of the answer.
    timeout: Duration,
    /// The timeout plus one last look, once the timeout has passed.
    overtime: Option<Duration>,
}

/// The part of a request that is still to be written.
struct RequestWrite {
    body: Outgoing,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Part,
    All,
    /// Writing failed. The server may still have answered.
    Cut,
}

/// Some bytes of the request were written.
struct BytesWritten;

impl RequestWrite {
    /// Writes as much as the connection takes now. Returns [`BytesWritten`] if another part of the body was taken.
    ///
    /// # Errors
    /// If the body ended early.
    fn poll_write(&mut self, cx: &mut Context<'_>, wire: &mut Wire) -> io::Result<Option<BytesWritten>> {
        let mut moved = None;
        while self.state == State::Part {
            let is_last = matches!(self.body, Outgoing::Whole(_));
            match wire.poll_written(cx, is_last) {
                Poll::Pending => break,
                Poll::Ready(Err(_)) => self.state = State::Cut,
                Poll::Ready(Ok(())) => match &mut self.body {
                    Outgoing::Whole(_) => self.state = State::All,
                    Outgoing::Streamed(body) => match body.poll_next(cx, wire.more()) {
                        Poll::Pending => break,
                        Poll::Ready(ended) => {
                            moved = Some(BytesWritten);
                            if ended? {
                                // The end of the body is in the buffer and still to be written.
                                self.body = Outgoing::default();
                            }
                        }
                    },
                },
            }
        }
        Ok(moved)
    }
}

impl<T: Traffic> Sending<T> {
    pub(super) fn new(mut connection: Connection<T>, message: Message, timeout: Duration) -> Self {
        let Message { head, body, lease } = message;
        let Connection { link, busy, .. } = &mut connection;
        let out = link.wire.begin();
        head.write(busy.host(), &body, out);
        if let Outgoing::Whole(body) = &body {
            out.extend_from_slice(body);
        }
        let writing = RequestWrite { body, state: State::Part };
        Self(Some(Underway { connection, head, lease, writing, asked: turn_instant(), timeout, overtime: None }))
    }
}

impl<T: Traffic> Future for Sending<T> {
    /// The answer is boxed because its callers pass it on.
    type Output = Result<Box<Answered<T>>, (AskError, Option<Unsent>)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(underway) = &mut self.0 else { return Poll::Pending };
        let ended = ready!(underway.poll(cx));
        let Some(Underway { connection, head, lease, writing, asked, .. }) = self.0.take() else {
            return Poll::Pending;
        };
        Poll::Ready(match ended {
            Ok(ResponseHead { answer, body, lasts }) => {
                connection.worked();
                let rest = Rest { connection, body, lasts, writing };
                Ok(Box::write(Box::new_uninit(), Answered { answer, rest, asked }))
            }
            Err(Failed::Lapsed) => Err((AskError::Lapsed, None)),
            Err(Failed::Late) => Err((AskError::Timeout, None)),
            Err(Failed::Untouched) => {
                Err((AskError::Broken(None), Some(Box::new(Message { head, body: writing.body, lease }))))
            }
            Err(Failed::Broken(malformed)) => {
                connection.broke();
                Err((AskError::Broken(malformed), None))
            }
        })
    }
}

/// Why no head of an answer was received.
enum Failed {
    /// No byte was sent.
    Untouched,
    /// The connection broke, or what came is not an answer.
    Broken(Option<MalformedResponse>),
    Late,
    /// No byte was sent, and none may be.
    Lapsed,
}

impl<T: Traffic> Underway<T> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, Failed>> {
        let wire = &mut self.connection.link.wire;
        // Nothing but the write of the system stands between this and the first byte.
        if self.lease.as_ref().is_some_and(|lease| !wire.is_touched() && !lease.holds()) {
            return Poll::Ready(Err(Failed::Lapsed));
        }
        match self.writing.poll_write(cx, wire) {
            Err(_) => return Poll::Ready(Err(Failed::Broken(None))),
            // The timeout starts when the last part of the body is written.
            Ok(Some(BytesWritten)) => (self.asked, self.overtime) = (Instant::now(), None),
            Ok(None) => {}
        }
        match (self.writing.state, wire.is_touched()) {
            (State::Cut, false) => return Poll::Ready(Err(Failed::Untouched)),
            // Bytes that arrive before the request was sent are no answer to it.
            (_, false) => {}
            (_, true) => {
                if let Poll::Ready(answered) = poll_head(cx, wire, self.head.is_head()) {
                    return Poll::Ready(answered.map_err(|error| Failed::Broken(malformed(&error))));
                }
            }
        }
        let within = self.overtime.unwrap_or(self.timeout);
        ready!(self.connection.link.timer.poll(cx, self.asked + within));
        if self.overtime.is_none() {
            let overtime = self.asked.elapsed() + TIMER_GRACE;
            self.overtime = Some(overtime);
            ready!(self.connection.link.timer.poll(cx, self.asked + overtime));
        }
        Poll::Ready(Err(Failed::Late))
    }
}

/// Sends one request on a new connection and returns the status of the answer.
pub(super) async fn status(made: Made<Probe>, host: &HeaderValue, question: &RequestHead) -> io::Result<StatusCode> {
    let mut wire = Wire::new(made.into_parts().0);
    question.write(host, &Outgoing::default(), wire.begin());
    poll_fn(|cx| wire.poll_written(cx, false)).await?;
    Ok(poll_fn(|cx| poll_head(cx, &mut wire, question.is_head())).await?.answer.status())
}

fn poll_head(cx: &mut Context<'_>, wire: &mut Wire, to_head: bool) -> Poll<io::Result<ResponseHead>> {
    loop {
        if !wire.unread.is_empty()
            && let Some(head) = h1::take_head(&mut wire.unread, to_head)?
        {
            return Poll::Ready(Ok(head));
        }
        if ready!(wire.poll_read(cx, None))? == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

/// What is wrong with the answer, if reading failed because of that.
pub(super) fn malformed(error: &io::Error) -> Option<MalformedResponse> {
    error.get_ref().and_then(|cause| cause.downcast_ref()).copied()
}

/// The rest of an exchange, after the head of the answer.
pub(super) struct Rest<T: Traffic> {
    connection: Connection<T>,
    body: Framing,
    /// How long the connection may be idle before its next request; zero if it must be closed.
    lasts: Duration,
    /// What is still to be written: a service may answer before it has read the whole request.
    writing: RequestWrite,
}

impl<T: Traffic> Rest<T> {
    /// Whether its connection was used before.
    pub(super) fn is_on_reused(&self) -> bool {
        self.connection.is_reused()
    }

    /// How many bytes of the answer's body are left, if its length is known.
    pub(super) fn left(&self) -> Option<u64> {
        self.body.left()
    }

    /// Takes content that was already read.
    pub(super) fn take(&mut self) -> io::Result<Option<Bytes>> {
        Ok(self.body.take(&mut self.connection.link.wire.unread)?)
    }

    /// Whether the answer has ended.
    pub(super) fn is_over(&self) -> bool {
        self.body.is_over()
    }

    /// The next part of the content, or `None` at its end.
    pub(super) fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        let content = self.poll_whatever(cx);
        if let Poll::Ready(Err(_)) = content {
            self.connection.broke();
        }
        content
    }

    fn poll_whatever(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        self.writing.poll_write(cx, &mut self.connection.link.wire)?;
        loop {
            if let Some(content) = self.take()? {
                return Poll::Ready(Ok(Some(content)));
            }
            if self.is_over() {
                return Poll::Ready(Ok(None));
            }
            let read = ready!(self.connection.link.wire.poll_read(cx, self.body.left()));
            let ends_here = self.body == Framing::UntilClose;
            let read = read.map_err(|error| match error.kind() {
                // The connection closed without `close_notify`.
                io::ErrorKind::UnexpectedEof if ends_here => MalformedResponse::NoEnd.into(),
                _ => error,
            });
            if read? == 0 {
                return Poll::Ready(if ends_here { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) });
            }
        }
    }

    /// Returns the connection to the pool after the end of the answer, if it can be reused.
    pub(super) fn end(self) {
        let Self { connection, lasts, writing, body } = self;
        let is_drained = body.is_over() && connection.link.wire.unread.is_empty();
        if !lasts.is_zero() && is_drained && writing.state == State::All {
            connection.put(lasts);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::Arc;

    use http::Method;

    use super::*;
    use crate::clock::Clock;
    use crate::upstream::pool::Pool;
    use crate::upstream::{Judged, ServerAddress, Servers, UpstreamSettings};

    /// A connection, and its other end.
    async fn connected() -> (Connection<Judged>, std::net::TcpStream) {
        let (_, connection, server) = connected_in_pool().await;
        (connection, server)
    }

    /// A connection with its pool, and its other end.
    async fn connected_in_pool() -> (Pool<Judged>, Connection<Judged>, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = ServerAddress::Network { at: crate::net::Authority::new("127.0.0.1", port).unwrap(), tls: false };
        let servers = Servers::new(UpstreamSettings::new(vec![server]), Clock::system(), None).unwrap();
        let pool = Pool::new(&Arc::new(servers), 0);
        let Ok(connection) = pool.connect(pool.busy(), false).await else { panic!("somebody listens") };
        (pool, connection, listener.accept().unwrap().0)
    }

    fn deletion() -> Message {
        let head = RequestHead::new(&Method::DELETE, "/x", None).unwrap();
        Message { head, body: Outgoing::Whole(Bytes::from_static(b"why")), lease: None }
    }

    async fn sent(connection: Connection<Judged>) -> Result<Box<Answered<Judged>>, (AskError, Option<Unsent>)> {
        Sending::new(connection, deletion(), Duration::from_secs(20)).await
    }

    #[tokio::test]
    async fn a_request_that_the_kernel_did_not_take_is_returned_unchanged() {
        let (connection, server) = connected().await;
        // A reset: whatever is written after it is not taken.
        socket2::SockRef::from(&server).set_linger(Some(Duration::ZERO)).unwrap();
        drop(server);
        let Err((AskError::Broken(None), Some(unsent))) = sent(connection).await else { panic!("nothing left") };
        let written = |message: &Message| {
            let mut out = Vec::new();
            message.head.write(&HeaderValue::from_static("h"), &message.body, &mut out);
            out
        };
        assert_eq!(written(&unsent), written(&deletion()));
        assert!(matches!(unsent.body, Outgoing::Whole(body) if body == "why"));
    }

    #[tokio::test]
    async fn a_partly_taken_request_is_not_returned() {
        let (connection, server) = connected().await;
        let large = Message { body: Outgoing::Whole(vec![b'x'; 64 << 20].into()), ..deletion() };
        let resets = std::thread::spawn(move || {
            // More than the kernels hold, of which nobody takes anything.
            server.peek(&mut [0]).unwrap();
            socket2::SockRef::from(&server).set_linger(Some(Duration::ZERO)).unwrap();
        });
        let sent = Sending::new(connection, large, Duration::from_secs(20)).await;
        assert!(matches!(sent, Err((AskError::Broken(_), None))));
        resets.join().unwrap();
    }

    #[tokio::test]
    async fn a_request_that_was_sent_but_not_read_is_not_returned() {
        let (connection, server) = connected().await;
        // An end: the kernel takes what is written after it, and learns that nobody will read it.
        drop(server);
        assert!(matches!(sent(connection).await, Err((AskError::Broken(_), None))));
    }

    #[tokio::test]
    async fn only_a_connection_with_nothing_left_of_its_answer_is_used_again() {
        for (answer, is_kept) in [
            ("Content-Length: 2\r\n\r\nok", true),
            ("Content-Length: 2\r\n\r\n", false),
            ("Content-Length: 2\r\n\r\nok!", false),
            ("Content-Length: 2\r\nConnection: close\r\n\r\nok", false),
        ] {
            let (pool, connection, mut server) = connected_in_pool().await;
            std::io::Write::write_all(&mut server, format!("HTTP/1.1 200 OK\r\n{answer}").as_bytes()).unwrap();
            let mut rest = sent(connection).await.ok().unwrap().rest;
            assert!(!rest.is_on_reused() && rest.left() == Some(2), "{answer:?}");
            let body = rest.take().unwrap();
            assert_eq!(body.as_deref(), answer.contains("ok").then_some(&b"ok"[..]), "{answer:?}");
            rest.end();
            let again = pool.take(pool.busy(), crate::upstream::pool::Reuse::Idle);
            assert_eq!(again.is_ok(), is_kept, "{answer:?}");
            let Ok(connection) = again else { continue };
            std::io::Write::write_all(&mut server, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            assert!(sent(connection).await.ok().unwrap().rest.is_on_reused());
        }
    }

    #[tokio::test]
    async fn what_is_wrong_with_an_answer_is_told() {
        let (connection, mut server) = connected().await;
        std::io::Write::write_all(&mut server, b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n").unwrap();
        let Err((AskError::Broken(malformed), None)) = sent(connection).await else { panic!("it is ambiguous") };
        assert_eq!(malformed, Some(MalformedResponse::Framing));
    }

    #[tokio::test]
    async fn a_lease_that_ends_while_the_answer_is_awaited_changes_nothing() {
        let (clock, hands) = crate::clock::Clock::manual(std::time::UNIX_EPOCH);
        let lease = Arc::new(Lease::new(clock.clone(), Duration::from_secs(1)));
        lease.renew(clock.elapsed());
        let (connection, mut server) = connected().await;
        let message = Message { lease: Some(lease), ..deletion() };
        let mut sending = Sending::new(connection, message, Duration::from_secs(20));
        let is_ended = poll_fn(|cx| Poll::Ready(Pin::new(&mut sending).poll(cx).is_ready())).await;
        assert!(!is_ended);
        hands.advance(Duration::from_secs(1));
        std::io::Write::write_all(&mut server, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        assert_eq!(sending.await.ok().unwrap().answer.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn after_its_timeout_a_request_looks_once_more_for_its_answer() {
        let (connection, _server) = connected().await;
        tokio::time::pause();
        let mut sending = Sending::new(connection, deletion(), Duration::from_secs(1));
        let mut ended = async || poll_fn(|cx| Poll::Ready(Pin::new(&mut sending).poll(cx).is_ready())).await;
        assert!(!ended().await);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(!ended().await, "the process may have been stopped, and the answer have come meanwhile");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(ended().await);
    }

    #[tokio::test]
    async fn nothing_of_a_request_leaves_after_its_lease() {
        let (clock, hands) = crate::clock::Clock::manual(std::time::UNIX_EPOCH);
        let lease = Arc::new(Lease::new(clock.clone(), Duration::from_secs(1)));
        lease.renew(clock.elapsed());
        hands.advance(Duration::from_secs(1));
        let (connection, mut peer) = connected().await;
        let message = Message { lease: Some(lease), ..deletion() };
        let sent = Sending::new(connection, message, Duration::from_secs(1)).await;
        assert!(matches!(sent, Err((AskError::Lapsed, None))));
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut peer, &mut bytes).unwrap();
        assert_eq!(bytes, b"", "it was closed");
    }
}
