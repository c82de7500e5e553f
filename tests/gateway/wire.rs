//! The timeouts of a connection, and the answers when they expire.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use saltgate::parts::Clock;

use crate::harness::{Gate, SEGMENT, Upstream, answer, but_delete, service, signed, until};
use crate::http::{Answer, Request, connect, next_answer, read_until_closed};
use crate::spoken::{BOTH, Spoken};

fn deletion() -> String {
    Request::delete(&signed("OWNER")).http1()
}

/// A gateway with only this limit short.
fn impatient(upstream: &Upstream, limit: &str) -> Gate {
    let times = ["header_timeout", "body_timeout", "write_timeout", "idle_timeout"];
    let limits: String =
        times.iter().map(|name| format!("{name} = \"{}\"\n", if *name == limit { "200ms" } else { "1h" })).collect();
    Gate::with(upstream.address, &format!("[limits]\n{limits}[ownership.delegate]\n"), Clock::system())
}

fn is_timeout(told: &Answer) {
    assert_eq!((told.status, told.error_code().as_str()), (408, "RequestTimeout"), "{told:?}");
    assert_eq!(told.field("connection"), Some("close"));
    assert_eq!(told.field("content-type"), Some("application/json"));
    assert!(told.field("x-request-id").is_some_and(|id| id.len() == 32));
}

#[test]
fn a_late_head_is_answered_408_even_if_it_trickles() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = impatient(&upstream, "header_timeout");
    let mut silent = connect(gate.address());
    silent.write_all(b"DELETE /x HTTP/1.1\r\nHo").unwrap();
    is_timeout(&read_until_closed(&mut silent));

    // A client that is never silent: the time runs from the first byte, not from the last.
    let mut busy = connect(gate.address());
    let mut trickle = busy.try_clone().unwrap();
    let trickling = std::thread::spawn(move || {
        let fields = std::iter::repeat_n(b"X: y\r\n", 16 << 10).flatten();
        let bytes = b"DELETE /x HTTP/1.1\r\nHost: g\r\n".iter().chain(fields);
        bytes
            .take_while(|byte| {
                std::thread::sleep(std::time::Duration::from_millis(5));
                trickle.write_all(&[**byte]).is_ok()
            })
            .count()
    });
    let told = next_answer(&mut busy);
    is_timeout(&told);
    drop(busy);
    trickling.join().unwrap();

    // The request before it gets its answer first.
    let mut second = connect(gate.address());
    second.write_all(deletion().as_bytes()).unwrap();
    assert_eq!(next_answer(&mut second).status, 200);
    second.write_all(b"DELETE /half").unwrap();
    is_timeout(&read_until_closed(&mut second));
    assert_eq!(upstream.deletes(), 1);
    let counted = r#"saltgate_requests_total{outcome="refused",reason="too_slow"} 3"#;
    until("each is counted", || gate.metrics().contains(counted));
}

#[test]
fn a_late_body_is_answered_408_and_spends_nothing() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = impatient(&upstream, "body_timeout");
    for (lines, part) in [
        ("Content-Length: 9\r\n", "half"),
        ("Transfer-Encoding: chunked\r\n", "4\r\nhalf\r\n"),
        ("Transfer-Encoding: chunked\r\n", "0\r\nX: y"),
    ] {
        let mut stream = connect(gate.address());
        let header = signed("OWNER");
        let head = Request::delete(&header).fields(lines).unfinished();
        stream.write_all(format!("{head}\r\n{part}").as_bytes()).unwrap();
        is_timeout(&read_until_closed(&mut stream));
        assert_eq!(gate.delete(&header).status, 200, "{lines}: nothing was spent");
    }
    assert_eq!(upstream.deletes(), 3);
}

#[test]
fn an_idle_connection_is_closed_without_an_answer() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = impatient(&upstream, "idle_timeout");
    let mut never = connect(gate.address());
    assert_eq!(read_until_closed(&mut never).head, "", "never a byte");
    let mut blank = connect(gate.address());
    blank.write_all(b"\r\n").unwrap();
    assert_eq!(read_until_closed(&mut blank).head, "", "an empty line is nothing");
    let mut once = connect(gate.address());
    for _ in 0..3 {
        once.write_all(deletion().as_bytes()).unwrap();
        assert_eq!(next_answer(&mut once).status, 200);
    }
    assert_eq!(read_until_closed(&mut once).head, "", "three requests, then nothing");
    let mut once = Spoken::Http2.connect(gate.address());
    for _ in 0..3 {
        assert_eq!(once.ask(&Request::delete(&signed("OWNER"))).unwrap().status, 200);
    }
    once.ended();
    assert!(!gate.metrics().contains("too_slow"), "nobody was refused");
}

#[test]
fn a_client_that_reads_nothing_is_disconnected() {
    let body = "x".repeat(32 << 20);
    let given_up = Arc::new(AtomicBool::new(false));
    let gone = given_up.clone();
    let upstream = Upstream::start(but_delete(move |stream| {
        answer(stream, "200 OK", "", &body);
        gone.store(true, Ordering::SeqCst);
    }));
    let gate = impatient(&upstream, "write_timeout");
    let mut deaf = connect(gate.address());
    deaf.write_all(deletion().as_bytes()).unwrap();
    // No buffer in between holds all of it: the upstream can only end because the gateway did.
    until("the gate has given up", || given_up.load(Ordering::SeqCst));
    let mut taken = 0;
    let mut piece = vec![0; 1 << 20];
    while let Ok(read @ 1..) = deaf.read(&mut piece) {
        taken += read;
    }
    assert!(taken < 32 << 20, "the whole answer came: {taken} bytes");
}

#[test]
fn a_drain_closes_idle_connections() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let mut gate = impatient(&upstream, "none");
    let mut idle = connect(gate.address());
    idle.write_all(deletion().as_bytes()).unwrap();
    assert_eq!(next_answer(&mut idle).status, 200);
    let mut by_http_2 = Spoken::Http2.connect(gate.address());
    assert_eq!(by_http_2.ask(&Request::delete(&signed("OWNER"))).unwrap().status, 200);
    let mut half = connect(gate.address());
    half.write_all(b"DELETE /half").unwrap();
    assert!(gate.drain(), "nothing hangs");
    assert_eq!(read_until_closed(&mut idle).head, "");
    by_http_2.ended();
    let _ = read_until_closed(&mut half);
}

#[test]
fn a_head_may_be_as_large_as_configured_and_no_larger() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let limits = "[limits]\nmax_header_bytes = \"100KiB\"\nmax_target_bytes = \"40KiB\"\n[ownership.delegate]\n";
    let gate = Gate::with(upstream.address, limits, Clock::system());
    for (n, spoken) in (1..).zip(BOTH) {
        let told = |query: usize, field: usize| {
            let ask = Request::new("DELETE", &format!("/crm-core/v1/segments/{SEGMENT}?{}", "q".repeat(query)));
            let ask = ask.field("authorization", &signed("OWNER")).field("x", &"x".repeat(field));
            spoken.ask(gate.address(), &ask)
        };
        let large = told(39 << 10, 99 << 10);
        assert_eq!(large.status, 200, "{spoken:?}: {large:?}");
        let target = told(40 << 10, 0);
        assert_eq!((target.status, target.error_code().as_str()), (414, "UriTooLong"), "{spoken:?}");
        let field = told(0, 100 << 10);
        assert_eq!((field.status, field.error_code().as_str()), (431, "HeadersTooLarge"), "{spoken:?}");
        assert_eq!(upstream.deletes(), n);
    }
}
