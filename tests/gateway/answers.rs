//! All forms of answers that a service may give: what the client gets, and whether the connection can be reused.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use saltgate::parts::Clock;

use crate::harness::{Gate, Upstream, answer, but_delete, signed, until};
use crate::http::{exchange, read_until_closed};
use crate::spoken::{BOTH, Spoken};

/// One worker, so that a kept connection is used by the next request.
const ONE: &str = "[runtime]\nworkers = 1\n[ownership.delegate]\n[passthrough]\nmethods = [\"GET\", \"HEAD\", \"POST\"]\nprefixes = [\"/open/\"]\n";

fn before(upstream: &Upstream) -> Gate {
    Gate::with(upstream.address, ONE, Clock::system())
}

fn connections(upstream: &Upstream) -> usize {
    upstream.connections.load(Ordering::SeqCst)
}

/// The service answers each DELETE with these bytes.
fn answering(bytes: &'static str) -> Upstream {
    Upstream::start(but_delete(move |stream| drop(stream.write_all(bytes.as_bytes()))))
}

#[test]
fn every_framing_is_relayed_and_the_connection_is_kept_only_if_the_end_is_certain() {
    let kept = 1;
    let not_kept = 3;
    let rows: [(&str, &str, &str, usize); 8] = [
        ("a length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole", "whole", kept),
        (
            "chunks",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nwho\r\n2\r\nle\r\n0\r\n\r\n",
            "whole",
            kept,
        ),
        (
            "chunks with extensions and a trailer",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=1\r\nwhole\r\n0\r\nX-Sum: 1\r\n\r\n",
            "whole",
            kept,
        ),
        ("no content", "HTTP/1.1 204 No Content\r\n\r\n", "", kept),
        ("HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nwhole", "whole", not_kept),
        ("a close", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nwhole", "whole", not_kept),
        (
            "a coding beside a length",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n5\r\nwhole\r\n0\r\n\r\n",
            "whole",
            not_kept,
        ),
        (
            "an early hint",
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole",
            "whole",
            kept,
        ),
    ];
    for (name, bytes, body, used) in rows {
        let upstream = answering(bytes);
        let gate = before(&upstream);
        for spoken in [Spoken::Http1, Spoken::Http2, Spoken::Http1] {
            let answered = spoken.delete(gate.address(), &signed("OWNER"));
            let told = (answered.status / 100, answered.body.as_str());
            assert_eq!(told, (2, body), "{spoken:?}: {name}: {answered:?}");
        }
        assert_eq!((upstream.deletes(), connections(&upstream)), (3, used), "{name}");
    }
}

#[test]
fn an_answer_that_ends_with_its_connection_is_relayed_completely() {
    let upstream = Upstream::start(but_delete(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        (0..50).for_each(|_| drop(stream.write_all(&[b'x'; 1000])));
        let _ = stream.shutdown(Shutdown::Both);
    }));
    let gate = before(&upstream);
    for spoken in BOTH {
        let answered = spoken.delete(gate.address(), &signed("OWNER"));
        assert_eq!(answered.body, "x".repeat(50_000), "{spoken:?}");
    }
}

#[test]
fn bytes_after_an_answer_are_not_the_answer_to_the_next_request() {
    const FORGED: &str = "HTTP/1.1 299 Forged\r\nContent-Length: 2\r\n\r\n{}";
    // In one piece with the answer.
    let upstream = Upstream::start(but_delete(|stream| {
        let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{{}}{FORGED}").as_bytes());
    }));
    let gate = before(&upstream);
    (0..5).for_each(|n| assert_eq!(BOTH[n % 2].delete(gate.address(), &signed("OWNER")).status, 200));
    assert_eq!((upstream.deletes(), connections(&upstream)), (5, 5));
    // After the answer, once its connection is in the pool.
    let said = Arc::new(AtomicBool::new(false));
    let (has_said, answered) = (said.clone(), Arc::new(AtomicBool::new(false)));
    let was_answered = answered.clone();
    let upstream = Upstream::start(but_delete(move |stream| {
        answer(stream, "200 OK", "", "{}");
        until("the client has its answer", || was_answered.swap(false, Ordering::SeqCst));
        let _ = stream.write_all(FORGED.as_bytes());
        has_said.store(true, Ordering::SeqCst);
    }));
    let gate = before(&upstream);
    for n in 1..=5 {
        assert_eq!(BOTH[n % 2].delete(gate.address(), &signed("OWNER")).status, 200);
        assert_eq!((upstream.deletes(), connections(&upstream)), (n, n));
        answered.store(true, Ordering::SeqCst);
        until("something is said that nobody asked for", || said.swap(false, Ordering::SeqCst));
    }
}

