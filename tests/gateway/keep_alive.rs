//! When an HTTP/1 connection is kept (contract §6): if a proxy in front gets out of sync, one caller's bytes must
//! not become another's request.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, mpsc};

use crate::harness::{Files, Gate, SEGMENT, Upstream, answer, but_delete, service, signed, until};
use crate::http::{Kept, Request, connect, delete};

fn deletion(authorization: &str) -> String {
    Request::delete(authorization).http1()
}

/// Everything that arrives until the gateway closes, and the number of answers in it.
fn answers(stream: &mut TcpStream) -> (usize, String) {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an orderly end, and no reset");
    let text = String::from_utf8(bytes).unwrap().to_lowercase();
    (text.matches("http/1.1 ").count(), text)
}

fn gate_with(upstream: &Upstream, keep_alive: &str, more: &str) -> Gate {
    let files = Files::new(upstream.address, more);
    files.listen(&format!("[[listener]]\naddress = \"127.0.0.1:0\"\n{keep_alive}"));
    Gate::by(files)
}

#[test]
fn bytes_pipelined_behind_a_deletion_are_never_read() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = gate_with(&upstream, "", "");
    let segment = format!("/crm-core/v1/segments/{SEGMENT}");
    let rehearsal = Request::new("POST", &format!("{segment}/deletion-check")).field("Authorization", &signed("OWNER"));
    let with_body = Request::delete(&signed("OWNER")).text("{}");
    let missing = Request::delete_at(&segment.replace(SEGMENT, "CRMSG1"), &signed("OWNER"));
    for (name, first, status) in [
        ("accepted", deletion(&signed("OWNER")), 200),
        ("accepted, with a body", with_body.http1(), 200),
        ("refused", deletion("Bearer x"), 401),
        ("no such segment", missing.http1(), 404),
        ("a dry run", rehearsal.http1(), 200),
    ] {
        // Both requests arrive in one write.
        let (second, before) = (signed("OWNER"), upstream.deletes());
        let mut stream = connect(gate.address());
        stream.write_all((first + &deletion(&second)).as_bytes()).unwrap();
        // The first is answered, and its answer announces the close.
        let (count, text) = answers(&mut stream);
        assert!(count == 1 && text.starts_with(&format!("http/1.1 {status} ")), "{name}: {text}");
        assert!(text.contains("\r\nconnection: close\r\n"), "{name}: {text}");
        // The second has spent nothing.
        assert_eq!(upstream.deletes() - before, usize::from(name.starts_with("accepted")), "{name}");
        assert_eq!(delete(gate.address(), &second).status, 200, "{name}");
    }
}

