use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::Instant;

use super::outgoing::Progress;
use super::pool::Connection;
use super::{AskError, Outgoing};

/// An answer whose head has come.
pub(super) struct Answered {
    pub(super) answer: Response<Incoming>,
    pub(super) connection: Connection,
    /// When the rest of a question's answer must have come.
    pub(super) deadline: Instant,
}

/// A request of which nothing left. In a box: it is rare, and nobody else carries its room about.
pub(super) type Unsent = Box<Request<Outgoing>>;

type Answering = Pin<Box<dyn Future<Output = Result<Response<Incoming>, TrySendError<Request<Outgoing>>>> + Send>>;

/// A request that was handed to a connection, until the head of its answer has come.
///
/// The error has the request where it was handed back: nothing of it left.
pub(super) struct Sending(Option<Underway>);

struct Underway {
    answering: Answering,
    connection: Connection,
    deadline: Instant,
    /// As long as a body is on its way there can be no answer to it.
    progress: Option<Arc<Progress>>,
    timeout: Duration,
}

impl Sending {
    pub(super) fn new(mut connection: Connection, request: Request<Outgoing>, timeout: Duration) -> Self {
        let progress = request.body().progress();
        // In a box: it has room for the request, in case it comes back.
        let answering = Box::pin(connection.sender.try_send_request(request));
        Self(Some(Underway { answering, connection, deadline: Instant::now() + timeout, progress, timeout }))
    }
}

impl Underway {
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.connection.alarm.poll(cx, self.deadline));
            match self.progress.as_ref().map(|progress| progress.last() + self.timeout) {
                Some(later) if later > self.deadline => self.deadline = later,
                _ => return Poll::Ready(()),
            }
        }
    }
}

impl Future for Sending {
    type Output = Result<Answered, (AskError, Option<Unsent>)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(underway) = &mut self.0 else { return Poll::Pending };
        let sent = match underway.answering.as_mut().poll(cx) {
            Poll::Ready(sent) => sent,
            Poll::Pending => {
                ready!(underway.poll_late(cx));
                self.0 = None;
                return Poll::Ready(Err((AskError::Timeout, None)));
            }
        };
        let Some(Underway { connection, deadline, .. }) = self.0.take() else { return Poll::Pending };
        Poll::Ready(match sent {
            Ok(answer) => {
                connection.worked();
                Ok(Answered { answer, connection, deadline })
            }
            Err(mut error) => {
                let unsent = error.take_message().map(Box::new);
                if unsent.is_none() && connection.is_reused() {
                    // It may have died of old age, and so may the others.
                    connection.clear_pool();
                }
                Err((AskError::Broken, unsent))
            }
        })
    }
}
