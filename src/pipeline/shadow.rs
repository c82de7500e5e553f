//! `mode = "observe"`: the gates judge a copy, and the message is forwarded.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tower::{Layer, Service};

use super::declared::Declared;
use crate::gate::{Gate, Observation, Observed, Passing, Received, Rejection, Whole};
use crate::http::form;
use crate::refusal::{Reason, Refusal, Refused, RefusedAfterSpend};
use crate::safeguard::Freeze;
use crate::throttle::PassingSlots;

/// Observe mode: the gates judge a copy of each head. Their verdict is noted, and the message is forwarded. Two
/// kinds are refused all the same: a request with ambiguous framing, and one beyond `limits.max_passing`. The copy
/// is dropped after the safeguards and never reaches the sender.
pub(crate) struct Shadow<F, A, L>(Arc<Verdicts<F, A, L>>);

/// The gates that judge: `before` and `after` the salt is spent, and `letting` for messages that pass without them.
struct Verdicts<F, A, L> {
    before: F,
    after: A,
    letting: L,
    slots: PassingSlots,
    freeze: Arc<Freeze>,
}

/// See [`Shadow`].
pub(crate) struct Shadowing<F, A, L, S> {
    verdicts: Arc<Verdicts<F, A, L>>,
    inner: S,
}

impl<F, A, L> Shadow<F, A, L> {
    /// Judges with the gates `before` and `after` the salt is spent, and judges passthrough messages with
    /// `letting`. At most as many messages pass at once as there are slots, and a freeze can wait for those that
    /// may delete.
    pub(crate) fn new(slots: &PassingSlots, freeze: &Arc<Freeze>, before: F, after: A, letting: L) -> Self {
        Self(Arc::new(Verdicts { before, after, letting, slots: slots.clone(), freeze: freeze.clone() }))
    }
}

impl<F, A, L, S: Clone> Clone for Shadowing<F, A, L, S> {
    fn clone(&self) -> Self {
        Self { verdicts: self.verdicts.clone(), inner: self.inner.clone() }
    }
}

impl<F, A, L, S> Layer<S> for Shadow<F, A, L> {
    type Service = Shadowing<F, A, L, S>;

    fn layer(&self, inner: S) -> Self::Service {
        Shadowing { verdicts: self.0.clone(), inner }
    }
}

impl<B, F, A, L, S> Service<Observed<Received<B>>> for Shadowing<F, A, L, S>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    F: Gate<Received<Declared>, Out = Whole, Refusal = Refused> + 'static,
    A: Gate<Whole, Out = (), Refusal = RefusedAfterSpend> + 'static,
    L: Gate<Received<Declared>, Out = (), Refusal = Refused> + 'static,
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
        let verdicts = self.verdicts.clone();
        let mut inner = self.inner.clone();
        // This comes before the first await: a reload may end observe mode, and a freeze must know which deletions
        // it let through.
        let deletes = request.request.parts().method.as_str().eq_ignore_ascii_case("DELETE");
        let held = deletes.then(|| verdicts.freeze.permit_regardless());
        Box::pin(async move {
            let _until_answered = held;
            let Observed { mut observation, request: received } = request;
            observation.only_watches();
            let parts = received.parts();
            if let Err(fault) = form::judge_http_2(parts) {
                return Err(Rejection::of(&Refused::from(fault), observation));
            }
            let Some(slot) = verdicts.slots.take() else {
                return Err(Rejection::of(&Refused::Overloaded, observation));
            };
            let (passes, copy) = (received.generation().passes(parts), received.copy(Declared::of));
            let verdict = verdicts.of(copy, passes, &mut observation).await;
            inner.call(Observed { observation, request: Passing::shadowed(received, verdict, slot) }).await
        })
    }
}

impl<F, A, L> Verdicts<F, A, L>
where
    F: Gate<Received<Declared>, Out = Whole, Refusal = Refused>,
    A: Gate<Whole, Out = (), Refusal = RefusedAfterSpend>,
    L: Gate<Received<Declared>, Out = (), Refusal = Refused>,
{
    /// Why the request would be refused if the verdict were enforced; `Ok` if it would not be.
    async fn of(&self, copy: Received<Declared>, passes: bool, seen: &mut Observation) -> Reason {
        if passes {
            return reason(self.letting.decide(copy, seen).await);
        }
        match self.before.decide(copy, seen).await {
            Ok(whole) => reason(self.after.decide(whole, seen).await),
            Err(refused) => refused.reason(),
        }
    }
}

fn reason(verdict: Result<(), impl Refusal>) -> Reason {
    verdict.map_or_else(|refused| refused.reason(), |()| Reason::Ok)
}
