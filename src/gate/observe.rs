use std::collections::hash_map::RandomState;
use std::convert::Infallible;
use std::future::Future;
use std::hash::BuildHasher;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use http::header::HeaderValue;
use http::{Request, Response};
use tower::{Layer, Service};

use super::{Client, Desk, Received, RefusedRequest};
use crate::audit;
use crate::directory::Caller;
use crate::policy::SegmentId;
use crate::refusal::{Reason, Refusal};
use crate::safeguard::Departure;
use crate::telemetry::{Decision, Ended, PerThread, Stage};
use crate::upstream::hygiene::X_REQUEST_ID;

/// A message as a connection hands it over.
pub struct Arrival<B> {
    /// The message.
    pub request: Request<B>,
    /// Who sent it, as the listener judges.
    pub client: Client,
}

/// A request at any stage, with what was seen of it.
pub struct Observed<T> {
    /// What was seen of it.
    pub observation: Box<Observation>,
    /// The request.
    pub request: T,
}

/// What is seen of one request, from its head to its end.
///
/// It travels with the request; wherever the request ends, the observation is dropped, and
/// dropping it counts and logs, exactly once. One that is dropped without a verdict belonged to
/// a client that left, or to a panic.
pub struct Observation {
    desk: Arc<Desk>,
    id: HeaderValue,
    client: Client,
    method: http::Method,
    path: Box<str>,
    started: Duration,
    marked: Duration,
    arrived: SystemTime,
    api_key: Option<Box<str>>,
    caller: Option<Arc<Caller>>,
    skew_seconds: Option<f64>,
    pub(super) route: Option<Arc<crate::policy::Route>>,
    pub(super) segment: Option<SegmentId>,
    pub(super) creator: Option<Box<str>>,
    pub(super) name: Option<String>,
    pub(super) upstream_status: Option<u16>,
    pub(super) detail: Option<String>,
    verdict: Option<(Ended, Reason)>,
    spent: bool,
    on_record: bool,
    /// Nothing of it is refused, so nothing goes on record.
    only_watches: bool,
}

impl Observation {
    pub(super) fn new(desk: Arc<Desk>, client: Client, method: http::Method, path: &str) -> Self {
        let process = &*desk.process;
        let started = process.clock.elapsed();
        // A path is long enough for the log long before it is too long for the limits.
        let path = &path[..path.floor_char_boundary(256)];
        Self {
            id: process.request_ids.next(),
            client,
            method,
            path: path.into(),
            started,
            marked: started,
            arrived: process.clock.now(),
            api_key: None,
            caller: None,
            skew_seconds: None,
            route: None,
            segment: None,
            creator: None,
            name: None,
            upstream_status: None,
            detail: None,
            verdict: None,
            spent: false,
            on_record: false,
            only_watches: false,
            desk,
        }
    }

    /// The request id.
    pub(super) fn id(&self) -> &HeaderValue {
        &self.id
    }

    /// When the head had come.
    pub(super) fn arrived(&self) -> SystemTime {
        self.arrived
    }

    /// The apiKey that the request claims, proven or not.
    pub(super) fn claims(&mut self, api_key: &str) {
        self.api_key = Some(api_key.into());
    }

    /// The caller, where it is known.
    pub(super) fn is_of(&mut self, caller: &Arc<Caller>) {
        self.caller = Some(caller.clone());
    }

    /// How far ahead of us the request's date is.
    pub(super) fn dated(&mut self, date: SystemTime, proven: bool) {
        let skew = match date.duration_since(self.arrived) {
            Ok(ahead) => ahead.as_secs_f64(),
            Err(behind) => -behind.duration().as_secs_f64(),
        };
        self.skew_seconds = Some(skew);
        if proven {
            self.desk.process.metrics.client_skew(skew);
        }
    }

    /// One part of the way is done.
    pub(super) fn passed(&mut self, stage: Stage) {
        let now = self.desk.process.clock.elapsed();
        self.desk.process.metrics.stage(stage, now.saturating_sub(self.marked));
        self.marked = now;
    }

    fn claimed_key(&self) -> Option<&str> {
        self.caller.as_deref().map(|caller| &*caller.api_key).or(self.api_key.as_deref())
    }

    pub(super) fn refused(&mut self, refused: &impl Refusal) {
        let reason = refused.reason();
        let ended = match refused.answer().status {
            500.. if reason != Reason::Fenced => Ended::Failed,
            _ if reason == Reason::ClientGone => Ended::Failed,
            _ => Ended::Refused,
        };
        self.verdict = Some((ended, reason));
    }

    pub(super) fn concluded(&mut self, ended: Ended, reason: Reason) {
        self.verdict = Some((ended, reason));
    }

    /// Why the request ended; that of a client that left until it has.
    pub(super) fn reason(&self) -> Reason {
        self.verdict.map_or(Reason::ClientGone, |(_, reason)| reason)
    }

    /// The salt is spent: however this request ends, it is on record.
    pub(super) fn spent(&mut self) {
        self.spent = true;
    }

    /// Whatever is found of this request, it passes.
    pub(super) fn only_watches(&mut self) {
        self.only_watches = true;
    }

    /// Leave to send that no freeze can refuse; one can wait for its end.
    pub(super) fn held_by_no_freeze(&self) -> Departure {
        self.desk.process.freeze.depart_regardless()
    }

    /// The record tells of this request, or will by itself.
    pub(super) fn on_record(&mut self) {
        self.on_record = true;
    }

    /// Puts on record that this request spent its salt and was refused; unless its intent is.
    pub(super) fn refused_on_record(&mut self) {
        if self.on_record {
            return;
        }
        if let Some(entry) = self.entry() {
            self.on_record = true;
            self.desk.process.record.refused(&entry, self.reason().as_str());
        }
    }

