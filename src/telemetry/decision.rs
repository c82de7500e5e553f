//! The log line of each request.

use std::sync::OnceLock;

use serde_json::to_writer;
use tracing::Level;

use super::json::Json;
use super::outcome::Ended;
use crate::plain;
use crate::refusal::Reason;
use crate::repeats::Repeat;

/// What the log says about a request that has ended (contract §10).
#[derive(Debug)]
#[allow(missing_docs, reason = "the names are the log's")]
pub(crate) struct Decision<'d> {
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
    pub repeat: Option<&'d Repeat>,
    pub seconds: f64,
}

/// The log, if it is JSON and its level includes decisions.
static LOG: OnceLock<Json> = OnceLock::new();

/// Writes decisions directly to this log from now on.
pub(super) fn write_to(log: Json) {
    // The first log stays, as it does for events.
    let _ = LOG.set(log);
}

impl Decision<'_> {
    /// Writes the line to the log.
    pub(crate) fn log(&self) {
        match LOG.get() {
            Some(json) => self.write_to(json),
            None => self.tell(),
        }
    }

    /// Writes the line without an event, because most lines of the log are decisions.
    fn write_to(&self, json: &Json) {
        json.write(Level::INFO, module_path!(), |text| self.write(text));
    }

    /// Logs an event, for a log in text form.
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
            repeat_of = self.repeat.map(|repeat| &*repeat.of),
            first = self.repeat.map(|repeat| repeat.first.as_str()),
            first_seconds_ago = self.repeat.and_then(|repeat| repeat.after).map(|after| after.as_secs_f64()),
            same_client = self.repeat.and_then(|repeat| repeat.same_client),
            seconds = self.seconds,
            "decision"
        );
    }

    /// The same fields as members of a JSON object.
    fn write(&self, line: &mut Vec<u8>) {
        // Inlined, so that each name is copied with a known length.
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
            plain::json(value, line);
            line.push(b'"');
        }
        fn number(line: &mut Vec<u8>, name: &str, value: Option<f64>) {
            let Some(value) = value else { return };
            line.extend_from_slice(name.as_bytes());
            // Writing to a vector cannot fail; NaN becomes `null`.
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
        if let Some(Repeat { of, first, after, same_client }) = self.repeat {
            text(line, ",\"repeat_of\":\"", Some(of));
            word(line, ",\"first\":\"", first.as_str());
            number(line, ",\"first_seconds_ago\":", after.map(|after| after.as_secs_f64()));
            if let Some(same) = same_client {
                line.extend_from_slice(if *same { b",\"same_client\":true" } else { b",\"same_client\":false" });
            }
        }
        number(line, ",\"seconds\":", Some(self.seconds));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, pipe};

    use tracing_subscriber::prelude::*;

    use super::super::lines::Writing;
    use super::*;
    use crate::repeats::Became;
    use std::time::Duration;

    #[test]
    fn a_decision_is_logged_alike_directly_and_as_an_event() {
        let repeat = Repeat {
            of: "fedcba9876543210fedcba9876543210".into(),
            first: Became::Deleted,
            after: Some(Duration::from_millis(250)),
            same_client: Some(true),
        };
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
            repeat: Some(&repeat),
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
            repeat: None,
            ..whole
        };
        for decision in [whole, bare] {
            let (mut log, writer) = pipe().unwrap();
            let writing = Writing::to(writer).unwrap();
            let json = Json(writing.lines.clone());
            decision.write_to(&json);
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
