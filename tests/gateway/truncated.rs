//! Answers of the service that break off: none of them looks complete to a client.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use saltgate::parts::Clock;

use crate::harness::{Files, Gate, PATIENCE, Upstream, but_delete, signed, until};
use crate::http::{Request, connect};
use crate::operations::Process;
use crate::spoken::{BOTH, Spoken};

const MORE: &str = "[runtime]\nworkers = 1\n[ownership.delegate]\n[passthrough]\nmethods = [\"GET\", \"POST\"]\nprefixes = [\"/open/\"]\n";

/// A service that answers each DELETE with these pieces, and then closes.
fn breaking_off(pieces: Vec<Vec<u8>>) -> Upstream {
    Upstream::start(but_delete(move |stream| {
        for piece in &pieces {
            let _ = stream.write_all(piece);
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = stream.shutdown(Shutdown::Both);
    }))
}

/// Everything that a client read, and how its connection ended.
fn read_to_the_end(gate: &Gate, request: &str) -> (String, Result<(), ErrorKind>) {
    let mut client = connect(gate.address());
    client.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    let ended = client.read_to_end(&mut bytes).map(drop).map_err(|error| error.kind());
    (String::from_utf8(bytes).unwrap(), ended)
}

fn deletion_by_http_1() -> String {
    Request::delete(&signed("OWNER")).http1()
}

/// The last recorded outcome, and its status.
fn outcome(gate: &Gate) -> (String, Option<u64>) {
    let lines = gate.files.record();
    let last = lines.iter().rev().find(|line| line["kind"] == "outcome").unwrap();
    (last["outcome"].as_str().unwrap().to_owned(), last["upstream_status"].as_u64())
}

fn large(head: &str) -> Vec<Vec<u8>> {
    vec![head.as_bytes().to_vec(), vec![b'x'; 20_000]]
}

fn chunk(size: usize) -> Vec<u8> {
    [format!("{size:x}\r\n").as_bytes(), &vec![b'x'; size], b"\r\n"].concat()
}

#[test]
fn an_answer_that_breaks_off_before_any_of_it_was_relayed_is_an_unknown_outcome() {
    let rows: [(&str, Vec<Vec<u8>>); 6] = [
        ("a length", vec![b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"half\":1".to_vec()]),
        ("a length, nothing of it", vec![b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n".to_vec()]),
        ("in pieces", vec![b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n".to_vec(), b"123".to_vec(), b"4".to_vec()]),
        ("a large length", vec![b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n".to_vec(), vec![b'x'; 4096]]),
        ("a chunk", vec![b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf".to_vec()]),
        ("no last chunk", vec![b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(), chunk(4096)]),
    ];
    for (name, pieces) in rows {
        let upstream = breaking_off(pieces);
        let gate = Gate::with(upstream.address, MORE, Clock::system());
        for spoken in BOTH {
            let answer = spoken.delete(gate.address(), &signed("OWNER"));
            let told = (answer.status, answer.error_code());
            assert_eq!(told, (502, "OutcomeUnknown".into()), "{spoken:?}: {name}: {answer:?}");
        }
        assert_eq!(outcome(&gate), ("unknown".into(), Some(200)), "{name}");
        assert_eq!(upstream.deletes(), 2, "{name}: each was sent once");
        assert!(gate.metrics().contains(r#"outcome="failed",reason="outcome_unknown"} 2"#), "{name}");
    }
}

#[test]
fn a_whole_answer_is_relayed_in_one_piece_with_its_head() {
    let rows: [(&str, Vec<Vec<u8>>, usize); 3] = [
        ("a length", vec![b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n".to_vec(), b"wh".to_vec(), b"le".to_vec()], 4),
        (
            "chunks",
            vec![b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(), chunk(3), b"0\r\n\r\n".to_vec()],
            3,
        ),
        ("a close", vec![b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; 4000], vec![b'x'; 96]], 4096),
    ];
    for (name, pieces, length) in rows {
        let upstream = breaking_off(pieces);
        let gate = Gate::with(upstream.address, MORE, Clock::system());
        let mut client = TcpStream::connect(gate.address()).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(deletion_by_http_1().as_bytes()).unwrap();
        // The loopback interface delivers bytes written at once in one piece.
        let mut piece = vec![0; 64 << 10];
        let read = client.read(&mut piece).unwrap();
        let answer = String::from_utf8_lossy(&piece[..read]).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {length}")), "{name}: {head}");
        assert_eq!(body.len(), length, "{name}");
        // The service closes the connection that the first gateway keeps.
        let gate = Gate::with(upstream.address, MORE, Clock::system());
        let by_http_2 = Spoken::Http2.delete(gate.address(), &signed("OWNER"));
        assert_eq!(by_http_2.field("content-length"), Some(&*length.to_string()), "{name}: {}", by_http_2.head);
        assert_eq!(by_http_2.body.len(), length, "{name}");
        assert_eq!(outcome(&gate), ("deleted".into(), Some(200)), "{name}");
    }
}

#[test]
fn a_large_answer_that_breaks_off_resets_the_client() {
    let rows = [
        ("a length", large("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")),
        (
            "a chunk",
            vec![b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(), chunk(20_000), b"9\r\nx".to_vec()],
        ),
    ];
    for (name, pieces) in rows {
        let upstream = breaking_off(pieces);
        let gate = Gate::with(upstream.address, MORE, Clock::system());
        for spoken in BOTH {
            let lost = spoken.connect(gate.address()).ask(&Request::delete(&signed("OWNER"))).unwrap_err();
            assert!(lost.is_reset(), "{spoken:?}: {name}: {lost:?}");
        }
        until("it is counted", || gate.metrics().contains("saltgate_truncated_total{outcome=\"forwarded\"} 2"));
        assert_eq!(outcome(&gate), ("deleted".into(), Some(200)), "{name}: the service said so");
    }
}

#[test]
fn a_passed_through_answer_that_breaks_off_does_not_end_cleanly() {
    let answers = |bytes: &'static [u8]| {
        Upstream::start(Arc::new(move |_, stream: &mut TcpStream| {
            let _ = stream.write_all(bytes);
            std::thread::sleep(Duration::from_millis(30));
            let _ = stream.shutdown(Shutdown::Both);
        }))
    };
    // HTTP/1.0 has no chunks: the end of the connection is the end of the answer.
    let upstream = answers(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n9\r\nhalf");
    let gate = Gate::with(upstream.address, MORE, Clock::system());
    for (n, version) in ["HTTP/1.0", "HTTP/1.1"].into_iter().enumerate() {
        let (read, ended) = read_to_the_end(&gate, &format!("GET /open/x {version}\r\nHost: a\r\n\r\n"));
        assert_eq!(ended, Err(ErrorKind::ConnectionReset), "{version}: {read}");
        let counted = format!("saltgate_truncated_total{{outcome=\"passed\"}} {}\n", n + 1);
        until("it is counted", || gate.metrics().contains(&counted));
    }
    let lost = Spoken::Http2.connect(gate.address()).ask(&Request::new("GET", "/open/x")).unwrap_err();
    assert!(lost.is_reset(), "{lost:?}");
    until("it is counted", || gate.metrics().contains("saltgate_truncated_total{outcome=\"passed\"} 3\n"));
    // A small answer is awaited completely, so the client gets 502 and no part of it.
    let upstream = answers(b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\nhalf");
    let gate = Gate::with(upstream.address, MORE, Clock::system());
    for (n, spoken) in BOTH.into_iter().enumerate() {
        let lost = spoken.ask(gate.address(), &Request::new("POST", "/open/x").text("hi"));
        assert_eq!((lost.status, lost.error_code().as_str()), (502, "OutcomeUnknown"), "{spoken:?}: {lost:?}");
        assert_eq!(upstream.gets(), n + 1, "{spoken:?}");
    }
}

#[test]
fn an_answer_that_its_client_read_too_slowly_does_not_end_cleanly() {
    let upstream = Upstream::start(Arc::new(|_, stream: &mut TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b'x'; 64 << 10]).is_ok() {}
    }));
    let gate = Gate::with(upstream.address, &format!("{MORE}[limits]\nwrite_timeout = \"300ms\"\n"), Clock::system());
    let mut client = TcpStream::connect(gate.address()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"GET /open/x HTTP/1.0\r\nHost: a\r\n\r\n").unwrap();
    until("it has begun", || client.peek(&mut [0; 12]).is_ok_and(|there| there == 12));
    until("it has ended", || gate.metrics().contains("saltgate_connections 0\n"));
    let ended = std::io::copy(&mut client, &mut std::io::sink()).map_err(|error| error.kind());
    assert_eq!(ended, Err(ErrorKind::ConnectionReset), "the end of the connection is the end of the answer");
}

#[test]
fn an_answer_in_progress_at_the_end_of_a_drain_does_not_end_cleanly() {
    let upstream = Upstream::start(Arc::new(|_, stream: &mut TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nbegun");
        let _ = stream.read(&mut [0]);
    }));
    let mut gate =
        Gate::with(upstream.address, &format!("{MORE}[limits]\ndrain_timeout = \"300ms\"\n"), Clock::system());
    let mut client = TcpStream::connect(gate.address()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"GET /open/x HTTP/1.0\r\nHost: a\r\n\r\n").unwrap();
    until("it has begun", || client.peek(&mut [0; 12]).is_ok_and(|there| there == 12));
    gate.drain();
    let ended = std::io::copy(&mut client, &mut std::io::sink()).map_err(|error| error.kind());
    assert_eq!(ended, Err(ErrorKind::ConnectionReset), "the end of the connection is the end of the answer");
}

#[test]
fn a_client_that_reads_slowly_and_never_pauses_gets_its_whole_answer() {
    const LENGTH: usize = 8 << 20;
    let upstream = Upstream::start(Arc::new(|_, stream: &mut TcpStream| {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
        let _ = stream.write_all(&vec![b'x'; LENGTH]);
    }));
    let gate = Gate::with(upstream.address, &format!("{MORE}[limits]\nwrite_timeout = \"1s\"\n"), Clock::system());
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    // Bytes in the client's kernel buffer would not be waited for.
    socket.set_recv_buffer_size(64 << 10).unwrap();
    socket.connect(&gate.address().into()).unwrap();
    let mut client = TcpStream::from(socket);
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"GET /open/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let (mut read, mut piece) = (0, vec![0; 256 << 10]);
    for _ in 0..15 {
        std::thread::sleep(Duration::from_millis(200));
        read += client.read(&mut piece).unwrap();
    }
    read += client.read_to_end(&mut Vec::new()).unwrap();
    assert!(read > LENGTH, "{read}");
}

#[test]
fn the_log_names_the_truncated_answer() {
    BOTH.into_iter().for_each(the_log_tells);
}

fn the_log_tells(spoken: Spoken) {
    let upstream = breaking_off(large("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"));
    let files = Files::new(upstream.address, MORE);
    let process = Process::serve(&files);
    let mut caller = spoken.connect(process.address());
    caller.send(&Request::delete(&signed("OWNER")));
    let line = |of: &str| -> serde_json::Value {
        until("it is reported", || process.log().contains(of));
        let log = process.log();
        serde_json::from_str(log.lines().find(|line| line.contains(of)).unwrap()).unwrap()
    };
    let (truncated, decision) = (line("\"truncated: "), line("\"decision\""));
    assert_eq!(truncated["request_id"].as_str().unwrap().len(), 32);
    for field in ["request_id", "outcome", "upstream_status"] {
        assert_eq!(truncated[field], decision[field], "{field}: {truncated}");
    }
}

#[test]
fn a_passed_through_answer_without_a_length_is_relayed_as_it_arrives() {
    let (go_on, gone_on) = std::sync::mpsc::channel::<()>();
    let gone_on = std::sync::Mutex::new(gone_on);
    let upstream = Upstream::start(Arc::new(move |_, stream: &mut TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        let _ = gone_on.lock().unwrap().recv();
        let _ = stream.write_all(b"6\r\nsecond\r\n0\r\n\r\n");
    }));
    let gate = Gate::with(upstream.address, &format!("{MORE}[limits]\nwrite_timeout = \"20s\"\n"), Clock::system());
    for spoken in BOTH {
        let mut caller = spoken.connect(gate.address());
        caller.send(&Request::new("GET", "/open/x"));
        assert_eq!(caller.status().unwrap().status, 200, "{spoken:?}");
        let mut read = String::new();
        // The first part arrives although the second has not.
        while !read.contains("first") {
            read += &caller.piece().unwrap();
        }
        go_on.send(()).unwrap();
        while !read.contains("second") {
            let piece = caller.piece().unwrap();
            assert_ne!(piece, "", "{spoken:?}: it ends behind {read:?}");
            read += &piece;
        }
    }
}

/// A gateway in front of this service with this limit for complete answers.
fn hurried(upstream: &Upstream, answer_timeout: &str) -> Gate {
    let files = Files::new(upstream.address, MORE);
    let text = std::fs::read_to_string(files.path()).unwrap();
    std::fs::write(
        files.path(),
        text.replace("[upstream]\n", &format!("[upstream]\nanswer_timeout = {answer_timeout:?}\n")),
    )
    .unwrap();
    Gate::from_files(files, Clock::system())
}

/// Answers each DELETE with a head, this many bytes at once, and then a byte from time to time, forever.
fn trickling(at_once: usize) -> Upstream {
    Upstream::start(but_delete(move |stream| {
        let _ = stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 1000000\r\n\r\n");
        let _ = stream.write_all(&vec![b'x'; at_once]);
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }))
}

#[test]
fn answer_timeout_bounds_the_whole_answer_however_slowly_it_arrives() {
    // Nothing was relayed: the outcome is unknown.
    let upstream = trickling(0);
    let gate = hurried(&upstream, "500ms");
    for spoken in BOTH {
        let answer = spoken.delete(gate.address(), &signed("OWNER"));
        assert_eq!((answer.status, answer.error_code().as_str()), (504, "OutcomeUnknown"), "{spoken:?}: {answer:?}");
        assert_eq!(outcome(&gate), ("unknown".into(), Some(202)));
    }
    // Some of it was relayed: it is cut off visibly.
    let upstream = trickling(20_000);
    let gate = hurried(&upstream, "500ms");
    for spoken in BOTH {
        let lost = spoken.connect(gate.address()).ask(&Request::delete(&signed("OWNER"))).unwrap_err();
        assert!(lost.is_reset(), "{spoken:?}: {lost:?}");
    }
    until("it is counted", || gate.metrics().contains("saltgate_truncated_total{outcome=\"forwarded\"} 2"));
    assert_eq!(upstream.deletes(), 2);
}

#[test]
fn answer_timeout_also_bounds_an_answer_that_never_pauses() {
    let upstream = Upstream::start(but_delete(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b'x'; 64 << 10]).is_ok() {}
    }));
    let gate = hurried(&upstream, "300ms");
    for spoken in BOTH {
        let mut caller = spoken.connect(gate.address());
        caller.send(&Request::delete(&signed("OWNER")));
        assert_eq!(caller.status().unwrap().status, 200, "{spoken:?}");
        let lost = loop {
            match caller.piece() {
                Ok(piece) => assert_ne!(piece, "", "{spoken:?}: it looks whole"),
                Err(lost) => break lost,
            }
        };
        assert!(lost.is_reset(), "{spoken:?}: {lost:?}");
    }
}

#[test]
fn a_reload_changes_answer_timeout() {
    let upstream = trickling(0);
    let mut gate = hurried(&upstream, "1h");
    let text = std::fs::read_to_string(gate.files.path()).unwrap();
    std::fs::write(gate.files.path(), text.replace("\"1h\"", "\"200ms\"")).unwrap();
    assert_eq!(gate.reload().unwrap(), Vec::<String>::new());
    for spoken in BOTH {
        assert_eq!(spoken.delete(gate.address(), &signed("OWNER")).status, 504, "{spoken:?}");
    }
}
