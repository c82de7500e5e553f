//! Which fields go further, and which are ours to set (contract §7).
//!
//! Names are compared with every byte but letters and digits read as `-`: what a server behind us
//! takes for the same name is the same name.

use std::net::IpAddr;

use bytes::BytesMut;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue, TRANSFER_ENCODING, VIA,
};

/// Between one hop and the next.
const HOP_BY_HOP: &[&str] =
    &["connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings"];
/// What the client sent and the service must not read.
const FROM_CLIENT: &[&str] = &[
    "authorization",
    "x-request-id",
    "forwarded",
    "x-real-ip",
    "true-client-ip",
    "x-method-override",
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
    // Made anew from the whole body, and from what was parsed; `Expect` has been met.
    "host",
    "content-length",
    "expect",
];
/// Fields that we set on a deletion, at most.
const OURS: usize = 16;
const PREFIXES_FROM_CLIENT: &[&str] = &["x-saltgate-", "x-forwarded-", "x-http-method", "proxy-"];

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
    pub request_id: &'r str,
}

fn fold(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' }
}

/// The beginning of a name, folded: as much as any name has that is looked for.
struct Folded([u8; Folded::ROOM], usize);

impl Folded {
    const ROOM: usize = 32;

    fn of(name: &str) -> Self {
        let mut folded = Self([0; Self::ROOM], name.len());
        for (to, byte) in folded.0.iter_mut().zip(name.bytes()) {
            *to = fold(byte);
        }
        folded
    }

    /// The name; of one that is longer than any that is looked for, its beginning.
    fn as_bytes(&self) -> &[u8] {
        &self.0[..self.1.min(Self::ROOM)]
    }

    fn is(&self, name: &str) -> bool {
        self.1 == name.len() && self.as_bytes() == name.as_bytes()
    }

    fn is_one_of(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.is(name))
    }

    fn begins_with_one_of(&self, prefixes: &[&str]) -> bool {
        prefixes.iter().any(|prefix| self.as_bytes().starts_with(prefix.as_bytes()))
    }
}

/// Whether `Connection` names this field. A message is for its host whatever the hop: without one it
/// would be for anybody.
fn is_named_by_connection(headers: &HeaderMap, name: &HeaderName) -> bool {
    if *name == HOST {
        return false;
    }
    let name = name.as_str().as_bytes();
    let is = |named: &[u8]| named.len() == name.len() && named.iter().zip(name).all(|(a, b)| fold(*a) == fold(*b));
    let mut lists = headers.get_all(CONNECTION).iter();
    lists.any(|list| list.as_bytes().split(|b| *b == b',').any(|named| is(named.trim_ascii())))
}

/// Whether a field ends at this hop, or is one of those for which `strip` is true.
fn ends_here(headers: &HeaderMap, name: &HeaderName, strip: impl Fn(&Folded) -> bool) -> bool {
    let folded = Folded::of(name.as_str());
    folded.is_one_of(HOP_BY_HOP) || strip(&folded) || is_named_by_connection(headers, name)
}

/// Removes the fields that `Connection` names, and those for which `strip` is true.
fn remove(headers: &mut HeaderMap, strip: impl Fn(&Folded) -> bool) {
    let doomed: Vec<HeaderName> = headers.keys().filter(|name| ends_here(headers, name, &strip)).cloned().collect();
    for name in doomed {
        headers.remove(name);
    }
}

