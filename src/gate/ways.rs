use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use http::Response;
use tower::Service;

use super::{Arrival, Body, Generation};

/// Which of the three ways a message goes. Only the first has a sender of deletions.
#[derive(Clone)]
pub struct Ways<G, P, W> {
    current: Arc<ArcSwap<Generation>>,
    gated: G,
    passing: P,
    watched: W,
}

/// A message at the door, with the generation it will be judged by to its end.
pub struct Entering<B> {
    pub(super) arrival: Arrival<B>,
    pub(super) generation: Arc<Generation>,
}

/// What becomes of what is not to be deleted (contract §9, `mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The gates judge, and what they refuse is refused.
    Enforce,
    /// The gates judge, and everything goes upstream.
    Observe,
}

impl<G, P, W> Ways<G, P, W> {
    /// Each message by the generation that is current when it arrives.
    pub fn new(current: Arc<ArcSwap<Generation>>, gated: G, passing: P, watched: W) -> Self {
        Self { current, gated, passing, watched }
    }
}

impl<B, F, G, P, W> Service<Arrival<B>> for Ways<G, P, W>
where
    G: Service<Entering<B>, Response = Response<Body>, Error = Infallible, Future = F>,
    P: Service<Entering<B>, Response = Response<Body>, Error = Infallible, Future = F>,
    W: Service<Entering<B>, Response = Response<Body>, Error = Infallible, Future = F>,
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = F;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, arrival: Arrival<B>) -> F {
        let generation = self.current.load_full();
        let uri = arrival.request.uri();
        let passes = generation.passes(arrival.request.method().as_str(), uri.path());
        let mode = generation.mode;
        let entering = Entering { arrival, generation };
        match mode {
            Mode::Observe => self.watched.call(entering),
            Mode::Enforce if passes => self.passing.call(entering),
            Mode::Enforce => self.gated.call(entering),
        }
    }
}
