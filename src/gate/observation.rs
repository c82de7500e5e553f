//! What is seen of a request on its way, and told to the log, the metrics and the record at its end.

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
    /// Since it spent its salt: what repeats of it are told.
    under_way: Option<UnderWay>,
    /// What it is a repeat of.
    repeat: Option<Box<Repeat>>,
    on_record: bool,
    /// Nothing of it is refused, so nothing goes on record.
    only_watches: bool,
}

impl Observation {
    pub(crate) fn new(worker_state: Arc<WorkerState>, client: Client, method: http::Method, path: &str) -> Self {
        let Reporting { clock, request_ids, .. } = &*worker_state.reporting;
        let started = clock.elapsed();
        // A path is long enough for the log long before it is too long for the limits.
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

    /// What this gateway adds to `Via`.
    pub(super) fn via(&self) -> &HeaderValue {
        &self.worker_state.reporting.request_ids.via
    }

    /// When the head had come, by the elapsed clock.
    pub(super) fn started(&self) -> Duration {
        self.started
    }

    /// When the last part of the way was done, by the elapsed clock.
    pub(super) fn marked(&self) -> Duration {
        self.marked
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

    /// Who signed the request, and when.
    pub(super) fn signed(&mut self, signed: &Signed) {
        self.is_of(signed.caller());
        self.dated(signed.date(), true);
    }

    /// How far ahead of us the request's date is.
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

    /// One part of the way is done.
    pub(super) fn passed(&mut self, stage: Stage) {
        let now = self.worker_state.reporting.clock.elapsed();
        self.worker_state.reporting.metrics.stage(stage, now.saturating_sub(self.marked));
        self.marked = now;
        tracing::debug!(?stage, "passed");
    }

    fn claimed_key(&self) -> Option<&str> {
        self.caller.as_deref().map(|caller| &*caller.api_key).or(self.api_key.as_deref())
    }

    /// It was refused; what its caller is answered.
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

    /// How long its header stays good by its date, proven or not.
    fn header_remains(&self) -> Remaining {
        let Some(skew) = self.skew_seconds else { return Remaining::Unknown };
        let since = self.worker_state.reporting.clock.elapsed().saturating_sub(self.started);
        let left = self.worker_state.generation.window.past.as_secs_f64() + skew - since.as_secs_f64();
        // What is over, or longer than can be said.
        Duration::try_from_secs_f64(left.max(0.0)).map_or(Remaining::For(Duration::MAX), Remaining::For)
    }

    pub(crate) fn concluded(&mut self, ended: Ended, reason: Reason) {
        self.verdict = Some((ended, reason));
    }

    /// Why the request ended; that of a client that left until it has.
    pub(super) fn reason(&self) -> Reason {
        self.verdict.map_or(Reason::ClientGone, |(_, reason)| reason)
    }

    /// The salt is spent: however this request ends, it is on record, and repeats of it are told.
    pub(super) fn spent(&mut self, under_way: UnderWay) {
        self.spent = true;
        self.under_way = Some(under_way);
    }

    /// This request as the first of its salt.
    pub(super) fn as_first(&self, asked: Asked, body_length: u64) -> First {
        let id = self.id.to_str().unwrap_or_default();
        First::new(asked, body_length, id, self.client.address(), self.started)
    }

    /// What it is answered, where that is kept for repeats.
    pub(crate) fn answered(&mut self, kept: impl FnOnce() -> KeptAnswer) {
        let Some(under_way) = self.under_way.as_mut().filter(|under_way| under_way.keeps()) else { return };
        let kept = kept();
        let Reporting { salts, repeats, .. } = &*self.worker_state.reporting;
        if salts.is_shared()
            && let (Some((ended, reason)), Ok(runtime)) = (self.verdict, Handle::try_current())
        {
            let became = became(ended, reason, self.upstream_status);
            let text = Shared::write(self.id.to_str().unwrap_or_default(), became, &kept);
            // The client's answer does not wait for it: a repeat does.
            if let Some(keeping) = salts.store_answer(under_way.salt(), text, repeats.window()) {
                runtime.spawn(keeping);
            }
        }
        under_way.answered(kept);
    }

    /// What a store that is shared keeps beside its salt.
    pub(super) fn mark(&self, print: Print) -> Mark {
        let id = self.id.to_str().ok().and_then(|id| u128::from_str_radix(id, 16).ok());
        Mark::new(print.bytes(), id.unwrap_or_default().to_be_bytes())
    }

    /// It asks for what this one asked for, with the same header.
    pub(super) fn repeats(&mut self, first: &First) {
        let now = self.worker_state.reporting.clock.elapsed();
        self.repeat = Some(Box::new(first.repeat(self.client.address(), now)));
    }

    /// The same of a request that another gateway had, or this one before it was started anew.
    pub(super) fn repeats_elsewhere(&mut self, of: &str, first: Became) {
        self.repeat = Some(Box::new(Repeat { of: of.to_owned(), first, after: None, same_client: None }));
    }

    /// Whether the message passes whatever is found of it.
    pub(super) fn is_in_shadow(&self) -> bool {
        self.only_watches
    }

    /// There is no whole answer of the service, though it may have begun with this status; and what is wrong with it,
    /// where something is.
    pub(crate) fn broke_off(&mut self, status: Option<StatusCode>, malformed: Option<MalformedResponse>) {
        self.upstream_status = status.map(|status| status.as_u16());
        self.detail = match (malformed, status) {
            (Some(malformed), _) => Some(format!("the upstream's answer {malformed}")),
            (None, Some(_)) => Some("the upstream's answer broke off within its body, or took too long".into()),
            (None, None) => None,
        };
    }

    /// What is said if the answer to it, which has begun, ends before its end.
    pub(super) fn truncation(&self, ended: Ended) -> Truncation {
        Truncation::new(self.worker_state.reporting.metrics.clone(), self.id.clone(), ended, self.upstream_status)
    }

    /// Whatever is found of this request, it passes.
    pub(crate) fn only_watches(&mut self) {
        self.only_watches = true;
    }

    /// The record tells of this request, or will by itself.
    pub(super) fn on_record(&mut self) {
        self.on_record = true;
    }

    /// Puts on record that this request spent its salt and was refused; unless its intent is.
    pub(crate) fn refused_on_record(&mut self, status: Option<u16>) {
        if self.on_record {
            return;
        }
        if let Some(entry) = self.entry() {
            self.on_record = true;
            self.worker_state.reporting.record.refused(&entry, self.reason().as_str(), status);
        }
    }

    /// Puts on record that this request spent its salt and was told what a deletion would meet.
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

    /// What the request asked for, as the record has it for repeats after a restart.
    pub(super) fn print(&self) -> Option<String> {
        self.under_way.as_ref().and_then(UnderWay::print_for_record)
    }

    /// What the record says of a request that ends before its intent is written. Without a caller there is nothing to say.
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
            // A panic, or a process that ends before the request does.
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

/// What became of a request that spent its salt.
fn became(ended: Ended, reason: Reason, status: Option<u16>) -> Became {
    match (ended, reason) {
        (Ended::Forwarded, _) if matches!(status, Some(200..=299)) => Became::Deleted,
        (Ended::Forwarded, _) => Became::RefusedByUpstream,
        (Ended::Passed, _) => Became::Rehearsed,
        (Ended::Refused, _) => Became::Refused,
        // It was dropped before its end: nobody knows how far it had come.
        (Ended::Failed, Reason::OutcomeUnknown | Reason::ClientGone) => Became::Unknown,
        (Ended::Failed, Reason::InternalError) if std::thread::panicking() => Became::Unknown,
        (Ended::Failed, _) => Became::NotSent,
    }
}
