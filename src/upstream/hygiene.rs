//! Which fields go further, and which are ours to set (contract §7).
//!
//! Names are compared with every byte but letters and digits read as `-`: what a server behind us
//! takes for the same name is the same name.

use std::net::IpAddr;

use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue, TRANSFER_ENCODING, VIA,
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

fn folded(name: &str) -> String {
    name.bytes().map(|b| if b.is_ascii_alphanumeric() { b.to_ascii_lowercase() as char } else { '-' }).collect()
}

/// Removes the fields that `Connection` names, then those for which `strip` is true.
fn remove(headers: &mut HeaderMap, strip: impl Fn(&str) -> bool) {
    let lists: Vec<HeaderValue> = headers.get_all(CONNECTION).iter().cloned().collect();
    let named: Vec<String> = lists
        .iter()
        .flat_map(|list| list.as_bytes().split(|b| *b == b','))
        .filter_map(|name| std::str::from_utf8(name.trim_ascii()).ok())
        .map(folded)
        // A message is for its host whatever the hop: without one it would be for anybody.
        .filter(|name| name != "host")
        .collect();
    let doomed: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let name = folded(name.as_str());
            named.contains(&name) || HOP_BY_HOP.contains(&&*name) || strip(&name)
        })
        .cloned()
        .collect();
    for name in doomed {
        headers.remove(name);
    }
}

/// Removes what must not go upstream.
pub fn strip_request(headers: &mut HeaderMap, authorization: Authorization) {
    let keep = authorization == Authorization::Keep;
    remove(headers, |name| {
        if keep && name == "authorization" {
            return false;
        }
        FROM_CLIENT.contains(&name) || PREFIXES_FROM_CLIENT.iter().any(|prefix| name.starts_with(prefix))
    });
}

/// Removes what belongs to the hop a message came by, and what only we may say of a caller. `Expect`
/// has been met.
pub fn strip_hop(headers: &mut HeaderMap) {
    remove(headers, |name| name == "expect" || name.starts_with("x-saltgate-"));
}

/// Removes what would make another method or another path of a message.
pub fn strip_overrides(headers: &mut HeaderMap) {
    const OVERRIDES: &[&str] = &["x-method-override", "x-original-url", "x-original-uri", "x-rewrite-url"];
    let overrides = |name: &str| OVERRIDES.contains(&name) || name.starts_with("x-http-method");
    let doomed: Vec<HeaderName> = headers.keys().filter(|name| overrides(&folded(name.as_str()))).cloned().collect();
    for name in doomed {
        headers.remove(name);
    }
}

/// Removes what must not go back to the client.
pub fn relay_response(headers: &mut HeaderMap) {
    let recoded = headers.contains_key(TRANSFER_ENCODING);
    remove(headers, |name| name == "x-request-id" || name.starts_with("x-saltgate-") || name.starts_with("proxy-"));
    if recoded {
        headers.remove(CONTENT_LENGTH);
    }
}

/// Says who the caller is.
///
/// # Errors
/// If something is no header value; a creator comes from the service and may be anything.
pub fn set_identity(headers: &mut HeaderMap, identity: &Identity<'_>) -> Result<(), InvalidHeaderValue> {
    let mut set = |name: &'static str, value: &str| {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value)?);
        Ok(())
    };
    set("x-saltgate-account", identity.account)?;
    set("x-saltgate-member", identity.member)?;
    set("x-saltgate-api-key", identity.api_key)?;
    set("x-request-id", identity.request_id)?;
    if let Some(role) = identity.role {
        set("x-saltgate-role", role)?;
    }
    identity.creator.map_or(Ok(()), |creator| set("x-saltgate-creator", creator))
}

/// Says where the request came from. A client without an address, as one on a Unix socket is, has
/// no `X-Forwarded-For`: none is truer than one made up.
pub fn set_forwarded(headers: &mut HeaderMap, client: Option<IpAddr>, proto: &'static str, host: Option<&HeaderValue>) {
    if let Some(Ok(client)) = client.map(|client| HeaderValue::try_from(client.to_string())) {
        headers.insert(HeaderName::from_static("x-forwarded-for"), client);
    }
    headers.insert(HeaderName::from_static("x-forwarded-proto"), HeaderValue::from_static(proto));
    if let Some(host) = host {
        headers.insert(HeaderName::from_static("x-forwarded-host"), host.clone());
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
            let mut sent = headers(&[(name, "x"), ("accept", "y")]);
            strip_request(&mut sent, Authorization::Strip);
            assert_eq!(sent, headers(&[("accept", "y")]), "{name}");
        }
    }

    #[test]
    fn only_what_is_to_be_kept_is_kept() {
        let mut sent = headers(&[("authorization", "x"), ("proxy-authorization", "y"), ("x-saltgate-role", "OWNER")]);
        strip_request(&mut sent, Authorization::Keep);
        assert_eq!(sent, headers(&[("authorization", "x")]));
    }

    #[test]
    fn connection_is_honoured_first_and_cannot_take_ours_away() {
        let mut sent = headers(&[
            ("connection", "x-one, X_Two ,x-saltgate-account"),
            ("connection", "x-three"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
            ("x-four", "4"),
        ]);
        strip_request(&mut sent, Authorization::Strip);
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