/// What of a client's fields goes upstream, with room for what we say of it.
pub fn end_to_end(headers: &HeaderMap, authorization: Authorization) -> HeaderMap {
    let keep = authorization == Authorization::Keep;
    let strip = |name: &Folded| {
        let is_kept = keep && name.is("authorization");
        !is_kept && (name.is_one_of(FROM_CLIENT) || name.begins_with_one_of(PREFIXES_FROM_CLIENT))
    };
    let mut kept = HeaderMap::with_capacity(headers.len() + OURS);
    for (name, value) in headers {
        if !ends_here(headers, name, strip) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

/// Removes what belongs to the hop a message came by, and what only we may say of a caller. `Expect`
/// has been met.
pub fn strip_hop(headers: &mut HeaderMap) {
    remove(headers, |name| name.is("expect") || name.begins_with_one_of(&["x-saltgate-"]));
}

/// Removes what would make another method or another path of a message.
pub fn strip_overrides(headers: &mut HeaderMap) {
    const OVERRIDES: &[&str] = &["x-method-override", "x-original-url", "x-original-uri", "x-rewrite-url"];
    let overrides = |name: &HeaderName| {
        let name = Folded::of(name.as_str());
        name.is_one_of(OVERRIDES) || name.begins_with_one_of(&["x-http-method"])
    };
    let doomed: Vec<HeaderName> = headers.keys().filter(|name| overrides(name)).cloned().collect();
    for name in doomed {
        headers.remove(name);
    }
}

/// Removes what must not go back to the client.
pub fn relay_response(headers: &mut HeaderMap) {
    let recoded = headers.contains_key(TRANSFER_ENCODING);
    remove(headers, |name| name.is("x-request-id") || name.begins_with_one_of(&["x-saltgate-", "proxy-"]));
    if recoded {
        headers.remove(CONTENT_LENGTH);
    }
}

/// Says who the caller is.
///
/// # Errors
/// If something is no header value; a creator comes from the service and may be anything.
pub fn set_identity(headers: &mut HeaderMap, identity: &Identity<'_>) -> Result<(), InvalidHeaderValue> {
    // Made when this is compiled: a name that is made anew is checked and hashed anew.
    const ACCOUNT: HeaderName = HeaderName::from_static("x-saltgate-account");
    const MEMBER: HeaderName = HeaderName::from_static("x-saltgate-member");
    const API_KEY: HeaderName = HeaderName::from_static("x-saltgate-api-key");
    const ROLE: HeaderName = HeaderName::from_static("x-saltgate-role");
    const CREATOR: HeaderName = HeaderName::from_static("x-saltgate-creator");
    const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
    let told = [
        (ACCOUNT, Some(identity.account)),
        (MEMBER, Some(identity.member)),
        (API_KEY, Some(identity.api_key)),
        (REQUEST_ID, Some(identity.request_id)),
        (ROLE, identity.role),
        (CREATOR, identity.creator),
    ];
    // Room for all of them is made once.
    let room = told.iter().filter_map(|(_, value)| *value).map(str::len).sum();
    let mut text = BytesMut::with_capacity(room);
    for (name, value) in told {
        let Some(value) = value else { continue };
        text.extend_from_slice(value.as_bytes());
        headers.insert(name, HeaderValue::from_maybe_shared(text.split().freeze())?);
    }
    Ok(())
}

/// Says where the request came from. A client without an address, as one on a Unix socket is, has
/// no `X-Forwarded-For`: none is truer than one made up.
pub fn set_forwarded(headers: &mut HeaderMap, client: Option<IpAddr>, proto: &'static str, host: Option<&HeaderValue>) {
    const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
    const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
    const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
    if let Some(Ok(client)) = client.map(|client| HeaderValue::try_from(client.to_string())) {
        headers.insert(FOR, client);
    }
    headers.insert(PROTO, HeaderValue::from_static(proto));
    if let Some(host) = host {
        headers.insert(FORWARDED_HOST, host.clone());
    }
    headers.append(VIA, HeaderValue::from_static("1.1 saltgate"));
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
            let sent = headers(&[(name, "x"), ("accept", "y")]);
            let sent = end_to_end(&sent, Authorization::Strip);
            assert_eq!(sent, headers(&[("accept", "y")]), "{name}");
        }
    }

    #[test]
    fn only_what_is_to_be_kept_is_kept() {
        let sent = headers(&[("authorization", "x"), ("proxy-authorization", "y"), ("x-saltgate-role", "OWNER")]);
        let sent = end_to_end(&sent, Authorization::Keep);
        assert_eq!(sent, headers(&[("authorization", "x")]));
    }

    #[test]
    fn connection_is_honoured_first_and_cannot_take_ours_away() {
        let sent = headers(&[
            ("connection", "x-one, X_Two ,x-saltgate-account"),
            ("connection", "x-three"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
            ("x-four", "4"),
        ]);
        let mut sent = end_to_end(&sent, Authorization::Strip);
        assert_eq!(sent, headers(&[("x-four", "4")]));
        let identity = Identity {
            account: "a",
            member: "m",
            role: Some("OWNER"),
            api_key: "k",
            creator: Some("c"),
            request_id: "r",
        };
        set_identity(&mut sent, &identity).unwrap();
        assert_eq!(sent["x-saltgate-account"], "a");
        assert!(set_identity(&mut sent, &Identity { creator: Some("line\nend"), ..identity }).is_err());
    }

    #[test]
    fn connection_cannot_take_the_host_away() {
        let mut sent = headers(&[("connection", "Host, x-one"), ("host", "a"), ("x-one", "1")]);
        strip_hop(&mut sent);
        assert_eq!(sent, headers(&[("host", "a")]));
    }

    #[test]
    fn an_answer_keeps_its_end_to_end_fields() {
        let mut answer = headers(&[
            ("etag", "\"1\""),
            ("x-saltgate-x", "1"),
            ("x-request-id", "theirs"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("set-cookie", "a"),
        ]);
        relay_response(&mut answer);
        assert_eq!(answer, headers(&[("etag", "\"1\""), ("set-cookie", "a")]));
    }
}
