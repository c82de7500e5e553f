//! The gates: each an async verdict and nothing else.
//!
//! A request becomes more proven on the way in, and the compiler knows how proven it is: each
//! gate takes what the gate above made and makes the next. The fields of what a gate makes are
//! private to it, so nothing but the gate can make it. Leaving a gate out, or swapping two, does
//! not compile; the order is in [`crate::stack`].
//!
//! ```text
//! Arrival ─Observe→ Received ─Inspect→ Head ─Authenticate→ Authenticated ─Admit→ Admitted ─Read→ Whole
//!   ─Spend→ Fresh ─Route→ Directed ─Fork→ Routed ─Authorize→ Authorized ─Safeguard→ Cleared ─Record→ Recorded
//!   ─Release→ Released ─Send→ Concluded
//!                             └→ Routed<Rehearsal> ─Authorize→ Authorized<Rehearsal> ─Foretell→ Foretold
//! ```
//!
//! The whole chain, in order, compiles:
//!
//! ```
//! use saltgate::gate::{Authorize, Concluded, Gate, Record, Release, Routed, Safeguard, Send};
//! fn leads<In, G: Gate<In, Out = Out>, Out>(_: impl FnOnce() -> G) {}
//! fn chain(safeguard: Safeguard, record: Record, release: Release) {
//!     leads::<Routed, _, Concluded>(|| Authorize.then(safeguard).then(record).then(release).then(Send));
//! }
//! ```
//!
//! Leaving a gate out does not:
//!
//! ```compile_fail,E0277
//! use saltgate::gate::{Authorize, Gate, Record, Released, Release, Routed, Safeguard};
//! fn leads<In, G: Gate<In, Out = Out>, Out>(_: impl FnOnce() -> G) {}
//! fn chain(safeguard: Safeguard, record: Record, release: Release) {
//!     leads::<Routed, _, Released>(|| Authorize.then(safeguard).then(release));
//! }
//! ```
//!
//! Nor does swapping two:
//!
//! ```compile_fail,E0277
//! use saltgate::gate::{Authorize, Gate, Record, Released, Release, Routed, Safeguard};
//! fn leads<In, G: Gate<In, Out = Out>, Out>(_: impl FnOnce() -> G) {}
//! fn chain(safeguard: Safeguard, record: Record, release: Release) {
//!     leads::<Routed, _, Released>(|| Authorize.then(record).then(safeguard).then(release));
//! }
//! ```
//!
//! Nor recording, and so sending, what was only to be rehearsed:
//!
//! ```compile_fail,E0277
//! use saltgate::gate::{Authorize, Gate, Record, Recorded, Rehearsal, Routed, Safeguard};
//! fn leads<In, G: Gate<In, Out = Out>, Out>(_: impl FnOnce() -> G) {}
//! fn chain(safeguard: Safeguard, record: Record) {
//!     leads::<Routed<Rehearsal>, _, Recorded>(|| Authorize.then(safeguard).then(record));
//! }
//! ```
//!
//! Nor sending what is recorded and not released, which is where the freeze is judged:
//!
//! ```compile_fail,E0277
//! use saltgate::gate::{Concluded, Gate, Record, Routed, Authorize, Safeguard, Send};
//! fn leads<In, G: Gate<In, Out = Out>, Out>(_: impl FnOnce() -> G) {}
//! fn chain(safeguard: Safeguard, record: Record) {
//!     leads::<Routed, _, Concluded>(|| Authorize.then(safeguard).then(record).then(Send));
//! }
//! ```
//!
//! Nor making a proof by hand:
//!
//! ```compile_fail,E0451
//! use saltgate::gate::{Cleared, Recorded};
//! fn forge(cleared: Cleared, intent: saltgate::audit::OpenIntent) -> Recorded {
//!     Recorded { cleared, intent }
//! }
//! ```
//!
//! Nor refusing with 503 after the salt was spent:
//!
//! ```compile_fail,E0599
//! let refused = saltgate::refusal::RefusedAfterSpend::Overloaded;
//! ```

mod admit;
mod authenticate;
mod authorize;
mod client;
mod commit;
mod inspect;
mod observe;
mod pass;
mod read;
mod record;
mod refusals;
mod rehearse;
mod release;
mod respond;
mod route;
mod safeguard;
mod send;
mod spend;
mod state;
mod unread;
mod watch;
mod ways;

pub use admit::{Admit, Admitted};
pub use authenticate::{Authenticate, Authenticated};
pub use authorize::{Authorize, Authorized};
pub use client::Client;
pub use commit::{Commit, Tasks};
pub use inspect::{Head, Inspect, Received};
pub use observe::{Arrival, Observation, Observe, Observed, RequestIds};
pub use pass::{Broken, Declared, Letting, Pass, Passed, Passing};
pub use read::{Read, Whole};
pub use record::{Record, Recorded};
pub use refusals::{Refusals, RefusedRequest};
pub use rehearse::{Ending, Foretell, Foretold, Fork};
pub use release::{Release, Released};
pub use respond::{Body, Respond, own as own_answer};
pub use route::{Deletion, Directed, Purpose, Rehearsal, RouteGate, Routed};
pub use safeguard::{Cleared, Foresee, Safeguard};
pub use send::{Concluded, Send};
pub use spend::{Fresh, Spend};
pub use state::{Current, Desk, Generation, Limits, Process};
pub use unread::refuse_unread;
pub use watch::{Either, Watch};
pub use ways::{Mode, Ways};

