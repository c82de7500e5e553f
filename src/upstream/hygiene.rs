//! Which fields go further, and which are ours to set (contract §7).
//!
//! Names are compared with every byte but letters and digits read as `-`: what a server behind us
//! takes for the same name is the same name.

use http::Method;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, IF_MATCH};

use super::{RequestHead, Unsayable};

/// The id under which the log, the record and the service know a request.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What becomes of the `Authorization` of a request that was judged (`upstream.authorization`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// It has done its work.
    Strip,
    /// The service still verifies by itself: it gets what the client sent.
    Keep,
}

/// Who the service is told the caller is.
pub struct Identity<'r> {
    /// The account.
    pub account: &'r str,
    /// The member.
    pub member: &'r str,
    /// The role, if it is one.
    pub role: Option<&'r str>,
    /// The apiKey.
    pub api_key: &'r str,
    /// Who created the segment, as judged.
    pub creator: Option<&'r str>,
    /// The request id.
    pub request_id: &'r HeaderValue,
}

fn fold(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' }
}

/// The beginning of a name, folded: as much as any name has that is looked for, and a byte more.
struct Folded([u8; Folded::ROOM], usize);

impl Folded {
    const ROOM: usize = 32;

    fn of(name: &[u8]) -> Self {
        let len = name.len().min(Self::ROOM);
        let mut folded = Self([0; Self::ROOM], len);
        for (to, byte) in folded.0.iter_mut().zip(&name[..len]) {
            *to = fold(*byte);
        }
        folded
    }

    fn as_bytes(&self) -> &[u8] {
        &self.0[..self.1]
    }

    fn is(&self, name: &str) -> bool {
        self.as_bytes() == name.as_bytes()
    }

    fn begins_with(&self, prefix: &str) -> bool {
        self.as_bytes().starts_with(prefix.as_bytes())
    }

    /// Between one hop and the next.
    fn is_hop_by_hop(&self) -> bool {
        matches!(
            self.as_bytes(),
            b"connection" | b"keep-alive" | b"te" | b"trailer" | b"transfer-encoding" | b"upgrade" | b"http2-settings"
        )
    }

    /// What a client sends and the service must not read.
    fn is_from_client(&self) -> bool {
        match self.as_bytes() {
            b"authorization" | b"forwarded" | b"true-client-ip" => true,
            // Made anew from the whole body, and from what was parsed; `Expect` has been met.
            b"host" | b"content-length" | b"expect" => true,
            [b'p', ..] => self.begins_with("proxy-"),
            b"x-request-id" | b"x-real-ip" => true,
            [b'x', ..] => self.is_override() || self.begins_with("x-saltgate-") || self.begins_with("x-forwarded-"),
            _ => false,
        }
    }

    /// What would make another method or another path of a message.
    fn is_override(&self) -> bool {
        let path_or_method =
            matches!(self.as_bytes(), b"x-method-override" | b"x-original-url" | b"x-original-uri" | b"x-rewrite-url");
        path_or_method || self.begins_with("x-http-method")
    }
}

/// Whether `Connection` names this field. A message is for its host whatever the hop: without one it
/// would be for anybody.
fn is_named<'h>(name: &[u8], connection: impl Iterator<Item = &'h [u8]>) -> bool {
    if name.eq_ignore_ascii_case(HOST.as_str().as_bytes()) {
        return false;
    }
    let is = |named: &[u8]| named.len() == name.len() && named.iter().zip(name).all(|(a, b)| fold(*a) == fold(*b));
    connection.flat_map(|list| list.split(|b| *b == b',')).any(|named| is(named.trim_ascii()))
}

/// Whether a field of an answer goes no further: it belongs to the hop, or only we may say it.
/// `connection` gives the values of `Connection`.
pub fn ends_at_answer<'h, C: Iterator<Item = &'h [u8]>>(name: &[u8], connection: impl Fn() -> C) -> bool {
    let folded = Folded::of(name);
    let ours = folded.is("x-request-id") || folded.begins_with("x-saltgate-") || folded.begins_with("proxy-");
    ours || folded.is_hop_by_hop() || is_named(name, connection())
}

/// The fields of a client's message that go further than this hop, but for such as `strip` says.
fn surviving(
    headers: &HeaderMap,
    strip: impl Fn(&Folded) -> bool,
) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    let says_connection = headers.contains_key(CONNECTION);
    headers.iter().filter(move |(name, _)| {
        let name = name.as_str().as_bytes();
        let folded = Folded::of(name);
        let named = || is_named(name, headers.get_all(CONNECTION).iter().map(HeaderValue::as_bytes));
        !(folded.is_hop_by_hop() || strip(&folded) || says_connection && named())
    })
}

/// Writes what of a client's fields goes upstream.
///
/// `version` is the one that was judged: the deletion is only for it. A client's own condition that
/// names other versions stays as it is: the service will refuse it, as its client asked.
pub fn end_to_end(
    head: &mut RequestHead,
    headers: &HeaderMap,
    authorization: Authorization,
    version: Option<&HeaderValue>,
) {
    let keep = authorization == Authorization::Keep;
    let bound = version.filter(|judged| permits(headers, judged));
    let strip = |name: &Folded| {
        name.is_from_client() && !(keep && name.is("authorization")) || bound.is_some() && name.is(IF_MATCH.as_str())
    };
    surviving(headers, strip).for_each(|(name, value)| head.field(name, value));
    if let Some(judged) = bound {
        head.field(&IF_MATCH, judged);
    }
}