#[test]
fn bytes_sent_during_a_deletion_are_never_read() {
    let (release, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let upstream = Upstream::start(but_delete(move |stream| {
        let _ = held.lock().unwrap().recv();
        answer(stream, "200 OK", "", "{}");
    }));
    let more = "[ownership.delegate]\n[runtime]\nworkers = 1\n";
    let gate = gate_with(&upstream, "", more);
    let mut stream = connect(gate.address());
    stream.write_all(deletion(&signed("OWNER")).as_bytes()).unwrap();
    until("the first is under way", || upstream.deletes() == 1);
    // The second arrives before the first is answered.
    stream.write_all(deletion(&signed("OWNER")).as_bytes()).unwrap();
    // One worker has served another request since, so it has seen the earlier bytes.
    assert_eq!(delete(gate.address(), "Bearer x").status, 401);
    release.send(()).unwrap();
    let (count, text) = answers(&mut stream);
    assert!(count == 1 && text.contains("\r\nconnection: close\r\n"), "{text}");
    assert_eq!(upstream.deletes(), 1);
}

#[test]
fn a_client_that_resets_while_its_answer_is_awaited_is_noticed_at_once() {
    let (_release, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let upstream = Upstream::start(Arc::new(move |_, _| {
        let _ = held.lock().unwrap().recv();
    }));
    let more = "[passthrough]\nmethods = [\"GET\"]\nprefixes = [\"/p/\"]\n";
    let files = Files::new(upstream.address, more);
    let config = std::fs::read_to_string(files.path()).unwrap();
    std::fs::write(files.path(), config.replace("response_timeout = \"20s\"", "response_timeout = \"1h\"")).unwrap();
    let gate = Gate::by(files);
    let mut stream = connect(gate.address());
    stream.write_all(b"GET /p/x HTTP/1.1\r\nHost: g\r\n\r\n").unwrap();
    until("it is under way", || upstream.gets() == 1);
    socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(stream);
    until("it is given up", || gate.metrics().contains("saltgate_connections 0"));
}

#[test]
fn a_401_closes_and_any_other_answer_leaves_the_connection() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = gate_with(&upstream, "", "");
    // A client that waits for each answer keeps its connection.
    let mut kept = Kept::to(gate.address());
    for _ in 0..3 {
        assert_eq!(kept.delete(&signed("OWNER")), 200);
        assert!(kept.is_open());
    }
    assert_eq!(kept.delete("Bearer x"), 401);
    assert!(!kept.is_open(), "a 401 closes");
    // Whatever was requested.
    let mut stream = connect(gate.address());
    stream.write_all(b"GET /anything HTTP/1.1\r\nHost: g\r\n\r\n").unwrap();
    let (count, text) = answers(&mut stream);
    assert!(count == 1 && text.contains("\r\nconnection: close\r\n"), "{text}");
}

#[test]
fn a_client_that_sent_too_much_still_gets_its_answer() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = gate_with(&upstream, "", "");
    for authorization in ["Bearer x".to_owned(), signed("OWNER")] {
        let mut stream = connect(gate.address());
        // More than is read with the first request: a close with unread bytes would be a reset, which can overtake
        // the answer.
        let behind = deletion("Bearer x").repeat(2000);
        let mut writing = stream.try_clone().unwrap();
        let bytes = deletion(&authorization) + &behind;
        let written = std::thread::spawn(move || drop(writing.write_all(bytes.as_bytes())));
        let (count, text) = answers(&mut stream);
        assert_eq!(count, 1, "{text}");
        drop(stream.shutdown(Shutdown::Both));
        written.join().unwrap();
    }
}

#[test]
fn clients_that_connect_directly_may_keep_and_pipeline() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = gate_with(&upstream, "keep_alive = \"always\"\n", "");
    let mut stream = connect(gate.address());
    let last = deletion("Bearer x").replacen("Host", "Connection: close\r\nHost", 1);
    let three = deletion(&signed("OWNER")) + &deletion("Bearer x") + &deletion(&signed("OWNER")) + &last;
    stream.write_all(three.as_bytes()).unwrap();
    let (count, text) = answers(&mut stream);
    assert_eq!((count, text.matches("http/1.1 200").count(), upstream.deletes()), (4, 2, 2), "{text}");
}

#[test]
fn with_keep_alive_never_a_connection_serves_one_request() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let more = "[passthrough]\nmethods = [\"GET\"]\nprefixes = [\"/crm-core/\"]\n";
    let gate = gate_with(&upstream, "keep_alive = \"never\"\n", more);
    let passing = format!("GET /crm-core/v1/segments/{SEGMENT} HTTP/1.1\r\nHost: g\r\n\r\n");
    for first in [deletion(&signed("OWNER")), deletion("Bearer x"), passing.clone()] {
        let mut stream = connect(gate.address());
        stream.write_all((first + &passing).as_bytes()).unwrap();
        let (count, text) = answers(&mut stream);
        assert!(count == 1 && text.contains("\r\nconnection: close\r\n"), "{text}");
    }
    assert_eq!(upstream.deletes(), 1);
}

#[test]
fn a_reload_changes_keep_alive_for_open_connections() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let mut gate = gate_with(&upstream, "keep_alive = \"always\"\n", "");
    let mut kept = Kept::to(gate.address());
    assert_eq!(kept.delete("Bearer x"), 401);
    assert!(kept.is_open());
    gate.files.listen("[[listener]]\naddress = \"127.0.0.1:0\"\nkeep_alive = \"never\"\n");
    gate.reload().unwrap();
    assert_eq!(kept.delete(&signed("OWNER")), 200);
    assert!(!kept.is_open());
}
