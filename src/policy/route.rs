//! Routes and the decision table: which caller may delete which segment.

use std::fmt;
use std::sync::Arc;

use super::{Condition, Identifier, Role, resemblance};

/// A route: the path of the segments that can be deleted, and the least roles for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    prefix: Box<str>,
    suffix: Box<str>,
    pattern: Box<str>,
    own: Role,
    others: Role,
    automations: Option<Template>,
    keep: Keep,
}

/// The parts of a deletion, besides its fields, that are forwarded as the client sent them. They are neither signed
/// nor checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// The query.
    pub query: bool,
    /// The body, and the fields that describe it.
    pub body: bool,
}

/// A path, perhaps with a query, that contains a segment's id.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Template {
    before: Box<str>,
    after: Box<str>,
}

/// Why a configured route is invalid.
#[derive(Debug, PartialEq, Eq)]
pub struct RouteError(&'static str);

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Route {
    /// The only method of routes, because the gateway exists for deletions.
    pub const METHOD: &'static str = "DELETE";

    /// The suffix that makes a route's path that of its dry run.
    pub const DRY_RUN: &'static str = "/deletion-check";

    /// The only method of a dry run.
    pub const DRY_RUN_METHOD: &'static str = "POST";

    /// The route of the API documentation: `MEMBER` for the caller's own segments, `OWNER` for all.
    pub const DEFAULT_PATH: &'static str = "/crm-core/v1/segments/{segmentId}";

    /// Default of `route.own`: the least role for the caller's own segments.
    pub const OWN: Role = Role::Member;

    /// Default of `route.others`: the least role for segments that others created.
    pub const OTHERS: Role = Role::Owner;

    /// A route from its path pattern, such as `/crm-core/v1/segments/{segmentId}`.
    ///
    /// # Errors
    /// If the pattern is not an absolute path of plain characters, with exactly one parameter that is a complete path
    /// part.
    pub fn new(pattern: &str, own: Role, others: Role) -> Result<Self, RouteError> {
        let (prefix, rest) =
            pattern.split_once('{').ok_or(RouteError("needs one parameter in braces, such as {segmentId}"))?;
        let (name, suffix) = rest.split_once('}').ok_or(RouteError("has a `{` without its `}`"))?;
        if !prefix.starts_with('/') {
            return Err(RouteError("must begin with `/`"));
        }
        if !prefix.ends_with('/') || !(suffix.is_empty() || suffix.starts_with('/')) {
            return Err(RouteError("needs a parameter that fills the whole part between two `/`"));
        }
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(RouteError("needs a parameter name of letters, digits and `_`"));
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./~".contains(&b);
        if !prefix.bytes().chain(suffix.bytes()).all(plain) {
            return Err(RouteError("may hold letters, digits, `-`, `_`, `.`, `~` and one parameter"));
        }
        let dotted = |part: &str| part.split('/').any(|p| p == "." || p == "..");
        if prefix.contains("//") || suffix.contains("//") || suffix.ends_with('/') || dotted(prefix) || dotted(suffix) {
            return Err(RouteError("must not hold `//`, `.` or `..` parts, or end with `/`"));
        }
        Ok(Self {
            prefix: prefix.into(),
            suffix: suffix.into(),
            pattern: pattern.into(),
            own,
            others,
            automations: None,
            keep: Keep::default(),
        })
    }

    /// The same route with the automation guard: a segment with linked automations is deleted only if the caller
    /// confirms it. The automations are looked up at `path`, such as `/v1/automations?segment={segmentId}`, or by
    /// default at the route's own path plus `/automations`.
    ///
    /// # Errors
    /// If the path is not absolute, or does not have exactly one parameter.
    pub fn with_guard(self, path: Option<&str>) -> Result<Self, RouteError> {
        let template = match path {
            None => Template { before: self.prefix.clone(), after: format!("{}/automations", self.suffix).into() },
            Some(path) => Template::parse(path)
                .ok_or(RouteError("must begin with `/`, be visible ASCII and hold one parameter in braces"))?,
        };
        Ok(Self { automations: Some(template), ..self })
    }

    /// The same route, forwarding these parts of a deletion unchanged.
    #[must_use]
    pub fn keeping(self, keep: Keep) -> Self {
        Self { keep, ..self }
    }

    /// Which parts of a deletion are forwarded unchanged.
    pub fn keep(&self) -> Keep {
        self.keep
    }

    /// The path for the look-up of linked automations; `None` without the automation guard.
    pub fn automations_path(&self, segment: &SegmentId) -> Option<String> {
        let Template { before, after } = self.automations.as_ref()?;
        Some([before, segment.as_str(), after].concat())
    }

    /// Whether linked automations are looked up.
    pub fn is_guarded(&self) -> bool {
        self.automations.is_some()
    }

    /// The pattern as configured.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// The path of a segment on this route, built from the parsed parts.
    pub fn path(&self, segment: &SegmentId) -> String {
        [&*self.prefix, segment.as_str(), &*self.suffix].concat()
    }

    /// Whether the path of any segment on this route is below this prefix. Ignores case, because a service may.
    pub(super) fn reaches_under(&self, prefix: &str) -> bool {
        let [ours, suffix, prefix] = [&*self.prefix, &*self.suffix, prefix].map(str::to_ascii_lowercase);
        let prefix = prefix.strip_suffix('/').unwrap_or(&prefix);
        let Some(below) = prefix.strip_prefix(&*ours) else {
            // The prefix ends before the segment's id.
            return ours.starts_with(&format!("{prefix}/"));
        };
        // The prefix reaches into or beyond the id, which can be anything valid; the rest is fixed.
        let (segment, rest) = below.split_at(below.find('/').unwrap_or(below.len()));
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        SegmentId::parse(segment).is_some() && (rest == suffix || suffix.starts_with(&format!("{rest}/")))
    }

    /// A path, of a deletion or a dry run, that both this route and the other have. Ignores case, because a service
    /// may.
    pub fn shares_path(&self, other: &Self) -> Option<String> {
        let rehearsed = |route: &Self| format!("{}{}", route.pattern, Self::DRY_RUN);
        let plain = |route: &Self| route.pattern.to_string();
        let pairs = [(plain(self), plain(other)), (rehearsed(self), plain(other)), (plain(self), rehearsed(other))];
        pairs.into_iter().find_map(|(ours, theirs)| common_path(&ours, &theirs))
    }

    /// Whether some server may take this path for a deletion on this route, or for a path below one.
    fn resembles(&self, parts: &[String]) -> bool {
        let ours = resemblance::parts(&self.pattern);
        let alike = |(ours, theirs): (&String, &String)| ours.starts_with('{') || ours == theirs;
        ours.len() == parts.len() && ours.iter().zip(parts).all(alike)
    }

    fn segment(&self, raw_path: &str) -> Option<SegmentId> {
        let id = raw_path.strip_prefix(&*self.prefix)?.strip_suffix(&*self.suffix)?;
        SegmentId::parse(id)
    }

    /// Which segments a role can reach on this route, before the segment is known.
    pub fn reach(&self, role: Option<Role>) -> RoleReach {
        match role {
            Some(role) if role >= self.others && role >= self.own => RoleReach::Anybodys,
            Some(role) if role >= self.own => RoleReach::Own,
            // The configuration refuses a route where others' segments need a lower role than own ones; should it
            // exist all the same, the role reaches nothing.
            _ => RoleReach::Nothing,
        }
    }

    /// The first half of the decision table of contract §5: is the segment in the caller's account?
    ///
    /// # Errors
    /// The [`PermitRefusal`] that the table names. A segment of another account does not exist for the caller.
    pub fn judge_account<'c>(
        &self,
        role: Option<Role>,
        caller: &'c Owner,
        account: &Identifier,
    ) -> Result<InAccount<'c>, PermitRefusal> {
        match self.reach(role) {
            RoleReach::Nothing => Err(PermitRefusal::RoleInsufficient),
            _ if **account != *caller.account => Err(PermitRefusal::NotFound),
            reach => Ok(InAccount { reach, member: &caller.member }),
        }
    }

    /// The decision by the role alone, when the service checks account and creator (`delegate`).
    ///
    /// # Errors
    /// If the role permits nothing on this route.
    pub fn judge_role(&self, role: Option<Role>) -> Result<Permitted, PermitRefusal> {
        match self.reach(role) {
            RoleReach::Nothing => Err(PermitRefusal::RoleInsufficient),
            RoleReach::Own | RoleReach::Anybodys => Ok(Permitted(())),
        }
    }

    /// The least role for the caller's own segments.
    pub fn own(&self) -> Role {
        self.own
    }

    /// The least role for segments that others created.
    pub fn others(&self) -> Role {
        self.others
    }
}

