//! An upstream that fails in every way, and counts: a deletion is sent at most once, and what is
//! not known is said to be so.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use saltgate::clock::Clock;

use crate::harness::{
    Gate, PATIENCE, SEGMENT, Upstream, answer, but_delete, exchange, read_answer, service, signed, until,
};

fn outcome(gate: &Gate) -> String {
    let lines = gate.files.record();
    let last = lines.iter().rev().find(|line| line["kind"] == "outcome").unwrap();
    last["outcome"].as_str().unwrap().to_owned()
}

/// How a DELETE fares that the upstream treats so: status, code, times sent, outcome on record.
fn fares(play: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> (u16, String, usize, String) {
    let upstream = Upstream::start(but_delete(play));
    let gate = Gate::before(&upstream);
    let answer = gate.delete(&signed("OWNER"));
    (answer.status, answer.error_code(), upstream.deletes(), outcome(&gate))
}

fn told(status: u16, code: &str, sent: usize, outcome: &str) -> (u16, String, usize, String) {
    (status, code.into(), sent, outcome.into())
}

#[test]
fn what_was_sent_and_not_answered_may_have_happened_and_is_not_sent_again() {
    let hang = |stream: &mut TcpStream| drop(stream.read(&mut [0]));
    assert_eq!(fares(hang), told(504, "OutcomeUnknown", 1, "unknown"), "hung before the head");
    let reset = |stream: &mut TcpStream| drop(stream.shutdown(Shutdown::Both));
    assert_eq!(fares(reset), told(502, "OutcomeUnknown", 1, "unknown"), "closed after it was read");
    let garbage = |stream: &mut TcpStream| drop(stream.write_all(b"!!! not http at all\r\n\r\n"));
    assert_eq!(fares(garbage), told(502, "OutcomeUnknown", 1, "unknown"), "garbage");
    let oversized = |stream: &mut TcpStream| answer(stream, "200 OK", &format!("X: {}\r\n", "x".repeat(1 << 20)), "{}");
    assert_eq!(fares(oversized), told(502, "OutcomeUnknown", 1, "unknown"), "an oversized head");
    let switching = |stream: &mut TcpStream| {
        drop(stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"))
    };
    assert_eq!(fares(switching), told(502, "OutcomeUnknown", 1, "unknown"), "another protocol");
}

/// An upstream of bare connections: `play` reads as much or as little as it likes.
fn bare(play: impl Fn(TcpStream) + Send + 'static) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().flatten().for_each(play));
    address
}

#[test]
fn a_connection_that_is_reset_before_the_request_is_read_is_not_tried_again() {
    // Closing with bytes unread makes the kernel send a reset instead of an end.
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    let upstream = bare(move |stream| {
        counted.fetch_add(1, Ordering::SeqCst);
        let mut first = [0];
        while stream.peek(&mut first).is_ok_and(|n| n == 0) {}
        drop(stream);
    });
    let gate = Gate::with(upstream, "[ownership.delegate]\n", Clock::system());
    let answer = gate.delete(&signed("OWNER"));
    assert_eq!((answer.status, answer.error_code().as_str()), (502, "OutcomeUnknown"));
    assert_eq!((connections.load(Ordering::SeqCst), outcome(&gate).as_str()), (1, "unknown"));
}

#[test]
fn an_answer_that_comes_before_the_body_was_read_is_the_answer() {
    let upstream = bare(|mut stream| {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
            head.push(byte[0]);
        }
        answer(&mut stream, "409 Conflict", "Connection: close\r\n", r#"{"errorCode":"Early"}"#);
        // The end of what was sent is awaited, so that no reset overtakes the answer.
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let gate = Gate::with(upstream, "[ownership.delegate]\n", Clock::system());
    let request = format!(
        "DELETE /crm-core/v1/segments/{SEGMENT} HTTP/1.1\r\nHost: g\r\nAuthorization: {}\r\nConnection: close\r\nContent-Length: 60000\r\n\r\n{}",
        signed("OWNER"),
        "x".repeat(60_000)
    );
    let answer = exchange(gate.address(), &request);
    assert_eq!((answer.status, answer.error_code().as_str()), (409, "Early"), "{answer:?}");
    assert_eq!(outcome(&gate), "refused_by_upstream");
}

#[test]
fn what_the_upstream_answers_is_relayed() {
    let informed = |stream: &mut TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
        answer(stream, "200 OK", "", "{}");
    };
    assert_eq!(fares(informed), told(200, "", 1, "deleted"), "1xx before the answer");
    let refused = |stream: &mut TcpStream| answer(stream, "412 Precondition Failed", "", r#"{"errorCode":"Changed"}"#);
    assert_eq!(fares(refused), told(412, "Changed", 1, "refused_by_upstream"));
    let failed = |stream: &mut TcpStream| answer(stream, "503 Service Unavailable", "", r#"{"errorCode":"Theirs"}"#);
    assert_eq!(fares(failed), told(503, "Theirs", 1, "refused_by_upstream"), "the upstream's own 503 is relayed");
}

#[test]
fn an_upstream_that_is_not_there_deletes_nothing() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gate = Gate::with(nobody, "[ownership.delegate]\n", Clock::system());
    let answer = gate.delete(&signed("OWNER"));
    assert_eq!((answer.status, answer.error_code().as_str()), (502, "BadGateway"));
    assert_eq!(outcome(&gate), "not_sent");
}

#[test]
fn if_ownership_cannot_be_learned_nothing_is_deleted() {
    // All that is asked, so that nothing but the status or the size is what is wrong.
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
    let upstream = Upstream::start(Arc::new(|_, stream| drop(stream.read(&mut [0]))));
    let gate = Gate::before(&upstream);
    let answer = gate.delete(&signed("OWNER"));
    assert_eq!((answer.status, answer.error_code().as_str()), (504, "GatewayTimeout"));
    assert_eq!(upstream.deletes(), 0);
}

#[test]
fn only_one_strong_version_binds_the_deletion() {
    let rows: &[(&str, Option<&str>)] = &[
        ("ETag: \"v1\"\r\n", Some("if-match: \"v1\"")),
        ("", None),
        // A weak one never matches in `If-Match`: the service would have to refuse.
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
fn a_key_that_holds_its_share_is_429_and_no_other_key_is() {
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
fn connections_are_kept_and_one_that_died_in_the_pool_costs_nothing() {
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
fn a_body_that_hangs_is_cut_off_and_its_slot_given_back() {
    let upstream = Upstream::start(but_delete(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        let _ = stream.read(&mut [0]);
    }));
    let gate = Gate::with(upstream.address, "[limits]\nmax_in_flight = 1\n", Clock::system());
    let answer = gate.delete(&signed("OWNER"));
    assert_eq!((answer.status, answer.body.as_str()), (200, "half"), "the head, what came, and a close");
    assert_eq!((upstream.deletes(), outcome(&gate).as_str()), (1, "deleted"));
    assert_eq!(gate.delete(&signed("OWNER")).status, 200, "the one slot is free again");
}

#[test]
fn a_client_that_leaves_does_not_cancel_what_was_sent() {
    let upstream = Upstream::start(but_delete(|stream| {
        std::thread::sleep(Duration::from_millis(200));
        answer(stream, "200 OK", "", "{}");
    }));
    let gate = Gate::before(&upstream);
    let mut client = TcpStream::connect(gate.address()).unwrap();
    let request = format!(
        "DELETE /crm-core/v1/segments/{SEGMENT} HTTP/1.1\r\nHost: g\r\nAuthorization: {}\r\n\r\n",
        signed("OWNER")
    );
    client.write_all(request.as_bytes()).unwrap();
    until("the deletion is on its way", || upstream.deletes() == 1);
    drop(client);
    until("its outcome is on record", || gate.files.record().iter().any(|line| line["outcome"] == "deleted"));
}

#[test]
fn a_client_that_leaves_before_its_body_is_whole_spends_nothing() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = Gate::before(&upstream);
    let header = signed("OWNER");
    for sent in [
        "DELETE /x",
        &format!(
            "DELETE /crm-core/v1/segments/{SEGMENT} HTTP/1.1\r\nHost: g\r\nAuthorization: {header}\r\nContent-Length: 9\r\n\r\nhalf"
        ),
    ] {
        let mut client = TcpStream::connect(gate.address()).unwrap();
        client.write_all(sent.as_bytes()).unwrap();
        drop(client);
    }
    until("it is counted", || gate.metrics().contains(r#"reason="client_gone"} 1"#));
    assert_eq!(gate.delete(&header).status, 200);
}

#[test]
fn what_is_over_its_limits_is_told_so_in_json_and_spends_nothing() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = Gate::with(
        upstream.address,
        "[limits]\nbody_timeout = \"300ms\"\nheader_timeout = \"300ms\"\nmax_body_bytes = \"1KiB\"\n",
        Clock::system(),
    );
    let header = signed("OWNER");
    let path = format!("/crm-core/v1/segments/{SEGMENT}");
    let head = format!("DELETE {path} HTTP/1.1\r\nHost: g\r\nAuthorization: {header}\r\n");
    let rows: Vec<(&str, String, u16, &str)> = vec![
        ("a large header", format!("{head}X: {}\r\n\r\n", "x".repeat(20 << 10)), 431, "HeadersTooLarge"),
        (
            "a long target",
            format!("DELETE {path}?{} HTTP/1.1\r\nHost: g\r\n\r\n", "x".repeat(5 << 10)),
            414,
            "UriTooLong",
        ),
        ("a large body", format!("{head}Content-Length: 100000\r\n\r\n"), 413, "PayloadTooLarge"),
        (
            "a large body that does not say how large",
            format!("{head}Transfer-Encoding: chunked\r\n\r\n401\r\n{}\r\n0\r\n\r\n", "x".repeat(0x401)),
            413,
            "PayloadTooLarge",
        ),
        ("a slow body", format!("{head}Content-Length: 9\r\n\r\nhalf"), 408, "RequestTimeout"),
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
        ("an expectation", format!("{head}Expect: more\r\n\r\n"), 417, "ExpectationFailed"),
    ];
    for (name, request, status, code) in rows {
        let answer = exchange(gate.address(), &request);
        assert_eq!((answer.status, answer.error_code().as_str()), (status, code), "{name}: {answer:?}");
        assert_eq!(answer.field("connection"), Some("close"), "{name}: what follows is in doubt");
    }
    let flood = exchange(gate.address(), &format!("{head}X: {}\r\n\r\n", "x".repeat(1 << 20)));
    assert_eq!((flood.status, flood.error_code().as_str()), (431, "HeadersTooLarge"), "{flood:?}");
    let mut slow = TcpStream::connect(gate.address()).unwrap();
    slow.set_read_timeout(Some(PATIENCE)).unwrap();
    slow.write_all(b"DELETE / HT").unwrap();
    let told = read_answer(&mut slow);
    assert_eq!((told.status, told.error_code().as_str()), (408, "RequestTimeout"), "{told:?}");
    assert_eq!(upstream.deletes(), 0);
    assert_eq!(gate.delete(&header).status, 200, "nothing of this spent the salt");
}

#[test]
fn a_full_house_is_503_and_spends_nothing() {
    let upstream = Upstream::start(but_delete(|stream| {
        std::thread::sleep(Duration::from_millis(300));
        answer(stream, "200 OK", "", "{}");
    }));
    let gate = Gate::with(
        upstream.address,
        "[limits]\nmax_in_flight = 1\n[replay.memory]\nwhen_new = \"accept\"\nmax_salts = 2\nmax_salts_per_key = 2\n",
        Clock::system(),
    );
    let address = gate.address();
    let first = std::thread::spawn(move || crate::harness::delete(address, &signed("OWNER")).status);
    until("the first is on its way", || upstream.deletes() == 1);
    let header = signed("OWNER");
    let refused = gate.delete(&header);
    assert_eq!((refused.status, refused.error_code().as_str()), (503, "ServiceUnavailable"));
    assert!(refused.field("retry-after").is_some());
    assert_eq!(first.join().unwrap(), 200);
    assert_eq!(gate.delete(&header).status, 200, "it had spent nothing");
    assert_eq!(gate.delete(&signed("OWNER")).status, 503, "the replay memory is full, and forgets nothing");
    assert!(gate.metrics().contains(r#"reason="replay_full"} 1"#));
}

#[test]
fn a_new_memory_behind_its_fence_says_so() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let more = "[replay.memory]\nwhen_new = \"fence\"\n[authentication]\nwindow_future = \"2s\"\n";
    let gate = Gate::with(upstream.address, more, Clock::system());
    let early = signed("OWNER");
    let refused = gate.delete(&early);
    assert_eq!((refused.status, refused.error_code().as_str()), (503, "ServiceUnavailable"));
    let ready = crate::harness::get(gate.admin(), "/ready");
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("fenced until"), "{}", ready.body);
    until("the fence has fallen", || crate::harness::get(gate.admin(), "/ready").status == 200);
    assert_eq!(gate.delete(&early).status, 401, "signed before it fell");
    assert_eq!(gate.delete(&signed("OWNER")).status, 200);
}
