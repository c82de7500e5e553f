use std::sync::OnceLock;

use serde_json::to_writer;

use super::json::{Json, escape};
use super::metrics::Ended;
use crate::refusal::Reason;

/// What the log says of a request that has ended (contract §10).
#[derive(Debug)]
#[allow(missing_docs, reason = "the names are the log's")]
pub struct Decision<'d> {
    pub request_id: &'d str,
    pub outcome: Ended,
    pub reason: Reason,
    pub client: &'d str,
    pub method: &'d str,
    pub path: &'d str,
    pub api_key: Option<&'d str>,
    pub account: Option<&'d str>,
    pub member: Option<&'d str>,
    pub role: Option<&'d str>,
    pub segment: Option<&'d str>,
    pub creator: Option<&'d str>,
    pub skew_seconds: Option<f64>,
    pub upstream_status: Option<u16>,
    pub detail: Option<&'d str>,
    pub seconds: f64,
}

/// The log, where it is JSON and holds decisions.
static LOG: OnceLock<Json> = OnceLock::new();

/// Decisions go straight to this log from now on.
pub(super) fn write_to(log: Json) {
    // A second one in one process keeps the first, as events do.
    let _ = LOG.set(log);
}

impl Decision<'_> {
    pub(super) const TARGET: &'static str = module_path!();

    /// One line of the log.
    pub fn log(&self) {
        match LOG.get() {
            Some(json) => json.decision(self),
            None => self.tell(),
        }
    }

    /// As an event like any other, for a log that people read.
    fn tell(&self) {
        tracing::info!(
            request_id = self.request_id,
            outcome = self.outcome.as_str(),
            reason = self.reason.as_str(),
            client = self.client,
            method = self.method,
            path = self.path,
            api_key = self.api_key,
            account = self.account,
            member = self.member,
            role = self.role,
            segment = self.segment,
            creator = self.creator,
            skew_seconds = self.skew_seconds,
            upstream_status = self.upstream_status,
            detail = self.detail,
            seconds = self.seconds,
            "decision"
        );
    }

    /// The same as members of an object of JSON.
    pub(super) fn write(&self, line: &mut Vec<u8>) {
        // Inlined, so that a name is written as what it is: a few words.
        #[inline(always)]
        fn word(line: &mut Vec<u8>, name: &'static str, value: &'static str) {
            line.extend_from_slice(name.as_bytes());
            line.extend_from_slice(value.as_bytes());
            line.push(b'"');
        }
        #[inline(always)]
        fn text(line: &mut Vec<u8>, name: &'static str, value: Option<&str>) {
            let Some(value) = value else { return };
            line.extend_from_slice(name.as_bytes());
            escape(value, line);
            line.push(b'"');
        }
        fn number(line: &mut Vec<u8>, name: &str, value: Option<f64>) {
            let Some(value) = value else { return };
            line.extend_from_slice(name.as_bytes());
            // A vector takes every number; one that is none is `null`.
            let _ = to_writer(line, &value);
        }
        line.extend_from_slice(b",\"message\":\"decision\"");
        text(line, ",\"request_id\":\"", Some(self.request_id));
        word(line, ",\"outcome\":\"", self.outcome.as_str());
        word(line, ",\"reason\":\"", self.reason.as_str());
        text(line, ",\"client\":\"", Some(self.client));
        text(line, ",\"method\":\"", Some(self.method));
        text(line, ",\"path\":\"", Some(self.path));
        text(line, ",\"api_key\":\"", self.api_key);
        text(line, ",\"account\":\"", self.account);
        text(line, ",\"member\":\"", self.member);
        text(line, ",\"role\":\"", self.role);
        text(line, ",\"segment\":\"", self.segment);
        text(line, ",\"creator\":\"", self.creator);
        number(line, ",\"skew_seconds\":", self.skew_seconds);
        if let Some(status) = self.upstream_status {
            line.extend_from_slice(b",\"upstream_status\":");
            let _ = to_writer(&mut *line, &status);
        }
        text(line, ",\"detail\":\"", self.detail);
        number(line, ",\"seconds\":", Some(self.seconds));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, pipe};

    use tracing_subscriber::prelude::*;

    use super::super::lines::Writing;
    use super::*;

    #[test]
    fn a_decision_reads_the_same_written_and_as_an_event() {
        let whole = Decision {
            request_id: "0123456789abcdef0123456789abcdef",
            outcome: Ended::Forwarded,
            reason: Reason::Ok,
            client: "192.0.2.1",
            method: "DELETE",
            path: "/crm-core/v1/segments/1\"\n",
            api_key: Some("NCSTESTKEY000001"),
            account: Some("acc"),
            member: Some("mem"),
            role: Some("OWNER"),
            segment: Some("1"),
            creator: Some("\u{1b}[31m세그먼트"),
            skew_seconds: Some(-0.25),
            upstream_status: Some(200),
            detail: Some("a \"quoted\" detail"),
            seconds: 0.000_123_4,
        };
        let bare = Decision {
            api_key: None,
            account: None,
            member: None,
            role: None,
            segment: None,
            creator: None,
            skew_seconds: None,
            upstream_status: None,
            detail: None,
            ..whole
        };
        for decision in [whole, bare] {
            let (mut log, writer) = pipe().unwrap();
            let writing = Writing::to(writer).unwrap();
            let json = Json(writing.lines.clone());
            json.decision(&decision);
            tracing::subscriber::with_default(tracing_subscriber::registry().with(json), || decision.tell());
            drop(writing);
            let mut text = String::new();
            log.read_to_string(&mut text).unwrap();
            let mut lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            let (mut written, mut told) = (lines.next().unwrap(), lines.next().unwrap());
            for line in [&mut written, &mut told] {
                assert!(line.as_object_mut().unwrap().remove("timestamp").is_some(), "{line}");
            }
            assert_eq!(written, told);
            assert_eq!(lines.next(), None);
        }
    }
}
