use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::sync::Notify;
use tower::{Layer, Service};

use super::{Ending, Observed, Process, Rejection, Whole};
use crate::refusal::Answer;

/// From here on a request is a task of its own: it runs to its end, whether its client stays or
/// not, and drain waits for it.
#[derive(Clone)]
pub struct Commit(Arc<Process>);

/// See [`Commit`].
#[derive(Clone)]
pub struct Committing<S> {
    process: Arc<Process>,
    inner: S,
}

impl Commit {
    /// Counts tasks in `process`, and puts on its record what is refused after the salt was
    /// spent.
    pub fn new(process: Arc<Process>) -> Self {
        Self(process)
    }
}

impl<S> Layer<S> for Commit {
    type Service = Committing<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Committing { process: self.0.clone(), inner }
    }
}

impl<S> Service<Observed<Whole>> for Committing<S>
where
    S: Service<Observed<Whole>, Response = Observed<Ending>, Error = Rejection>,
    S::Future: Send + 'static,
{
    type Response = Observed<Ending>;
    type Error = Rejection;
    type Future = Pin<Box<dyn Future<Output = Result<Observed<Ending>, Rejection>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Observed<Whole>) -> Self::Future {
        let task = self.process.tasks.enter();
        let work = self.inner.call(request);
        let running = tokio::spawn(async move {
            let _until_the_end = task;
            let ended = work.await;
            ended.map_err(|mut rejection| {
                if let Rejection { observation: Some(seen), spent: true, .. } = &mut rejection {
                    seen.refused_on_record();
                }
                rejection
            })
        });
        Box::pin(async move {
            // A task that does not come back panicked, perhaps after it had sent; its observation
            // and its intent have told so while they were dropped.
            running.await.unwrap_or_else(|_| Err(Rejection::lost(Answer::OUTCOME_LOST)))
        })
    }
}

/// Counts the requests that run to their end.
#[derive(Clone, Default)]
pub struct Tasks(Arc<Running>);

#[derive(Default)]
struct Running {
    count: AtomicUsize,
    none_left: Notify,
}

/// One of them. Dropped at its end.
pub struct Task(Arc<Running>);

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
