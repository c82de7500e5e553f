//! The point from which a request runs to its end.

use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::runtime::Handle;
use tower::{Layer, Service};
use tracing::{Instrument, Span};

use super::tasks::{Task, Tasks};
use crate::gate::{Ending, Observed, Rejection, Whole, own_body};
use crate::refusal::Answer;
use crate::repeats::KeptAnswer;

/// From here on a request runs to its end even if its client leaves, and a drain waits for it.
#[derive(Clone)]
pub(crate) struct Commit(Tasks);

/// See [`Commit`].
#[derive(Clone)]
pub(crate) struct Committing<S> {
    tasks: Tasks,
    inner: S,
}

impl Commit {
    /// Counts the requests in `tasks`, and records those that are refused after their salt was spent.
    pub(crate) fn new(tasks: Tasks) -> Self {
        Self(tasks)
    }
}

impl<S> Layer<S> for Commit {
    type Service = Committing<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Committing { tasks: self.0.clone(), inner }
    }
}

impl<S> Service<Observed<Whole>> for Committing<S>
where
    S: Service<Observed<Whole>, Response = Observed<Ending>, Error = Rejection>,
    S::Future: Send + Unpin + 'static,
{
    type Response = Observed<Ending>;
    type Error = Rejection;
    type Future = Committed<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Observed<Whole>) -> Self::Future {
        let task = self.tasks.enter();
        // A task of its own would not have the span of the request.
        let span = if tracing::enabled!(tracing::Level::DEBUG) { Span::current() } else { Span::none() };
        Committed(Some(Running { work: self.inner.call(request), span, _until_the_end: task }))
    }
}

/// A request that runs to its end.
///
/// While its client stays, it runs within the connection's task. If it is dropped before its end, it goes on as a
/// task of its own: so most requests need no task, and none is lost.
pub(crate) struct Committed<F: Future<Output = Result<Observed<Ending>, Rejection>> + Send + Unpin + 'static>(
    Option<Running<F>>,
);

struct Running<F> {
    work: F,
    span: Span,
    _until_the_end: Task,
}

impl<F> Future for Running<F>
where
    F: Future<Output = Result<Observed<Ending>, Rejection>> + Unpin,
{
    type Output = Result<Observed<Ending>, Rejection>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut ended = ready!(Pin::new(&mut self.work).poll(cx));
        match &mut ended {
            Ok(Observed { observation, request }) => observation.answered(|| request.kept()),
            Err(Rejection { observation: Some(seen), spent: true, answer, linked, .. }) => {
                seen.refused_on_record(Some(answer.status));
                seen.answered(|| KeptAnswer::own(answer.status, own_body(*answer, linked.as_deref())));
            }
            Err(_) => {}
        }
        Poll::Ready(ended)
    }
}

impl<F> Future for Committed<F>
where
    F: Future<Output = Result<Observed<Ending>, Rejection>> + Send + Unpin + 'static,
{
    type Output = Result<Observed<Ending>, Rejection>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(running) = &mut self.0 else { return Poll::Pending };
        COMMITTED.set(true);
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(running).poll(cx)));
        // The task may have panicked after it had sent. Its observation and its intent reported that when they were
        // dropped, and nothing of it is used again.
        let ended = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(ended)) => ended,
            Err(_) => Err(Rejection::lost(Answer::OUTCOME_LOST)),
        };
        self.0 = None;
        Poll::Ready(ended)
    }
}

impl<F> Drop for Committed<F>
where
    F: Future<Output = Result<Observed<Ending>, Rejection>> + Send + Unpin + 'static,
{
    fn drop(&mut self) {
        // Without a runtime the process is ending; what is dropped then reports itself.
        if let (Some(running), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            let span = running.span.clone();
            runtime.spawn(running.instrument(span));
        }
    }
}

thread_local! {
    /// Whether the request that this thread polls, or one within it, runs to its end.
    static COMMITTED: Cell<bool> = const { Cell::new(false) };
}

/// Polls a request on its way through the stack, and returns whether it runs to its end even if its connection
/// closes.
pub(crate) fn poll_request<F: Future>(request: Pin<&mut F>, cx: &mut Context<'_>) -> (Poll<F::Output>, bool) {
    COMMITTED.set(false);
    let polled = request.poll(cx);
    (polled, COMMITTED.replace(false))
}
