//! A rehearsal: what a deletion would meet, told to whoever may know (`POST …/deletion-check`).
//!
//! It turns off the way of deletions where its route is known ([`Fork`]), and ends in
//! [`Foretell`]. Nothing on its way has a record to write an intent to, and without an open
//! intent the upstream sends nothing: it can ask, and that is all it can. What is refused before
//! the safety catches is refused as the deletion would be, so a rehearsal tells nobody more.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use serde_json::{Value, json};
use tower::{Layer, Service};

use super::safeguard::judge;
use super::{Authorized, Concluded, Directed, Observation, Observed, Process, Rehearsal, Rejection, Routed};
use crate::refusal::{Linked, Reason, Refusal, RefusedAfterSpend};

/// Sends rehearsals to a service of their own, and deletions on.
#[derive(Clone)]
pub struct Fork<R>(R);

/// See [`Fork`].
#[derive(Clone)]
pub struct Forked<R, S> {
    rehearsals: R,
    deletions: S,
}

/// How a request ended that was let through.
pub enum Ending {
    /// It was sent, or failed to be.
    Deletion(Concluded),
    /// It was told what would happen.
    Rehearsal(Foretold),
}

/// What a deletion would meet. Only [`Foretell`] makes one.
pub struct Foretold(Value);

/// The innermost service of rehearsals.
#[derive(Clone)]
pub struct Foretell(Arc<Process>);

impl<R> Fork<R> {
    /// `rehearsals` is where those end.
    pub fn new(rehearsals: R) -> Self {
        Self(rehearsals)
    }
}

impl<R: Clone, S> Layer<S> for Fork<R> {
    type Service = Forked<R, S>;

    fn layer(&self, deletions: S) -> Self::Service {
        Forked { rehearsals: self.0.clone(), deletions }
    }
}

impl<R, S> Service<Observed<Directed>> for Forked<R, S>
where
    R: Service<Observed<Routed<Rehearsal>>, Response = Observed<Foretold>, Error = Rejection>,
    R::Future: Unpin,
    S: Service<Observed<Routed>, Response = Observed<Concluded>, Error = Rejection>,
    S::Future: Unpin,
{
    type Response = Observed<Ending>;
    type Error = Rejection;
    type Future = Forking<R::Future, S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Observed<Directed>) -> Self::Future {
        let Observed { observation, request } = request;
        match request {
            Directed::Deletion(request) => Forking::Deletion(self.deletions.call(Observed { observation, request })),
            Directed::Rehearsal(request) => Forking::Rehearsal(self.rehearsals.call(Observed { observation, request })),
        }
    }
}

/// See [`Forked`]; no box of its own.
pub enum Forking<R, S> {
    /// On its way to be sent.
    Deletion(S),
    /// On its way to be told.
    Rehearsal(R),
}

impl<R, S> Future for Forking<R, S>
where
    R: Future<Output = Result<Observed<Foretold>, Rejection>> + Unpin,
    S: Future<Output = Result<Observed<Concluded>, Rejection>> + Unpin,
{
    type Output = Result<Observed<Ending>, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Deletion(deletion) => Pin::new(deletion).poll(cx).map_ok(|it| it.map(Ending::Deletion)),
            Self::Rehearsal(rehearsal) => Pin::new(rehearsal).poll(cx).map_ok(|it| it.map(Ending::Rehearsal)),
        }
    }
}

impl Foretell {
    /// Tells by what the process has frozen and counted.
    pub fn new(process: Arc<Process>) -> Self {
        Self(process)
    }
}

impl Service<Observed<Authorized<Rehearsal>>> for Foretell {
    type Response = Observed<Foretold>;
    type Error = Rejection;
    type Future = Pin<Box<dyn Future<Output = Result<Observed<Foretold>, Rejection>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Observed<Authorized<Rehearsal>>) -> Self::Future {
        let process = self.0.clone();
        Box::pin(async move {
            let Observed { mut observation, request } = request;
            match foretell(&process, &request, &mut observation).await {
                Ok(foretold) => Ok(Observed { observation, request: foretold }),
                Err(refused) => Err(Rejection::of(&refused, observation)),
            }
        })
    }
}

async fn foretell(
    process: &Process,
    authorized: &Authorized<Rehearsal>,
    seen: &mut Observation,
) -> Result<Foretold, RefusedAfterSpend> {
    let would = match judge(process, &process.takings, authorized, seen).await {
        Ok(()) => None,
        Err(
            refused @ (RefusedAfterSpend::Frozen
            | RefusedAfterSpend::BudgetSpent(_)
            | RefusedAfterSpend::AutomationsLinked(_)),
        ) => Some(refused),
        Err(refused) => return Err(refused),
    };
    let reason = would.as_ref().map_or(Reason::Ok, Refusal::reason);
    seen.rehearsed_on_record(reason);
    let mut told = json!({
        "wouldDelete": would.is_none(),
        "status": would.as_ref().map_or(200, |refused| refused.answer().status),
        "reason": reason.as_str(),
        "segmentId": authorized.segment().as_str(),
    });
    if let Some(refused) = &would {
        let answer = refused.answer();
        told["errorCode"] = answer.code.into();
        told["errorMessage"] = answer.message.into();
        if let Some(seconds) = answer.retry_after {
            told["retryAfter"] = seconds.into();
        }
        if let Some(linked) = refused.linked() {
            show(linked, &mut told);
        }
    } else if authorized.learned().is_none() {
        told["note"] = "account and creator are left to the service, which may still refuse".into();
    }
    Ok(Foretold(told))
}

/// The automations and their digest, as an answer shows them.
pub(super) fn show(linked: &Linked, answer: &mut Value) {
    let automations = linked.automations.iter().map(|(id, name)| json!({ "id": id, "name": name }));
    answer["automations"] = automations.collect();
    answer["confirm"] = linked.confirm.as_str().into();
}

impl Foretold {
    pub(super) fn into_body(self) -> Value {
        self.0
    }
}
