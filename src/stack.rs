//! The whole of Saltgate, in request order.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use tower::{Service, ServiceBuilder};

use crate::gate::{
    Admit, Arrival, Authenticate, Authorize, Body, Current, DryRunSafeguard, Either, Fork, Gate, Inspect, PassNamed,
    Read, RecordIntent, Release, ReportDryRun, RouteGate, Safeguard, Send, Spend, WouldPass,
};
use crate::pipeline::{Commit, Dispatch, Observe, Pass, Respond, Shadow, gates, to_the_end};
use crate::process::Process;
use crate::upstream::Broken;

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
    let Process { clock, salts, repeats, record, freeze, budget_usage, shadow_budget_usage, .. } = &**process;
    let Process { slots, passing_slots, late_bodies, failed_signatures, tasks, .. } = &**process;
    let gated = ServiceBuilder::new()
        .layer(Observe) // request id, one count and one line of log, whatever becomes of it
        .layer(Respond) // refusal → answer; below it refusals, above it nothing fails
        .layer(gates(
            Inspect::new() // the form of the message: asks nobody, depends on nothing but its bytes
                .then(Authenticate::new(clock, salts, failed_signatures)) // whose signature is this, and is its date in the window?
                .then(Admit::new(slots, salts, repeats, record, late_bodies)) // a slot, or 503: while nothing is spent
                .then(Read), // the body, whole and small
        ))
        .layer(Commit::new(tasks[worker].clone())) // from here on it runs to its end, whoever leaves
        .service(to_the_end(
            Spend::new(clock, salts, repeats, current) // this salt, once, by the keys in force now
                .then(RouteGate) // only what is a route, byte for byte
                .then(Fork::new(
                    Authorize // role and ownership
                        .then(Safeguard::new(freeze, budget_usage, clock)) // what holds back the authorized
                        .then(RecordIntent::new(record, budget_usage, clock)) // the intent, before anything irreversible
                        .then(Release::new(freeze)) // frozen by now? Nothing is waited for after this
                        .then(Send), // at most once
                    Authorize.then(ReportDryRun::new(freeze, budget_usage, clock)), // a dry run: it can ask, and has no way to send
                )),
        ));

    // What is not to be judged has a way of its own, and on it nobody who could delete.
    let passing = ServiceBuilder::new()
        .layer(Observe)
        .layer(Respond)
        .layer(gates(
            Inspect::new() // a form in doubt passes nowhere
                .then(PassNamed::new(passing_slots)), // only what is named
        ))
        .service(Pass); // as it came, once

    // Observe mode: the same gates judge a copy, as far as the safety catches.
    let shadow = ServiceBuilder::new()
        .layer(Observe)
        .layer(Respond)
        .layer(Shadow::new(
            passing_slots,
            freeze,
            Inspect::new()
                .then(Authenticate::new(clock, salts, failed_signatures))
                .then(Admit::new(slots, salts, repeats, record, late_bodies))
                .then(Read),
            Spend::new(clock, salts, repeats, current)
                .then(RouteGate)
                .then(Either(Authorize, DryRunSafeguard::new(freeze, shadow_budget_usage, clock))),
            Inspect::new().then(WouldPass), // and of what passes without them, its form
        ))
        .service(Pass);

    Dispatch::new(current.clone(), worker, gated, passing, shadow)
}