/// A path that matches both patterns, if there is one.
fn common_path(ours: &str, theirs: &str) -> Option<String> {
    let [ours, theirs] = [ours, theirs].map(|pattern| pattern.split('/').collect::<Vec<_>>());
    if ours.len() != theirs.len() {
        return None;
    }
    let is_parameter = |part: &str| part.starts_with('{');
    let parts = ours.into_iter().zip(theirs).map(|(ours, theirs)| match (is_parameter(ours), is_parameter(theirs)) {
        (true, true) => Some("1"),
        (true, false) => SegmentId::parse(theirs).map(|_| theirs),
        (false, true) => SegmentId::parse(ours).map(|_| ours),
        (false, false) => ours.eq_ignore_ascii_case(theirs).then_some(ours),
    });
    Some(parts.collect::<Option<Vec<_>>>()?.join("/"))
}

impl Template {
    fn parse(text: &str) -> Option<Self> {
        let (before, rest) = text.split_once('{')?;
        let (name, after) = rest.split_once('}')?;
        let named = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let plain = |part: &str| part.bytes().all(|b| b.is_ascii_graphic() && !b"{}#".contains(&b));
        let fits = before.starts_with('/') && !before.starts_with("//") && named && plain(before) && plain(after);
        fits.then(|| Self { before: before.into(), after: after.into() })
    }
}

