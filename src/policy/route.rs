use std::fmt;
use std::sync::Arc;

use super::Role;

/// What a caller may delete: a method and a path with one parameter, and two roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    prefix: Box<str>,
    suffix: Box<str>,
    pattern: Box<str>,
    own: Role,
    others: Role,
    automations: Option<Template>,
}

/// A path, or a path and a query, in which a segment's id stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Template {
    before: Box<str>,
    after: Box<str>,
}

/// Why a route of the configuration is none.
#[derive(Debug, PartialEq, Eq)]
pub struct RouteError(&'static str);

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Route {
    /// The only method that routes have: this gate exists for deletions.
    pub const METHOD: &'static str = "DELETE";

    /// What the path of a route's rehearsal has besides.
    pub const REHEARSAL: &'static str = "/deletion-check";

    /// The only method of a rehearsal.
    pub const REHEARSAL_METHOD: &'static str = "POST";

    /// The API page's route: `MEMBER` for what one created, `OWNER` for what others did.
    pub const DEFAULT_PATH: &'static str = "/crm-core/v1/segments/{segmentId}";

    /// A route from its path pattern, such as `/crm-core/v1/segments/{segmentId}`.
    ///
    /// # Errors
    /// If the pattern is not an absolute path of plain characters with exactly one parameter
    /// that fills a whole path segment.
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
        })
    }

    /// The same, where nothing is deleted that automations are linked to unless that is confirmed.
    /// They are asked for at `path`, such as `/v1/automations?segment={segmentId}`; if it is not
    /// given, at the route's own path and `/automations`.
    ///
    /// # Errors
    /// If the path is not absolute, or does not hold exactly one parameter.
    pub fn with_guard(self, path: Option<&str>) -> Result<Self, RouteError> {
        let template = match path {
            None => Template { before: self.prefix.clone(), after: format!("{}/automations", self.suffix).into() },
            Some(path) => Template::parse(path)
                .ok_or(RouteError("must begin with `/`, be visible ASCII and hold one parameter in braces"))?,
        };
        Ok(Self { automations: Some(template), ..self })
    }

    /// Where to ask which automations are linked to a segment; `None` if nobody is to.
    pub fn automations_path(&self, segment: &SegmentId) -> Option<String> {
        let Template { before, after } = self.automations.as_ref()?;
        Some([before, segment.as_str(), after].concat())
    }

    /// The pattern as configured.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// The path of one segment on this route, rebuilt from what was parsed.
    pub fn path(&self, segment: &SegmentId) -> String {
        [&*self.prefix, segment.as_str(), &*self.suffix].concat()
    }

    /// Whether the path of some segment on this route lies under a prefix that ends where a part
    /// of the path ends. Case does not count: to a service it may not.
    pub(super) fn reaches_under(&self, prefix: &str) -> bool {
        let [ours, suffix, prefix] = [&*self.prefix, &*self.suffix, prefix].map(str::to_ascii_lowercase);
        let prefix = prefix.strip_suffix('/').unwrap_or(&prefix);
        let Some(below) = prefix.strip_prefix(&*ours) else {
            // The prefix ends before the segment does: it is a part of the way, or another way.
            return ours.starts_with(&format!("{prefix}/"));
        };
        // The segment may be any: of its part only the length is known, that of the rest is fixed.
        let (segment, rest) = below.split_at(below.find('/').unwrap_or(below.len()));
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        SegmentId::parse(segment).is_some() && (rest == suffix || suffix.starts_with(&format!("{rest}/")))
    }

    fn segment(&self, raw_path: &str) -> Option<SegmentId> {
        let id = raw_path.strip_prefix(&*self.prefix)?.strip_suffix(&*self.suffix)?;
        SegmentId::parse(id)
    }

    /// How far a role reaches on this route, before anything is known of the segment.
    pub fn reach(&self, role: Option<Role>) -> Reach {
        match role {
            Some(role) if role >= self.others && role >= self.own => Reach::Anybodys,
            Some(role) if role >= self.own => Reach::Own,
            // A role that suffices for others' but not for one's own is a contradiction that
            // the configuration refuses; were one to slip through, it reaches nothing.
            _ => Reach::Nothing,
        }
    }

    /// The decision table of contract §5.
    ///
    /// # Errors
    /// The [`Refusal`] that the table names. An account that is not the caller's comes first:
    /// whoever cannot see a segment learns nothing of who created it.
    pub fn judge(&self, role: Option<Role>, caller: &Owner, segment: &Owner) -> Result<Permit, Refusal> {
        match self.reach(role) {
            Reach::Nothing => Err(Refusal::RoleInsufficient),
            _ if segment.account != caller.account => Err(Refusal::NotFound),
            Reach::Anybodys => Ok(Permit(())),
            Reach::Own if segment.member == caller.member => Ok(Permit(())),
            Reach::Own => Err(Refusal::NotCreator),
        }
    }

    /// The decision where account and creator are left to the service (`delegate`): the role
    /// alone.
    ///
    /// # Errors
    /// If the role reaches nothing on this route.
    pub fn judge_role(&self, role: Option<Role>) -> Result<Permit, Refusal> {
        match self.reach(role) {
            Reach::Nothing => Err(Refusal::RoleInsufficient),
            Reach::Own | Reach::Anybodys => Ok(Permit(())),
        }
    }

    /// The role that suffices for what one created oneself.
    pub fn own(&self) -> Role {
        self.own
    }

    /// The role that suffices for what somebody else created.
    pub fn others(&self) -> Role {
        self.others
    }
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

