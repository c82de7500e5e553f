//! Serves the requests of one HTTP/1 connection, one after another.
//!
//! 1. A head is parsed once: the strict reader found the positions of its parts, and the request consists of slices
//!    of the bytes that were read.
//! 2. Only one message is read at a time. The next one is read after the answer was sent.
//! 3. Body bytes that arrive with the head are read with it. The rest is read when the handler of the request asks
//!    for it, and `100 Continue` is not sent before that. If the body has not arrived completely when its answer
//!    was sent, the connection ends.
//! 4. Head and body of an answer are written together as far as both are available.
//! 5. A request is handled on the task of its connection. Dropping the connection drops the request.

mod heads;

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body::Body;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{ConnectionPolicy, StrictStream};
use crate::clock::Clock;
use crate::event_loop::poll_yielding;
use crate::http::RequestBody;
use crate::http::h1::date::date;
use crate::http::h1::request_head::{self, AcceptedHead};
use crate::http::h1::request_parts::{self, Facts};
use crate::http::h1::response_body::Framing;
use crate::http::h1::response_writer::{self, Ends};
use crate::http::h1::upload::{Receiving, upload};

/// How much is read at once.
const PIECE: usize = 16 << 10;
/// Once this much of an answer is available, it is written before more is taken.
const ENOUGH: usize = 64 << 10;
/// A buffer that grew beyond this is not kept.
const KEPT: usize = 16 << 10;
/// How much of an unwanted body is read to keep the connection.
const UNWANTED: usize = 64 << 10;

thread_local! {
    /// The buffer that connections read into, so that an idle one holds no buffer.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; PIECE].into());
}

/// The requests of one connection, as a state machine: poll it until it has ended.
pub(crate) struct Server<S, K, C, F, B> {
    wire: StrictStream<S, K>,
    clock: Clock,
    call: C,
    /// Accepted bytes of a message that were not taken yet.
    read: BytesMut,
    /// Bytes to write, and how many of them were written.
    out: Vec<u8>,
    written: usize,
    state: State<B>,
    /// The request that is being handled. Allocated once for the connection.
    handling: Pin<Box<Option<F>>>,
    /// Its body, if it did not arrive with the head.
    receiving: Option<Receiving>,
    facts: Facts,
    /// No further request is accepted.
    is_leaving: bool,
}

enum State<B> {
    /// Waiting for the head of a request. Holds the head once a part of its bytes was passed on.
    Head(Option<AcceptedHead>),
    /// Waiting for the answer.
    Handling,
    /// Writing the answer; `None` if all of its body is in the buffer.
    Answering(Option<B>, Ends),
    /// Nothing is left to do.
    Over,
}

/// Why a connection ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError<E> {
    /// It broke.
    #[error("the connection broke: {0}")]
    Connection(#[from] io::Error),
    /// The body of an answer broke off. The part that was sent must not look complete.
    #[error("an answer broke off: {0}")]
    Answer(E),
    /// The body of an answer is not as long as its head said.
    #[error("the body of an answer is not as long as its head said")]
    WrongLength,
}

impl<E> From<response_writer::WrongLength> for ServeError<E> {
    fn from(_: response_writer::WrongLength) -> Self {
        Self::WrongLength
    }
}

impl<S, K, C, F, B> Server<S, K, C, F, B> {
    /// The stream of the connection.
    pub(crate) fn into_wire(self) -> StrictStream<S, K> {
        self.wire
    }

    /// Whether an answer has begun and was not sent completely.
    pub(crate) fn is_answering(&self) -> bool {
        matches!(self.state, State::Answering(..))
    }
}

