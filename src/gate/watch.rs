use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tower::{Layer, Service};

use super::inspect::is_one_message;
use super::pass::Declared;
use super::{Deletion, Directed, Gate, Observation, Observed, Passing, Received, Rehearsal, Rejection, Routed, Whole};
use crate::refusal::{Reason, Refused, RefusedAfterSpend};

/// Observe mode: the gates judge a copy of each head, and whatever they say is noted and the
/// message goes on; but for what is no one message, which no mode passes. The copy ends with the permission; it has no way to the sender.
pub struct Watch<F, A>(Arc<(F, A)>);

/// See [`Watch`].
pub struct Watching<F, A, S> {
    gates: Arc<(F, A)>,
    inner: S,
}

impl<F, A> Watch<F, A> {
    /// Judges by the gates before the salt is spent, and by those after.
    pub fn new(before: F, after: A) -> Self {
        Self(Arc::new((before, after)))
    }
}

impl<F, A, S: Clone> Clone for Watching<F, A, S> {
    fn clone(&self) -> Self {
        Self { gates: self.gates.clone(), inner: self.inner.clone() }
    }
}

impl<F, A, S> Layer<S> for Watch<F, A> {
    type Service = Watching<F, A, S>;

    fn layer(&self, inner: S) -> Self::Service {
        Watching { gates: self.0.clone(), inner }
    }
}

impl<B, F, A, S> Service<Observed<Received<B>>> for Watching<F, A, S>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    F: Gate<Received<Declared>, Out = Whole, Refusal = Refused> + 'static,
    A: Gate<Whole, Out = (), Refusal = RefusedAfterSpend> + 'static,
    S: Service<Observed<Passing<B>>, Error = Rejection> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = S::Response;
    type Error = Rejection;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, Rejection>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Observed<Received<B>>) -> Self::Future {
        let gates = self.gates.clone();
        let mut inner = self.inner.clone();
        // Before anything is waited for. A reload may end the observing, and a freeze must know of
        // what was let through by it.
        let deletes = request.request.parts().method.as_str().eq_ignore_ascii_case("DELETE");
        let held = deletes.then(|| request.observation.held_by_no_freeze());
        Box::pin(async move {
            let _until_answered = held;
            let Observed { mut observation, request: received } = request;
            observation.only_watches();
            let parts = received.parts();
            if let Err(refused) = is_one_message(parts) {
                return Err(Rejection::of(&refused, observation));
            }
            let passes = received.generation().passes(parts.method.as_str(), parts.uri.path());
            let verdict =
                if passes { Reason::Ok } else { judge(&gates, received.copy(Declared::of), &mut observation).await };
            let head = received.unjudged();
            inner.call(Observed { observation, request: Passing::watched(head, verdict) }).await
        })
    }
}

async fn judge<F, A>((before, after): &(F, A), copy: Received<Declared>, seen: &mut Observation) -> Reason
where
    F: Gate<Received<Declared>, Out = Whole, Refusal = Refused>,
    A: Gate<Whole, Out = (), Refusal = RefusedAfterSpend>,
{
    use crate::refusal::Refusal;
    match before.decide(copy, seen).await {
        Err(refused) => refused.reason(),
        Ok(whole) => after.decide(whole, seen).await.map_or_else(|refused| refused.reason(), |()| Reason::Ok),
    }
}

/// The same gate for deletions and for rehearsals, and another for deletions after it; the proof
/// of both ends here.
pub struct Either<G, D>(pub G, pub D);

impl<G, D> Gate<Directed> for Either<G, D>
where
    G: Gate<Routed<Deletion>, Refusal = RefusedAfterSpend> + Gate<Routed<Rehearsal>, Refusal = RefusedAfterSpend>,
    D: Gate<<G as Gate<Routed<Deletion>>>::Out, Out = (), Refusal = RefusedAfterSpend>,
{
    type Out = ();
    type Refusal = RefusedAfterSpend;

    async fn decide(&self, directed: Directed, seen: &mut Observation) -> Result<(), RefusedAfterSpend> {
        match directed {
            Directed::Deletion(routed) => {
                let permitted = self.0.decide(routed, seen).await?;
                self.1.decide(permitted, seen).await
            }
            Directed::Rehearsal(routed) => self.0.decide(routed, seen).await.map(drop),
        }
    }
}
