//! Which side of a connection is timed out: a service that pauses, a client that does not read, a body that arrives
//! slowly.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::harness::{Behaviour, Files, Gate, Latch, PATIENCE, SEGMENT, Upstream, answer, service, signed, until};
use crate::http::Request;
use crate::http2::{DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, Raw, frame, head};
use crate::spoken::{BOTH, Spoken};

const PASSES: &str = "[passthrough]\nmethods = [\"GET\", \"POST\"]\nprefixes = [\"/p/\"]\n";

/// A service whose answer to `/p/pause` pauses, whose answer to `/p/large` is large, and whose deletions wait; each
/// until its latch is open.
fn waiting() -> (Upstream, Latch, Latch) {
    let (go_on, delete) = (Latch::default(), Latch::default());
    let (paused, held) = (go_on.clone(), delete.clone());
    let ordinary = service("account-1", "member-1");
    let play: Behaviour = Arc::new(move |seen, stream| match (seen.method.as_str(), seen.target.as_str()) {
        ("GET", "/p/pause") => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n");
            paused.wait();
            let _ = stream.write_all(b"5\r\nended\r\n0\r\n\r\n");
        }
        ("GET", "/p/large") => answer(stream, "200 OK", "", &"x".repeat(1 << 20)),
        ("POST", _) => answer(stream, "200 OK", "", &format!("{} bytes", seen.body.len())),
        ("DELETE", _) => {
            held.wait();
            answer(stream, "200 OK", "", "{}");
        }
        _ => ordinary(seen, stream),
    });
    (Upstream::start(play), go_on, delete)
}

fn gate(upstream: &Upstream, limits: &str) -> Gate {
    let files = Files::new(upstream.address, &format!("{PASSES}[limits]\n{limits}"));
    Gate::by(files)
}

#[test]
fn a_service_that_pauses_in_its_answer_is_not_taken_for_a_client_that_does_not_read() {
    const WRITE_TIMEOUT: Duration = Duration::from_millis(300);
    for spoken in BOTH {
        let (upstream, go_on, delete) = waiting();
        let gate = gate(&upstream, &format!("write_timeout = \"{}ms\"\n", WRITE_TIMEOUT.as_millis()));
        let mut caller = spoken.connect(gate.address());
        caller.send(&Request::new("GET", "/p/pause"));
        let begun = caller.status().unwrap();
        assert_eq!(begun.status, 200);
        if spoken == Spoken::Http2 {
            caller.send(&Request::delete(&signed("OWNER")));
            until("the deletion was sent", || upstream.deletes() == 1);
        }
        std::thread::sleep(4 * WRITE_TIMEOUT);
        go_on.open();
        assert_eq!(caller.rest(&begun).unwrap(), "begunended", "{spoken:?}");
        delete.open();
        if spoken == Spoken::Http1 {
            caller.send(&Request::delete(&signed("OWNER")));
        }
        assert_eq!(caller.answer().unwrap().status, 200, "{spoken:?}: a deletion on the same connection");
        assert!(!gate.metrics().contains("{reason=\"too_slow\"}"), "{spoken:?}");
    }
}

/// Reads until the deletion on this stream is answered.
fn answered(raw: &mut Raw, stream: u32) {
    assert!(raw.until(|kind, of| kind == HEADERS && of == stream).is_some(), "the deletion's answer is lost");
    let (_, _, body) = raw.until(|kind, of| kind == DATA && of == stream).expect("its body");
    assert_eq!(body, b"{}");
    while raw.next().is_some() {}
}

#[test]
fn a_stream_whose_client_does_not_read_is_reset_and_the_others_are_answered() {
    let (upstream, _, delete) = waiting();
    let gate = gate(&upstream, "write_timeout = \"300ms\"\n");
    // Ten bytes of each answer fit into the window, which is never enlarged.
    let mut raw = Raw::to(gate.address(), &[0, 4, 0, 0, 0, 10]);
    let large =
        crate::http2::block(&[(":method", "GET"), (":scheme", "http"), (":path", "/p/large"), (":authority", "gate")]);
    let deletion = head("DELETE", &[(":authority", "gate"), ("authorization", &signed("OWNER"))]);
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &large)).unwrap();
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &deletion)).unwrap();
    until("the deletion was sent", || upstream.deletes() == 1);
    let (mut reset, mut goaway) = (false, false);
    while !(reset && goaway) {
        let (kind, stream, _) = raw.next().expect("a stream that is reset, and a GOAWAY, before the end");
        reset |= kind == RST_STREAM && stream == 1;
        goaway |= kind == GOAWAY;
    }
    delete.open();
    answered(&mut raw, 3);
    assert!(gate.metrics().contains("{reason=\"too_slow\"} 1"), "{}", gate.metrics());
}