impl<S, K, C, F, B> Server<S, K, C, F, B>
where
    S: AsyncRead + AsyncWrite + Unpin,
    K: ConnectionPolicy,
    C: FnMut(Request<RequestBody>) -> F,
    F: Future<Output = Box<Response<B>>>,
    B: Body<Data = Bytes> + Unpin,
{
    /// Answers the requests on `wire` with the results of `call`.
    pub(crate) fn new(wire: StrictStream<S, K>, clock: Clock, call: C) -> Self {
        Self {
            wire,
            clock,
            call,
            read: BytesMut::new(),
            out: Vec::new(),
            written: 0,
            state: State::Head(None),
            handling: Box::pin(None),
            receiving: None,
            facts: Facts { is_head: false, is_old: false, keep_alive: true, awaits_continue: false },
            is_leaving: false,
        }
    }

    /// Accepts no further request: the connection ends after the current answer, or at once.
    pub(crate) fn leave(&mut self) {
        self.is_leaving = true;
        self.facts.keep_alive = false;
    }

    /// Continues until the connection has served its last request.
    ///
    /// # Errors
    /// If the connection or an answer breaks.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ServeError<B::Error>>> {
        loop {
            match &mut self.state {
                State::Head(_) if self.is_leaving => self.state = State::Over,
                State::Head(_) => match ready!(self.poll_head(cx))? {
                    Some((head, bytes)) => self.begin(head, &bytes, cx)?,
                    None => self.state = State::Over,
                },
                State::Handling => ready!(self.poll_answer(cx))?,
                State::Answering(..) => {
                    ready!(self.poll_written(cx))?;
                    self.end(cx);
                }
                State::Over => return Poll::Ready(Ok(())),
            }
        }
    }

    /// The next head and its bytes, once all of them have arrived; `None` at the end of the connection.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<(AcceptedHead, Bytes)>>> {
        let State::Head(head) = &mut self.state else { return Poll::Ready(Ok(None)) };
        SCRATCH.with_borrow_mut(|scratch| {
            loop {
                let mut piece = ReadBuf::new(scratch);
                ready!(Pin::new(&mut self.wire).poll_read(cx, &mut piece))?;
                let piece = piece.filled();
                if piece.is_empty() {
                    return Poll::Ready(Ok(None));
                }
                if head.is_none() {
                    *head = self.wire.take_head();
                }
                if self.read.is_empty()
                    && let Some(head) = head.take_if(|head| head.length <= piece.len())
                {
                    let (bytes, rest) = piece.split_at(head.length);
                    self.read.extend_from_slice(rest);
                    return Poll::Ready(Ok(Some((head, heads::copied(bytes)))));
                }
                // The head is larger than what is read at once.
                self.read.extend_from_slice(piece);
                if let Some(head) = head.take_if(|head| head.length <= self.read.len()) {
                    let bytes = self.read.split_to(head.length).freeze();
                    return Poll::Ready(Ok(Some((head, bytes))));
                }
            }
        })
    }

    /// Passes a request to the handler.
    fn begin(&mut self, head: AcceptedHead, bytes: &Bytes, cx: &mut Context<'_>) -> io::Result<()> {
        // Written in its place, because a head is large to move.
        let mut request = Request::new(RequestBody::Whole(Bytes::new()));
        self.facts = request_parts::write(&head, bytes, &mut request).ok_or(io::ErrorKind::InvalidData)?;
        *request.body_mut() = self.body(&head, cx);
        self.wire.reuse(head.fields);
        self.handling.set(Some((self.call)(request)));
        self.state = State::Handling;
        Ok(())
    }

    /// The body that follows a head.
    fn body(&mut self, head: &AcceptedHead, cx: &mut Context<'_>) -> RequestBody {
        let framing = match head.body {
            request_head::Body::Length(0) => return RequestBody::Whole(Bytes::new()),
            request_head::Body::Length(length) => Framing::Length(length),
            request_head::Body::Chunked => Framing::CHUNKED,
        };
        let (mut receiving, upload) = upload(framing, self.facts.awaits_continue);
        if !self.read.is_empty() {
            receiving.take(&mut self.read);
        }
        // Many clients send head and body directly one after the other.
        if !receiving.is_over() && !self.facts.awaits_continue {
            let _ = self.poll_more(&mut receiving, cx);
        }
        // A chunked body stays chunked even if all of it has arrived.
        if head.body != request_head::Body::Chunked
            && let Some(whole) = receiving.whole()
        {
            return RequestBody::Whole(whole);
        }
        self.receiving = Some(receiving);
        RequestBody::Upload(upload)
    }

    /// Reads more of a body, and returns how much.
    fn poll_more(&mut self, receiving: &mut Receiving, cx: &mut Context<'_>) -> Poll<usize> {
        let read = ready!(self.poll_piece(cx));
        match &read {
            Ok(0) => receiving.fail(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => receiving.take(&mut self.read),
            Err(_) => {}
        }
        Poll::Ready(read.unwrap_or_else(|error| {
            receiving.fail(error);
            0
        }))
    }

    /// Reads a piece of a message, and returns its length.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut piece = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.wire).poll_read(cx, &mut piece))?;
            self.read.extend_from_slice(piece.filled());
            Poll::Ready(Ok(piece.filled().len()))
        })
    }

    /// Polls the handler, and starts its answer.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(receiving) = &self.receiving {
            receiving.watch(None);
        }
        let Some(handling) = self.handling.as_mut().as_pin_mut() else { return Poll::Pending };
        let (polled, has_yielded) = poll_yielding(handling, cx);
        if let Poll::Ready(answer) = polled {
            self.handling.set(None);
            self.answer(*answer);
            return Poll::Ready(Ok(()));
        }
        self.receive(cx)?;
        // A request that has yielded is polled again at once. The client is looked at when it really waits.
        if !has_yielded {
            self.wire.look(cx)?;
        }
        Poll::Pending
    }

    /// Reads the part of the body that the handler wants, as far as it has arrived.
    fn receive(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(mut receiving) = self.receiving.take() else { return Ok(()) };
        // Before an answer, the buffer can contain nothing but `100 Continue`.
        let is_answering = matches!(self.state, State::Answering(..));
        if !is_answering && receiving.takes_continue() {
            self.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        // The waker is set first, so that a request from a reader in another thread is not missed between the last
        // check and the return.
        receiving.watch(Some(cx.waker()));
        while receiving.is_wanted() && self.poll_more(&mut receiving, cx).is_ready() {}
        self.receiving = Some(receiving);
        if !is_answering && !self.out.is_empty() {
            // The answer follows it, whether or not it was already sent.
            if let Poll::Ready(flushed) = self.poll_flushed(cx) {
                flushed?;
            }
        }
        Ok(())
    }

    /// Starts the answer.
    fn answer(&mut self, answer: Response<B>) {
        let (parts, body) = answer.into_parts();
        // A client that was not told to send its body may never send it, or send it anyway: the next bytes would be
        // ambiguous.
        if self.is_leaving || self.receiving.as_ref().is_some_and(Receiving::awaits_continue) {
            self.facts.keep_alive = false;
        }
        let length = body.size_hint().exact();
        let date = date(self.clock.turn_now());
        let ends = response_writer::write_head(&parts, length, &mut self.facts, &date, &mut self.out);
        // A body that is not sent is dropped with everything that it holds.
        self.state = State::Answering(Some(body).filter(|_| ends != Ends::NoBody), ends);
    }

    /// Writes the answer to its end.
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ServeError<B::Error>>> {
        loop {
            let more = self.poll_body(cx)?;
            let flushed = self.poll_flushed(cx)?;
            match (more, flushed) {
                (Poll::Ready(true), Poll::Ready(())) => {}
                (Poll::Ready(false), Poll::Ready(())) => return Poll::Ready(Ok(())),
                // A client may read nothing of the answer before it has sent its whole body.
                _ => {
                    self.receive(cx)?;
                    return Poll::Pending;
                }
            }
        }
    }

    /// Moves the available part of the answer's body into the buffer. Returns whether there is more.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Result<Poll<bool>, ServeError<B::Error>> {
        let State::Answering(body, ends) = &mut self.state else { return Ok(Poll::Ready(false)) };
        while let Some(rest) = body {
            if self.out.len() >= ENOUGH {
                return Ok(Poll::Ready(true));
            }
            match Pin::new(rest).poll_frame(cx) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Some(Err(error))) => return Err(ServeError::Answer(error)),
                // Trailers are dropped.
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(part) = frame.into_data() {
                        ends.write(&part, &mut self.out)?;
                    }
                }
                Poll::Ready(None) => {
                    ends.end(&mut self.out)?;
                    *body = None;
                }
            }
        }
        Ok(Poll::Ready(false))
    }

    fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.out.len() {
            let written = ready!(Pin::new(&mut self.wire).poll_write(cx, &self.out[self.written..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
        }
        if self.written > 0 {
            self.written = 0;
            self.out.clear();
            self.out.shrink_to(KEPT);
        }
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    /// Called after the answer was sent.
    fn end(&mut self, cx: &mut Context<'_>) {
        let is_read = self.receiving.take().is_none_or(|receiving| self.discard(receiving, cx));
        let goes_on = is_read && self.facts.keep_alive && !self.is_leaving;
        self.wire.was_answered();
        // An idle connection holds no buffer.
        self.read = BytesMut::new();
        self.state = if goes_on { State::Head(None) } else { State::Over };
    }

    /// Discards a body that is no longer wanted, if all of it has arrived. Returns whether it had.
    fn discard(&mut self, mut receiving: Receiving, cx: &mut Context<'_>) -> bool {
        let mut left = UNWANTED;
        while !receiving.is_over() {
            let Poll::Ready(Ok(read @ 1..)) = self.poll_piece(cx) else { return false };
            receiving.skip(&mut self.read);
            let Some(still) = left.checked_sub(read) else { return false };
            left = still;
        }
        true
    }
}

#[cfg(test)]
mod tests;
