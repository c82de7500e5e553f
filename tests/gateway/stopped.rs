//! A gateway that is stopped for a while, as by a debugger or a sleeping machine: bytes that arrived meanwhile are
//! read before anything counts as late.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::harness::{Behaviour, Files, PATIENCE, SEGMENT, Upstream, answer, signed, until};
use crate::http::{Kept, Received};
use crate::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE, block,
    frame,
};
use crate::operations::Process;
use crate::spoken::{BOTH, Spoken};

/// Longer than `response_timeout` in the tests, which is 700 ms.
const STOPPED: Duration = Duration::from_millis(1200);

/// A service that answers this method only while the gateway is stopped.
fn answering_meanwhile(method: &'static str, stopped: &Arc<AtomicBool>) -> Upstream {
    let stopped = stopped.clone();
    let play: Behaviour = Arc::new(move |seen: &Received, stream: &mut TcpStream| {
        if seen.method == method {
            until("the gateway is stopped", || stopped.load(Ordering::SeqCst));
        }
        match seen.method.as_str() {
            "GET" => {
                let body = format!(r#"{{"segmentId":"{SEGMENT}","accountId":"account-1","ownerId":"member-1"}}"#);
                answer(stream, "200 OK", "", &body);
            }
            _ => answer(stream, "200 OK", "", "{}"),
        }
    });
    Upstream::start(play)
}

#[test]
fn answers_that_arrived_while_it_was_stopped_are_not_late() {
    for method in ["DELETE", "GET"] {
        let stopped = Arc::new(AtomicBool::new(false));
        let upstream = answering_meanwhile(method, &stopped);
        let files = Files::new(upstream.address, "");
        let process = Process::serve(&files);
        let mut clients: Vec<Kept> = (0..4).map(|_| Kept::to(process.address())).collect();
        clients.iter_mut().for_each(|client| client.send(&signed("OWNER")));
        until("all are under way", || if method == "GET" { upstream.gets() == 4 } else { upstream.deletes() == 4 });
        process.stop();
        stopped.store(true, Ordering::SeqCst);
        std::thread::sleep(STOPPED);
        process.signal("-CONT");
        for client in &mut clients {
            assert_eq!(client.status(), 200, "{method}");
        }
        assert_eq!(upstream.deletes(), 4, "{method}");
    }
}

const PASSES: &str = "[passthrough]\nmethods = [\"GET\", \"POST\"]\nprefixes = [\"/p/\"]\n";

/// What is sent before the gateway is stopped, and while it is: over HTTP/1, or over HTTP/2 as stream 1.
fn halves(spoken: Spoken, path: &str, whole_head: bool) -> (Vec<u8>, Vec<u8>) {
    let (method, authorization) = (if path.starts_with("/p/") { "POST" } else { "DELETE" }, signed("OWNER"));
    match spoken {
        Spoken::Http1 => {
            let begun = format!("{method} {path} HTTP/1.1\r\nHost: g\r\nConnection: close\r\n").into_bytes();
            let ended = format!("Authorization: {authorization}\r\nContent-Length: 4\r\n\r\n").into_bytes();
            if whole_head {
                ([begun, ended, b"ha".to_vec()].concat(), b"lf".to_vec())
            } else {
                (begun, [ended, b"half".to_vec()].concat())
            }
        }
        Spoken::Http2 => {
            let block = block(&[
                (":method", method),
                (":scheme", "http"),
                (":path", path),
                (":authority", "g"),
                ("authorization", &authorization),
                ("content-length", "4"),
            ]);
            let (begun, ended) =
                (frame(HEADERS, 0, 1, &block[..20]), frame(CONTINUATION, END_HEADERS, 1, &block[20..]));
            let (data, settings) = (frame(DATA, END_STREAM, 1, b"half"), frame(SETTINGS, 0, 0, &[]));
            let preface = [PREFACE, &settings].concat();
            let (half, rest) = data.split_at(data.len() - 2);
            if whole_head {
                ([preface, begun, ended, half.to_vec()].concat(), rest.to_vec())
            } else {
                ([preface, begun].concat(), [ended, data].concat())
            }
        }
    }
}

#[test]
fn requests_that_arrived_while_it_was_stopped_are_not_late() {
    let upstream = answering_meanwhile("NONE", &Arc::default());
    let limits = "[limits]\nbody_timeout = \"700ms\"\nheader_timeout = \"700ms\"\nidle_timeout = \"700ms\"\n";
    let files = Files::new(upstream.address, &format!("{PASSES}{limits}"));
    let process = Process::serve(&files);
    let deletion = format!("/crm-core/v1/segments/{SEGMENT}");
    let mut clients = Vec::new();
    for spoken in BOTH {
        let all = {
            let (first, second) = halves(spoken, &deletion, true);
            (Vec::new(), [first, second].concat())
        };
        for (name, (first, second)) in [
            ("a body", halves(spoken, &deletion, true)),
            ("a body that passes", halves(spoken, "/p/x", true)),
            ("a head", halves(spoken, &deletion, false)),
            ("all of it", all),
        ] {
            let mut client = TcpStream::connect(process.address()).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client.set_nodelay(true).unwrap();
            client.write_all(&first).unwrap();
            clients.push((spoken, name, client, second));
        }
    }
    // The bytes that were sent first have been read by now.
    std::thread::sleep(Duration::from_millis(200));
    process.stop();
    for (_, _, client, second) in &mut clients {
        client.write_all(second).unwrap();
    }
    std::thread::sleep(STOPPED);
    process.signal("-CONT");
    for (spoken, name, mut client, _) in clients {
        let told = match spoken {
            Spoken::Http1 => {
                let mut told = String::new();
                let _ = client.read_to_string(&mut told);
                told
            }
            Spoken::Http2 => {
                let answer = Raw(client).until(|kind, of| of == 1 && kind == DATA);
                let body = answer.map(|(_, _, body)| String::from_utf8_lossy(&body).into_owned());
                body.unwrap_or_else(|| "closed".to_owned())
            }
        };
        assert!(told.ends_with("{}"), "{spoken:?}, {name}: {told:?}");
    }
}

#[test]
fn an_answer_that_the_client_read_while_the_gateway_was_stopped_is_not_late() {
    let upstream = Upstream::start(Arc::new(|_: &Received, stream: &mut TcpStream| {
        answer(stream, "200 OK", "", &"x".repeat(40_000));
    }));
    let files = Files::new(upstream.address, &format!("{PASSES}[limits]\nwrite_timeout = \"700ms\"\n"));
    let process = Process::serve(&files);
    let mut raw = Raw::to(process.address(), &[0, 4, 0, 0, 0, 10]);
    let get = block(&[(":method", "GET"), (":scheme", "http"), (":path", "/p/x"), (":authority", "g")]);
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &get)).unwrap();
    let mut came = raw.until(|kind, _| kind == DATA).expect("some of it").2.len();
    process.stop();
    raw.send(&frame(WINDOW_UPDATE, 0, 1, &100_000_u32.to_be_bytes())).unwrap();
    std::thread::sleep(STOPPED);
    process.signal("-CONT");
    while came < 40_000 {
        let (kind, _, data) = raw.until(|kind, of| of == 1 && (kind == DATA || kind == RST_STREAM)).expect("all of it");
        assert_eq!(kind, DATA, "it was reset behind {came} bytes");
        came += data.len();
    }
}