/// How far a role reaches on a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Nothing at all; nothing need be looked up.
    Nothing,
    /// What the caller created.
    Own,
    /// What anybody in the caller's account created.
    Anybodys,
}

/// An account and a member of it: the caller's, or the creator's of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The account.
    pub account: Box<str>,
    /// The member of that account.
    pub member: Box<str>,
}

/// Proof that the decision table said yes. Only [`Route::judge`] and [`Route::judge_role`]
/// make one.
#[derive(Debug)]
pub struct Permit(());

/// What the decision table answers when it is not yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The role reaches nothing on this route.
    RoleInsufficient,
    /// Somebody else created the segment, and the role reaches only one's own.
    NotCreator,
    /// Another account's segment does not exist.
    NotFound,
}

/// A segment's id: `[A-Za-z0-9_-]{1,64}`, as it stood in the raw path (contract §5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentId(Box<str>);

impl SegmentId {
    /// The id, if `text` is one.
    pub fn parse(text: &str) -> Option<Self> {
        let of_an_id = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        ((1..=64).contains(&text.len()) && text.bytes().all(of_an_id)).then(|| Self(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// All routes. What is none of them is refused.
#[derive(Clone, Debug)]
pub struct Routes(Box<[Arc<Route>]>);

/// What the routes say to a method and a raw path.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'r> {
    /// This route, for this segment.
    Route(&'r Arc<Route>, SegmentId),
    /// The rehearsal of a deletion by this route, of this segment.
    Rehearsal(&'r Arc<Route>, SegmentId),
    /// The path is a route's or a rehearsal's; this is its method.
    OtherMethod(&'static str),
    /// No route.
    None,
}

impl Routes {
    /// These routes, the first that fits wins.
    pub fn new(routes: Vec<Route>) -> Self {
        Self(routes.into_iter().map(Arc::new).collect())
    }

    /// The route of a request line. The path is compared byte for byte, before any decoding.
    pub fn find(&self, method: &str, raw_path: &str) -> Found<'_> {
        let route_of = |path: &str| self.0.iter().find_map(|route| Some((route, route.segment(path)?)));
        let deletion = route_of(raw_path);
        let rehearsal = raw_path.strip_suffix(Route::REHEARSAL).and_then(route_of);
        match (deletion, rehearsal) {
            (Some((route, segment)), _) if method == Route::METHOD => Found::Route(route, segment),
            (_, Some((route, segment))) if method == Route::REHEARSAL_METHOD => Found::Rehearsal(route, segment),
            (Some(_), _) => Found::OtherMethod(Route::METHOD),
            (None, Some(_)) => Found::OtherMethod(Route::REHEARSAL_METHOD),
            (None, None) => Found::None,
        }
    }

    /// The routes in order.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.0.iter().map(|route| &**route)
    }
}

impl Default for Routes {
    fn default() -> Self {
        let api_page = Route::new(Route::DEFAULT_PATH, Role::Member, Role::Owner);
        Self::new(api_page.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(account: &str, member: &str) -> Owner {
        Owner { account: account.into(), member: member.into() }
    }

    /// Contract §5, the table as it is printed there.
    #[test]
    fn the_decision_table() {
        use Refusal::{NotCreator, NotFound, RoleInsufficient};
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
                let judged = route.judge(role, &caller, segment).map(drop);
                assert_eq!(judged, verdict, "{role:?} and a segment of {segment:?}");
            }
        }
    }

    #[test]
    fn where_the_service_judges_the_rest_the_role_is_judged_all_the_same() {
        let routes = Routes::new(vec![Route::new("/a/{b}", Role::Developer, Role::Owner).unwrap()]);
        let route = routes.iter().next().unwrap();
        for (role, verdict) in [
            (Some(Role::Owner), Ok(())),
            (Some(Role::Developer), Ok(())),
            (Some(Role::Member), Err(Refusal::RoleInsufficient)),
            (None, Err(Refusal::RoleInsufficient)),
        ] {
            assert_eq!(route.judge_role(role).map(drop), verdict, "{role:?}");
        }
    }

    #[test]
    fn a_path_is_a_route_byte_for_byte_or_not_at_all() {
        let routes = Routes::default();
        let id = "CRMSG1260423081530123SGM11122233";
        assert!(matches!(
            routes.find("DELETE", &format!("/crm-core/v1/segments/{id}")),
            Found::Route(_, segment) if segment.as_str() == id
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
            assert_eq!(routes.find("DELETE", path), Found::None, "{path:?}");
        }
    }

    #[test]
    fn another_method_is_told_from_no_route() {
        let routes = Routes::default();
        assert_eq!(routes.find("GET", "/crm-core/v1/segments/a"), Found::OtherMethod("DELETE"));
        assert_eq!(routes.find("POST", "/crm-core/v1/segments/a"), Found::OtherMethod("DELETE"));
        assert_eq!(routes.find("delete", "/crm-core/v1/segments/a"), Found::OtherMethod("DELETE"));
        assert_eq!(routes.find("GET", "/crm-core/v1/segments"), Found::None);
    }

    #[test]
    fn a_rehearsal_is_a_path_of_its_own_and_no_deletion() {
        let routes = Routes::default();
        let path = "/crm-core/v1/segments/a/deletion-check";
        assert!(matches!(routes.find("POST", path), Found::Rehearsal(_, segment) if segment.as_str() == "a"));
        for method in ["DELETE", "GET", "post", "PUT"] {
            assert_eq!(routes.find(method, path), Found::OtherMethod("POST"), "{method}");
        }
        for path in ["/crm-core/v1/segments/deletion-check/", "/crm-core/v1/segments//deletion-check"] {
            assert_eq!(routes.find("POST", path), Found::None, "{path}");
        }
        // A segment may be called anything.
        let named = "/crm-core/v1/segments/deletion-check";
        assert!(matches!(routes.find("DELETE", named), Found::Route(..)));
    }

    #[test]
    fn automations_are_asked_for_where_the_route_says() {
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
    fn a_path_upstream_is_rebuilt_from_what_was_parsed() {
        let route = Route::new("/v1/lists/{listId}/all", Role::Member, Role::Owner).unwrap();
        let segment = route.segment("/v1/lists/L-1/all").unwrap();
        assert_eq!(route.path(&segment), "/v1/lists/L-1/all");
    }

    #[test]
    fn a_pattern_that_is_no_route_says_why() {
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
    fn a_role_that_suffices_for_others_only_reaches_nothing() {
        let route = Route::new("/a/{b}", Role::Owner, Role::Member).unwrap();
        assert_eq!(route.reach(Some(Role::Member)), Reach::Nothing);
        assert_eq!(route.reach(Some(Role::Owner)), Reach::Anybodys);
    }
}
