//! Which fields of a request are passed on, and which Saltgate sets (contract §7). `docs/operations.md` has the table.

use http::Method;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, IF_MATCH, TRANSFER_ENCODING, VIA,
};

use crate::http::fields::{Class, Folded, is_named, surviving};
use crate::http::h1::{InvalidRequestHead, RequestHead};

/// The id of a request in the log, in the record and at the service.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Whether the `Authorization` of a judged request is passed on (`upstream.authorization`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// It is removed.
    Strip,
    /// It is passed on, for a service that still verifies it.
    Keep,
}

/// The caller, as reported to the service.
pub(crate) struct Identity<'r> {
    /// The account.
    pub account: &'r str,
    /// The member.
    pub member: &'r str,
    /// The role, if the key has one.
    pub role: Option<&'r str>,
    /// The apiKey.
    pub api_key: &'r str,
    /// The creator of the segment, as it was looked up.
    pub creator: Option<&'r str>,
    /// The request id.
    pub request_id: &'r HeaderValue,
}

/// Which parts of a deletion are passed on besides its end-to-end fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Whether its credentials are.
    pub authorization: Authorization,
    /// Whether its body is, with the fields that describe it.
    pub body: bool,
    /// Whether its trace context is, because Saltgate makes none and the client's is believed.
    pub trace: bool,
}

/// Writes the client's fields that are passed on with a deletion. Conditions are not among them: they are part of the
/// deletion's permit.
pub(crate) fn end_to_end(head: &mut RequestHead, headers: &HeaderMap, kept: Kept) {
    let goes = |name: &Folded| match name.class() {
        Class::EndToEnd => true,
        Class::Content => kept.body,
        Class::Trace => kept.trace,
        Class::Credential => kept.authorization == Authorization::Keep,
        Class::HopByHop | Class::MadeAnew | Class::Ours | Class::Override => false,
        Class::Forwarding | Class::Condition | Class::Variation => false,
    };
    surviving(headers, goes).for_each(|(name, value)| head.field(name, value));
}

/// A condition on which a client makes its request depend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConditionHeader<'h> {
    /// A line of `If-Match`, or of a name that a server may take for it.
    IfMatch(&'h HeaderValue),
    /// Any other condition.
    Other,
}

/// The conditions among a client's fields.
pub(crate) fn conditions(headers: &HeaderMap) -> impl Iterator<Item = ConditionHeader<'_>> {
    // Few names begin with `if`, and only those are folded.
    let perhaps = headers.iter().filter(|(name, _)| name.as_str().starts_with("if"));
    perhaps.filter_map(|(name, value)| match Folded::of(name.as_str().as_bytes()) {
        name if name.is(IF_MATCH.as_str()) => Some(ConditionHeader::IfMatch(value)),
        name if name.class() == Class::Condition => Some(ConditionHeader::Other),
        _ => None,
    })
}

/// Writes the fields of a request that no gate judges, without those of its connection and those that only Saltgate may
/// set. `Expect` was already answered, and the framing fields are written with the body.
pub(crate) fn as_it_came(head: &mut RequestHead, headers: &HeaderMap) {
    let goes = |name: &Folded| match name.class() {
        Class::HopByHop => false,
        Class::MadeAnew => !name.is("expect") && !name.is(CONTENT_LENGTH.as_str()),
        Class::Ours => name.is(X_REQUEST_ID.as_str()),
        Class::Credential | Class::Override | Class::Forwarding | Class::Condition => true,
        Class::Variation | Class::Content | Class::Trace | Class::EndToEnd => true,
    };
    surviving(headers, goes).for_each(|(name, value)| head.field(name, value));
}

/// Removes `Connection` and the fields that it names. They belong to the client's connection, so they must not be judged as
/// if they were for the service.
#[cold]
pub(crate) fn take_connection(headers: &mut HeaderMap) {
    let named = |name: &HeaderName| {
        let listed = headers.get_all(CONNECTION).iter().map(HeaderValue::as_bytes);
        ![HOST, CONTENT_LENGTH, TRANSFER_ENCODING].contains(name) && is_named(name.as_str().as_bytes(), listed)
    };
    let doomed: Vec<HeaderName> = headers.keys().filter(|name| named(name)).cloned().collect();
    for name in doomed.into_iter().chain([CONNECTION]) {
        headers.remove(name);
    }
}

/// Removes fields that override the method or the path and, unless a trusted proxy sent them, fields that say where the
/// request came from.
pub(crate) fn strip_claims(headers: &mut HeaderMap, from_trusted_proxy: bool) {
    let is_claim = |name: &&HeaderName| {
        let class = Folded::of(name.as_str().as_bytes()).class();
        class == Class::Override || class == Class::Forwarding && !from_trusted_proxy
    };
    let doomed: Vec<HeaderName> = headers.keys().filter(is_claim).cloned().collect();
    for name in doomed {
        headers.remove(name);
    }
}