/// Which segments a role can reach on a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleReach {
    /// None, so no look-up is needed.
    Nothing,
    /// Those that the caller created.
    Own,
    /// All segments of the caller's account.
    Anybodys,
}

/// An account and a member of it: the caller, or the creator of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The account.
    pub account: Box<str>,
    /// The member of that account.
    pub member: Box<str>,
}

/// Proof that the segment is in the caller's account, and that the caller may delete at least its own segments.
#[derive(Debug)]
pub struct InAccount<'c> {
    reach: RoleReach,
    member: &'c str,
}

impl InAccount<'_> {
    /// The second half of the decision table: who created the segment?
    ///
    /// # Errors
    /// If somebody else did, and the caller's role permits only own segments.
    pub fn judge_creator(self, creator: &Identifier) -> Result<Permitted, PermitRefusal> {
        match self.reach {
            RoleReach::Anybodys => Ok(Permitted(())),
            RoleReach::Own if **creator == *self.member => Ok(Permitted(())),
            RoleReach::Own | RoleReach::Nothing => Err(PermitRefusal::NotCreator),
        }
    }
}

/// Proof that the decision table permits the deletion. Only [`InAccount::judge_creator`] and [`Route::judge_role`]
/// make one.
#[derive(Debug)]
pub struct Permitted(());

impl Permitted {
    /// The permit to delete, under this condition.
    pub fn on(self, condition: Condition) -> Permit {
        Permit { condition, _permitted: self }
    }
}

/// Permission to delete: the decision table permits it, and the client's own conditions are met.
#[derive(Debug)]
pub struct Permit {
    condition: Condition,
    _permitted: Permitted,
}

impl Permit {
    /// The condition of the deletion, the only one that is forwarded.
    pub fn condition(&self) -> &Condition {
        &self.condition
    }
}

/// Why the decision table refuses a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermitRefusal {
    /// The role permits nothing on this route.
    RoleInsufficient,
    /// Somebody else created the segment, and the role permits only own ones.
    NotCreator,
    /// The segment belongs to another account, so it does not exist for the caller.
    NotFound,
}

/// A segment's id: `[A-Za-z0-9_-]{1,64}`, as written in the raw path (contract §5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentId(Box<str>);

