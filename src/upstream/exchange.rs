//! One request and its answer, on one connection.
//!
//! At each moment it is known whether a byte of the request may have left. What is dropped in the
//! middle takes its connection with it: nothing of it leaves any more.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use tokio::time::Instant;

use super::answer::{self, Head};
use super::framing::{Framing, Malformed};
use super::pool::Connection;
use super::stream::Stream;
use super::wire::Wire;
use super::{AskError, Outgoing, RequestHead};

/// A request.
pub(super) struct Message {
    pub(super) head: RequestHead,
    pub(super) body: Outgoing,
}

/// A request of which nothing left. In a box: it is rare, and nobody else carries its room about.
pub(super) type Unsent = Box<Message>;

/// An answer whose head has come.
pub(super) struct Answered {
    pub(super) answer: Response<()>,
    pub(super) rest: Rest,
    /// When the rest of a question's answer must have come.
    pub(super) deadline: Instant,
}

/// A request that was put on a connection, until the head of its answer has come.
///
/// The error has the request where it is certain that nothing of it left.
pub(super) struct Sending(Option<Underway>);

struct Underway {
    connection: Connection,
    head: RequestHead,
    leaving: Leaving,
    deadline: Instant,
    timeout: Duration,
}

/// A request on its way out: what of it is not on the wire yet.
struct Leaving {
    body: Outgoing,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Part,
    All,
    /// Nothing more can leave. There may be an answer all the same.
    Cut,
}

/// What goes on of a request.
struct Moved;

