//! All routes, and which of them a request line belongs to.

use std::sync::Arc;

use super::{Route, SegmentId, resemblance};

/// All routes. A request that matches none is refused.
#[derive(Clone, Debug)]
pub struct Routes(Box<[Arc<Route>]>);

/// The result of matching a method and a raw path.
#[derive(Debug, PartialEq, Eq)]
pub enum RouteMatch<'r> {
    /// A deletion of this segment, on this route.
    Route(&'r Arc<Route>, SegmentId),
    /// A dry run of the deletion of this segment, on this route.
    DryRun(&'r Arc<Route>, SegmentId),
    /// The path is that of a route or a dry run, but with this other method.
    OtherMethod(&'static str),
    /// No route.
    None,
}

impl Routes {
    /// Routes of which no two share a path ([`Route::shares_path`]).
    pub fn new(routes: Vec<Route>) -> Self {
        Self(routes.into_iter().map(Arc::new).collect())
    }

    /// Matches a request line. The path is compared byte by byte, before any decoding.
    pub fn find(&self, method: &str, raw_path: &str) -> RouteMatch<'_> {
        let route_of = |path: &str| self.0.iter().find_map(|route| Some((route, route.segment(path)?)));
        let deletion = route_of(raw_path);
        let dry_run = raw_path.strip_suffix(Route::DRY_RUN).and_then(route_of);
        match (deletion, dry_run) {
            (Some((route, segment)), _) if method == Route::METHOD => RouteMatch::Route(route, segment),
            (_, Some((route, segment))) if method == Route::DRY_RUN_METHOD => RouteMatch::DryRun(route, segment),
            (Some(_), _) => RouteMatch::OtherMethod(Route::METHOD),
            (None, Some(_)) => RouteMatch::OtherMethod(Route::DRY_RUN_METHOD),
            (None, None) => RouteMatch::None,
        }
    }

    /// Whether some server may take this raw path for one of a route.
    pub fn resemble(&self, path: &str) -> bool {
        let parts = resemblance::parts(path);
        self.0.iter().any(|route| route.resembles(&parts))
    }

    /// The routes in order.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.0.iter().map(|route| &**route)
    }
}

impl Default for Routes {
    fn default() -> Self {
        let api_page = Route::new(Route::DEFAULT_PATH, Route::OWN, Route::OTHERS);
        Self::new(api_page.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_matched_byte_for_byte() {
        let routes = Routes::default();
        let id = "CRMSG1260423081530123SGM11122233";
        assert!(matches!(
            routes.find("DELETE", &format!("/crm-core/v1/segments/{id}")),
            RouteMatch::Route(_, segment) if segment.as_str() == id
        ));
        for path in [
            "/crm-core/v1/segments/",
            "/crm-core/v1/segments",
            "/crm-core/v1/segments/a/",
            "/crm-core/v1//segments/a",
            "//crm-core/v1/segments/a",
            "/crm-core/v1/segments/a;b",
            "/crm-core/v1/segments/%61",
            "/crm-core/v1/segments/..",
            "/crm-core/v1/segments/.",
            "/crm-core/v1/segments/%2e%2e",
            "/crm-core/v1/segments/a/b",
            "/crm-core/v1/./segments/a",
            "/crm-core/v1/x/../segments/a",
            "/CRM-core/v1/segments/a",
            "/crm-core/v1/segments/a\0",
            "/crm-core/v1/segments/세그먼트",
            &format!("/crm-core/v1/segments/{}", "a".repeat(65)),
            "*",
            "",
        ] {
            assert_eq!(routes.find("DELETE", path), RouteMatch::None, "{path:?}");
        }
    }

    #[test]
    fn paths_that_a_server_may_take_for_a_route_resemble_it() {
        let routes = Routes::default();
        for path in [
            "/crm-core/v1/segments/a",
            "/CRM-core/v1/Segments/a/",
            "/crm-core//v1/./segments/%61;x=1",
            "/crm-core/v1/segments/a.json",
            "/crm-core/v1/segments/a?x=1",
        ] {
            assert!(routes.resemble(path), "{path}");
        }
        for path in ["/crm-core/v1/segments", "/crm-core/v1/segments/a/members", "/other/v1/segments/a", "/"] {
            assert!(!routes.resemble(path), "{path}");
        }
    }

    #[test]
    fn another_method_and_no_route_have_different_results() {
        let routes = Routes::default();
        assert_eq!(routes.find("GET", "/crm-core/v1/segments/a"), RouteMatch::OtherMethod("DELETE"));
        assert_eq!(routes.find("POST", "/crm-core/v1/segments/a"), RouteMatch::OtherMethod("DELETE"));
        assert_eq!(routes.find("delete", "/crm-core/v1/segments/a"), RouteMatch::OtherMethod("DELETE"));
        assert_eq!(routes.find("GET", "/crm-core/v1/segments"), RouteMatch::None);
    }

    #[test]
    fn a_dry_run_has_a_path_of_its_own() {
        let routes = Routes::default();
        let path = "/crm-core/v1/segments/a/deletion-check";
        assert!(matches!(routes.find("POST", path), RouteMatch::DryRun(_, segment) if segment.as_str() == "a"));
        for method in ["DELETE", "GET", "post", "PUT"] {
            assert_eq!(routes.find(method, path), RouteMatch::OtherMethod("POST"), "{method}");
        }
        for path in ["/crm-core/v1/segments/deletion-check/", "/crm-core/v1/segments//deletion-check"] {
            assert_eq!(routes.find("POST", path), RouteMatch::None, "{path}");
        }
        // A segment may have any name.
        let named = "/crm-core/v1/segments/deletion-check";
        assert!(matches!(routes.find("DELETE", named), RouteMatch::Route(..)));
    }
}
