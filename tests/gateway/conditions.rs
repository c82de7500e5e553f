//! A deletion depends on the version that was checked, and on no condition of the client.

use std::sync::Arc;

use crate::harness::{Gate, SEGMENT, Upstream, answer, service, signed, until};
use crate::http::{Answer, Request};
use crate::spoken::{BOTH, Spoken};

/// A service that answers the look-up of the test segment with these fields.
fn with_tag(fields: &'static str) -> Upstream {
    let ordinary = service("account-1", "member-1");
    Upstream::start(Arc::new(move |seen, stream| match seen.method.as_str() {
        "GET" => answer(stream, "200 OK", fields, r#"{"accountId":"account-1","ownerId":"member-1"}"#),
        _ => ordinary(seen, stream),
    }))
}

fn send(spoken: Spoken, gate: &Gate, method: &str, suffix: &str, role: &str, fields: &str) -> Answer {
    let ask = Request::new(method, &format!("/crm-core/v1/segments/{SEGMENT}{suffix}"));
    let ask = ask.field("authorization", &signed(role));
    spoken.ask(gate.address(), &ask.fields(fields))
}

/// The answers over each protocol that can carry these fields: HTTP/2 has no `Connection`.
fn delete(gate: &Gate, fields: &str) -> Vec<Answer> {
    let spoken: &[Spoken] = if fields.contains("Connection: ") { &[Spoken::Http1] } else { &BOTH };
    spoken.iter().map(|spoken| send(*spoken, gate, "DELETE", "", "OWNER", fields)).collect()
}

fn statuses(answers: &[Answer]) -> Vec<u16> {
    answers.iter().map(|answer| answer.status).collect()
}

/// The conditions with which the last deletions, this many, reached the service.
fn conditions(upstream: &Upstream, last: usize) -> Vec<String> {
    let seen = upstream.last.lock().unwrap();
    let deletions = seen.iter().rev().filter(|seen| seen.method == "DELETE").take(last);
    let lines = deletions.flat_map(|seen| seen.head.lines().map(str::to_lowercase));
    lines.filter(|line| line.starts_with("if")).collect()
}

#[test]
fn only_the_checked_tag_is_forwarded_and_any_other_condition_is_412() {
    let upstream = with_tag("ETag: \"v1\"\r\n");
    let gate = Gate::patient(&upstream, "");
    for fields in [
        "",
        "If-Match: \"v1\"\r\n",
        "If-Match: *\r\n",
        "If-Match: \"v0\", \"v1\"\r\n",
        "If-Match: \"v0\"\r\nIf-Match: \"v1\"\r\n",
        "if_match: \"v1\"\r\n",
        // Fields that Connection names are removed before the checks.
        "If-Match: \"x\"\r\nConnection: close, If-Match\r\n",
        "If-Match: \"v2\"\r\nConnection: if_match, close\r\n",
        "If-None-Match: \"v1\"\r\nConnection: close\r\nConnection: If-None-Match\r\n",
    ] {
        let sent = upstream.deletes();
        let deleted = delete(&gate, fields);
        assert_eq!(statuses(&deleted), vec![200; deleted.len()], "{fields:?}: {deleted:?}");
        assert_eq!(upstream.deletes() - sent, deleted.len(), "{fields:?}");
        assert_eq!(conditions(&upstream, deleted.len()), vec!["if-match: \"v1\""; deleted.len()], "{fields:?}");
    }
    let sent = upstream.deletes();
    let refused = [
        "If-Match: \"v2\"\r\n",
        "If-Match: W/\"v1\"\r\n",
        "If-Match: v1\r\n",
        "If-Match:\r\n",
        "If-Match: \"v1\"\r\nIf_Match: \"v1\r\n",
        "If_Match: \"v2\"\r\n",
        "If.Match: \"v2\"\r\n",
        "If-None-Match: \"v2\"\r\n",
        "if_none_match: *\r\n",
        "If-Unmodified-Since: Sun, 29 Nov 2026 10:00:00 GMT\r\n",
        "If-Match: \"v1\"\r\nIf-Unmodified-Since: Sun, 29 Nov 2026 10:00:00 GMT\r\n",
        "If-Modified-Since: Sun, 29 Nov 2026 10:00:00 GMT\r\n",
        "If: (<x>)\r\n",
    ];
    for fields in refused {
        for told in delete(&gate, fields) {
            assert_eq!((told.status, told.error_code().as_str()), (412, "PreconditionFailed"), "{fields:?}: {told:?}");
            assert_eq!(told.body.matches("\":").count(), 2, "errorCode and errorMessage: {}", told.body);
        }
    }
    let refusals = BOTH.len() * refused.len();
    assert_eq!(upstream.deletes(), sent, "nothing is sent");
    let on_record = |kind: &str| -> Vec<_> {
        gate.files.record().into_iter().filter(|line| line["kind"] == kind).map(|line| line["reason"].clone()).collect()
    };
    until("the record has each of them", || on_record("refused") == vec!["precondition_failed"; refusals]);
    assert_eq!(on_record("intent").len(), sent, "and has no intent of it");
    let counted = format!("outcome=\"refused\",reason=\"precondition_failed\"}} {refusals}");
    until("each is counted", || gate.metrics().contains(&counted));
    for spoken in BOTH {
        let rehearsed = send(spoken, &gate, "POST", "/deletion-check", "OWNER", "If-Match: \"v2\"\r\n");
        assert_eq!(rehearsed.status, 412, "{spoken:?}: a dry run gives the same answer");
    }
}

#[test]
fn without_a_version_every_condition_is_412() {
    for (tags, more) in [
        ("", ""),
        ("ETag: W/\"v1\"\r\n", ""),
        ("ETag: \"v1\"\r\nETag: \"v1\"\r\n", ""),
        ("ETag: \"a\", \"v1\"\r\n", ""),
        ("ETag: \"v1\" \"\r\n", ""),
        ("ETag: \"v1\"\r\n", "[ownership.delegate]\n"),
    ] {
        let upstream = with_tag(tags);
        let gate = Gate::patient(&upstream, more);
        for fields in ["", "If-Match: *\r\n"] {
            assert_eq!(statuses(&delete(&gate, fields)), [200; 2], "{tags:?} {more:?} {fields:?}");
            assert_eq!(conditions(&upstream, 2), [""; 0], "{tags:?} {more:?} {fields:?}");
        }
        for fields in ["If-Match: \"v1\"\r\n", "If-Match: \"v2\"\r\n", "If-None-Match: \"v2\"\r\n"] {
            assert_eq!(statuses(&delete(&gate, fields)), [412; 2], "{tags:?} {more:?} {fields:?}");
        }
        assert_eq!(upstream.deletes(), 4, "{tags:?} {more:?}");
    }
}

#[test]
fn a_condition_reveals_nothing_to_callers_without_permission() {
    let theirs = Upstream::start(service("account-1", "member-2"));
    let gate = Gate::patient(&theirs, "");
    for fields in ["If-Match: \"v1\"\r\n", "If-Match: \"v2\"\r\n"] {
        for spoken in BOTH {
            assert_eq!(send(spoken, &gate, "DELETE", "", "MEMBER", fields).status, 401, "{spoken:?} {fields:?}");
        }
    }
    let elsewhere = Upstream::start(service("account-2", "member-1"));
    let gate = Gate::patient(&elsewhere, "");
    assert_eq!(statuses(&delete(&gate, "If-Match: \"v2\"\r\n")), [404; 2]);
}

#[test]
fn fields_named_by_connection_are_removed_before_the_checks() {
    let upstream = with_tag("ETag: \"v1\"\r\n");
    let gate = Gate::patient(&upstream, "");
    assert_eq!(statuses(&delete(&gate, "Connection: close, Authorization\r\n")), [401], "no credentials are left");
    assert_eq!(
        statuses(&delete(&gate, "Connection: close, Host\r\n")),
        [200],
        "without a host it would be for anybody"
    );
    let seen = delete(&gate, "X-Own: 1\r\nX-Other: 2\r\nConnection: close, x_own\r\n");
    assert_eq!(statuses(&seen), [200]);
    let head = upstream.last.lock().unwrap().last().cloned().unwrap().head.to_lowercase();
    assert!(!head.contains("x-own") && head.contains("x-other: 2"), "{head}");
}