/// Whether the client has no condition, or one that names this version.
fn permits(headers: &HeaderMap, judged: &HeaderValue) -> bool {
    let names_judged = |condition: &HeaderValue| {
        let mut tags = condition.as_bytes().split(|&b| b == b',').map(<[u8]>::trim_ascii);
        tags.any(|tag| tag == b"*" || tag == judged.as_bytes())
    };
    let mut conditions = headers.get_all(IF_MATCH).iter().peekable();
    conditions.peek().is_none() || conditions.any(names_judged)
}

/// Writes the fields of a message that is none of ours to judge, less what belongs to the hop it came
/// by, and what only we may say of a caller. `Expect` has been met; what frames the body is written
/// with it.
pub fn as_it_came(head: &mut RequestHead, headers: &HeaderMap) {
    let strip =
        |name: &Folded| name.is("expect") || name.begins_with("x-saltgate-") || name.is(CONTENT_LENGTH.as_str());
    surviving(headers, strip).for_each(|(name, value)| head.field(name, value));
}

/// Removes what would make another method or another path of a message.
pub fn strip_overrides(headers: &mut HeaderMap) {
    let is_override = |name: &&HeaderName| Folded::of(name.as_str().as_bytes()).is_override();
    let doomed: Vec<HeaderName> = headers.keys().filter(is_override).cloned().collect();
    for name in doomed {
        headers.remove(name);
    }
}

/// Says who the caller is.
///
/// # Errors
/// If something is no field value; a creator comes from the service and may be anything.
pub fn identity(head: &mut RequestHead, identity: &Identity<'_>) -> Result<(), Unsayable> {
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

/// What is asked in somebody's name (contract §5): a GET with our own fields and nothing of a client's.
///
/// # Errors
/// If path or identity cannot be said.
pub fn question(path: &str, who: &Identity<'_>) -> Result<RequestHead, Unsayable> {
    let mut head = RequestHead::new(&Method::GET, path, None)?;
    head.text("accept: ", "application/json")?;
    identity(&mut head, who)?;
    Ok(head)
}

/// Says where the request came from. A client without an address, as one on a Unix socket is, has
/// no `X-Forwarded-For`: none is truer than one made up.
pub fn forwarded(
    head: &mut RequestHead,
    client: Option<&str>,
    proto: &'static str,
    host: Option<&HeaderValue>,
) -> Result<(), Unsayable> {
    if let Some(client) = client {
        head.text("x-forwarded-for: ", client)?;
    }
    head.text("x-forwarded-proto: ", proto)?;
    if let Some(host) = host {
        const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
        head.field(&FORWARDED_HOST, host);
    }
    head.text("via: ", "1.1 saltgate")
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

    /// What a message says of fields, sorted.
    fn said(write: impl FnOnce(&mut RequestHead)) -> Vec<String> {
        let mut head = RequestHead::new(&http::Method::DELETE, "/", None).unwrap();
        write(&mut head);
        let mut out = Vec::new();
        head.write(&HeaderValue::from_static("crm"), &super::super::Outgoing::Whole(Default::default()), &mut out);
        let text = String::from_utf8(out).unwrap();
        let lines = text.lines().skip(1).filter(|line| !line.is_empty() && *line != "host: crm");
        let mut lines: Vec<_> = lines.map(str::to_owned).collect();
        lines.sort();
        lines
    }

    fn sent(lines: &[(&str, &str)], authorization: Authorization) -> Vec<String> {
        said(|head| end_to_end(head, &headers(lines), authorization, None))
    }

    #[test]
    fn nothing_of_ours_can_come_from_the_client() {
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
            assert_eq!(sent(&[(name, "x"), ("accept", "y")], Authorization::Strip), ["accept: y"], "{name}");
        }
    }

    #[test]
    fn only_what_is_to_be_kept_is_kept() {
        let lines = [("authorization", "x"), ("proxy-authorization", "y"), ("x-saltgate-role", "OWNER")];
        assert_eq!(sent(&lines, Authorization::Keep), ["authorization: x"]);
    }

    #[test]
    fn connection_is_honoured_and_cannot_take_ours_away() {
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
        let lines = said(|head| {
            end_to_end(head, &client, Authorization::Strip, None);
            forwarded(head, None, "http", None).unwrap();
            identity(head, &who).unwrap();
        });
        let expected = [
            "via: 1.1 saltgate",
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
        said(|head| assert!(identity(head, &Identity { creator: Some("line\nend"), ..who }).is_err()));
    }

    #[test]
    fn connection_cannot_take_the_host_away() {
        let client = headers(&[("connection", "Host, x-one"), ("host", "a"), ("x-one", "1")]);
        assert_eq!(said(|head| as_it_came(head, &client)), ["host: a"]);
    }

    #[test]
    fn a_deletion_is_bound_to_the_version_that_was_judged() {
        let judged = HeaderValue::from_static("\"v2\"");
        let rows: [(&str, &[&str], &[&str]); 5] = [
            ("no condition", &[], &["\"v2\""]),
            ("any version", &["*"], &["\"v2\""]),
            ("the judged one among others", &["\"v1\", \"v2\""], &["\"v2\""]),
            ("the judged one in another field", &["\"v1\"", "\"v2\""], &["\"v2\""]),
            ("another one", &["\"v1\""], &["\"v1\""]),
        ];
        for (name, conditions, expected) in rows {
            let client = headers(&conditions.iter().map(|condition| ("if-match", *condition)).collect::<Vec<_>>());
            let lines = said(|head| end_to_end(head, &client, Authorization::Strip, Some(&judged)));
            assert_eq!(lines, expected.iter().map(|tag| format!("if-match: {tag}")).collect::<Vec<_>>(), "{name}");
        }
    }
}
