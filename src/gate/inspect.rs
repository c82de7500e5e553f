//! The form of a message, judged before anybody asks who sent it: nothing here depends on keys,
//! routes or data.

use std::marker::PhantomData;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::Authority;
use http::{Method, Request, Version};

use super::{Client, Desk, Gate, Generation, Limits, Observation};
use crate::refusal::Refused;
use crate::upstream::Upstream;

/// Judges the form of the message: its host, its size, its framing, its query.
pub struct Inspect<B>(PhantomData<fn(B)>);

impl<B> Inspect<B> {
    /// For messages with bodies of this kind.
    #[allow(clippy::new_without_default, reason = "it stands in one place")]
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

/// A message with the generation it will be judged by.
pub struct Received<B> {
    /// In a box: every gate from here on hands it to the next.
    told: Box<Told>,
    body: B,
}

/// A head whose form is beyond doubt.
pub struct Head<B> {
    told: Box<Told>,
    body: B,
}

struct Told {
    parts: Parts,
    client: Client,
    desk: Arc<Desk>,
}

impl<B: Send> Gate<Received<B>> for Inspect<B> {
    type Out = Head<B>;
    type Refusal = Refused;

    async fn decide(&self, received: Received<B>, _: &mut Observation) -> Result<Head<B>, Refused> {
        let Received { mut told, body } = received;
        judge(&told.parts, &told.desk.generation.limits)?;
        name_host(&mut told.parts)?;
        Ok(Head { told, body })
    }
}

fn judge(parts: &Parts, limits: &Limits) -> Result<(), Refused> {
    let Parts { method, uri, headers, .. } = parts;
    let target = uri.path_and_query().map_or(0, |p| p.as_str().len()) + uri.authority().map_or(0, |a| a.as_str().len());
    if target > limits.max_target_bytes {
        return Err(Refused::TargetTooLong);
    }
    let said = Said::in_fields(headers);
    if said.bytes > limits.max_header_bytes {
        return Err(Refused::HeadersTooLarge);
    }
    if *method == Method::CONNECT {
        return Err(NO_TUNNELS);
    }
    judge_host(parts, &said)?;
    judge_framing(&said)?;
    if parts.version == Version::HTTP_2 {
        judge_unwired(parts)?;
    }
    if said.expects_more {
        return Err(Refused::ExpectationFailed);
    }
    if uri.query().is_some_and(overrides_method) {
        return Err(Refused::MalformedRequest("The query must not name another method."));
    }
    Ok(())
}

/// What the fields say of the message itself: all of it in one look at them.
#[derive(Default)]
struct Said<'h> {
    /// How large the header section is.
    bytes: usize,
    host: Few<'h>,
    coding: Few<'h>,
    length: Few<'h>,
    /// Something else than to be told to go on.
    expects_more: bool,
}

/// The first value of a field, and how many there are.
#[derive(Default)]
struct Few<'h>(Option<&'h HeaderValue>, usize);

impl<'h> Few<'h> {
    fn add(&mut self, value: &'h HeaderValue) {
        self.0.get_or_insert(value);
        self.1 += 1;
    }
}

impl<'h> Said<'h> {
    fn in_fields(headers: &'h HeaderMap) -> Self {
        let mut said = Self::default();
        for (name, value) in headers {
            // Each line has a colon, a space and a line end besides.
            said.bytes += name.as_str().len() + value.len() + 4;
            match *name {
                HOST => said.host.add(value),
                TRANSFER_ENCODING => said.coding.add(value),
                CONTENT_LENGTH => said.length.add(value),
                EXPECT => said.expects_more |= !value.as_bytes().eq_ignore_ascii_case(b"100-continue"),
                _ => {}
            }
        }
        said
    }
}

