//! Sends each message to one of three stacks: gated, passthrough or shadow.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Response;
use tower::Service;

use crate::gate::{Arrival, Body, Current, Received};
use crate::policy::Mode;

/// Chooses the stack for a message. Only the gated stack has a sender of deletions.
///
/// Every request has a clone, so the three stacks share one reference count.
pub struct Dispatch<G, P, W>(Arc<Stacks<G, P, W>>);

struct Stacks<G, P, W> {
    current: Arc<Current>,
    worker: usize,
    gated: G,
    passing: P,
    shadow: W,
}

impl<G, P, W> Clone for Dispatch<G, P, W> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<G, P, W> Dispatch<G, P, W> {
    /// Dispatches each message that `worker` gets by the generation in force when it arrives.
    pub fn new(current: Arc<Current>, worker: usize, gated: G, passing: P, shadow: W) -> Self {
        Self(Arc::new(Stacks { current, worker, gated, passing, shadow }))
    }
}

impl<B, G, P, W, FG, FP, FW> Service<Arrival<B>> for Dispatch<G, P, W>
where
    for<'w> &'w G: Service<Received<B>, Response = Box<Response<Body>>, Error = Infallible, Future = FG>,
    for<'w> &'w P: Service<Received<B>, Response = Box<Response<Body>>, Error = Infallible, Future = FP>,
    for<'w> &'w W: Service<Received<B>, Response = Box<Response<Body>>, Error = Infallible, Future = FW>,
    FG: Future<Output = Result<Box<Response<Body>>, Infallible>> + Unpin,
    FP: Future<Output = Result<Box<Response<Body>>, Infallible>> + Unpin,
    FW: Future<Output = Result<Box<Response<Body>>, Infallible>> + Unpin,
{
    type Response = Box<Response<Body>>;
    type Error = Infallible;
    type Future = Dispatched<FG, FP, FW>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, arrival: Arrival<B>) -> Self::Future {
        let Arrival { request, client } = arrival;
        let received = Received::new(request, client, self.0.current.worker_state(self.0.worker));
        let (parts, generation) = (received.parts(), received.generation());
        match generation.mode {
            Mode::Observe => Dispatched::Shadowed((&self.0.shadow).call(received)),
            Mode::Enforce if generation.passes(parts) => Dispatched::Passing((&self.0.passing).call(received)),
            Mode::Enforce => Dispatched::Gated((&self.0.gated).call(received)),
        }
    }
}

/// A message in one of the stacks.
pub enum Dispatched<G, P, W> {
    /// It passes through the gates.
    Gated(G),
    /// It passes without gates.
    Passing(P),
    /// It passes whatever the gates say (observe mode).
    Shadowed(W),
}

impl<T, G, P, W> Future for Dispatched<G, P, W>
where
    G: Future<Output = T> + Unpin,
    P: Future<Output = T> + Unpin,
    W: Future<Output = T> + Unpin,
{
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match self.get_mut() {
            Self::Gated(way) => Pin::new(way).poll(cx),
            Self::Passing(way) => Pin::new(way).poll(cx),
            Self::Shadowed(way) => Pin::new(way).poll(cx),
        }
    }
}
