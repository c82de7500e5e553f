//! Finds messages that `[passthrough]` names although they may be deletions (contract §7). They do not pass: the
//! gates judge them.
//!
//! 1. Saltgate is no authorization service. A proxy that asks it by `auth_request`, `forward_auth` or `ext_authz`
//!    whether a deletion may happen sends a GET. If that GET were passed on, the proxy would take the service's
//!    answer for a yes. Such a question carries the method or the target of the original request, or its signature.
//! 2. On the path of a deletion, however it is spelt, nothing passes that a framework could take for a deletion: a
//!    form, which may contain `_method`, or a query with a `method` parameter.

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;

use super::overrides::may_name_method;
use crate::http::fields::Folded;
use crate::policy::{Route, Routes};

/// Fields that hold the method of the original request.
const METHODS: [&str; 4] =
    ["x-original-method", "x-forwarded-method", "x-envoy-original-method", "x-auth-request-method"];
/// Fields that hold its target.
const TARGETS: [&str; 8] = [
    "x-original-uri",
    "x-original-url",
    "x-forwarded-uri",
    "x-forwarded-url",
    "x-forwarded-path",
    "x-rewrite-url",
    "x-envoy-original-path",
    "x-auth-request-uri",
];

/// Whether a message may be a deletion although neither its method nor its path shows it.
pub(super) fn may_delete(parts: &Parts, routes: &Routes) -> bool {
    let Parts { uri, headers, .. } = parts;
    asks_about_deletion(headers, routes)
        || routes.resemble(uri.path())
            && (is_signed(headers) || holds_form(headers) || uri.query().is_some_and(may_name_method))
        || parameters(uri.path()).any(may_name_method)
}

/// Whether an authorization question names the method of a route, or names the path of a route and no other method.
fn asks_about_deletion(headers: &HeaderMap, routes: &Routes) -> bool {
    let (mut other_method, mut path) = (false, false);
    for (name, value) in headers {
        // All of these field names begin with `x`.
        if !name.as_str().starts_with('x') {
            continue;
        }
        let name = Folded::of(name.as_str().as_bytes());
        if METHODS.iter().any(|known| name.is(known)) {
            if names(value, Route::METHOD) {
                return true;
            }
            other_method = true;
        } else if TARGETS.iter().any(|known| name.is(known)) {
            path |= routes.resemble(&path_of(&String::from_utf8_lossy(value.as_bytes())));
        }
    }
    path && !other_method
}

/// Whether one of the words of a value is this method.
fn names(value: &HeaderValue, method: &str) -> bool {
    let words = value.as_bytes().split(|byte| !byte.is_ascii_alphanumeric());
    words.into_iter().any(|word| word.eq_ignore_ascii_case(method.as_bytes()))
}

/// The path of a target, which may be in absolute form.
fn path_of(target: &str) -> String {
    match target.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]).to_owned(),
        None => target.to_owned(),
    }
}

/// Whether there is a signature of the scheme that deletions use.
fn is_signed(headers: &HeaderMap) -> bool {
    all(headers, &AUTHORIZATION).any(|value| {
        let scheme = value.as_bytes().trim_ascii_start();
        scheme.len() >= SCHEME.len() && scheme[..SCHEME.len()].eq_ignore_ascii_case(SCHEME)
    })
}

const SCHEME: &[u8] = b"HMAC-SHA256";

/// Whether the content type says that the body is a form.
fn holds_form(headers: &HeaderMap) -> bool {
    all(headers, &CONTENT_TYPE).any(|value| {
        let said = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
        said.contains("form-urlencoded") || said.contains("multipart/")
    })
}

/// All lines of a field, under every spelling that a server may take for its name.
fn all<'h>(headers: &'h HeaderMap, name: &'h HeaderName) -> impl Iterator<Item = &'h HeaderValue> {
    let name = name.as_str();
    let is =
        move |other: &HeaderName| other.as_str().len() == name.len() && Folded::of(other.as_str().as_bytes()).is(name);
    headers.iter().filter(move |(other, _)| is(other)).map(|(_, value)| value)
}

/// The parameters of a path, each after a `;`.
fn parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.split_once(';')).map(|(_, parameters)| parameters)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn found(line: &str, fields: &[(&str, &str)]) -> bool {
        let (method, target) = line.split_once(' ').unwrap();
        let request = Request::builder().method(method).uri(target);
        let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        may_delete(&request.body(()).unwrap().into_parts().0, &Routes::default())
    }

    const SEGMENT: &str = "GET /crm-core/v1/segments/a";

    #[test]
    fn an_authorization_question_about_a_deletion_is_recognised() {
        for (name, value) in [
            ("x-original-method", "DELETE"),
            ("x_forwarded_method", "delete"),
            ("x-forwarded-method", "GET, DELETE"),
            ("x-original-uri", "/crm-core/v1/segments/a?x=1"),
            ("x-original-url", "https://crm.example/CRM-core/v1/segments/%61/"),
            ("x-forwarded-uri", "/crm-core//v1/segments/a"),
        ] {
            assert!(found("GET /auth", &[(name, value)]), "{name}: {value}");
        }
        for fields in [
            &[("x-original-method", "GET"), ("x-original-uri", "/crm-core/v1/segments/a")][..],
            &[("x-forwarded-uri", "/crm-core/v1/segments")],
            &[("x-original-uri", "https://crm.example")],
            &[("x-forwarded-host", "DELETE")],
            // As long as the name of a field that would say so.
            &[("x-someother-method", "DELETE")],
        ] {
            assert!(!found("GET /auth", fields), "{fields:?}");
        }
    }

    #[test]
    fn on_the_path_of_a_deletion_nothing_passes_that_could_delete() {
        for (line, fields) in [
            (SEGMENT, &[("authorization", "HMAC-SHA256 apiKey=x")][..]),
            (SEGMENT, &[("authorization", "hmac-sha256")]),
            (SEGMENT, &[("authorization", "Bearer x"), ("authorization", " HMAC-SHA256 x")]),
            ("GET /CRM-core/v1/segments/a/", &[("authorization", "HMAC-SHA256 x")]),
            ("POST /crm-core/v1/segments/a", &[("content-type", "application/x-www-form-urlencoded; charset=utf-8")]),
            ("POST /crm-core/v1/segments/a", &[("content_type", "multipart/form-data; boundary=x")]),
            ("POST /crm-core/v1/segments/a?method=DELETE", &[]),
            ("POST /crm-core/v1/segments/a;_method=DELETE", &[]),
            ("POST /other;.method=DELETE/x", &[]),
        ] {
            assert!(found(line, fields), "{line} {fields:?}");
        }
        for (line, fields) in [
            (SEGMENT, &[("authorization", "Bearer x")][..]),
            // As long as `authorization`.
            (SEGMENT, &[("x-client-name", "HMAC-SHA256 x")]),
            ("GET /crm-core/v1/segments", &[("authorization", "HMAC-SHA256 x")]),
            ("POST /crm-core/v1/segments", &[("content-type", "application/x-www-form-urlencoded")]),
            ("PUT /crm-core/v1/segments/a", &[("content-type", "application/json")]),
            ("GET /messages?method=sms", &[]),
            ("GET /other;v=1/x", &[]),
        ] {
            assert!(!found(line, fields), "{line} {fields:?}");
        }
    }
}