/// One host, and no doubt which. In HTTP/2 it is the `:authority`, beside which a `Host` may say the
/// same.
fn judge_host(parts: &Parts, said: &Said<'_>) -> Result<(), Refused> {
    let Few(host, hosts) = said.host;
    let authority = parts.uri.authority().map(Authority::as_str);
    match (host, authority) {
        _ if hosts > 1 => Err(Refused::MalformedRequest("There must be exactly one Host.")),
        (_, None) if parts.version == Version::HTTP_2 => Err(Refused::MalformedRequest("There must be an :authority.")),
        (_, Some(authority)) if parts.version == Version::HTTP_2 && !is_host(authority) => {
            Err(Refused::MalformedRequest("The :authority must be a host."))
        }
        (None, Some(_)) if parts.version == Version::HTTP_2 => Ok(()),
        (None, _) => Err(Refused::MalformedRequest("There must be exactly one Host.")),
        (Some(host), Some(authority)) if !authority.as_bytes().eq_ignore_ascii_case(host.as_bytes()) => {
            Err(Refused::MalformedRequest("The request target and Host name different hosts."))
        }
        (Some(_), _) => Ok(()),
    }
}

/// What the wire refuses of HTTP/1 whatever the mode, of a message that came by HTTP/2: passed on, it
/// would be read by HTTP/1, and perhaps not as one message for one host.
pub(super) fn is_one_message(parts: &Parts) -> Result<(), Refused> {
    if parts.version != Version::HTTP_2 {
        return Ok(());
    }
    if parts.method == Method::CONNECT {
        return Err(NO_TUNNELS);
    }
    let said = Said::in_fields(&parts.headers);
    match (parts.uri.authority(), &said.host) {
        // A `Host` alone says what `:authority` would.
        (None, Few(Some(host), 1)) if host.to_str().is_ok_and(is_host) => {}
        _ => judge_host(parts, &said)?,
    }
    judge_framing(&said)?;
    judge_unwired(parts)
}

/// What is judged on the wire of HTTP/1, of a message that came by HTTP/2 and leaves by HTTP/1: the
/// bytes of its target, and names that some reader behind us could take for framing fields.
fn judge_unwired(parts: &Parts) -> Result<(), Refused> {
    if parts.uri.path_and_query().is_some_and(|target| !target.as_str().is_ascii()) {
        return Err(Refused::MalformedRequest("The request target has a byte that no request target has."));
    }
    let alias = |name: &str, plain: &str| {
        let alike = |(a, b): (u8, u8)| a == b || (b == b'-' && !a.is_ascii_alphanumeric());
        name.len() == plain.len() && name != plain && name.bytes().zip(plain.bytes()).all(alike)
    };
    let framing = [CONTENT_LENGTH, TRANSFER_ENCODING];
    if parts.headers.keys().any(|name| framing.iter().any(|plain| alias(name.as_str(), plain.as_str()))) {
        return Err(Refused::MalformedRequest("A field name can be taken for a framing field."));
    }
    Ok(())
}

