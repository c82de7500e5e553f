//! The whole of Saltgate, in request order.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use tower::{Service, ServiceBuilder};

use crate::gate::{
    Admit, Arrival, Authenticate, Authorize, Body, Broken, Commit, Current, Either, Foresee, Foretell, Fork, Gate,
    Inspect, Letting, Observe, Pass, Process, Read, Record, Release, Respond, RouteGate, Safeguard, Send, Spend, Watch,
    Ways, gates, to_the_end,
};

/// The stack of one worker. Cloning it is cheap; each request has its own.
pub fn stack<B>(
    process: &Arc<Process>,
    current: &Arc<Current>,
    worker: usize,
) -> impl Service<Arrival<B>, Response = Response<Body>, Error = Infallible, Future: std::marker::Send>
+ Clone
+ std::marker::Send
+ 'static
where
    B: http_body::Body<Data = Bytes, Error: std::error::Error + Into<Broken>> + std::marker::Send + Unpin + 'static,
{
    let gated = ServiceBuilder::new()
        .layer(Observe) // request id, one count and one line of log, whatever becomes of it
        .layer(Respond) // refusal → answer; below it refusals, above it nothing fails
        .layer(gates(
            Inspect::new() // the form of the message: asks nobody, depends on nothing but its bytes
                .then(Authenticate::new(process.clone())) // whose signature is this, and is its date in the window?
                .then(Admit::new(process.clone())) // a slot, or 503: while nothing is spent
                .then(Read), // the body, whole and small
        ))
        .layer(Commit::new(process.tasks[worker].clone())) // from here on it runs to its end, whoever leaves
        .service(to_the_end(
            Spend::new(process.clone()) // this salt, once
                .then(RouteGate) // only what is a route, byte for byte
                .then(Fork::new(
                    Authorize // role and ownership
                        .then(Safeguard::new(process.clone())) // what holds back the authorized
                        .then(Record::new(process.clone())) // the intent, before anything irreversible
                        .then(Release::new(process.clone())) // frozen by now? Nothing is waited for after this
                        .then(Send), // at most once
                    Authorize.then(Foretell::new(process.clone())), // a rehearsal: it can ask, and has no way to send
                )),
        ));

    // What is not to be judged has a way of its own, and on it nobody who could delete.
    let passing = ServiceBuilder::new()
        .layer(Observe)
        .layer(Respond)
        .layer(gates(
            Inspect::new() // a form in doubt passes nowhere
                .then(Letting), // only what is named
        ))
        .service(Pass); // as it came, once

    // Observe mode: the same gates judge a copy, as far as the safety catches.
    let watched = ServiceBuilder::new()
        .layer(Observe)
        .layer(Respond)
        .layer(Watch::new(
            Inspect::new().then(Authenticate::new(process.clone())).then(Admit::new(process.clone())).then(Read),
            Spend::new(process.clone()).then(RouteGate).then(Either(Authorize, Foresee::new(process.clone()))),
        ))
        .service(Pass);

    Ways::new(current.clone(), worker, gated, passing, watched)
}
