//! Collects facts about a request, and reports them when it ends.

mod reports;
mod traced;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::HeaderValue;

use super::reporting::Reporting;
use super::state::WorkerState;
use super::truncation::Truncation;
use crate::authentication::Signed;
use crate::directory::Caller;
use crate::net::Client;
use crate::policy::SegmentId;
use crate::refusal::{Answer, Reason, Refusal, Remaining};
use crate::repeats::{Asked, Became, First, Print, Repeat, UnderWay};
use crate::replay::Mark;
use crate::telemetry::{Ended, Stage};
use crate::trace::Trace;
use crate::upstream::MalformedResponse;

/// A request at any stage, with its observation.
pub struct Observed<T> {
    /// Its observation.
    pub observation: Box<Observation>,
    /// The request.
    pub request: T,
}

/// Facts about one request, from its head to its end.
///
/// The observation travels with the request. Wherever the request ends, the observation is dropped, and dropping it
/// counts and logs exactly once. If it is dropped without a verdict, the client has left or a task panicked.
pub struct Observation {
    worker_state: Arc<WorkerState>,
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
    pub(crate) upstream_status: Option<u16>,
    pub(crate) detail: Option<String>,
    verdict: Option<(Ended, Reason)>,
    spent: bool,
    /// Set when the salt is spent; tells repeats how this request ended.
    under_way: Option<UnderWay>,
    /// The first request, if this one is a repeat.
    repeat: Option<Box<Repeat>>,
    on_record: bool,
    /// True in observe mode: this request is never refused, so nothing about it goes on record.
    only_watches: bool,
    /// Its trace, if traces are made.
    trace: Option<Box<Trace>>,
}

impl Observation {
    pub(crate) fn new(worker_state: Arc<WorkerState>, client: Client, method: http::Method, path: &str) -> Self {
        let Reporting { clock, request_ids, .. } = &*worker_state.reporting;
        // What arrived has waited since the turn began. Whatever these times decide is decided again when the salt is spent.
        let started = clock.turn_elapsed();
        // Long paths are cut for the log well below the limit for requests.
        let path = &path[..path.floor_char_boundary(256)];
        Self {
            id: request_ids.next(),
            client,
            method,
            path: path.into(),
            started,
            marked: started,
            arrived: clock.turn_now(),
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
            under_way: None,
            repeat: None,
            on_record: false,
            only_watches: false,
            trace: None,
            worker_state,
        }
    }

    /// The request id.
    pub(crate) fn id(&self) -> &HeaderValue {
        &self.id
    }

    /// The value that this gateway adds to `Via`.
    pub(super) fn via(&self) -> &HeaderValue {
        &self.worker_state.reporting.request_ids.via
    }

    /// When the head had arrived, by the elapsed clock.
    pub(super) fn started(&self) -> Duration {
        self.started
    }

    /// When the last stage ended, by the elapsed clock.
    pub(super) fn marked(&self) -> Duration {
        self.marked
    }

    /// When the head had arrived.
    pub(super) fn arrived(&self) -> SystemTime {
        self.arrived
    }

    /// Notes the apiKey that the request claims, proven or not.
    pub(super) fn claims(&mut self, api_key: &str) {
        self.api_key = Some(api_key.into());
    }

    /// Notes the caller.
    pub(super) fn is_of(&mut self, caller: &Arc<Caller>) {
        self.caller = Some(caller.clone());
    }

    /// Notes who signed the request, and when.
    pub(super) fn signed(&mut self, signed: &Signed) {
        self.is_of(signed.caller());
        self.dated(signed.date(), true);
    }

    /// Notes how far the date of the request is ahead of the clock.
    pub(super) fn dated(&mut self, date: SystemTime, proven: bool) {
        let skew = match date.duration_since(self.arrived) {
            Ok(ahead) => ahead.as_secs_f64(),
            Err(behind) => -behind.duration().as_secs_f64(),
        };
        self.skew_seconds = Some(skew);
        if proven {
            self.worker_state.reporting.metrics.client_skew(skew);
        }
    }

    /// Notes that a stage ended: in this turn, which is exact enough for what it waited. One that waited for nothing counts as
    /// having taken no time.
    pub(super) fn passed(&mut self, stage: Stage) {
        let now = match &self.trace {
            Some(trace) if trace.is_sampled() => self.worker_state.reporting.clock.elapsed(),
            _ => self.worker_state.reporting.clock.turn_elapsed(),
        };
        self.worker_state.reporting.metrics.stage(stage, now.saturating_sub(self.marked));
        if let Some(trace) = &mut self.trace {
            trace.stage(stage, self.marked, now);
        }
        self.marked = now;
        tracing::debug!(?stage, "passed");
    }