#[test]
fn an_unfinished_header_block_does_not_affect_other_streams() {
    let (upstream, _, delete) = waiting();
    let gate = gate(&upstream, "header_timeout = \"300ms\"\n");
    let mut raw = Raw::to(gate.address(), &[]);
    let deletion = head("DELETE", &[(":authority", "gate"), ("authorization", &signed("OWNER"))]);
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &deletion)).unwrap();
    until("the deletion was sent", || upstream.deletes() == 1);
    raw.send(&frame(HEADERS, 0, 3, &deletion)).unwrap();
    assert!(raw.until(|kind, _| kind == GOAWAY).is_some(), "it is told to end before it is closed");
    delete.open();
    answered(&mut raw, 1);
}

/// Sends a body in pieces, over HTTP/2 as one frame, and returns the answer.
fn slowly(spoken: Spoken, gate: SocketAddr, ask: (&str, &str, &str), pieces: &[&[u8]], pause: Duration) -> String {
    let (method, path, authorization) = ask;
    let length = pieces.iter().map(|piece| piece.len()).sum::<usize>();
    let mut stream = TcpStream::connect(gate).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let begun = match spoken {
        Spoken::Http1 => format!(
            "{method} {path} HTTP/1.1\r\nHost: gate\r\nAuthorization: {authorization}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        )
        .into_bytes(),
        Spoken::Http2 => {
            let block = crate::http2::block(&[
                (":method", method),
                (":scheme", "http"),
                (":path", path),
                (":authority", "gate"),
                ("authorization", authorization),
                ("content-length", &length.to_string()),
            ]);
            let whole = frame(DATA, END_STREAM, 1, &vec![0; length]);
            let data = &whole[..9];
            let settings = frame(crate::http2::SETTINGS, 0, 0, &[]);
            [crate::http2::PREFACE, &settings, &frame(HEADERS, END_HEADERS, 1, &block), data].concat()
        }
    };
    stream.write_all(&begun).unwrap();
    let mut sending = stream.try_clone().unwrap();
    let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
    let (over, is_over) = channel::<()>();
    let sender = std::thread::spawn(move || {
        for piece in pieces {
            if is_over.recv_timeout(pause).is_ok() || sending.write_all(&piece).is_err() {
                return;
            }
        }
    });
    let said = match spoken {
        Spoken::Http1 => {
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all);
            String::from_utf8_lossy(&all).into_owned()
        }
        Spoken::Http2 => {
            let (_, _, said) = Raw(stream).until(|kind, of| of == 1 && kind == DATA).expect("an answer");
            String::from_utf8_lossy(&said).into_owned()
        }
    };
    let _ = over.send(());
    sender.join().unwrap();
    said
}

#[test]
fn a_body_that_keeps_arriving_may_take_longer_than_body_timeout() {
    let (upstream, ..) = waiting();
    let gate = gate(&upstream, "body_timeout = \"3s\"\nheader_timeout = \"3s\"\n");
    let address = gate.address();
    let callers = BOTH.map(|spoken| {
        std::thread::spawn(move || {
            let pieces: Vec<&[u8]> = vec![&[b'x'; 600]; 20];
            (spoken, slowly(spoken, address, ("POST", "/p/x", "none"), &pieces, Duration::from_millis(250)))
        })
    });
    for caller in callers {
        let (spoken, said) = caller.join().unwrap();
        assert!(said.contains("12000 bytes"), "{spoken:?}: {said}");
    }
    assert!(!gate.metrics().contains("{reason=\"too_slow\"}"), "{}", gate.metrics());
}

#[test]
fn body_timeout_bounds_the_whole_body_of_a_deletion() {
    let (upstream, _, delete) = waiting();
    let gate = gate(&upstream, "body_timeout = \"1s\"\nheader_timeout = \"1s\"\n");
    let path = format!("/crm-core/v1/segments/{SEGMENT}");
    for spoken in BOTH {
        let header = signed("OWNER");
        let pieces: Vec<&[u8]> = vec![b"x"; 100];
        let said = slowly(spoken, gate.address(), ("DELETE", &path, &header), &pieces, Duration::from_millis(100));
        assert!(said.contains("RequestTimeout"), "{spoken:?}: {said}");
        assert_eq!(upstream.deletes(), usize::from(spoken == Spoken::Http2));
        delete.open();
        assert_eq!(gate.delete(&header).status, 200, "{spoken:?}: nothing was spent");
    }
}
