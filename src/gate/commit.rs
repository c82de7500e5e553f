use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tower::{Layer, Service};

use super::{Ending, Observed, Rejection, Whole};
use crate::refusal::Answer;

/// From here on a request runs to its end, whether its client stays or not, and drain waits for it.
#[derive(Clone)]
pub struct Commit(Tasks);

/// See [`Commit`].
#[derive(Clone)]
pub struct Committing<S> {
    tasks: Tasks,
    inner: S,
}

impl Commit {
    /// Counts them there, and puts on record what is refused after the salt was spent.
    pub fn new(tasks: Tasks) -> Self {
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
        Committed(Some(Running { work: self.inner.call(request), _until_the_end: task }))
    }
}

/// A request that runs to its end.
///
/// As long as its client stays, it runs where its connection does. Dropped before its end, it goes
/// on as a task of its own: most requests are spared a task, and none is lost.
pub struct Committed<F: Future<Output = Result<Observed<Ending>, Rejection>> + Send + Unpin + 'static>(
    Option<Running<F>>,
);

struct Running<F> {
    work: F,
    _until_the_end: Task,
}

impl<F> Future for Running<F>
where
    F: Future<Output = Result<Observed<Ending>, Rejection>> + Unpin,
{
    type Output = Result<Observed<Ending>, Rejection>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.work).poll(cx).map_err(|mut rejection| {
            if let Rejection { observation: Some(seen), spent: true, .. } = &mut rejection {
                seen.refused_on_record();
            }
            rejection
        })
    }
}

impl<F> Future for Committed<F>
where
    F: Future<Output = Result<Observed<Ending>, Rejection>> + Send + Unpin + 'static,
{
    type Output = Result<Observed<Ending>, Rejection>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(running) = &mut self.0 else { return Poll::Pending };
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(running).poll(cx)));
        // What panicked did so perhaps after it had sent; its observation and its intent have told
        // so while they were dropped, and nothing of it is used again.
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
        // Without a runtime the process is at its end; what is dropped then tells so by itself.
        if let (Some(running), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(running);
        }
    }
}

/// Counts the requests that run to their end.
#[derive(Clone, Default)]
pub struct Tasks(Arc<Count>);

#[derive(Default)]
struct Count {
    count: AtomicUsize,
    none_left: Notify,
}

/// One of them. Dropped at its end.
pub struct Task(Arc<Count>);

impl Tasks {
    /// One more.
    pub fn enter(&self) -> Task {
        self.0.count.fetch_add(1, Ordering::AcqRel);
        Task(self.0.clone())
    }

    /// How many run.
    pub fn running(&self) -> usize {
        self.0.count.load(Ordering::Acquire)
    }

    /// Waits until none runs.
    pub async fn ended(&self) {
        loop {
            let none_left = self.0.none_left.notified();
            if self.running() == 0 {
                return;
            }
            none_left.await;
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none_left.notify_waiters();
        }
    }
}