impl Leaving {
    /// Writes what can be written. Says so when more of the body was taken to be sent: what is taken
    /// next must wait until there is room for it.
    ///
    /// # Errors
    /// If the body broke off.
    fn leave(&mut self, cx: &mut Context<'_>, wire: &mut Wire) -> io::Result<Option<Moved>> {
        let mut moved = None;
        while self.state == State::Part {
            match wire.poll_written(cx) {
                Poll::Pending => break,
                Poll::Ready(Err(_)) => self.state = State::Cut,
                Poll::Ready(Ok(())) => match &mut self.body {
                    Outgoing::Whole(_) => self.state = State::All,
                    Outgoing::Streamed(body) => match body.poll_next(cx, wire.more()) {
                        Poll::Pending => break,
                        Poll::Ready(ended) => {
                            moved = Some(Moved);
                            if ended? {
                                // What ends it is still to be written.
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

impl Sending {
    pub(super) fn new(mut connection: Connection, message: Message, timeout: Duration) -> Self {
        let Message { head, body } = message;
        let Connection { link, busy, .. } = &mut connection;
        let out = link.wire.begin();
        head.write(busy.host(), &body, out);
        if let Outgoing::Whole(body) = &body {
            out.extend_from_slice(body);
        }
        let leaving = Leaving { body, state: State::Part };
        Self(Some(Underway { connection, head, leaving, deadline: Instant::now() + timeout, timeout }))
    }
}

impl Future for Sending {
    type Output = Result<Answered, (AskError, Option<Unsent>)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(underway) = &mut self.0 else { return Poll::Pending };
        let ended = ready!(underway.poll(cx));
        let Some(Underway { connection, head, leaving, deadline, .. }) = self.0.take() else { return Poll::Pending };
        Poll::Ready(match ended {
            Ok(Head { answer, body, persists }) => {
                connection.worked();
                Ok(Answered { answer, rest: Rest { connection, body, persists, leaving }, deadline })
            }
            Err(Failed::Late) => Err((AskError::Timeout, None)),
            Err(Failed::Untouched) => Err((AskError::Broken, Some(Box::new(Message { head, body: leaving.body })))),
            Err(Failed::Broken) => {
                connection.broke();
                Err((AskError::Broken, None))
            }
        })
    }
}

/// Why there is no head of an answer.
enum Failed {
    /// Nothing left.
    Untouched,
    Broken,
    Late,
}

impl Underway {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, Failed>> {
        let wire = &mut self.connection.link.wire;
        match self.leaving.leave(cx, wire) {
            Err(_) => return Poll::Ready(Err(Failed::Broken)),
            // As long as a body is on its way there can be no answer to it.
            Ok(Some(Moved)) => self.deadline = Instant::now() + self.timeout,
            Ok(None) => {}
        }
        match (self.leaving.state, wire.is_touched()) {
            (State::Cut, false) => return Poll::Ready(Err(Failed::Untouched)),
            // What comes before anything was asked is no answer.
            (_, false) => {}
            (_, true) => {
                if let Poll::Ready(answered) = poll_head(cx, wire, self.head.is_head()) {
                    return Poll::Ready(answered.map_err(|_| Failed::Broken));
                }
            }
        }
        ready!(self.connection.link.alarm.poll(cx, self.deadline));
        Poll::Ready(Err(Failed::Late))
    }
}

/// Asks once on a connection of its own, and learns the status of the answer.
pub(super) async fn status(stream: Stream, host: &HeaderValue, question: &RequestHead) -> io::Result<StatusCode> {
    let mut wire = Wire::new(stream);
    question.write(host, &Outgoing::default(), wire.begin());
    poll_fn(|cx| wire.poll_written(cx)).await?;
    Ok(poll_fn(|cx| poll_head(cx, &mut wire, question.is_head())).await?.answer.status())
}

fn poll_head(cx: &mut Context<'_>, wire: &mut Wire, to_head: bool) -> Poll<io::Result<Head>> {
    loop {
        if !wire.unread.is_empty()
            && let Some(head) = answer::take(&mut wire.unread, to_head)?
        {
            return Poll::Ready(Ok(head));
        }
        if ready!(wire.poll_read(cx, None))? == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

/// What is left of an exchange when the head of the answer has come.
pub(super) struct Rest {
    connection: Connection,
    body: Framing,
    /// Whether another request may follow.
    persists: bool,
    /// A service may answer before it has read everything.
    leaving: Leaving,
}

impl Rest {
    /// Whether its connection was used before.
    pub(super) fn is_on_reused(&self) -> bool {
        self.connection.is_reused()
    }

    /// What is left of the answer's body, where that was told.
    pub(super) fn left(&self) -> Option<u64> {
        self.body.left()
    }

    /// Content that has come already.
    pub(super) fn take(&mut self) -> io::Result<Option<Bytes>> {
        Ok(self.body.take(&mut self.connection.link.wire.unread)?)
    }

    /// Whether the answer has ended.
    pub(super) fn is_over(&self) -> bool {
        self.body.is_over()
    }

    /// The next bit of content, or `None` at its end.
    pub(super) fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        let content = self.poll_whatever(cx);
        if let Poll::Ready(Err(_)) = content {
            self.connection.broke();
        }
        content
    }

    fn poll_whatever(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        self.leaving.leave(cx, &mut self.connection.link.wire)?;
        loop {
            if let Some(content) = self.take()? {
                return Poll::Ready(Ok(Some(content)));
            }
            if self.is_over() {
                return Poll::Ready(Ok(None));
            }
            if ready!(self.connection.link.wire.poll_read(cx, self.body.left()))? == 0 {
                let told = self.body == Framing::UntilClose;
                return Poll::Ready(if told { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) });
            }
        }
    }

    /// The answer was read to its end: its connection is kept for the next request, if it can have one.
    pub(super) fn end(self) {
        let Self { connection, persists, leaving, body } = self;
        if persists && body.is_over() && leaving.state == State::All {
            connection.put();
        }
    }
}

impl From<Malformed> for io::Error {
    fn from(_: Malformed) -> Self {
        Self::new(io::ErrorKind::InvalidData, "what came is not HTTP")
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
    use crate::upstream::{Address, Servers, Settings};

    /// A connection, and its other end.
    async fn connected() -> (Connection, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Address::Network { host: "127.0.0.1".into(), port, tls: false };
        let servers = Servers::new(Settings::new(vec![server]), Clock::system(), None).unwrap();
        let pool = Pool::new(&Arc::new(servers), 0);
        let Ok(connection) = pool.connect(pool.busy(), false).await else { panic!("somebody listens") };
        (connection, listener.accept().unwrap().0)
    }

    fn deletion() -> Message {
        let head = RequestHead::new(&Method::DELETE, "/x", None).unwrap();
        Message { head, body: Outgoing::Whole(Bytes::from_static(b"why")) }
    }

    async fn sent(connection: Connection) -> Result<Answered, (AskError, Option<Unsent>)> {
        Sending::new(connection, deletion(), Duration::from_secs(20)).await
    }

    #[tokio::test]
    async fn a_request_of_which_the_kernel_took_nothing_comes_back_as_it_was() {
        let (connection, server) = connected().await;
        // A reset: whatever is written after it is not taken.
        socket2::SockRef::from(&server).set_linger(Some(Duration::ZERO)).unwrap();
        drop(server);
        let Err((AskError::Broken, Some(unsent))) = sent(connection).await else { panic!("nothing left") };
        let written = |message: &Message| {
            let mut out = Vec::new();
            message.head.write(&HeaderValue::from_static("h"), &message.body, &mut out);
            out
        };
        assert_eq!(written(&unsent), written(&deletion()));
        assert!(matches!(unsent.body, Outgoing::Whole(body) if body == "why"));
    }

    #[tokio::test]
    async fn a_request_of_which_a_part_was_taken_does_not_come_back() {
        let (connection, server) = connected().await;
        let large = Message { body: Outgoing::Whole(vec![b'x'; 64 << 20].into()), ..deletion() };
        let resets = std::thread::spawn(move || {
            // More than the kernels hold, of which nobody takes anything.
            server.peek(&mut [0]).unwrap();
            socket2::SockRef::from(&server).set_linger(Some(Duration::ZERO)).unwrap();
        });
        let sent = Sending::new(connection, large, Duration::from_secs(20)).await;
        assert!(matches!(sent, Err((AskError::Broken, None))));
        resets.join().unwrap();
    }

    #[tokio::test]
    async fn a_request_that_nobody_read_does_not_come_back() {
        let (connection, server) = connected().await;
        // An end: the kernel takes what is written after it, and learns that nobody will read it.
        drop(server);
        assert!(matches!(sent(connection).await, Err((AskError::Broken, None))));
    }
}
