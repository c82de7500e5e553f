//! The gate that finds the route of a request.

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;

use super::authenticate::Authenticated;
use super::chain::Gate;
use super::observation::Observation;
use super::spend::Fresh;
use crate::event_loop::yield_now;
use crate::policy::{Route, RouteMatch, SegmentId};
use crate::refusal::RefusedAfterSpend;

/// Finds the route and the segment of a request, byte for byte. Refuses a request that matches no route.
pub struct RouteGate;

/// Marks a request that deletes.
#[derive(Debug)]
pub enum Deletion {}

/// Marks a request that asks what a deletion would do. Nothing that records or sends accepts one.
#[derive(Debug)]
pub enum DryRun {}

/// The purpose of a request: [`Deletion`] or [`DryRun`].
pub trait Purpose: Send + Sync + 'static {}

impl Purpose for Deletion {}
impl Purpose for DryRun {}

/// A request with its route and segment.
pub struct Routed<P = Deletion> {
    fresh: Fresh,
    route: Arc<Route>,
    segment: SegmentId,
    purpose: PhantomData<fn() -> P>,
}

/// A request, by its purpose.
pub enum Directed {
    /// It deletes.
    Deletion(Routed<Deletion>),
    /// It asks what a deletion would do.
    DryRun(Routed<DryRun>),
}

impl Gate<Fresh> for RouteGate {
    type Out = Directed;
    type Refusal = RefusedAfterSpend;
    const NAME: &'static str = "route";

    async fn decide(&self, fresh: Fresh, seen: &mut Observation) -> Result<Directed, RefusedAfterSpend> {
        let head = fresh.request().head();
        match head.generation().routes.find(head.method().as_str(), head.raw_path()) {
            RouteMatch::Route(route, segment) => {
                let route = route.clone();
                Ok(Directed::Deletion(Routed::new(fresh, route, segment, seen)))
            }
            RouteMatch::DryRun(route, segment) => {
                let route = route.clone();
                Ok(Directed::DryRun(Routed::new(fresh, route, segment, seen)))
            }
            RouteMatch::OtherMethod(allowed) => Err(RefusedAfterSpend::MethodNotAllowed(allowed)),
            RouteMatch::None => Err(RefusedAfterSpend::RouteNotFound),
        }
    }
}

impl<P> Routed<P> {
    fn new(fresh: Fresh, route: Arc<Route>, segment: SegmentId, seen: &mut Observation) -> Self {
        seen.route = Some(route.clone());
        seen.segment = Some(segment.clone());
        Self { fresh, route, segment, purpose: PhantomData }
    }

    /// The authenticated request.
    pub fn request(&self) -> &Authenticated<()> {
        self.fresh.request()
    }

    /// Its body.
    pub fn body(&self) -> &Bytes {
        self.fresh.body()
    }

    /// The route.
    pub fn route(&self) -> &Route {
        &self.route
    }

    /// The segment.
    pub fn segment(&self) -> &SegmentId {
        &self.segment
    }

    /// Yields to the event loop, so that ready requests run as a batch, unless there is no other request.
    pub(super) async fn yields(&self) {
        if !self.fresh.slot().is_the_only_one() {
            yield_now().await;
        }
    }

    pub(super) fn into_fresh(self) -> Fresh {
        self.fresh
    }
}