/// A name or an address, and a port or none.
fn is_host(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((address, port))) => (address.parse::<std::net::Ipv6Addr>().is_ok(), port),
        Some(None) => return false,
        None => {
            let end = authority.find(':').unwrap_or(authority.len());
            let name = &authority[..end];
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
            (!name.is_empty() && name.bytes().all(plain), &authority[end..])
        }
    };
    let is_port = |port: &str| {
        (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
    };
    host && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

/// Whatever the HTTP, the host is in `Host` from here on.
fn name_host(parts: &mut Parts) -> Result<(), Refused> {
    if let (Some(authority), false) = (parts.uri.authority(), parts.headers.contains_key(HOST)) {
        let host = HeaderValue::from_str(authority.as_str());
        let host = host.map_err(|_| Refused::MalformedRequest("The :authority must be a host."))?;
        parts.headers.insert(HOST, host);
    }
    Ok(())
}

const NO_TUNNELS: Refused = Refused::MalformedRequest("There are no tunnels here.");
const IN_DOUBT: Refused = Refused::MalformedRequest("The framing of the message is in doubt.");

/// What the HTTP reader lets pass and this gate does not: any coding but `chunked`, or a length
/// beside a coding. The same was judged on the wire before, and more (`wire`).
fn judge_framing(said: &Said<'_>) -> Result<(), Refused> {
    let Few(_, lengths) = said.length;
    match said.coding {
        Few(None, _) if lengths <= 1 => Ok(()),
        Few(None, _) => Err(Refused::MalformedRequest("There must be at most one Content-Length.")),
        Few(Some(coding), 1) if lengths == 0 && coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        Few(Some(_), _) => Err(IN_DOUBT),
    }
}

/// Whether some framework behind us would read another method out of this query. Escapes are
/// undone first: the framework would.
fn overrides_method(query: &str) -> bool {
    let mut plain = Vec::with_capacity(query.len());
    let mut rest = query.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = match (byte, after) {
            (b'%', [high, low, ..]) => {
                std::str::from_utf8(&[*high, *low]).ok().and_then(|h| u8::from_str_radix(h, 16).ok())
            }
            _ => None,
        };
        plain.push(escaped.unwrap_or(byte).to_ascii_lowercase());
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    plain.windows(b"_method=".len()).any(|w| w == b"_method=")
}

impl<B> Received<B> {
    pub(super) fn new(request: Request<B>, client: Client, desk: Arc<Desk>) -> Self {
        let (parts, body) = request.into_parts();
        Self { told: Box::new(Told { parts, client, desk }), body }
    }

    /// The head as it was read.
    pub(super) fn parts(&self) -> &Parts {
        &self.told.parts
    }

    /// What is seen of it at the door.
    pub(super) fn observed(&self) -> Observation {
        let Told { parts, client, desk } = &*self.told;
        Observation::new(desk.clone(), *client, parts.method.clone(), parts.uri.path())
    }

    /// By what it will be judged.
    pub(super) fn generation(&self) -> &Generation {
        &self.told.desk.generation
    }

    /// The same head, for whoever needs no more of the body than what the head says of it.
    pub(super) fn copy<D>(&self, declared: impl FnOnce(&B) -> D) -> Received<D> {
        let Told { parts, client, desk } = &*self.told;
        let told = Told { parts: parts.clone(), client: *client, desk: desk.clone() };
        Received { told: Box::new(told), body: declared(&self.body) }
    }

    /// A head that nobody judged, for what goes upstream whatever the judgement.
    pub(super) fn unjudged(self) -> Head<B> {
        Head { told: self.told, body: self.body }
    }
}

impl<B> Head<B> {
    /// The fields of the header section.
    pub fn headers(&self) -> &HeaderMap {
        &self.told.parts.headers
    }

    /// The head as it was read, and what leads on from it.
    pub(super) fn into_parts(self) -> (Parts, Arc<Desk>) {
        let Told { parts, desk, .. } = *self.told;
        (parts, desk)
    }

    /// The fields of the header section, to take some away.
    pub(super) fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.told.parts.headers
    }

    /// The method.
    pub fn method(&self) -> &http::Method {
        &self.told.parts.method
    }

    /// Which HTTP it came by.
    pub fn version(&self) -> http::Version {
        self.told.parts.version
    }

    /// The path, byte for byte as it came.
    pub fn raw_path(&self) -> &str {
        self.told.parts.uri.path()
    }

    /// The query, byte for byte as it came.
    pub fn query(&self) -> Option<&str> {
        self.told.parts.uri.query()
    }

    /// The one `Host`.
    pub fn host(&self) -> Option<&HeaderValue> {
        self.told.parts.headers.get(HOST)
    }

    /// Who sent it, as the listener judges.
    pub fn client(&self) -> Client {
        self.told.client
    }

    /// What this request is judged by.
    pub fn generation(&self) -> &Generation {
        &self.told.desk.generation
    }

    /// The upstream as this request's worker reaches it.
    pub fn upstream(&self) -> &Upstream {
        self.told.desk.upstream()
    }

    pub(super) fn take_body(self) -> (Head<()>, B) {
        let Self { told, body } = self;
        (Head { told, body: () }, body)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Request;

    use super::*;

    #[test]
    fn in_http_2_the_host_is_the_authority() {
        for (uri, hosts, status) in [
            ("http://gate/p", &[][..], None),
            ("http://gate/p", &["gate"], None),
            ("http://gate/p", &["GATE"], None),
            ("http://gate:80/p", &["gate"], Some(400)),
            ("http://gate/p", &["other"], Some(400)),
            ("http://gate/p", &["gate", "gate"], Some(400)),
            ("http://user@gate/p", &[], Some(400)),
            ("http://gate:8080/p", &[], None),
            ("http://[::1]:80/p", &["[::1]:80"], None),
            ("http://gate:/p", &[], Some(400)),
            ("http://gate:x/p", &[], Some(400)),
            ("http://gate:99999/p", &[], Some(400)),
            ("http://gate,other/p", &[], Some(400)),
            ("http://*/p", &[], Some(400)),
            ("http://gate/\u{c138}", &[], Some(400)),
            ("/p", &["gate"], Some(400)),
        ] {
            let request = Request::delete(uri).version(Version::HTTP_2);
            let request = hosts.iter().fold(request, |request, host| request.header(HOST, *host));
            let (mut parts, ()) = request.body(()).unwrap().into_parts();
            let refused = judge(&parts, &LIMITS).err();
            assert_eq!(refused.map(|r| crate::refusal::Refusal::answer(&r).status), status, "{uri} {hosts:?}");
            if status.is_none() {
                name_host(&mut parts).unwrap();
                let host = parts.headers[HOST].as_bytes();
                assert!(host.eq_ignore_ascii_case(parts.uri.authority().unwrap().as_str().as_bytes()));
            }
        }
    }

    #[test]
    fn in_http_2_too_no_name_passes_for_a_framing_field() {
        for (name, status) in [
            ("content_length", Some(400)),
            ("transfer.encoding", Some(400)),
            ("transfer_encoding", Some(400)),
            ("content-lengths", None),
            ("contentxlength", None),
        ] {
            let request = Request::post("http://gate/p").version(Version::HTTP_2).header(name, "3");
            let (parts, ()) = request.body(()).unwrap().into_parts();
            let refused = judge(&parts, &LIMITS).err();
            assert_eq!(refused.map(|r| crate::refusal::Refusal::answer(&r).status), status, "{name}");
        }
    }

    #[test]
    fn there_are_no_tunnels() {
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let request = Request::connect("gate:80").version(version).header(HOST, "gate:80");
            let (parts, ()) = request.body(()).unwrap().into_parts();
            assert_eq!(judge(&parts, &LIMITS), Err(Refused::MalformedRequest("There are no tunnels here.")));
        }
    }

    const LIMITS: Limits = Limits {
        max_header_bytes: 256,
        max_target_bytes: 64,
        max_body_bytes: 64,
        body_timeout: Duration::from_secs(1),
    };

    #[test]
    fn a_message_whose_form_is_in_doubt_goes_no_further() {
        let long = "x".repeat(300);
        let host = ("host", "a");
        let rows: &[(&str, &str, &[(&str, &str)], Option<u16>)] = &[
            ("plain", "/p", &[host], None),
            ("no host", "/p", &[], Some(400)),
            ("two hosts", "/p", &[host, host], Some(400)),
            ("absolute form", "http://a/p", &[host], None),
            ("absolute form, other host", "http://b/p", &[host], Some(400)),
            ("long target", &format!("/{}", "x".repeat(64)), &[host], Some(414)),
            ("large headers", "/p", &[host, ("x", &long)], Some(431)),
            ("chunked", "/p", &[host, ("transfer-encoding", "chunked")], None),
            ("another coding", "/p", &[host, ("transfer-encoding", "gzip, chunked")], Some(400)),
            ("identity", "/p", &[host, ("transfer-encoding", "identity")], Some(400)),
            (
                "two codings",
                "/p",
                &[host, ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
                Some(400),
            ),
            ("both framings", "/p", &[host, ("transfer-encoding", "chunked"), ("content-length", "1")], Some(400)),
            ("two lengths", "/p", &[host, ("content-length", "1"), ("content-length", "1")], Some(400)),
            ("expects to continue", "/p", &[host, ("expect", "100-Continue")], None),
            ("expects more", "/p", &[host, ("expect", "200-ok")], Some(417)),
            ("a query", "/p?a=b", &[host], None),
            ("another method", "/p?_method=GET", &[host], Some(400)),
            ("another method, escaped", "/p?a=b&%5FMethod%3dGET", &[host], Some(400)),
            ("a broken escape", "/p?a=%5&b=%", &[host], None),
        ];
        for (name, uri, headers, status) in rows {
            let mut request = Request::delete(*uri);
            for (name, value) in *headers {
                request = request.header(*name, *value);
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();
            let refused = judge(&parts, &LIMITS).err();
            assert_eq!(refused.map(|r| crate::refusal::Refusal::answer(&r).status), *status, "{name}");
        }
    }
}