use std::future::Future;
use std::marker;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::{Layer, Service};

use crate::refusal::{Answer, Linked, Refusal};

/// One verdict about a request: what it proved, or why it goes no further.
///
/// The [`Observation`] is where a gate notes what the log should say; it decides nothing.
#[diagnostic::on_unimplemented(
    message = "gate `{Self}` cannot stand here: the gate above it hands down `{In}`",
    note = "the order is in src/stack.rs"
)]
pub trait Gate<In>: marker::Send + marker::Sync {
    /// What the request has proven once this gate has let it through.
    type Out: marker::Send;
    /// How this gate refuses.
    type Refusal: Refusal + marker::Send;

    /// The verdict.
    fn decide(
        &self,
        request: In,
        seen: &mut Observation,
    ) -> impl Future<Output = Result<Self::Out, Self::Refusal>> + marker::Send;

    /// This gate, and then that one: again a gate.
    fn then<G>(self, next: G) -> Then<Self, G>
    where
        Self: Sized,
        G: Gate<Self::Out, Refusal = Self::Refusal>,
    {
        Then { first: self, next }
    }
}

/// Two gates as one.
pub struct Then<A, B> {
    first: A,
    next: B,
}

impl<In, A, B> Gate<In> for Then<A, B>
where
    In: marker::Send,
    A: Gate<In>,
    B: Gate<A::Out, Refusal = A::Refusal>,
{
    type Out = B::Out;
    type Refusal = A::Refusal;

    async fn decide(&self, request: In, seen: &mut Observation) -> Result<Self::Out, Self::Refusal> {
        let proven = self.first.decide(request, seen).await?;
        self.next.decide(proven, seen).await
    }
}

/// What a request on its way through gates is: in one box, however many gates there are.
type Judging<Out> = Pin<Box<dyn Future<Output = Result<Out, Rejection>> + marker::Send>>;

/// The one [`Layer`] that puts a chain of gates in front of a service.
pub fn gates<G>(chain: G) -> Gates<G> {
    Gates(Arc::new(chain))
}

/// See [`gates`].
pub struct Gates<G>(Arc<G>);

/// A service behind gates.
pub struct Gated<G, S> {
    gates: Arc<G>,
    inner: S,
}

/// A service that is a chain of gates to the last of them.
pub fn to_the_end<G>(chain: G) -> ToTheEnd<G> {
    ToTheEnd(Arc::new(chain))
}

/// See [`to_the_end`].
pub struct ToTheEnd<G>(Arc<G>);

/// A request that was refused: what was seen of it, and what its caller gets.
pub struct Rejection {
    /// `None` if the task that held it panicked: it told so while it was dropped.
    observation: Option<Box<Observation>>,
    answer: Answer,
    linked: Option<Box<Linked>>,
    spent: bool,
}

impl Rejection {
    fn lost(answer: Answer) -> Self {
        Self { observation: None, answer, linked: None, spent: false }
    }

    fn of(refused: &impl Refusal, mut observation: Box<Observation>) -> Self {
        observation.refused(refused);
        let (answer, spent) = (refused.answer(), refused.spent());
        let linked = refused.linked().cloned().map(Box::new);
        Self { observation: Some(observation), answer, linked, spent }
    }
}

impl<G, S> Layer<S> for Gates<G> {
    type Service = Gated<G, S>;

    fn layer(&self, inner: S) -> Self::Service {
        Gated { gates: self.0.clone(), inner }
    }
}

impl<G, S: Clone> Clone for Gated<G, S> {
    fn clone(&self) -> Self {
        Self { gates: self.gates.clone(), inner: self.inner.clone() }
    }
}

impl<G> Clone for ToTheEnd<G> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<In, G> Service<Observed<In>> for ToTheEnd<G>
where
    In: marker::Send + 'static,
    G: Gate<In> + 'static,
{
    type Response = Observed<G::Out>;
    type Error = Rejection;
    type Future = Judging<Observed<G::Out>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, Observed { mut observation, request }: Observed<In>) -> Self::Future {
        let gates = self.0.clone();
        Box::pin(async move {
            match gates.decide(request, &mut observation).await {
                Ok(request) => Ok(Observed { observation, request }),
                Err(refused) => Err(Rejection::of(&refused, observation)),
            }
        })
    }
}

impl<In, G, S> Service<Observed<In>> for Gated<G, S>
where
    In: marker::Send + 'static,
    G: Gate<In> + 'static,
    S: Service<Observed<G::Out>, Error = Rejection> + Clone + marker::Send + 'static,
    S::Future: marker::Send,
{
    type Response = S::Response;
    type Error = Rejection;
    type Future = Judging<S::Response>;

    /// Always ready: overload is a verdict, not a queue.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, Observed { mut observation, request }: Observed<In>) -> Self::Future {
        let gates = self.gates.clone();
        let mut inner = self.inner.clone();
        Box::pin(async move {
            match gates.decide(request, &mut observation).await {
                Ok(proven) => inner.call(Observed { observation, request: proven }).await,
                Err(refused) => Err(Rejection::of(&refused, observation)),
            }
        })
    }
}
