//! An upstream that fails in every way and counts what it receives: a deletion is sent at most once, and an unknown
//! outcome is reported as unknown.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use saltgate::parts::Clock;

use crate::harness::{
    Gate, Latch, SEGMENT, Upstream, answer, but_delete, deleting_after, never_answer, service, signed, until,
};
use crate::http::{Request, connect, exchange, read_head, read_until_closed};
use crate::late_bodies::in_flight;
use crate::spoken::{BOTH, Spoken};

fn outcome(gate: &Gate) -> String {
    let lines = gate.files.record();
    let last = lines.iter().rev().find(|line| line["kind"] == "outcome").unwrap();
    last["outcome"].as_str().unwrap().to_owned()
}

/// Sends a deletion over each protocol to a service that does this with a DELETE. Returns the status, the error
/// code, how often the deletion was sent, and the recorded outcome.
fn deletion_where_the_service(play: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> (u16, String, usize, String) {
    let play = Arc::new(play);
    let [by_http_1, by_http_2] = BOTH.map(|spoken| {
        let play = play.clone();
        let upstream = Upstream::start(but_delete(move |stream| play(stream)));
        let gate = Gate::hasty(&upstream, "");
        let answer = spoken.delete(gate.address(), &signed("OWNER"));
        (answer.status, answer.error_code(), upstream.deletes(), outcome(&gate))
    });
    assert_eq!(by_http_1, by_http_2);
    by_http_1
}

fn result(status: u16, code: &str, sent: usize, outcome: &str) -> (u16, String, usize, String) {
    (status, code.into(), sent, outcome.into())
}

#[test]
fn a_deletion_without_an_answer_has_an_unknown_outcome_and_is_not_sent_again() {
    assert_eq!(
        deletion_where_the_service(never_answer),
        result(504, "OutcomeUnknown", 1, "unknown"),
        "hung before the head"
    );
    let reset = |stream: &mut TcpStream| drop(stream.shutdown(Shutdown::Both));
    assert_eq!(
        deletion_where_the_service(reset),
        result(502, "OutcomeUnknown", 1, "unknown"),
        "closed after it was read"
    );
    let garbage = |stream: &mut TcpStream| drop(stream.write_all(b"!!! not http at all\r\n\r\n"));
    assert_eq!(deletion_where_the_service(garbage), result(502, "OutcomeUnknown", 1, "unknown"), "garbage");
    let oversized = |stream: &mut TcpStream| answer(stream, "200 OK", &format!("X: {}\r\n", "x".repeat(1 << 20)), "{}");
    assert_eq!(deletion_where_the_service(oversized), result(502, "OutcomeUnknown", 1, "unknown"), "an oversized head");
    let switching = |stream: &mut TcpStream| {
        drop(stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"))
    };
    assert_eq!(deletion_where_the_service(switching), result(502, "OutcomeUnknown", 1, "unknown"), "another protocol");
}

/// An upstream of raw connections: `play` reads as much or as little as it likes.
fn bare(play: impl Fn(TcpStream) + Send + 'static) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().flatten().for_each(play));
    address
}

#[test]
fn a_connection_that_is_reset_before_the_request_is_read_is_not_tried_again() {
    // Closing with unread bytes makes the kernel send a reset in place of an end.
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    let upstream = bare(move |stream| {
        counted.fetch_add(1, Ordering::SeqCst);
        let mut first = [0];
        while stream.peek(&mut first).is_ok_and(|n| n == 0) {}
        drop(stream);
    });
    let gate = Gate::with(upstream, "[ownership.delegate]\n", Clock::system());
    for (n, spoken) in BOTH.into_iter().enumerate() {
        let answer = spoken.delete(gate.address(), &signed("OWNER"));
        assert_eq!((answer.status, answer.error_code().as_str()), (502, "OutcomeUnknown"), "{spoken:?}");
        assert_eq!((connections.load(Ordering::SeqCst), outcome(&gate).as_str()), (n + 1, "unknown"), "{spoken:?}");
    }
}

#[test]
fn an_answer_sent_before_the_body_was_read_is_relayed() {
    let upstream = bare(|mut stream| {
        read_head(&mut BufReader::new(&stream)).unwrap();
        answer(&mut stream, "409 Conflict", "Connection: close\r\n", r#"{"errorCode":"Early"}"#);
        // Waits for the end of the request, so that no reset overtakes the answer.
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    });
    for spoken in BOTH {
        let gate = Gate::with(upstream, "[ownership.delegate]\n", Clock::system());
        let answer = spoken.ask(gate.address(), &Request::delete(&signed("OWNER")).body(60_000));
        assert_eq!((answer.status, answer.error_code().as_str()), (409, "Early"), "{spoken:?}: {answer:?}");
        assert_eq!(outcome(&gate), "refused_by_upstream");
    }
}

#[test]
fn what_the_upstream_answers_is_relayed() {
    let informed = |stream: &mut TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
        answer(stream, "200 OK", "", "{}");
    };
    assert_eq!(deletion_where_the_service(informed), result(200, "", 1, "deleted"), "1xx before the answer");
    let refused = |stream: &mut TcpStream| answer(stream, "412 Precondition Failed", "", r#"{"errorCode":"Changed"}"#);
    assert_eq!(deletion_where_the_service(refused), result(412, "Changed", 1, "refused_by_upstream"));
    let failed = |stream: &mut TcpStream| answer(stream, "503 Service Unavailable", "", r#"{"errorCode":"Theirs"}"#);
    assert_eq!(
        deletion_where_the_service(failed),
        result(503, "Theirs", 1, "refused_by_upstream"),
        "the upstream's own 503 is relayed"
    );
}

#[test]
fn a_missing_upstream_is_answered_and_nothing_is_deleted() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for spoken in BOTH {
        let gate = Gate::with(nobody, "[ownership.delegate]\n", Clock::system());
        let answer = spoken.delete(gate.address(), &signed("OWNER"));
        assert_eq!((answer.status, answer.error_code().as_str()), (502, "BadGateway"), "{spoken:?}");
        assert_eq!(outcome(&gate), "not_sent");
    }
}

#[test]
fn nothing_is_deleted_if_the_owner_cannot_be_looked_up() {
    // A complete answer, so that only the status or the size is wrong.
    const OURS: &str = r#"{"accountId":"account-1","ownerId":"member-1"}"#;
    let large = &*format!("{OURS}{}", " ".repeat(1 << 20));
    let rows: &[(&str, &str, u16)] = &[
        ("200 OK", "<html>", 502),
        ("200 OK", r#"{"accountId":"account-1"}"#, 502),
        ("200 OK", r#"{"accountId":"account-1","ownerId":7}"#, 502),
        ("200 OK", r#"{"accountId":"account-1","ownerId":""}"#, 502),
        ("200 OK", r#"{"segmentId":"other","accountId":"account-1","ownerId":"member-1"}"#, 502),
        ("204 No Content", "", 502),
        ("201 Created", OURS, 502),
        ("203 Non-Authoritative Information", OURS, 502),
        ("206 Partial Content", OURS, 502),
        ("302 Found", OURS, 502),
        ("307 Temporary Redirect", OURS, 502),
        ("401 Unauthorized", OURS, 502),
        ("500 Oops", OURS, 502),
        ("200 OK", large, 502),
    ];
    for (status, body, expected) in rows {
        let (status, body) = (status.to_string(), body.to_string());
        let row = format!("{status} {body:.80}");
        let upstream = Upstream::start(Arc::new(move |_, stream| answer(stream, &status, "", &body)));
        let gate = Gate::before(&upstream);
        let answer = gate.delete(&signed("OWNER"));
        assert_eq!((answer.status, answer.error_code().as_str()), (*expected, "BadGateway"), "{row}");
        assert_eq!(upstream.deletes(), 0, "{row}");
    }
    let upstream = Upstream::start(Arc::new(|_, stream| never_answer(stream)));
    let gate = Gate::hasty(&upstream, "");
    let answer = gate.delete(&signed("OWNER"));
    assert_eq!((answer.status, answer.error_code().as_str()), (504, "GatewayTimeout"));
    assert_eq!(upstream.deletes(), 0);
}

#[test]
fn only_a_single_strong_tag_becomes_the_condition() {
    let rows: &[(&str, Option<&str>)] = &[
        ("ETag: \"v1\"\r\n", Some("if-match: \"v1\"")),
        ("", None),
        // A weak tag never matches in `If-Match`: the service would have to refuse.
        ("ETag: W/\"v1\"\r\n", None),
        ("ETag: v1\r\n", None),
        ("ETag: \"v1\"\r\nETag: \"v2\"\r\n", None),
    ];
    for (tags, bound) in rows {
        let tags = *tags;
        let upstream = Upstream::start(Arc::new(move |seen, stream| match seen.method.as_str() {
            "GET" => answer(stream, "200 OK", tags, r#"{"accountId":"account-1","ownerId":"member-1"}"#),
            _ => answer(stream, "200 OK", "", "{}"),
        }));
        let gate = Gate::before(&upstream);
        assert_eq!(gate.delete(&signed("OWNER")).status, 200, "{tags:?}");
        let seen = upstream.last.lock().unwrap().last().cloned().unwrap();
        let head = seen.head.to_lowercase();
        assert_eq!(head.lines().find(|line| line.starts_with("if-match")), *bound, "{tags:?}");
    }
}

#[test]
fn a_key_at_its_limit_of_salts_is_answered_429_and_no_other_key_is() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let more = "[replay.memory]\nwhen_new = \"accept\"\nmax_salts = 10\nmax_salts_per_key = 1\n";
    let gate = Gate::with(upstream.address, more, Clock::system());
    assert_eq!(gate.delete(&signed("OWNER")).status, 200);
    let refused = gate.delete(&signed("OWNER"));
    assert_eq!((refused.status, refused.error_code().as_str()), (429, "TooManyRequests"));
    assert!(refused.field("retry-after").is_some());
    assert_eq!(gate.delete(&signed("MEMBER")).status, 200);
    assert_eq!(upstream.deletes(), 2);
}

#[test]
fn connections_are_reused_and_a_dead_one_loses_no_request() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = Gate::with(upstream.address, "[runtime]\nworkers = 1\n", Clock::system());
    (0..5).for_each(|_| assert_eq!(gate.delete(&signed("OWNER")).status, 200));
    assert_eq!(upstream.connections.load(Ordering::SeqCst), 1, "ten exchanges, one connection");

    let closing = Upstream::start(but_delete(|stream| {
        answer(stream, "200 OK", "", "{}");
        let _ = stream.shutdown(Shutdown::Both);
    }));
    let gate = Gate::with(closing.address, "[runtime]\nworkers = 1\n", Clock::system());
    for n in 1..=5 {
        assert_eq!(gate.delete(&signed("OWNER")).status, 200);
        assert_eq!(closing.deletes(), n, "each exactly once");
    }
}

#[test]
fn an_answer_whose_body_stalls_has_an_unknown_outcome_and_its_slot_is_freed() {
    let upstream = Upstream::start(but_delete(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        never_answer(stream);
    }));
    let gate = Gate::hasty(&upstream, "[limits]\nmax_in_flight = 1\n");
    for (n, spoken) in (1..).zip(BOTH) {
        let answer = spoken.delete(gate.address(), &signed("OWNER"));
        assert_eq!(
            (answer.status, answer.error_code().as_str()),
            (504, "OutcomeUnknown"),
            "time {n}, {spoken:?}: the slot is free"
        );
        assert_eq!((upstream.deletes(), outcome(&gate).as_str()), (n, "unknown"));
    }
}

#[test]
fn a_client_that_leaves_does_not_cancel_what_was_sent() {
    for (spoken, resets) in
        [(Spoken::Http1, false), (Spoken::Http1, true), (Spoken::Http2, false), (Spoken::Http2, true)]
    {
        let answers = Latch::default();
        let upstream = Upstream::start(deleting_after(&answers));
        let gate = Gate::patient(&upstream, "");
        let mut caller = spoken.connect(gate.address());
        caller.send(&Request::delete(&signed("OWNER")));
        until("the deletion is on its way", || upstream.deletes() == 1);
        if resets {
            caller.give_up();
        } else {
            drop(caller);
        }
        answers.open();
        let deleted = || gate.files.record().iter().any(|line| line["outcome"] == "deleted");
        until("its outcome is on record", deleted);
    }
}

#[test]
fn a_request_that_passes_through_is_cancelled_when_its_client_leaves() {
    for spoken in BOTH {
        let upstream = Upstream::start(Arc::new(|_, stream| never_answer(stream)));
        let gate = Gate::patient(&upstream, "[passthrough]\nmethods = [\"GET\"]\nprefixes = [\"/p/\"]\n");
        let mut caller = spoken.connect(gate.address());
        caller.send(&Request::new("GET", "/p/x"));
        until("it is under way", || upstream.gets() == 1);
        caller.give_up();
        until("it is given up", || gate.metrics().contains(r#"reason="client_gone"} 1"#));
    }
}

#[test]
fn a_client_that_leaves_before_its_body_is_complete_spends_nothing() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    for (spoken, resets) in
        [(Spoken::Http1, false), (Spoken::Http1, true), (Spoken::Http2, false), (Spoken::Http2, true)]
    {
        let mut gate = Gate::before(&upstream);
        let header = signed("OWNER");
        let mut caller = spoken.connect(gate.address());
        caller.begin(&Request::delete(&header), Some(9));
        while in_flight(&mut gate) == 0 {
            std::thread::yield_now();
        }
        if resets {
            caller.give_up();
        } else {
            drop(caller);
        }
        until("it is counted", || gate.metrics().contains(r#"reason="client_gone"} 1"#));
        assert_eq!(gate.delete(&header).status, 200, "{spoken:?}");
    }
    let gate = Gate::before(&upstream);
    TcpStream::connect(gate.address()).unwrap().write_all(b"DELETE /x").unwrap();
    assert_eq!(gate.delete(&signed("OWNER")).status, 200, "nor does half a head");
}

#[test]
fn a_request_over_a_limit_is_refused_over_both_protocols_and_spends_nothing() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let limits = "[limits]\nbody_timeout = \"300ms\"\nheader_timeout = \"300ms\"\nmax_body_bytes = \"1KiB\"\n";
    let gate = Gate::with(upstream.address, limits, Clock::system());
    let header = signed("OWNER");
    let deletion = || Request::delete(&header);
    let path = format!("/crm-core/v1/segments/{SEGMENT}");
    let long = Request::new("DELETE", &format!("{path}?{}", "x".repeat(5 << 10)));
    let rows: [(&str, Request, Option<usize>, u16, &str); 6] = [
        ("large fields", deletion().field("x", &"x".repeat(20 << 10)), None, 431, "HeadersTooLarge"),
        ("a long target", long, None, 414, "UriTooLong"),
        ("a large body", deletion(), Some(100_000), 413, "PayloadTooLarge"),
        ("a slow body", deletion(), Some(9), 408, "RequestTimeout"),
        ("an expectation", deletion().field("expect", "more"), None, 417, "ExpectationFailed"),
        ("a method", Request::new("DELETE", &format!("{path}?_method=GET")), None, 400, "BadRequest"),
    ];
    for (name, ask, body, status, code) in &rows {
        for spoken in BOTH {
            let mut caller = spoken.connect(gate.address());
            caller.begin(ask, *body);
            let answer = caller.answer().unwrap_or_else(|lost| panic!("{spoken:?}, {name}: {lost:?}"));
            assert_eq!((answer.status, answer.error_code().as_str()), (*status, *code), "{spoken:?}, {name}");
            let closes = (spoken == Spoken::Http1).then_some("close");
            assert_eq!(answer.field("connection").map(str::trim), closes, "{spoken:?}, {name}");
            assert!(answer.field("x-request-id").is_some(), "{spoken:?}, {name}");
        }
    }
    assert_eq!(upstream.deletes(), 0);
    assert_eq!(gate.delete(&header).status, 200, "nothing of this spent the salt");
}

#[test]
fn an_ambiguous_or_unfinished_http_1_request_is_refused_in_json_and_spends_nothing() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = Gate::with(
        upstream.address,
        "[limits]\nbody_timeout = \"300ms\"\nheader_timeout = \"300ms\"\nmax_body_bytes = \"1KiB\"\n",
        Clock::system(),
    );
    let header = signed("OWNER");
    let path = format!("/crm-core/v1/segments/{SEGMENT}");
    let head = Request::delete(&header).unfinished();
    let rows: Vec<(&str, String, u16, &str)> = vec![
        (
            "a large body that does not say how large",
            format!("{head}Transfer-Encoding: chunked\r\n\r\n401\r\n{}\r\n0\r\n\r\n", "x".repeat(0x401)),
            413,
            "PayloadTooLarge",
        ),
        ("no host", format!("DELETE {path} HTTP/1.1\r\nAuthorization: {header}\r\n\r\n"), 400, "BadRequest"),
        ("two hosts", format!("{head}Host: h\r\n\r\n"), 400, "BadRequest"),
        (
            "a coding, then a length",
            format!("{head}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
            400,
            "BadRequest",
        ),
        (
            "a length, then a coding",
            format!("{head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            400,
            "BadRequest",
        ),
        ("the same length twice", format!("{head}Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi"), 400, "BadRequest"),
        ("a bare LF", format!("DELETE {path} HTTP/1.1\r\nHost: g\nAuthorization: {header}\r\n\r\n"), 400, "BadRequest"),
    ];
    for (name, request, status, code) in rows {
        let answer = exchange(gate.address(), &request);
        assert_eq!((answer.status, answer.error_code().as_str()), (status, code), "{name}: {answer:?}");
        assert_eq!(answer.field("connection"), Some("close"), "{name}: the next bytes are ambiguous");
    }
    let flood = exchange(gate.address(), &format!("{head}X: {}\r\n\r\n", "x".repeat(1 << 20)));
    assert_eq!((flood.status, flood.error_code().as_str()), (431, "HeadersTooLarge"), "{flood:?}");
    let mut slow = connect(gate.address());
    slow.write_all(b"DELETE / HT").unwrap();
    let told = read_until_closed(&mut slow);
    assert_eq!((told.status, told.error_code().as_str()), (408, "RequestTimeout"), "{told:?}");
    assert_eq!(upstream.deletes(), 0);
    assert_eq!(gate.delete(&header).status, 200, "nothing of this spent the salt");
}

#[test]
fn without_a_free_slot_the_answer_is_503_and_nothing_is_spent() {
    let more =
        "[limits]\nmax_in_flight = 1\n[replay.memory]\nwhen_new = \"accept\"\nmax_salts = 2\nmax_salts_per_key = 2\n";
    for spoken in BOTH {
        let answers = Latch::default();
        let upstream = Upstream::start(deleting_after(&answers));
        let gate = Gate::patient(&upstream, more);
        let mut first = spoken.connect(gate.address());
        first.send(&Request::delete(&signed("OWNER")));
        until("the first is on its way", || upstream.deletes() == 1);
        let header = signed("OWNER");
        let refused = spoken.delete(gate.address(), &header);
        assert_eq!((refused.status, refused.error_code().as_str()), (503, "ServiceUnavailable"), "{spoken:?}");
        assert!(refused.field("retry-after").is_some());
        answers.open();
        assert_eq!(first.answer().unwrap().status, 200);
        assert_eq!(spoken.delete(gate.address(), &header).status, 200, "{spoken:?}: it had spent nothing");
        let full = spoken.delete(gate.address(), &signed("OWNER")).status;
        assert_eq!(full, 503, "{spoken:?}: the replay memory is full, and forgets nothing");
        assert!(gate.metrics().contains(r#"reason="replay_full"} 1"#));
    }
}

#[test]
fn a_fenced_store_reports_the_end_of_the_fence() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let more = "[replay.memory]\nwhen_new = \"fence\"\n[authentication]\nwindow_future = \"2s\"\n";
    let gate = Gate::with(upstream.address, more, Clock::system());
    let early = signed("OWNER");
    for spoken in BOTH {
        let refused = spoken.delete(gate.address(), &early);
        assert_eq!((refused.status, refused.error_code().as_str()), (503, "ServiceUnavailable"), "{spoken:?}");
        assert_eq!(refused.field("retry-after"), None, "{spoken:?}: what was signed before never passes");
        assert!(refused.body.contains(" Sign a new request after "), "{spoken:?}: {}", refused.body);
    }
    let ready = crate::http::get(gate.admin(), "/ready");
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("fenced until"), "{}", ready.body);
    until("the fence has fallen", || crate::http::get(gate.admin(), "/ready").status == 200);
    for spoken in BOTH {
        assert_eq!(spoken.delete(gate.address(), &early).status, 401, "{spoken:?}: signed before it fell");
        assert_eq!(spoken.delete(gate.address(), &signed("OWNER")).status, 200, "{spoken:?}");
    }
}