    fn claimed_key(&self) -> Option<&str> {
        self.caller.as_deref().map(|caller| &*caller.api_key).or(self.api_key.as_deref())
    }

    /// Notes that the request was refused, and returns the answer for its caller.
    pub(crate) fn refused(&mut self, refused: &impl Refusal) -> Answer {
        let (reason, answer) = (refused.reason(), refused.answer(self.header_remains()));
        let ended = match answer.status {
            500.. if reason != Reason::Fenced => Ended::Failed,
            _ if reason == Reason::ClientGone => Ended::Failed,
            _ => Ended::Refused,
        };
        self.verdict = Some((ended, reason));
        answer
    }

    /// How long the header remains in the window by its date, proven or not.
    fn header_remains(&self) -> Remaining {
        let Some(skew) = self.skew_seconds else { return Remaining::Unknown };
        let since = self.worker_state.reporting.clock.turn_elapsed().saturating_sub(self.started);
        let left = self.worker_state.generation.window.past.as_secs_f64() + skew - since.as_secs_f64();
        // Covers a time that is over, and one too long for a `Duration`.
        Duration::try_from_secs_f64(left.max(0.0)).map_or(Remaining::For(Duration::MAX), Remaining::For)
    }

    pub(crate) fn concluded(&mut self, ended: Ended, reason: Reason) {
        self.verdict = Some((ended, reason));
    }

    /// Why the request ended; until it has ended, that its client left.
    pub(super) fn reason(&self) -> Reason {
        self.verdict.map_or(Reason::ClientGone, |(_, reason)| reason)
    }

    /// Notes that the salt is spent: from here on the request goes on record however it ends, and repeats are told
    /// how.
    pub(super) fn spent(&mut self, under_way: UnderWay) {
        self.spent = true;
        self.under_way = Some(under_way);
    }

    /// Describes this request as the first with its salt.
    pub(super) fn as_first(&self, asked: Asked, body_length: u64) -> First {
        let id = self.id.as_bytes().try_into().unwrap_or_default();
        First::new(asked, body_length, id, self.client.address(), self.started)
    }

    /// What a shared store keeps next to the salt.
    pub(super) fn mark(&self, print: Print) -> Mark {
        let id = self.id.to_str().ok().and_then(|id| u128::from_str_radix(id, 16).ok());
        Mark::new(print.bytes(), id.unwrap_or_default().to_be_bytes())
    }

    /// Notes that this request is a repeat of `first`.
    pub(super) fn repeats(&mut self, first: &First) {
        let now = self.worker_state.reporting.clock.elapsed();
        self.repeat = Some(Box::new(first.repeat(self.client.address(), now)));
    }

    /// Notes that this request is a repeat of one that another gateway had, or this one before it was restarted.
    pub(super) fn repeats_elsewhere(&mut self, of: &str, first: Became) {
        self.repeat = Some(Box::new(Repeat { of: of.to_owned(), first, after: None, same_client: None }));
    }

    /// Whether the message is forwarded whatever the verdict (observe mode).
    pub(super) fn is_in_shadow(&self) -> bool {
        self.only_watches
    }

    /// Notes that there is no complete answer of the service, the status if one arrived, and what is malformed if
    /// anything is.
    pub(crate) fn broke_off(&mut self, status: Option<StatusCode>, malformed: Option<MalformedResponse>) {
        self.upstream_status = status.map(|status| status.as_u16());
        self.detail = match (malformed, status) {
            (Some(malformed), _) => Some(format!("the upstream's answer {malformed}")),
            (None, Some(_)) => Some("the upstream's answer broke off in its body, or took too long".into()),
            (None, None) => None,
        };
    }

    /// What to report if the answer, which has begun, breaks off.
    pub(super) fn truncation(&self, ended: Ended) -> Truncation {
        Truncation::new(self.worker_state.reporting.metrics.clone(), self.id.clone(), ended, self.upstream_status)
    }

    /// Notes that the request is forwarded whatever the verdict (observe mode).
    pub(crate) fn only_watches(&mut self) {
        self.only_watches = true;
    }

    /// Notes that the record has this request, or will get it from elsewhere.
    pub(super) fn on_record(&mut self) {
        self.on_record = true;
    }
}