impl SegmentId {
    /// The id, if `text` is a valid one.
    pub fn parse(text: &str) -> Option<Self> {
        let of_an_id = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        ((1..=64).contains(&text.len()) && text.bytes().all(of_an_id)).then(|| Self(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

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

    fn owner(account: &str, member: &str) -> Owner {
        Owner { account: account.into(), member: member.into() }
    }

    /// The table as printed in contract §5.
    #[test]
    fn the_decision_table() {
        use PermitRefusal::{NotCreator, NotFound, RoleInsufficient};
        let routes = Routes::default();
        let route = routes.iter().next().unwrap();
        let caller = owner("ours", "me");
        let columns = [owner("ours", "me"), owner("ours", "you"), owner("theirs", "me"), owner("theirs", "you")];
        let rows = [
            (Some(Role::Owner), [Ok(()), Ok(()), Err(NotFound), Err(NotFound)]),
            (Some(Role::Developer), [Ok(()), Err(NotCreator), Err(NotFound), Err(NotFound)]),
            (Some(Role::Member), [Ok(()), Err(NotCreator), Err(NotFound), Err(NotFound)]),
            (None, [Err(RoleInsufficient); 4]),
        ];
        for (role, verdicts) in rows {
            for (segment, verdict) in columns.iter().zip(verdicts) {
                let [account, member] = [&segment.account, &segment.member].map(|it| Identifier::parse(it).unwrap());
                let in_account = route.judge_account(role, &caller, &account);
                let judged = in_account.and_then(|in_account| in_account.judge_creator(&member)).map(drop);
                assert_eq!(judged, verdict, "{role:?} and a segment of {segment:?}");
            }
        }
    }

    #[test]
    fn with_delegate_the_role_is_still_checked() {
        let routes = Routes::new(vec![Route::new("/a/{b}", Role::Developer, Role::Owner).unwrap()]);
        let route = routes.iter().next().unwrap();
        for (role, verdict) in [
            (Some(Role::Owner), Ok(())),
            (Some(Role::Developer), Ok(())),
            (Some(Role::Member), Err(PermitRefusal::RoleInsufficient)),
            (None, Err(PermitRefusal::RoleInsufficient)),
        ] {
            assert_eq!(route.judge_role(role).map(drop), verdict, "{role:?}");
        }
    }

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
    fn two_routes_that_can_match_one_path_share_it() {
        let route = |pattern: &str| Route::new(pattern, Role::Member, Role::Owner).unwrap();
        for (ours, theirs, path) in [
            ("/a/{b}", "/a/{c}", "/a/1"),
            ("/a/{b}", "/A/{b}", "/a/1"),
            ("/v1/{x}/b", "/v1/a/{y}", "/v1/a/b"),
            ("/{x}/a", "/b/{y}", "/b/a"),
            ("/a/{b}/deletion-check", "/a/{b}", "/a/1/deletion-check"),
            ("/a/{b}", "/a/x/{c}", "/a/x/deletion-check"),
        ] {
            for (ours, theirs) in [(ours, theirs), (theirs, ours)] {
                let shared = route(ours).shares_path(&route(theirs)).unwrap_or_default();
                assert!(shared.eq_ignore_ascii_case(path), "{ours} and {theirs}: {shared}");
            }
        }
        for (ours, theirs) in [
            ("/a/{b}", "/b/{b}"),
            ("/a/{b}", "/a/{b}/c"),
            ("/v1/{x}/b", "/v1/a.b/{y}"),
            ("/v1/{x}/b", "/v1/a/{y}/b"),
            ("/a/{b}", "/a/deletion-check/{b}/x"),
        ] {
            assert_eq!(route(ours).shares_path(&route(theirs)), None, "{ours} and {theirs}");
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

    #[test]
    fn automations_are_looked_up_at_the_path_of_the_route() {
        let route = || Route::new("/v1/lists/{listId}/all", Role::Member, Role::Owner).unwrap();
        let segment = SegmentId::parse("S").unwrap();
        assert_eq!(route().automations_path(&segment), None);
        let at = |path| route().with_guard(path).map(|route| route.automations_path(&segment).unwrap());
        assert_eq!(at(None).unwrap(), "/v1/lists/S/all/automations");
        assert_eq!(at(Some("/v1/automations?of={id}&all=1")).unwrap(), "/v1/automations?of=S&all=1");
        for wrong in ["", "/a", "a/{b}", "//a/{b}", "/{}", "/{a}{b}", "/a b/{c}", "/{a", "/#{a}"] {
            assert!(at(Some(wrong)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_upstream_path_is_rebuilt_from_parsed_parts() {
        let route = Route::new("/v1/lists/{listId}/all", Role::Member, Role::Owner).unwrap();
        let segment = route.segment("/v1/lists/L-1/all").unwrap();
        assert_eq!(route.path(&segment), "/v1/lists/L-1/all");
    }

    #[test]
    fn an_invalid_pattern_is_refused_with_a_reason() {
        for pattern in [
            "",
            "/a",
            "/a/{",
            "/a/{}",
            "/a/{b",
            "a/{b}",
            "/a/x{b}",
            "/a/{b}x",
            "/a/{b}/",
            "/a/{b}/{c}",
            "/%61/{b}",
            "/../{b}",
            "//{b}",
        ] {
            assert!(Route::new(pattern, Role::Member, Role::Owner).is_err(), "{pattern:?}");
        }
    }

    #[test]
    fn a_role_that_suffices_only_for_others_segments_reaches_nothing() {
        let route = Route::new("/a/{b}", Role::Owner, Role::Member).unwrap();
        assert_eq!(route.reach(Some(Role::Member)), RoleReach::Nothing);
        assert_eq!(route.reach(Some(Role::Owner)), RoleReach::Anybodys);
    }
}