/// Writes the fields that say who the caller is.
///
/// # Errors
/// If one of them is not a valid field value. The creator comes from the service and may be any text.
pub(crate) fn identity(head: &mut RequestHead, identity: &Identity<'_>) -> Result<(), InvalidRequestHead> {
    head.text("x-saltgate-account: ", identity.account)?;
    head.text("x-saltgate-member: ", identity.member)?;
    head.text("x-saltgate-api-key: ", identity.api_key)?;
    head.field(&X_REQUEST_ID, identity.request_id);
    if let Some(role) = identity.role {
        head.text("x-saltgate-role: ", role)?;
    }
    match identity.creator {
        Some(creator) => head.text("x-saltgate-creator: ", creator),
        None => Ok(()),
    }
}

/// A look-up in the caller's name (contract §5): a GET with Saltgate's own fields and none of the client's.
///
/// # Errors
/// If the path or the identity cannot be written.
pub(crate) fn question(path: &str, who: &Identity<'_>) -> Result<RequestHead, InvalidRequestHead> {
    let mut head = RequestHead::new(&Method::GET, path, None)?;
    head.text("accept: ", "application/json")?;
    head.text("cache-control: ", "no-store")?;
    identity(&mut head, who)?;
    Ok(head)
}

/// Writes the fields that say where the request came from. A client on a Unix socket has no address, so it gets no
/// `X-Forwarded-For`.
pub(crate) fn forwarded(
    head: &mut RequestHead,
    client: Option<&str>,
    proto: &'static str,
    host: Option<&HeaderValue>,
) -> Result<(), InvalidRequestHead> {
    if let Some(client) = client {
        head.text("x-forwarded-for: ", client)?;
    }
    head.text("x-forwarded-proto: ", proto)?;
    if let Some(host) = host {
        const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
        head.field(&FORWARDED_HOST, host);
    }
    Ok(())
}

