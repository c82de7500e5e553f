//! A route: the path of segments that can be deleted, and what is configured for it.

use std::fmt;

use super::{Role, SegmentId, resemblance};

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

    /// The parsed parts of which the path of a segment on this route consists.
    pub fn path<'p>(&'p self, segment: &'p SegmentId) -> [&'p str; 3] {
        [&self.prefix, segment.as_str(), &self.suffix]
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
    pub(super) fn resembles(&self, parts: &[String]) -> bool {
        let ours = resemblance::parts(&self.pattern);
        let alike = |(ours, theirs): (&String, &String)| ours.starts_with('{') || ours == theirs;
        ours.len() == parts.len() && ours.iter().zip(parts).all(alike)
    }

    pub(super) fn segment(&self, raw_path: &str) -> Option<SegmentId> {
        let id = raw_path.strip_prefix(&*self.prefix)?.strip_suffix(&*self.suffix)?;
        SegmentId::parse(id)
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

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(route.path(&segment).concat(), "/v1/lists/L-1/all");
    }

    #[test]
    fn a_parameter_of_the_automations_path_is_a_plain_name() {
        for (path, fits) in [("/a/{list_id}", true), ("/a/{L1}/b", true), ("/a/{list-id}", false), ("/a/{}", false)] {
            assert_eq!(Template::parse(path).is_some(), fits, "{path}");
        }
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
}
