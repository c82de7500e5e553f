//! The outermost layer: observes every request and puts its id on the answer.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{HeaderValue, Response};
use tower::{Layer, Service};
use tracing::Span;

use crate::gate::{Observed, Received};
use crate::upstream::headers::X_REQUEST_ID;

/// The outermost layer: makes an observation for every request.
#[derive(Clone, Copy)]
pub struct Observe;

impl<S> Layer<S> for Observe {
    type Service = Observing<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Observing(inner)
    }
}

/// See [`Observe`].
#[derive(Clone)]
pub struct Observing<S>(S);

impl<B, R, S> Service<Received<B>> for &Observing<S>
where
    S: Service<Observed<Received<B>>, Response = Box<Response<R>>, Error = Infallible> + Clone,
    S::Future: Unpin,
{
    type Response = Box<Response<R>>;
    type Error = Infallible;
    type Future = WithRequestId<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Received<B>) -> Self::Future {
        let observation = Box::new(request.observed());
        let id = Some(observation.id().clone());
        let span = tracing::debug_span!("request", request_id = observation.id().to_str().unwrap_or_default());
        WithRequestId { answer: self.0.clone().call(Observed { observation, request }), id, span }
    }
}

/// The future of an answer that gets the id of its request.
pub struct WithRequestId<F> {
    answer: F,
    id: Option<HeaderValue>,
    /// Adds the request id to log lines about the request; disabled unless the log has debug lines.
    span: Span,
}

impl<R, F> Future for WithRequestId<F>
where
    F: Future<Output = Result<Box<Response<R>>, Infallible>> + Unpin,
{
    type Output = Result<Box<Response<R>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { answer, id, span } = &mut *self;
        let mut answer = ready!(span.in_scope(|| Pin::new(answer).poll(cx)))?;
        if let Some(id) = id.take() {
            answer.headers_mut().insert(X_REQUEST_ID, id);
        }
        Poll::Ready(Ok(answer))
    }
}
