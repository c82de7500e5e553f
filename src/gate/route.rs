use std::ops::Deref;
use std::sync::Arc;

use super::{Fresh, Gate, Observation};
use crate::policy::{Found, Route, SegmentId};
use crate::refusal::RefusedAfterSpend;

/// Which route is this, byte for byte, and for which segment? What is none is refused.
pub struct RouteGate;

/// A request for a route's segment.
pub struct Routed {
    fresh: Fresh,
    route: Arc<Route>,
    segment: SegmentId,
}

impl Gate<Fresh> for RouteGate {
    type Out = Routed;
    type Refusal = RefusedAfterSpend;

    async fn decide(&self, fresh: Fresh, seen: &mut Observation) -> Result<Routed, RefusedAfterSpend> {
        let (route, segment) = match fresh.generation().routes.find(fresh.method().as_str(), fresh.raw_path()) {
            Found::Route(route, segment) => (route.clone(), segment),
            Found::OtherMethod => return Err(RefusedAfterSpend::MethodNotAllowed),
            Found::None => return Err(RefusedAfterSpend::RouteNotFound),
        };
        seen.route = Some(route.clone());
        seen.segment = Some(segment.clone());
        Ok(Routed { fresh, route, segment })
    }
}

impl Routed {
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

impl Deref for Routed {
    type Target = Fresh;

    fn deref(&self) -> &Fresh {
        &self.fresh
    }
}
