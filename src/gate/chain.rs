//! What a gate is, and how gates stand one behind another.

use std::future::Future;
use std::marker;

use super::observation::Observation;
use crate::refusal::{Answer, Linked, Refusal, Repeated};

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

/// A request that was refused: what was seen of it, and what its caller gets.
pub struct Rejection {
    /// `None` if the task that held it panicked: it told so while it was dropped.
    pub(crate) observation: Option<Box<Observation>>,
    pub(crate) answer: Answer,
    pub(crate) linked: Option<Box<Linked>>,
    pub(crate) repeated: Option<Box<Repeated>>,
    pub(crate) spent: bool,
}

impl Rejection {
    /// Of a request whose task panicked.
    pub(crate) fn lost(answer: Answer) -> Self {
        Self { observation: None, answer, linked: None, repeated: None, spent: false }
    }

    /// Of a request that a gate refused.
    pub(crate) fn of(refused: &impl Refusal, mut observation: Box<Observation>) -> Self {
        let (answer, spent) = (observation.refused(refused), refused.spent());
        let linked = refused.linked().cloned().map(Box::new);
        let repeated = refused.repeated().cloned().map(Box::new);
        Self { observation: Some(observation), answer, linked, repeated, spent }
    }
}