#[test]
fn an_answer_with_ambiguous_framing_is_rejected() {
    for fields in [
        "Content-Length: 2\r\nContent-Length: 3\r\n",
        "Content-Length: 2, 2\r\n",
        "Content-Length: -2\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: identity\r\n",
    ] {
        let upstream = Upstream::start(but_delete(move |stream| {
            let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\n{fields}\r\n{{}}").as_bytes());
        }));
        let gate = before(&upstream);
        for (n, spoken) in (1..).zip(BOTH) {
            let answered = spoken.delete(gate.address(), &signed("OWNER"));
            let told = (answered.status, answered.error_code());
            assert_eq!(told, (502, "OutcomeUnknown".into()), "{spoken:?}: {fields:?}");
            assert_eq!(
                (upstream.deletes(), connections(&upstream)),
                (n, n),
                "{fields:?}: and it is sent no second time"
            );
        }
    }
}

#[test]
fn incomplete_or_malformed_chunks_never_look_complete() {
    for body in ["5\r\nwho", "5\r\nwhole", "5\r\nwhole\r\n", "5\r\nwholexx0\r\n\r\n", "5\r\nwhole\r\nzz\r\n"] {
        let upstream = Upstream::start(but_delete(move |stream| {
            let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}").as_bytes());
            let _ = stream.shutdown(Shutdown::Both);
        }));
        let answered = before(&upstream).delete(&signed("OWNER"));
        assert!(!answered.body.ends_with("0\r\n\r\n"), "{body:?}: {answered:?}");
    }
}

#[test]
fn an_answer_to_head_has_no_body_whatever_its_length_says() {
    let upstream = Upstream::start(Arc::new(|seen, stream| {
        let body = if seen.method == "HEAD" { "" } else { "{}" };
        let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{body}").as_bytes());
    }));
    let gate = before(&upstream);
    for method in ["HEAD", "GET", "HEAD"] {
        let asked = format!("{method} /open/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answered = exchange(gate.address(), &asked);
        assert_eq!((answered.status, answered.field("content-length")), (200, Some("2")), "{method}: {answered:?}");
        assert_eq!(answered.body, if method == "GET" { "{}" } else { "" });
    }
    assert_eq!(connections(&upstream), 1);
}

#[test]
fn a_target_without_a_path_passes_as_it_came() {
    let upstream = Upstream::start(Arc::new(|_, stream| answer(stream, "200 OK", "", "{}")));
    let files = crate::harness::Files::new(upstream.address, "[ownership.delegate]\n");
    let config = std::fs::read_to_string(files.path()).unwrap();
    std::fs::write(files.path(), format!("mode = \"observe\"\n{config}")).unwrap();
    let gate = Gate::by(files);
    let asked = "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(gate.address(), asked).status, 200);
    let seen = upstream.last.lock().unwrap().last().cloned().unwrap();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("OPTIONS", "*"));
}

#[test]
fn an_answer_before_the_end_of_the_upload_is_relayed() {
    let upstream = Upstream::start(Arc::new(|_, stream: &mut TcpStream| {
        answer(stream, "413 Content Too Large", "Connection: close\r\n", r#"{"errorCode":"Theirs"}"#);
        let _ = stream.shutdown(Shutdown::Write);
        // Everything that arrives is read, so that no reset overtakes the answer.
        drop(std::io::copy(stream, &mut std::io::sink()));
    }));
    let gate = before(&upstream);
    let mut client = TcpStream::connect(gate.address()).unwrap();
    client.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
    client.write_all(b"POST /open/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").unwrap();
    let answered = read_until_closed(&mut client);
    assert_eq!((answered.status, answered.error_code().as_str()), (413, "Theirs"), "{answered:?}");
}

#[test]
fn an_upload_without_a_length_arrives_in_chunks_and_completely() {
    let upstream = Upstream::start(Arc::new(|_, stream: &mut TcpStream| {
        let (mut body, mut byte) = (Vec::new(), [0]);
        while !body.ends_with(b"0\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
            body.push(byte[0]);
        }
        answer(stream, "200 OK", "", &String::from_utf8(body).unwrap());
    }));
    let gate = before(&upstream);
    let asked = "GET /open/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
    let answered = exchange(gate.address(), asked);
    let seen = upstream.last.lock().unwrap().last().cloned().unwrap();
    assert!(seen.head.to_lowercase().contains("transfer-encoding: chunked\r\n"), "{}", seen.head);
    assert_eq!(content(&answered.body), "hello world", "{answered:?}");
}

/// The content of the chunks.
fn content(chunks: &str) -> String {
    chunks.split("\r\n").collect::<Vec<_>>().chunks(2).filter(|chunk| chunk.len() == 2).map(|chunk| chunk[1]).collect()
}
