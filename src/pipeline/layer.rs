//! A chain of gates as one tower layer, or as the innermost service.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::{Layer, Service};

use crate::gate::{Gate, Observed, Rejection};

/// The future of a request in a chain of gates: one box, however many gates there are.
type Judging<Out> = Pin<Box<dyn Future<Output = Result<Out, Rejection>> + Send>>;

/// The only [`Layer`] that puts a chain of gates in front of a service.
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

/// A service made of a chain of gates with no service behind it.
pub(crate) fn to_the_end<G>(chain: G) -> ToTheEnd<G> {
    ToTheEnd(Arc::new(chain))
}

/// See [`to_the_end`].
pub(crate) struct ToTheEnd<G>(Arc<G>);

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
    In: Send + 'static,
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
        // Made in its place: `Box::pin` would make it on the stack and copy it.
        let judging = Box::write(Box::new_uninit(), async move {
            match gates.decide(request, &mut observation).await {
                Ok(request) => {
                    observation.gate_passed(G::NAME);
                    Ok(Observed { observation, request })
                }
                Err(refused) => Err(Rejection::of(&refused, observation)),
            }
        });
        Box::into_pin(judging)
    }
}

impl<In, G, S> Service<Observed<In>> for Gated<G, S>
where
    In: Send + 'static,
    G: Gate<In> + 'static,
    S: Service<Observed<G::Out>, Error = Rejection> + Clone + Send + 'static,
    S::Future: Send,
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
        // Made in its place, too.
        let judging = Box::write(Box::new_uninit(), async move {
            match gates.decide(request, &mut observation).await {
                Ok(proven) => {
                    observation.gate_passed(G::NAME);
                    inner.call(Observed { observation, request: proven }).await
                }
                Err(refused) => Err(Rejection::of(&refused, observation)),
            }
        });
        Box::into_pin(judging)
    }
}
