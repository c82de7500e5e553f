//! Connections of unjudged requests are never used for look-ups or deletions.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use saltgate::parts::Clock;

use crate::harness::{Behaviour, Files, Gate, PATIENCE, SEGMENT, Upstream, answer, service, signed};
use crate::http::{Received, exchange};

/// One worker, so that a kept connection is used by the next request.
const ONE: &str = "[runtime]\nworkers = 1\n";
const OPEN: &str = "[passthrough]\nmethods = [\"GET\", \"HEAD\"]\nprefixes = [\"/open/\"]\n";

/// An answer about the segment that names the caller as its creator.
fn forged() -> String {
    let body = format!(r#"{{"segmentId":"{SEGMENT}","accountId":"account-1","ownerId":"member-1"}}"#);
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Waits until something else is requested on this connection, or until it is closed.
fn await_the_next(stream: &TcpStream) {
    let _ = stream.peek(&mut [0]);
}

/// Sends unrequested bytes, and returns once the gateway has closed the connection.
fn say_too_much(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let closed = stream.read(&mut [0]);
    let is_open = closed.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    assert!(!is_open && closed.unwrap_or(0) == 0, "the gateway goes on with the connection");
}

/// A service whose segments somebody else created. After answering `/open/…` on a connection, it sends the forged
/// answer as soon as anything else is requested there.
fn talkative(head: &'static str) -> Behaviour {
    let ordinary = service("account-1", "member-2");
    Arc::new(move |seen: &Received, stream: &mut TcpStream| {
        if seen.target.starts_with("/open/") {
            let _ = stream.write_all(head.as_bytes());
            await_the_next(stream);
            let _ = stream.write_all(forged().as_bytes());
        } else {
            ordinary(seen, stream);
        }
    })
}

/// Passing requests whose answers consist of a head only, according to HTTP.
const WITHOUT_A_BODY: [(&str, &str, &str); 4] = [
    ("HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 160\r\n\r\n"),
    ("204", "GET", "HTTP/1.1 204 No Content\r\n\r\n"),
    ("304", "GET", "HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\n\r\n"),
    ("bytes too many", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
];

#[test]
fn bytes_after_a_passed_through_answer_never_answer_a_look_up() {
    for (name, method, head) in WITHOUT_A_BODY {
        let upstream = Upstream::start(talkative(head));
        let gate = Gate::with(upstream.address, &format!("{ONE}{OPEN}"), Clock::system());
        for n in 1..=8 {
            let passed = exchange(gate.address(), &asked(method, "/open/x"));
            assert!((200..400).contains(&passed.status), "{name}: {passed:?}");
            let refused = gate.delete(&signed("MEMBER"));
            assert_eq!((refused.status, upstream.deletes()), (401, 0), "{name}, time {n}: somebody else's segment");
        }
    }
}

#[test]
fn in_observe_mode_passed_through_answers_do_not_affect_the_verdict() {
    for (name, method, head) in WITHOUT_A_BODY {
        let upstream = Upstream::start(talkative(head));
        let files = Files::new(upstream.address, ONE);
        let config = std::fs::read_to_string(files.path()).unwrap();
        std::fs::write(files.path(), format!("mode = \"observe\"\n{config}")).unwrap();
        let gate = Gate::from_files(files, Clock::system());
        for _ in 0..8 {
            exchange(gate.address(), &asked(method, "/open/x"));
            gate.delete(&signed("MEMBER"));
        }
        let told = r#"saltgate_requests_total{outcome="passed",reason="not_creator"} 8"#;
        assert!(gate.metrics().contains(told), "{name}: {told} is not in {}", gate.metrics());
    }
}

fn asked(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n")
}

#[test]
fn bytes_after_the_answer_to_a_deletion_never_answer_another_request() {
    // The reverse: a stranger's request gets no bytes that were meant for a caller.
    let ordinary = service("account-1", "member-1");
    let (tell_left, left) = channel();
    let (tell_passed, passed) = channel();
    let passed = Mutex::new(passed);
    let upstream =
        Upstream::start(Arc::new(move |seen: &Received, stream: &mut TcpStream| match seen.method.as_str() {
            "DELETE" => {
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
                // A stranger has been served in between.
                passed.lock().unwrap().recv_timeout(PATIENCE).unwrap();
                say_too_much(stream, forged().as_bytes());
                tell_left.send(()).unwrap();
            }
            _ if seen.target.starts_with("/open/") => answer(stream, "200 OK", "", "public"),
            _ => ordinary(seen, stream),
        }));
    let gate = Gate::with(upstream.address, &format!("{ONE}{OPEN}"), Clock::system());
    for _ in 0..8 {
        assert_eq!(gate.delete(&signed("OWNER")).status, 204);
        assert_eq!(exchange(gate.address(), &asked("GET", "/open/x")).body, "public");
        // The bytes after the deletion's answer are seen before the next look-up, which uses the same kind of
        // connection.
        tell_passed.send(()).unwrap();
        left.recv_timeout(PATIENCE).unwrap();
    }
}

#[test]
fn a_connection_that_received_bytes_while_idle_is_not_reused() {
    // Bytes after the answer to a look-up of a segment that the caller may not delete; the next segment it may.
    let (tell_answered, answered) = channel();
    let (tell_left, left) = channel();
    let answered = Mutex::new(answered);
    let creators = Mutex::new(["member-2", "member-1"].into_iter().cycle());
    let upstream =
        Upstream::start(Arc::new(move |seen: &Received, stream: &mut TcpStream| match seen.method.as_str() {
            "GET" => {
                let creator = creators.lock().unwrap().next().unwrap();
                let body = format!(r#"{{"segmentId":"{SEGMENT}","accountId":"account-1","ownerId":"{creator}"}}"#);
                answer(stream, "200 OK", "", &body);
                if creator == "member-2" {
                    answered.lock().unwrap().recv_timeout(PATIENCE).unwrap();
                    say_too_much(stream, b"HTTP/1.1 299 Forged\r\nContent-Length: 2\r\n\r\n{}");
                    tell_left.send(()).unwrap();
                }
            }
            _ => answer(stream, "200 OK", "", "{}"),
        }));
    let gate = Gate::with(upstream.address, ONE, Clock::system());
    for n in 1..=4 {
        assert_eq!(gate.delete(&signed("MEMBER")).status, 401, "somebody else's");
        tell_answered.send(()).unwrap();
        left.recv_timeout(PATIENCE).unwrap();
        assert_eq!(gate.delete(&signed("MEMBER")).status, 200, "time {n}");
        let connections = upstream.connections.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!((connections, upstream.deletes()), (n + 1, n), "one that said too much is left");
    }
}

#[test]
fn health_checks_have_connections_of_their_own() {
    let ordinary = service("account-1", "member-2");
    let upstream = Upstream::start(Arc::new(move |seen: &Received, stream: &mut TcpStream| {
        if seen.target == "/up" {
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
            let _ = stream.write_all(forged().as_bytes());
            // Any other bytes on it would be noticed.
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "something else came on it");
        } else {
            ordinary(seen, stream);
        }
    }));
    let health = "[upstream.health]\npath = \"/up\"\ninterval = \"10ms\"\ntimeout = \"5s\"\n";
    let gate = Gate::with(upstream.address, &format!("{ONE}{health}"), Clock::system());
    for _ in 0..20 {
        assert_eq!(gate.delete(&signed("MEMBER")).status, 401);
    }
    assert_eq!(upstream.deletes(), 0);
}
