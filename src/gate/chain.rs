//! The trait of gates, and how gates are chained.

use std::future::Future;
use std::marker;

use super::observation::Observation;
use crate::refusal::{Answer, Linked, Refusal, Repeated};

/// Judges a request: returns what was proven, or why it is refused.
///
/// A gate notes in the [`Observation`] what the log should say; it must not base a decision on it.
#[diagnostic::on_unimplemented(
    message = "gate `{Self}` cannot stand here: the gate above it hands down `{In}`",
    note = "the order is in src/stack.rs"
)]
pub trait Gate<In>: marker::Send + marker::Sync {
    /// What is proven about a request that passed this gate.
    type Out: marker::Send;
    /// The refusals of this gate.
    type Refusal: Refusal + marker::Send;
    /// The name of this gate in traces; empty if gates within it have names of their own.
    const NAME: &'static str;

    /// Judges the request.
    fn decide(
        &self,
        request: In,
        seen: &mut Observation,
    ) -> impl Future<Output = Result<Self::Out, Self::Refusal>> + marker::Send;

    /// Chains this gate with the next; the result is a gate, too.
    fn then<G>(self, next: G) -> Then<Self, G>
    where
        Self: Sized,
        G: Gate<Self::Out, Refusal = Self::Refusal>,
    {
        Then { first: self, next }
    }
}

/// Two chained gates.
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
    const NAME: &'static str = B::NAME;

    async fn decide(&self, request: In, seen: &mut Observation) -> Result<Self::Out, Self::Refusal> {
        let proven = self.first.decide(request, seen).await?;
        seen.gate_passed(A::NAME);
        self.next.decide(proven, seen).await
    }
}

/// A refused request: its observation, and the answer for its caller.
pub struct Rejection {
    /// `None` if the task that held it panicked: the observation reported that when it was dropped.
    pub(crate) observation: Option<Box<Observation>>,
    pub(crate) answer: Answer,
    pub(crate) linked: Option<Box<Linked>>,
    pub(crate) repeated: Option<Box<Repeated>>,
    pub(crate) spent: bool,
}

impl Rejection {
    /// The rejection of a request whose task panicked.
    pub(crate) fn lost(answer: Answer) -> Self {
        Self { observation: None, answer, linked: None, repeated: None, spent: false }
    }

    /// The rejection of a request that a gate refused.
    pub(crate) fn of(refused: &impl Refusal, mut observation: Box<Observation>) -> Self {
        let (answer, spent) = (observation.refused(refused), refused.spent());
        let linked = refused.linked().cloned().map(Box::new);
        let repeated = refused.repeated().cloned().map(Box::new);
        Self { observation: Some(observation), answer, linked, repeated, spent }
    }
}
