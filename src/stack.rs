//! All of Saltgate, in the order in which a request passes through it.

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

/// The stack of one worker. Cloning it is cheap; each request has its own clone.
pub fn stack<B>(
    process: &Arc<Process>,
    current: &Arc<Current>,
    worker: usize,
) -> impl Service<Arrival<B>, Response = Box<Response<Body>>, Error = Infallible, Future: std::marker::Send>
+ Clone
+ std::marker::Send
+ 'static
where
    B: http_body::Body<Data = Bytes, Error: std::error::Error + Into<Broken>> + std::marker::Send + Unpin + 'static,
{
    let Process { clock, salts, repeats, record, freeze, budget_usage, shadow_budget_usage, .. } = &**process;
    let Process { slots, passing_slots, late_bodies, failed_signatures, tasks, .. } = &**process;
    let gated = ServiceBuilder::new()
        .layer(Observe) // gives every request an id, one count and one log line
        .layer(Respond) // turns a refusal into a response; above it nothing fails
        .layer(gates(
            Inspect::new() // checks the form of the message; depends on nothing but its bytes
                .then(Authenticate::new(clock, salts, failed_signatures)) // whose signature is this, and is its date in the window?
                .then(Admit::new(slots, salts, repeats, record, late_bodies, freeze)) // a slot, or 503 while nothing is spent
                .then(Read::new(clock)), // the whole body, which must be small; are the keys still good?
        ))
        .layer(Commit::new(tasks[worker].clone())) // from here on it runs to its end even if the client leaves
        .service(to_the_end(
            Spend::new(clock, salts, repeats, current) // spends the salt once, under the keys in force now
                .then(RouteGate) // must match a route, byte for byte
                .then(Fork::new(
                    Authorize // checks role and ownership
                        .then(Safeguard::new(freeze, budget_usage, clock)) // freeze, budget, automations
                        .then(RecordIntent::new(record, budget_usage, clock)) // writes the intent, before anything irreversible
                        .then(Release::new(freeze)) // checks the freeze again; nothing is awaited after this
                        .then(Send), // sends at most once
                    Authorize.then(ReportDryRun::new(freeze, budget_usage, clock)), // a dry run looks things up and cannot send
                )),
        ));

    // Messages that are not judged have a stack of their own. Nothing in it can delete.
    let passing = ServiceBuilder::new()
        .layer(Observe)
        .layer(Respond)
        .layer(gates(
            Inspect::new() // an ambiguous form is refused here, too
                .then(PassNamed::new(passing_slots)), // only what `[passthrough]` names
        ))
        .service(Pass); // forwards it as it came, once

    // Observe mode: the same gates judge a copy, up to the safeguards.
    let shadow = ServiceBuilder::new()
        .layer(Observe)
        .layer(Respond)
        .layer(Shadow::new(
            passing_slots,
            freeze,
            Inspect::new()
                .then(Authenticate::new(clock, salts, failed_signatures))
                .then(Admit::new(slots, salts, repeats, record, late_bodies, freeze))
                .then(Read::new(clock)),
            Spend::new(clock, salts, repeats, current)
                .then(RouteGate)
                .then(Either(Authorize, DryRunSafeguard::new(freeze, shadow_budget_usage, clock))),
            Inspect::new().then(WouldPass), // passthrough messages: only their form
        ))
        .service(Pass);

    Dispatch::new(current.clone(), worker, gated, passing, shadow)
}
