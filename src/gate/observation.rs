//! Collects facts about a request, and reports them to the log, the metrics and the record when it ends.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::HeaderValue;
use tokio::runtime::Handle;

use super::reporting::Reporting;
use super::state::WorkerState;
use super::truncation::Truncation;
use crate::audit;
use crate::authentication::Signed;
use crate::directory::Caller;
use crate::net::Client;
use crate::policy::SegmentId;
use crate::refusal::{Answer, Reason, Refusal, Remaining};
use crate::repeats::{Asked, Became, First, KeptAnswer, Print, Repeat, Shared, UnderWay};
use crate::replay::Mark;
use crate::telemetry::{Decision, Ended, RefusedRequest, Stage};
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
}

impl Observation {
    pub(crate) fn new(worker_state: Arc<WorkerState>, client: Client, method: http::Method, path: &str) -> Self {
        let Reporting { clock, request_ids, .. } = &*worker_state.reporting;
        let started = clock.elapsed();
        // Long paths are cut for the log well below the limit for requests.
        let path = &path[..path.floor_char_boundary(256)];
        Self {
            id: request_ids.next(),
            client,
            method,
            path: path.into(),
            started,
            marked: started,
            arrived: clock.now(),
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

    /// Notes that a stage ended.
    pub(super) fn passed(&mut self, stage: Stage) {
        let now = self.worker_state.reporting.clock.elapsed();
        self.worker_state.reporting.metrics.stage(stage, now.saturating_sub(self.marked));
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
        let since = self.worker_state.reporting.clock.elapsed().saturating_sub(self.started);
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
        let id = self.id.to_str().unwrap_or_default();
        First::new(asked, body_length, id, self.client.address(), self.started)
    }

    /// Notes the answer, if answers are kept for repeats.
    pub(crate) fn answered(&mut self, kept: impl FnOnce() -> KeptAnswer) {
        let Some(under_way) = self.under_way.as_mut().filter(|under_way| under_way.keeps()) else { return };
        let kept = kept();
        let Reporting { salts, repeats, .. } = &*self.worker_state.reporting;
        if salts.is_shared()
            && let (Some((ended, reason)), Ok(runtime)) = (self.verdict, Handle::try_current())
        {
            let became = became(ended, reason, self.upstream_status);
            let text = Shared::write(self.id.to_str().unwrap_or_default(), became, &kept);
            // The answer to the client does not wait for this; a repeat does.
            if let Some(keeping) = salts.store_answer(under_way.salt(), text, repeats.window()) {
                runtime.spawn(keeping);
            }
        }
        under_way.answered(kept);
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

    /// Records that this request spent its salt and was refused, unless its intent is recorded.
    pub(crate) fn refused_on_record(&mut self, status: Option<u16>) {
        if self.on_record {
            return;
        }
        if let Some(entry) = self.entry() {
            self.on_record = true;
            self.worker_state.reporting.record.refused(&entry, self.reason().as_str(), status);
        }
    }

    /// Records that this request spent its salt and was answered as a dry run.
    pub(super) fn rehearsed_on_record(&mut self, reason: Reason) {
        self.verdict = Some((Ended::Passed, Reason::Ok));
        if let Some(entry) = self.entry() {
            self.on_record = true;
            self.worker_state.reporting.record.rehearsed(&entry, reason.as_str());
        }
    }

    fn tell_refusal(&self, reason: Reason) {
        let refused = RefusedRequest {
            time: self.arrived,
            request_id: self.id.to_str().unwrap_or_default().into(),
            reason,
            api_key: self.claimed_key().map(Into::into),
            skew_seconds: self.skew_seconds,
            proven: self.caller.is_some(),
            client: self.client,
            method: self.method.clone(),
            path: self.path.clone(),
            repeat: self.repeat.clone(),
        };
        self.worker_state.reporting.refusals.push(self.worker_state.worker, refused);
    }

    /// The fingerprint of what the request asked for; the record keeps it for repeats after a restart.
    pub(super) fn print(&self) -> Option<String> {
        self.under_way.as_ref().and_then(UnderWay::print_for_record)
    }

    /// The record entry of a request that ends before its intent is written; `None` without a caller.
    fn entry(&self) -> Option<audit::RecordEntry> {
        let caller = self.caller.as_ref()?;
        Some(audit::RecordEntry {
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
            print: self.print(),
            upstream_status: self.upstream_status,
            started: self.started,
        })
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        let left = if std::thread::panicking() { Reason::InternalError } else { Reason::ClientGone };
        let (ended, reason) = self.verdict.unwrap_or((Ended::Failed, left));
        let took = self.worker_state.reporting.clock.elapsed().saturating_sub(self.started);
        self.worker_state.reporting.metrics.request(ended, reason, took);
        self.verdict = Some((ended, reason));
        let off_record = self.only_watches || ended == Ended::Passed;
        match (self.on_record || off_record, self.spent) {
            (true, _) => {}
            // A task panicked, or the process ends before the request does.
            (false, true) => self.refused_on_record(None),
            (false, false) => {
                let id = self.id.to_str().unwrap_or_default();
                let repeat = self.repeat.as_deref().map(|repeat| audit::RepeatOf {
                    id: &repeat.of,
                    first: repeat.first.as_str(),
                    after: repeat.after,
                    same_client: repeat.same_client,
                });
                let (client, key) = (self.client.address(), self.claimed_key());
                self.worker_state.reporting.record.count(reason.as_str(), id, client, key, repeat);
            }
        }
        if let Some(mut under_way) = self.under_way.take() {
            under_way.became(became(ended, reason, self.upstream_status));
        }
        if let Some(repeat) = &self.repeat {
            self.worker_state.reporting.metrics.repeat(repeat.first);
        }
        if matches!(ended, Ended::Refused | Ended::Failed) {
            self.tell_refusal(reason);
        }
        let succeeded = ended == Ended::Forwarded && matches!(self.upstream_status, Some(200..=299));
        if succeeded && !self.worker_state.generation.log_successes {
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
            repeat: self.repeat.as_deref(),
            seconds: took.as_secs_f64(),
        }
        .log();
    }
}

/// How a request that spent its salt ended, as repeats are told.
fn became(ended: Ended, reason: Reason, status: Option<u16>) -> Became {
    match (ended, reason) {
        (Ended::Forwarded, _) if matches!(status, Some(200..=299)) => Became::Deleted,
        (Ended::Forwarded, _) => Became::RefusedByUpstream,
        (Ended::Passed, _) => Became::Rehearsed,
        (Ended::Refused, _) => Became::Refused,
        // It was dropped before its end, so nobody knows how far it got.
        (Ended::Failed, Reason::OutcomeUnknown | Reason::ClientGone) => Became::Unknown,
        (Ended::Failed, Reason::InternalError) if std::thread::panicking() => Became::Unknown,
        (Ended::Failed, _) => Became::NotSent,
    }
}
