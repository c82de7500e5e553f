//! The time of a connection, and what is told where it is up.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use saltgate::clock::Clock;

use crate::harness::{
    Answer, Gate, PATIENCE, SEGMENT, Upstream, answer, but_delete, exchange, read_answer, service, signed, until,
};

fn connected(gate: &Gate) -> TcpStream {
    let stream = TcpStream::connect(gate.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn request(lines: &str) -> String {
    format!(
        "DELETE /crm-core/v1/segments/{SEGMENT} HTTP/1.1\r\nHost: g\r\nAuthorization: {}\r\n{lines}\r\n",
        signed("OWNER")
    )
}

/// One answer, on a connection that stays.
fn one_answer(stream: &mut TcpStream) -> Answer {
    let (mut bytes, mut byte) = (Vec::new(), [0]);
    while !bytes.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).unwrap();
    let mut answer = Answer { status: head.split(' ').nth(1).unwrap().parse().unwrap(), head, body: String::new() };
    let mut body = vec![0; answer.field("content-length").unwrap().parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    answer.body = String::from_utf8(body).unwrap();
    answer
}

/// A gate whose one limit of this name is short, and no other.
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
fn a_head_that_does_not_come_in_time_is_told_so_however_it_trickles() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = impatient(&upstream, "header_timeout");
    let mut silent = connected(&gate);
    silent.write_all(b"DELETE /x HTTP/1.1\r\nHo").unwrap();
    is_timeout(&read_answer(&mut silent));

    // One that is never quiet: the time runs from the first byte and not from the last.
    let mut busy = connected(&gate);
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
    let told = one_answer(&mut busy);
    is_timeout(&told);
    drop(busy);
    trickling.join().unwrap();

    // The one before it has its answer first.
    let mut second = connected(&gate);
    second.write_all(format!("{}DELETE /half", request("")).as_bytes()).unwrap();
    assert_eq!(one_answer(&mut second).status, 200);
    is_timeout(&read_answer(&mut second));
    assert_eq!(upstream.deletes(), 1);
    let counted = r#"saltgate_requests_total{outcome="refused",reason="too_slow"} 3"#;
    until("each is counted", || gate.metrics().contains(counted));
}

#[test]
fn a_body_that_does_not_come_in_time_is_told_so_and_spends_nothing() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = impatient(&upstream, "body_timeout");
    for (lines, part) in [
        ("Content-Length: 9\r\n", "half"),
        ("Transfer-Encoding: chunked\r\n", "4\r\nhalf\r\n"),
        ("Transfer-Encoding: chunked\r\n", "0\r\nX: y"),
    ] {
        let mut stream = connected(&gate);
        let request = request(lines);
        stream.write_all(format!("{request}{part}").as_bytes()).unwrap();
        is_timeout(&read_answer(&mut stream));
        let header = request.lines().find_map(|line| line.strip_prefix("Authorization: ")).unwrap();
        assert_eq!(gate.delete(header).status, 200, "{lines}: nothing was spent");
    }
    assert_eq!(upstream.deletes(), 3);
}

#[test]
fn a_connection_on_which_nothing_comes_is_closed_without_a_word() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = impatient(&upstream, "idle_timeout");
    let mut never = connected(&gate);
    assert_eq!(read_answer(&mut never).head, "", "never a byte");
    let mut blank = connected(&gate);
    blank.write_all(b"\r\n").unwrap();
    assert_eq!(read_answer(&mut blank).head, "", "an empty line is nothing");
    let mut once = connected(&gate);
    for _ in 0..3 {
        once.write_all(request("").as_bytes()).unwrap();
        assert_eq!(one_answer(&mut once).status, 200);
    }
    assert_eq!(read_answer(&mut once).head, "", "three requests, then nothing");
    assert!(!gate.metrics().contains("too_slow"), "nobody was refused");
}

#[test]
fn a_peer_that_takes_nothing_is_dropped() {
    let body = "x".repeat(32 << 20);
    let given_up = Arc::new(AtomicBool::new(false));
    let gone = given_up.clone();
    let upstream = Upstream::start(but_delete(move |stream| {
        answer(stream, "200 OK", "", &body);
        gone.store(true, Ordering::SeqCst);
    }));
    let gate = impatient(&upstream, "write_timeout");
    let mut deaf = connected(&gate);
    deaf.write_all(request("").as_bytes()).unwrap();
    // No buffer on the way holds all of it: the upstream can only end because the gate did.
    until("the gate has given up", || given_up.load(Ordering::SeqCst));
    let mut taken = 0;
    let mut piece = vec![0; 1 << 20];
    while let Ok(read @ 1..) = deaf.read(&mut piece) {
        taken += read;
    }
    assert!(taken < 32 << 20, "the whole answer came: {taken} bytes");
}

#[test]
fn an_idle_connection_outlives_a_drain_by_nothing() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let mut gate = impatient(&upstream, "none");
    let mut idle = connected(&gate);
    idle.write_all(request("").as_bytes()).unwrap();
    assert_eq!(one_answer(&mut idle).status, 200);
    let mut half = connected(&gate);
    half.write_all(b"DELETE /half").unwrap();
    assert!(gate.drain(), "nothing hangs");
    assert_eq!(read_answer(&mut idle).head, "");
    let _ = read_answer(&mut half);
}

#[test]
fn a_head_may_be_as_large_as_configured_and_no_larger() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let limits = "[limits]\nmax_header_bytes = \"100KiB\"\nmax_target_bytes = \"40KiB\"\n[ownership.delegate]\n";
    let gate = Gate::with(upstream.address, limits, Clock::system());
    let told = |query: usize, field: usize| {
        let request = request(&format!("X: {}\r\nConnection: close\r\n", "x".repeat(field)));
        exchange(gate.address(), &request.replacen(" HTTP", &format!("?{} HTTP", "q".repeat(query)), 1))
    };
    let large = told(39 << 10, 99 << 10);
    assert_eq!(large.status, 200, "{large:?}");
    let target = told(40 << 10, 0);
    assert_eq!((target.status, target.error_code().as_str()), (414, "UriTooLong"));
    let field = told(0, 100 << 10);
    assert_eq!((field.status, field.error_code().as_str()), (431, "HeadersTooLarge"));
    assert_eq!(upstream.deletes(), 1);
}