/// Whether a request has already passed through this gateway, which calls itself `own` in `Via`.
#[cold]
pub(crate) fn has_passed(headers: &HeaderMap, own: &HeaderValue) -> bool {
    let received_by = |entry: &[u8]| {
        let mut words = entry.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
        words.nth(1).map(<[u8]>::to_ascii_lowercase)
    };
    let own = received_by(own.as_bytes());
    let mut entries = headers.get_all(VIA).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    own.is_some() && entries.any(|entry| received_by(entry) == own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&str, &str)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap())
        };
        lines.iter().map(line).collect()
    }

    /// The field lines that are written, sorted.
    fn lines_of(write: impl FnOnce(&mut RequestHead)) -> Vec<String> {
        let mut head = RequestHead::new(&http::Method::DELETE, "/", None).unwrap();
        write(&mut head);
        let mut out = Vec::new();
        head.write(&HeaderValue::from_static("crm"), &crate::http::h1::Outgoing::Whole(Default::default()), &mut out);
        let text = String::from_utf8(out).unwrap();
        let lines = text.lines().skip(1).filter(|line| !line.is_empty() && *line != "host: crm");
        let mut lines: Vec<_> = lines.map(str::to_owned).collect();
        lines.sort();
        lines
    }

    const STRIPPED: Kept = Kept { authorization: Authorization::Strip, body: true, trace: false };

    fn sent(lines: &[(&str, &str)], kept: Kept) -> Vec<String> {
        lines_of(|head| end_to_end(head, &headers(lines), kept))
    }

    #[test]
    fn fields_of_saltgate_never_come_from_the_client() {
        for name in [
            "Authorization",
            "X-Saltgate-Role",
            "x_saltgate_role",
            "X.Saltgate.Role",
            "x-saltgate_account",
            "X-Request-Id",
            "x_request_id",
            "Forwarded",
            "X-Forwarded-For",
            "x_forwarded_host",
            "X-Real-IP",
            "True-Client-IP",
            "X-HTTP-Method",
            "X-HTTP-Method-Override",
            "x_http_method_override",
            "X-Method-Override",
            "X-Original-URL",
            "X-Original-URI",
            "X-Rewrite-URL",
            "Proxy-Authorization",
            "Proxy-Connection",
            "Upgrade",
            "HTTP2-Settings",
            "TE",
            "Trailer",
            "Keep-Alive",
            "Transfer-Encoding",
            "Connection",
            "Expect",
        ] {
            assert_eq!(sent(&[(name, "x"), ("accept", "y")], STRIPPED), ["accept: y"], "{name}");
        }
    }

    #[test]
    fn only_configured_parts_are_forwarded() {
        let lines = [("authorization", "x"), ("proxy-authorization", "y"), ("x-saltgate-role", "OWNER")];
        assert_eq!(sent(&lines, Kept { authorization: Authorization::Keep, ..STRIPPED }), ["authorization: x"]);
    }

    #[test]
    fn connection_removes_fields_but_not_those_of_saltgate() {
        let client = headers(&[
            ("connection", "x-one, X_Two ,x-saltgate-account, via"),
            ("connection", "x-three"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
            ("x-four", "4"),
            ("via", "1.1 other"),
        ]);
        let who = Identity {
            account: "a",
            member: "m",
            role: Some("OWNER"),
            api_key: "k",
            creator: Some("c"),
            request_id: &HeaderValue::from_static("r"),
        };
        let lines = lines_of(|head| {
            end_to_end(head, &client, STRIPPED);
            forwarded(head, None, "http", None).unwrap();
            identity(head, &who).unwrap();
        });
        let expected = [
            "x-forwarded-proto: http",
            "x-four: 4",
            "x-request-id: r",
            "x-saltgate-account: a",
            "x-saltgate-api-key: k",
            "x-saltgate-creator: c",
            "x-saltgate-member: m",
            "x-saltgate-role: OWNER",
        ];
        assert_eq!(lines, expected);
        lines_of(|head| assert!(identity(head, &Identity { creator: Some("line\nend"), ..who }).is_err()));
    }

    #[test]
    fn a_message_that_passed_before_is_recognised_by_its_via() {
        let own = HeaderValue::from_static("1.1 saltgate-01");
        for (lines, passed) in [
            (&["1.1 saltgate-01"][..], true),
            (&["1.1 other, HTTP/2.0  SALTGATE-01 (here)"], true),
            (&["1.1 other", "2 saltgate-01"], true),
            (&["1.1 saltgate-02", "1.1 saltgate"], false),
            (&["1.1 other (1.1 saltgate-01)"], false),
            (&["saltgate-01", ""], false),
            (&[], false),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| ("via", *line)).collect();
            assert_eq!(has_passed(&headers(&lines), &own), passed, "{lines:?}");
        }
    }

    #[test]
    fn fields_that_change_what_is_deleted_are_not_forwarded() {
        let gone = [
            "Cookie",
            "Range",
            "content_range",
            "Prefer",
            "Depth",
            "Destination",
            "Client-IP",
            "CF-Connecting-IP",
            "X-Client-IP",
            "X-Original-Method",
            "X-Forwarded-Method",
            "x_envoy_external_address",
        ];
        for name in gone {
            assert_eq!(sent(&[(name, "x"), ("accept", "y")], STRIPPED), ["accept: y"], "{name}");
        }
        let kept = ["accept-language", "idempotency-key", "origin", "user-agent", "x-own"];
        for name in kept {
            assert_eq!(sent(&[(name, "x")], STRIPPED), [format!("{name}: x")], "{name}");
        }
        let about_the_body =
            ["Content-Type", "content_type", "Content-Encoding", "Content-Language", "Digest", "Repr-Digest"];
        for name in about_the_body {
            assert_eq!(sent(&[(name, "x")], STRIPPED).len(), 1, "{name} with a body");
            assert_eq!(sent(&[(name, "x")], Kept { body: false, ..STRIPPED }), [""; 0], "{name} without one");
        }
        for name in ["traceparent", "tracestate", "Trace_Parent", "TRACESTATE"] {
            let folded = name.to_ascii_lowercase();
            let is_context = !folded.contains('_');
            assert_eq!(sent(&[(name, "x")], STRIPPED).concat().is_empty(), is_context, "{name}");
            assert_eq!(sent(&[(name, "x")], Kept { trace: true, ..STRIPPED }), [format!("{folded}: x")], "{name}");
        }
        assert_eq!(sent(&[("cookie", "x")], Kept { authorization: Authorization::Keep, ..STRIPPED }), ["cookie: x"]);
    }

    #[test]
    fn forwarding_fields_are_accepted_only_from_a_trusted_proxy() {
        let lines = [
            ("Forwarded", "for=192.0.2.1"),
            ("x_forwarded_for", "192.0.2.1"),
            ("X-Real-IP", "192.0.2.1"),
            ("X-Original-URI", "/x"),
            ("X-HTTP-Method-Override", "DELETE"),
            ("Accept", "*/*"),
        ];
        let left = |from_trusted_proxy| {
            let mut client = headers(&lines);
            strip_claims(&mut client, from_trusted_proxy);
            client.keys().map(|name| name.as_str().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(left(false), ["accept"]);
        assert_eq!(left(true), ["forwarded", "x_forwarded_for", "x-real-ip", "accept"]);
    }

    #[test]
    fn connection_cannot_take_the_host_away() {
        let client = headers(&[("connection", "Host, x-one"), ("host", "a"), ("x-one", "1")]);
        assert_eq!(lines_of(|head| as_it_came(head, &client)), ["host: a"]);
    }

    #[test]
    fn every_condition_is_found_and_none_is_forwarded() {
        for (name, found) in [
            ("If-Match", true),
            ("if_match", true),
            ("If.Match", true),
            ("If-None-Match", false),
            ("If_Unmodified_Since", false),
            ("If-Modified-Since", false),
            ("If-Range", false),
            ("If-Schedule-Tag-Match", false),
            ("If", false),
        ] {
            let client = headers(&[(name, "\"v1\""), ("iffy", "y")]);
            assert_eq!(lines_of(|head| end_to_end(head, &client, STRIPPED)), ["iffy: y"], "{name}");
            let value = HeaderValue::from_static("\"v1\"");
            let condition = if found { ConditionHeader::IfMatch(&value) } else { ConditionHeader::Other };
            assert_eq!(conditions(&client).collect::<Vec<_>>(), [condition], "{name}");
        }
    }
}
