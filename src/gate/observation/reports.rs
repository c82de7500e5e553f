//! What the log, the metrics, the record and repeats learn from an observation, above all when it is dropped.

use tokio::runtime::Handle;

use super::Observation;
use crate::audit;
use crate::gate::reporting::Reporting;
use crate::policy::SegmentId;
use crate::refusal::Reason;
use crate::repeats::{Became, KeptAnswer, Shared, UnderWay};
use crate::telemetry::{Decision, Ended, RefusedRequest};

impl Drop for Observation {
    fn drop(&mut self) {
        let left = if std::thread::panicking() { Reason::InternalError } else { Reason::ClientGone };
        let (ended, reason) = self.verdict.unwrap_or((Ended::Failed, left));
        // The only exact reading that most requests need for themselves.
        let took = self.worker_state.reporting.clock.elapsed().saturating_sub(self.started);
        self.worker_state.reporting.metrics.request(ended, reason, took);
        self.verdict = Some((ended, reason));
        self.end_trace(ended, reason, took);
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

impl Observation {
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
    pub(in crate::gate) fn rehearsed_on_record(&mut self, reason: Reason) {
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
    pub(in crate::gate) fn print(&self) -> Option<String> {
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
            key_set: None,
            upstream_status: self.upstream_status,
            started: self.started,
        })
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