    /// Puts on record that this request spent its salt and was told what a deletion would meet.
    pub(super) fn rehearsed_on_record(&mut self, reason: Reason) {
        self.verdict = Some((Ended::Passed, Reason::Ok));
        if let Some(entry) = self.entry() {
            self.on_record = true;
            self.desk.process.record.rehearsed(&entry, reason.as_str());
        }
    }

    fn tell_refusal(&self, reason: Reason) {
        let refused = RefusedRequest {
            time: self.arrived,
            request_id: self.id.to_str().unwrap_or_default().into(),
            reason,
            api_key: self.claimed_key().map(Into::into),
            skew_seconds: self.skew_seconds,
            client: self.client,
            method: self.method.clone(),
            path: self.path.clone(),
        };
        self.desk.process.refusals.push(self.desk.worker, refused);
    }

    /// What the record says of this request. Without a caller there is nothing to say.
    pub(super) fn entry(&self) -> Option<audit::Entry> {
        let caller = self.caller.as_ref()?;
        Some(audit::Entry {
            request_id: self.id.to_str().unwrap_or_default().to_owned(),
            api_key: caller.api_key.to_string(),
            account: caller.owner.account.to_string(),
            member: caller.owner.member.to_string(),
            role: caller.role.map(crate::policy::Role::as_str),
            client: self.client.address().map(|_| self.client.as_str().to_owned()),
            route: self.route.as_ref().map(|route| route.pattern().to_owned()),
            segment: self.segment.as_ref().map(|segment| segment.as_str().to_owned()),
            creator: self.creator.as_deref().map(str::to_owned),
            name: self.name.clone(),
            upstream_status: self.upstream_status,
            started: self.started,
        })
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        let left = if std::thread::panicking() { Reason::InternalError } else { Reason::ClientGone };
        let (ended, reason) = self.verdict.unwrap_or((Ended::Failed, left));
        let took = self.desk.process.clock.elapsed().saturating_sub(self.started);
        self.desk.process.metrics.request(ended, reason, took);
        self.verdict = Some((ended, reason));
        let off_record = self.only_watches || ended == Ended::Passed;
        match (self.on_record || off_record, self.spent) {
            (true, _) => {}
            // A panic, or a process that ends before the request does.
            (false, true) => self.refused_on_record(),
            (false, false) => {
                let id = self.id.to_str().unwrap_or_default();
                self.desk.process.record.count(reason.as_str(), id, self.client.address(), self.claimed_key());
            }
        }
        if matches!(ended, Ended::Refused | Ended::Failed) {
            self.tell_refusal(reason);
        }
        let succeeded = ended == Ended::Forwarded && matches!(self.upstream_status, Some(200..=299));
        if succeeded && !self.desk.generation.log_successes {
            return;
        }
        let caller = self.caller.as_deref();
        let api_key = self.claimed_key();
        Decision {
            request_id: self.id.to_str().unwrap_or_default(),
            outcome: ended,
            reason,
            client: self.client.as_str(),
            method: self.method.as_str(),
            path: &self.path,
            api_key,
            account: caller.map(|caller| &*caller.owner.account),
            member: caller.map(|caller| &*caller.owner.member),
            role: caller.and_then(|caller| caller.role).map(crate::policy::Role::as_str),
            segment: self.segment.as_ref().map(SegmentId::as_str),
            creator: self.creator.as_deref(),
            skew_seconds: self.skew_seconds,
            upstream_status: self.upstream_status,
            detail: self.detail.as_deref(),
            seconds: took.as_secs_f64(),
        }
        .log();
    }
}

/// Where request ids come from: 32 hexadecimal digits, unlike any other's, telling nobody how
/// many requests there were.
pub struct RequestIds {
    /// Keyed at random per process.
    keyed: RandomState,
    /// Each thread counts from a place of its own.
    next: PerThread<AtomicU64>,
}

impl Default for RequestIds {
    fn default() -> Self {
        Self { keyed: RandomState::new(), next: PerThread::new(|place| AtomicU64::new((place as u64) << 56)) }
    }
}

impl RequestIds {
    fn next(&self) -> HeaderValue {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let n = self.next.mine().fetch_add(1, Ordering::Relaxed);
        // No place counts so far that one's number is the other half of another's.
        let [high, low] = [n, !n].map(|half| self.keyed.hash_one(half));
        let id = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(id) {
            pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        // Hexadecimal digits are a header value.
        HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("unknown"))
    }
}

/// The outermost layer: an observation for every request, whatever becomes of it.
#[derive(Clone, Copy)]
pub struct Observe;

impl<S> Layer<S> for Observe {
    type Service = Observing<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Observing(inner)
    }
}

/// See [`Observe`].
#[derive(Clone)]
pub struct Observing<S>(S);

impl<B, R, S> Service<Received<B>> for &Observing<S>
where
    S: Service<Observed<Received<B>>, Response = Response<R>, Error = Infallible> + Clone,
    S::Future: Unpin,
{
    type Response = Response<R>;
    type Error = Infallible;
    type Future = Identified<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Received<B>) -> Self::Future {
        let observation = Box::new(request.observed());
        let id = Some(observation.id.clone());
        Identified { answer: self.0.clone().call(Observed { observation, request }), id }
    }
}

/// An answer that is to have its request's id.
pub struct Identified<F> {
    answer: F,
    id: Option<HeaderValue>,
}

impl<R, F> Future for Identified<F>
where
    F: Future<Output = Result<Response<R>, Infallible>> + Unpin,
{
    type Output = Result<Response<R>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut answer = ready!(Pin::new(&mut self.answer).poll(cx))?;
        if let Some(id) = self.id.take() {
            answer.headers_mut().insert(X_REQUEST_ID, id);
        }
        Poll::Ready(Ok(answer))
    }
}
