//! Which fields go further, and which are ours to set (contract §7).
//!
//! Names are compared with every byte but letters and digits read as `-`: what a server behind us
//! takes for the same name is the same name.

use bytes::BytesMut;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue, TRANSFER_ENCODING, VIA,
};

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

/// The beginning of a name, folded: as much as any name has that is looked for, and a byte more.
struct Folded([u8; Folded::ROOM], usize);

impl Folded {
    const ROOM: usize = 32;

    fn of(name: &HeaderName) -> Self {
        let name = name.as_str().as_bytes();
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
fn is_named_by_connection(headers: &HeaderMap, name: &HeaderName) -> bool {
    if *name == HOST {
        return false;
    }
    let name = name.as_str().as_bytes();
    let is = |named: &[u8]| named.len() == name.len() && named.iter().zip(name).all(|(a, b)| fold(*a) == fold(*b));
    let mut lists = headers.get_all(CONNECTION).iter();
    lists.any(|list| list.as_bytes().split(|b| *b == b',').any(|named| is(named.trim_ascii())))
}

/// The fields that go no further than this hop, or are such as `strip` says.
fn ends_here(headers: &HeaderMap, strip: impl Fn(&Folded) -> bool) -> impl Fn(&HeaderName) -> bool {
    let connection_names = headers.contains_key(CONNECTION);
    move |name| {
        let folded = Folded::of(name);
        folded.is_hop_by_hop() || strip(&folded) || connection_names && is_named_by_connection(headers, name)
    }
}

/// The names of those fields; most messages have none.
fn doomed(headers: &HeaderMap, is_doomed: impl Fn(&HeaderName) -> bool) -> Vec<HeaderName> {
    headers.keys().filter(|name| is_doomed(name)).cloned().collect()
}

fn remove(headers: &mut HeaderMap, doomed: Vec<HeaderName>) {
    for name in doomed {
        headers.remove(name);
    }
}

/// Leaves what of a client's fields goes upstream. In place: the HTTP on both sides hands the room for
/// fields on from message to message.
pub fn end_to_end(headers: &mut HeaderMap, authorization: Authorization) {
    let keep = authorization == Authorization::Keep;
    let from_client = |name: &Folded| name.is_from_client() && !(keep && name.is("authorization"));
    let doomed = doomed(headers, ends_here(headers, from_client));
    remove(headers, doomed);
}

/// Removes what belongs to the hop a message came by, and what only we may say of a caller. `Expect`
/// has been met.
pub fn strip_hop(headers: &mut HeaderMap) {
    let doomed = doomed(headers, ends_here(headers, |name| name.is("expect") || name.begins_with("x-saltgate-")));
    remove(headers, doomed);
}

/// Removes what would make another method or another path of a message.
pub fn strip_overrides(headers: &mut HeaderMap) {
    let doomed = doomed(headers, |name| Folded::of(name).is_override());
    remove(headers, doomed);
}

/// Removes what must not go back to the client.
pub fn relay_response(headers: &mut HeaderMap) {
    let recoded = headers.contains_key(TRANSFER_ENCODING);
    let ours = |name: &Folded| name.is("x-request-id") || name.begins_with("x-saltgate-") || name.begins_with("proxy-");
    let doomed = doomed(headers, ends_here(headers, ours));
    remove(headers, doomed);
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
pub fn set_forwarded(headers: &mut HeaderMap, client: Option<&str>, proto: &'static str, host: Option<&HeaderValue>) {
    const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
    const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
    const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
    if let Some(Ok(client)) = client.map(HeaderValue::from_str) {
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
            let mut sent = headers(&[(name, "x"), ("accept", "y")]);
            end_to_end(&mut sent, Authorization::Strip);
            assert_eq!(sent, headers(&[("accept", "y")]), "{name}");
        }
    }

    #[test]
    fn only_what_is_to_be_kept_is_kept() {
        let mut sent = headers(&[("authorization", "x"), ("proxy-authorization", "y"), ("x-saltgate-role", "OWNER")]);
        end_to_end(&mut sent, Authorization::Keep);
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
        end_to_end(&mut sent, Authorization::Strip);
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
