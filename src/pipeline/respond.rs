//! Turns results and refusals into responses.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use tower::{Layer, Service};

use crate::gate::{Answered, Body, Observed, Rejection, again, own_with};

/// The only place that turns a refusal into a response. Below it there are refusals; above it nothing fails.
#[derive(Clone, Copy)]
pub(crate) struct Respond;

/// See [`Respond`].
#[derive(Clone)]
pub(crate) struct Responding<S>(S);

impl<S> Layer<S> for Respond {
    type Service = Responding<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Responding(inner)
    }
}

impl<In, E, S> Service<Observed<In>> for Responding<S>
where
    E: Answered,
    S: Service<Observed<In>, Response = Observed<E>, Error = Rejection>,
    S::Future: Unpin,
{
    type Response = Box<Response<Body>>;
    type Error = Infallible;
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Observed<In>) -> Self::Future {
        Answering(self.0.call(request))
    }
}

/// The future of the response.
pub(crate) struct Answering<F>(F);

impl<E, F> Future for Answering<F>
where
    E: Answered,
    F: Future<Output = Result<Observed<E>, Rejection>> + Unpin,
{
    type Output = Result<Box<Response<Body>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(match ready!(Pin::new(&mut self.0).poll(cx)) {
            Ok(Observed { mut observation, request: ended }) => {
                let response = ended.into_response();
                observation.answered_with(response.status());
                response
            }
            Err(Rejection { observation, answer, linked, repeated, .. }) => {
                let response = Box::new(match repeated {
                    Some(repeated) => again(*repeated),
                    None => own_with(answer, linked.as_deref()),
                });
                if let Some(mut observation) = observation {
                    observation.answered_with(response.status());
                }
                response
            }
        }))
    }
}
