//! The gate that checks the form of a message before anything asks who sent it. Nothing here depends on keys,
//! routes or data.

use std::marker::PhantomData;
use std::sync::Arc;

use http::Request;
use http::header::{HOST, HeaderMap, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;

use super::chain::Gate;
use super::observation::Observation;
use super::overrides::names_method;
use super::state::{Generation, WorkerState};
use crate::http::fault::MessageFault;
use crate::http::form::{self, FramingHeaders};
use crate::net::Client;
use crate::policy::Limits;
use crate::refusal::Refused;
use crate::upstream::{Upstream, headers};

/// Checks the form of a message: its host, size, framing and query.
pub struct Inspect<B>(PhantomData<fn(B)>);

impl<B> Inspect<B> {
    /// For messages whose bodies have this type.
    #[allow(clippy::new_without_default, reason = "it stands in one place")]
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

/// A message, with the generation that it will be judged by.
pub struct Received<B> {
    /// Boxed because every later gate passes it on.
    told: Box<Told>,
    body: B,
}

/// A head whose form was checked.
pub struct Head<B> {
    told: Box<Told>,
    body: B,
}

struct Told {
    parts: Parts,
    client: Client,
    worker_state: Arc<WorkerState>,
}

impl<B: Send> Gate<Received<B>> for Inspect<B> {
    type Out = Head<B>;
    type Refusal = Refused;
    const NAME: &'static str = "inspect";

    async fn decide(&self, received: Received<B>, seen: &mut Observation) -> Result<Head<B>, Refused> {
        let Received { mut told, body } = received;
        let form = judge(&told.parts, &told.worker_state.generation.limits)?;
        if form.says_connection {
            headers::take_connection(&mut told.parts.headers);
        }
        if form.says_via && headers::has_passed(&told.parts.headers, seen.via()) {
            return Err(Refused::LoopDetected);
        }
        name_host(&mut told.parts)?;
        Ok(Head { told, body })
    }
}

/// What must be cleaned up in a message with a correct form.
struct Form {
    /// There is a `Connection` field: the fields that it names are removed.
    says_connection: bool,
    /// There is a `Via` field: the message passed other proxies, or this one.
    says_via: bool,
}

fn judge(parts: &Parts, limits: &Limits) -> Result<Form, Refused> {
    let Parts { uri, headers, .. } = parts;
    let target = uri.path_and_query().map_or(0, |p| p.as_str().len()) + uri.authority().map_or(0, |a| a.as_str().len());
    if target > limits.max_target_bytes {
        return Err(Refused::TargetTooLong);
    }
    let framing = FramingHeaders::of(headers);
    if framing.section_bytes > limits.max_header_bytes {
        return Err(Refused::HeadersTooLarge);
    }
    form::judge(parts, &framing)?;
    if framing.expects_more {
        return Err(Refused::ExpectationFailed);
    }
    if uri.query().is_some_and(names_method) {
        return Err(Refused::MalformedRequest("The query must not name another method."));
    }
    Ok(Form { says_connection: framing.connection, says_via: framing.via })
}

/// Puts the host into `Host` whatever the HTTP version, so that later code looks only there.
fn name_host(parts: &mut Parts) -> Result<(), Refused> {
    if let Some(authority) = parts.uri.authority()
        && !parts.headers.contains_key(HOST)
    {
        let host = HeaderValue::from_str(authority.as_str());
        let host = host.map_err(|_| MessageFault::OddAuthority)?;
        parts.headers.insert(HOST, host);
    }
    Ok(())
}

impl<B> Received<B> {
    pub(crate) fn new(request: Request<B>, client: Client, worker_state: Arc<WorkerState>) -> Self {
        let (parts, body) = request.into_parts();
        // Made in its place: `Box::new` would make it on the stack and copy it.
        Self { told: Box::write(Box::new_uninit(), Told { parts, client, worker_state }), body }
    }

    /// The head as it was read.
    pub(crate) fn parts(&self) -> &Parts {
        &self.told.parts
    }

    /// Starts the observation of this request.
    pub(crate) fn observed(&self) -> Observation {
        let Told { parts, client, worker_state } = &*self.told;
        let mut seen = Observation::new(worker_state.clone(), *client, parts.method.clone(), parts.uri.path());
        seen.begin_trace(&parts.headers);
        seen
    }

    /// The generation that it will be judged by.
    pub(crate) fn generation(&self) -> &Generation {
        &self.told.worker_state.generation
    }

    /// Copies the head, with what it declares about the body in place of the body.
    pub(crate) fn copy<D>(&self, declared: impl FnOnce(&B) -> D) -> Received<D> {
        let Told { parts, client, worker_state } = &*self.told;
        let told = Told { parts: parts.clone(), client: *client, worker_state: worker_state.clone() };
        Received { told: Box::new(told), body: declared(&self.body) }
    }

    /// Turns it into a head without any check, for messages that are forwarded whatever the verdict (observe mode).
    pub(super) fn unjudged(self) -> Head<B> {
        Head { told: self.told, body: self.body }
    }
}

impl<B> Head<B> {
    /// The parts of the head.
    pub(crate) fn parts(&self) -> &Parts {
        &self.told.parts
    }

    /// The fields of the header section.
    pub fn headers(&self) -> &HeaderMap {
        &self.told.parts.headers
    }

    /// The head as it was read, and the state of its worker.
    pub(crate) fn into_parts(self) -> (Parts, Arc<WorkerState>) {
        let Told { parts, worker_state, .. } = *self.told;
        (parts, worker_state)
    }

    /// The header fields, to remove some.
    pub(super) fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.told.parts.headers
    }

    /// The method.
    pub fn method(&self) -> &http::Method {
        &self.told.parts.method
    }

    /// The HTTP version it arrived by.
    pub fn version(&self) -> http::Version {
        self.told.parts.version
    }

    /// The path, byte for byte as it arrived.
    pub fn raw_path(&self) -> &str {
        self.told.parts.uri.path()
    }

    /// Path and query, byte for byte as they arrived.
    pub fn raw_target(&self) -> &str {
        self.told.parts.uri.path_and_query().map_or("", PathAndQuery::as_str)
    }

    /// The query.
    pub fn query(&self) -> Option<&str> {
        self.told.parts.uri.query()
    }

    /// The only `Host`.
    pub fn host(&self) -> Option<&HeaderValue> {
        self.told.parts.headers.get(HOST)
    }

    /// Who sent it, as determined by the listener.
    pub fn client(&self) -> Client {
        self.told.client
    }

    /// The generation that this request is judged by.
    pub fn generation(&self) -> &Generation {
        &self.told.worker_state.generation
    }

    /// The upstream as seen from this request's worker.
    pub fn upstream(&self) -> &Upstream {
        self.told.worker_state.upstream()
    }

    /// The number of this request's worker.
    pub(super) fn worker(&self) -> usize {
        self.told.worker_state.worker
    }

    pub(super) fn body(&self) -> &B {
        &self.body
    }

    /// What this request is judged by, as its worker has it.
    pub(super) fn body_mut(&mut self) -> &mut B {
        &mut self.body
    }

    pub(super) fn worker_state(&self) -> &WorkerState {
        &self.told.worker_state
    }

    /// Uses another generation from here on.
    pub(super) fn move_to(&mut self, worker_state: Arc<WorkerState>) {
        self.told.worker_state = worker_state;
    }

    pub(crate) fn take_body(self) -> (Head<()>, B) {
        let Self { told, body } = self;
        (Head { told, body: () }, body)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Version;

    use super::*;
    use crate::refusal::{Refusal, Remaining};

    #[test]
    fn the_host_of_http_2_is_the_authority_or_the_host_field() {
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
            ("/p", &["gate"], None),
            ("/p", &["[::1]:80"], None),
            ("/p", &[], Some(400)),
            ("/p", &[""], Some(400)),
            ("/p", &["gate:x"], Some(400)),
            ("/p", &["a,b"], Some(400)),
            ("/p", &["gate", "gate"], Some(400)),
        ] {
            let request = Request::delete(uri).version(Version::HTTP_2);
            let request = hosts.iter().fold(request, |request, host| request.header(HOST, *host));
            let (mut parts, ()) = request.body(()).unwrap().into_parts();
            let refused = judge(&parts, &LIMITS).err();
            assert_eq!(refused.map(|r| r.answer(Remaining::Unknown).status), status, "{uri} {hosts:?}");
            if status.is_none() {
                name_host(&mut parts).unwrap();
                let host = parts.headers[HOST].as_bytes();
                let said = parts.uri.authority().map_or(hosts.first().copied(), |authority| Some(authority.as_str()));
                assert!(host.eq_ignore_ascii_case(said.unwrap().as_bytes()));
            }
        }
    }

    #[test]
    fn http_2_refuses_names_that_resemble_framing_fields() {
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
            assert_eq!(refused.map(|r| r.answer(Remaining::Unknown).status), status, "{name}");
        }
    }

    #[test]
    fn what_is_exactly_as_large_as_allowed_is_let_in() {
        let judged = |target: usize, section: usize| {
            // A line of a field is its name, a colon, a space, its value and two bytes of line end.
            let filler = "x".repeat(section - "host: gate\r\n".len() - "x: \r\n".len());
            let request = Request::get("/".repeat(target)).header(HOST, "gate").header("x", filler);
            judge(&request.body(()).unwrap().into_parts().0, &LIMITS).err()
        };
        let Limits { max_target_bytes: target, max_header_bytes: section, .. } = LIMITS;
        assert_eq!(judged(target, section), None);
        assert_eq!(judged(target + 1, section), Some(Refused::TargetTooLong));
        assert_eq!(judged(target, section + 1), Some(Refused::HeadersTooLarge));
    }

    #[test]
    fn over_http_1_only_the_field_names_the_host() {
        let judged = |uri: &str, host: Option<&str>| {
            let request = Request::delete(uri);
            let request = host.into_iter().fold(request, |request, host| request.header(HOST, host));
            judge(&request.body(()).unwrap().into_parts().0, &LIMITS).err()
        };
        assert_eq!(judged("http://gate/p", Some("gate")), None);
        assert_eq!(judged("http://gate/p", None), Some(MessageFault::NoHost.into()));
        assert_eq!(judged("/p", None), Some(MessageFault::NoHost.into()));
        assert_eq!(judged("http://gate/p", Some("other")), Some(MessageFault::OtherHost.into()));
    }

    #[test]
    fn connect_is_refused() {
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let request = Request::connect("gate:80").version(version).header(HOST, "gate:80");
            let (parts, ()) = request.body(()).unwrap().into_parts();
            assert_eq!(judge(&parts, &LIMITS).err(), Some(MessageFault::Tunnel.into()));
        }
    }

    const LIMITS: Limits = Limits {
        max_header_bytes: 256,
        max_target_bytes: 64,
        max_body_bytes: 64,
        spent_per_key: crate::policy::Budget { limit: std::num::NonZeroU32::MIN, span: Duration::ZERO },
        header_timeout: Duration::ZERO,
        body_timeout: Duration::ZERO,
        write_timeout: Duration::ZERO,
        idle_timeout: Duration::ZERO,
        drain_delay: Duration::ZERO,
        drain_timeout: Duration::ZERO,
    };

    #[test]
    fn a_message_with_an_ambiguous_form_is_refused() {
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
            ("another method, otherwise spelt", "/p?a=b;.method%00=GET", &[host], Some(400)),
            ("a broken escape", "/p?a=%5&b=%", &[host], None),
        ];
        for (name, uri, headers, status) in rows {
            let mut request = Request::delete(*uri);
            for (name, value) in *headers {
                request = request.header(*name, *value);
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();
            let refused = judge(&parts, &LIMITS).err();
            assert_eq!(refused.map(|r| r.answer(Remaining::Unknown).status), *status, "{name}");
        }
    }
}
