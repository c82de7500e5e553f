//! Which requests are forwarded without passing the gates.

use super::{Route, Routes};

/// The requests that are forwarded without the gates (contract §7): methods and path prefixes, except anything that a
/// server behind the gateway could take for a route.
#[derive(Clone, Debug, Default)]
pub struct Passthrough {
    methods: Box<[Box<str>]>,
    prefixes: Box<[Box<str>]>,
}

/// Why a configured passthrough is invalid.
#[derive(Debug, PartialEq, Eq)]
pub enum PassthroughError {
    /// This is not a valid method.
    Method(String),
    /// This is not a valid prefix.
    Prefix(String),
    /// This prefix would let requests of the route with this pattern pass without the gates.
    Overlaps(String, String),
}

impl Passthrough {
    /// Passes these methods under these prefixes.
    ///
    /// # Errors
    /// If a method is not a token, if a prefix is not a plain absolute path, or if both together reach a route.
    pub fn new(methods: Vec<String>, prefixes: Vec<String>, routes: &Routes) -> Result<Self, PassthroughError> {
        if let Some(odd) = methods.iter().find(|method| !is_method(method)) {
            return Err(PassthroughError::Method(odd.clone()));
        }
        if let Some(odd) = prefixes.iter().find(|prefix| !is_plain(prefix) || reads_otherwise(prefix)) {
            return Err(PassthroughError::Prefix(odd.clone()));
        }
        // Methods are case-sensitive, but a service may ignore case.
        if methods.iter().any(|method| method.eq_ignore_ascii_case(Route::METHOD)) {
            for prefix in &prefixes {
                if let Some(route) = routes.iter().find(|route| route.reaches_under(prefix)) {
                    return Err(PassthroughError::Overlaps(prefix.clone(), route.pattern().to_owned()));
                }
            }
        }
        let boxed = |texts: Vec<String>| texts.into_iter().map(String::into_boxed_str).collect();
        Ok(Self { methods: boxed(methods), prefixes: boxed(prefixes) })
    }

    /// Whether a request passes. The path is compared byte by byte, before any decoding. A path that a server could
    /// read as another one does not pass.
    pub fn lets(&self, method: &str, raw_path: &str) -> bool {
        self.methods.iter().any(|passes| **passes == *method)
            && self.prefixes.iter().any(|prefix| is_under(raw_path, prefix))
            && !reads_otherwise(raw_path)
            && (!method.eq_ignore_ascii_case(Route::METHOD) || is_plain(raw_path))
    }
}

/// Whether this is a method name. `CONNECT` is none, because there are no tunnels.
fn is_method(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-') && text != "CONNECT"
}

/// Whether a path is below a prefix. The prefix must end at the end of a path part.
fn is_under(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/'))
}

/// Whether this is an absolute path with only one possible reading: no escapes, no parameters, no empty parts.
fn is_plain(path: &str) -> bool {
    path.starts_with('/')
        && !path.contains("//")
        && path.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~/".contains(&b))
}

/// Whether some server would take this path for another one, because of `.` or `..` parts, an escaped separator or
/// `%`, or `\`.
fn reads_otherwise(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    let hidden = ["%2f", "%5c", "%25", "%00", "\\"].iter().any(|hidden| lower.contains(hidden));
    // `;` starts a parameter of a part; some servers remove it before they resolve dots.
    let part = |part: &str| {
        let name = part.split(';').next().unwrap_or_default().replace("%2e", ".");
        name == "." || name == ".."
    };
    hidden || lower.split('/').any(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Role;

    fn passthrough(methods: &[&str], prefixes: &[&str]) -> Result<Passthrough, PassthroughError> {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Passthrough::new(owned(methods), owned(prefixes), &Routes::default())
    }

    #[test]
    fn only_configured_requests_pass() {
        let nothing = Passthrough::default();
        assert!(!nothing.lets("GET", "/"));
        let some = passthrough(&["GET", "POST"], &["/crm-core/", "/health"]).unwrap();
        let rows = [
            ("GET", "/crm-core/v1/segments/a", true),
            ("POST", "/crm-core/v1/segments", true),
            ("GET", "/crm-core/", true),
            ("GET", "/crm-core", false),
            ("GET", "/health", true),
            ("GET", "/health/deep", true),
            ("GET", "/healthy", false),
            ("GET", "/other", false),
            ("PUT", "/crm-core/a", false),
            ("get", "/crm-core/a", false),
            ("DELETE", "/crm-core/v1/segments/a", false),
            ("GET", "/crm-core/%EC%84%B8/a;b=c//d", true),
            ("GET", "/crm-core/../admin", false),
            ("GET", "/crm-core/%2e%2E/admin", false),
            ("GET", "/crm-core/..;x/admin", false),
            ("GET", "/crm-core/.%2e;/admin", false),
            ("GET", "/crm-core/..%2fadmin", false),
            ("GET", "/crm-core/..%5Cadmin", false),
            ("GET", "/crm-core/%252e%252e/admin", false),
            ("GET", "/crm-core/..\\admin", false),
            ("GET", "/crm-core/.", false),
            ("GET", "/crm-core/a..b/.c", true),
        ];
        for (method, path, passes) in rows {
            assert_eq!(some.lets(method, path), passes, "{method} {path}");
        }
    }

    #[test]
    fn a_path_with_several_readings_does_not_pass() {
        let some = passthrough(&["DELETE"], &["/other/"]).unwrap();
        assert!(some.lets("DELETE", "/other/x-1"));
        for path in ["/other/%61", "/other//x", "/other/x;y", "/other/../crm-core/v1/segments/a", "/other/x%2e"] {
            assert!(!some.lets("DELETE", path), "{path}");
        }
    }

    #[test]
    fn a_passthrough_must_not_reach_a_route() {
        for prefix in [
            "/",
            "/crm-core",
            "/crm-core/",
            "/crm-core/v1/segments",
            "/crm-core/v1/segments/",
            "/crm-core/v1/segments/CRMSG",
            "/CRM-Core/V1",
        ] {
            assert!(matches!(passthrough(&["DELETE"], &[prefix]), Err(PassthroughError::Overlaps(..))), "{prefix}");
            assert!(matches!(passthrough(&["delete"], &[prefix]), Err(PassthroughError::Overlaps(..))), "{prefix}");
            assert!(passthrough(&["GET"], &[prefix]).is_ok(), "{prefix}: another method is no deletion");
        }
        for prefix in ["/crm", "/crm-core/v1/segment", "/crm-core/v1/segments/a/b", "/crm-core/v2/"] {
            assert!(passthrough(&["DELETE"], &[prefix]).is_ok(), "{prefix}");
        }
        let lists = Routes::new(vec![Route::new("/lists/{id}/all", Role::Member, Role::Owner).unwrap()]);
        let under = |prefix: &str| Passthrough::new(vec!["DELETE".into()], vec![prefix.into()], &lists).is_err();
        assert!(under("/lists/a/all") && under("/lists/a") && !under("/lists/a/none") && !under("/lists/a/all/x"));
    }

    #[test]
    fn invalid_methods_and_prefixes_are_reported() {
        assert_eq!(passthrough(&["G T"], &["/"]).err(), Some(PassthroughError::Method("G T".into())));
        assert_eq!(passthrough(&["CONNECT"], &["/"]).err(), Some(PassthroughError::Method("CONNECT".into())));
        for prefix in ["", "x", "//x", "/%61", "/a/../b", "/a?b", "/a#b"] {
            assert_eq!(passthrough(&["GET"], &[prefix]).err(), Some(PassthroughError::Prefix(prefix.into())));
        }
    }
}
