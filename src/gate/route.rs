use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;

use super::authenticate::Authenticated;
use super::chain::Gate;
use super::observation::Observation;
use super::spend::Fresh;
use crate::policy::{Route, RouteMatch, SegmentId};
use crate::refusal::RefusedAfterSpend;

/// Which route is this, byte for byte, and for which segment? What is none is refused.
pub struct RouteGate;

/// A request that is to delete.
#[derive(Debug)]
pub enum Deletion {}

/// A request that asks what a deletion would do. Nothing that records or sends takes one.
#[derive(Debug)]
pub enum DryRun {}

/// What a request is for: [`Deletion`] or [`DryRun`].
pub trait Purpose: Send + Sync + 'static {}

impl Purpose for Deletion {}
impl Purpose for DryRun {}

/// A request for a route's segment.
pub struct Routed<P = Deletion> {
    fresh: Fresh,
    route: Arc<Route>,
    segment: SegmentId,
    purpose: PhantomData<fn() -> P>,
}

/// Which of the two ways a request goes.
pub enum Directed {
    /// To be deleted.
    Deletion(Routed<Deletion>),
    /// To be told what would happen.
    DryRun(Routed<DryRun>),
}

impl Gate<Fresh> for RouteGate {
    type Out = Directed;
    type Refusal = RefusedAfterSpend;

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

    /// The request, signed right.
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

    pub(super) fn into_fresh(self) -> Fresh {
        self.fresh
    }
}
