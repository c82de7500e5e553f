//! Framing that two readers could read differently: the upstream gets each signed message once, and no body byte
//! becomes a request.

mod corpus;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::harness::{Files, Gate, KEEPS, SEGMENT, signed, until};
use crate::http::{connect, read_head, values};
use corpus::{Message, corpus};

/// An upstream that keeps every byte, and answers everything that looks like a request.
struct Recorder {
    address: SocketAddr,
    connections: Arc<Mutex<Vec<Arc<Mutex<Vec<u8>>>>>>,
}

impl Recorder {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let recorder = Self { address: listener.local_addr().unwrap(), connections: Arc::default() };
        let connections = recorder.connections.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::<Mutex<Vec<u8>>>::default();
                connections.lock().unwrap().push(seen.clone());
                std::thread::spawn(move || record(stream, &seen));
            }
        });
        recorder
    }

    /// Head and body of every request, and the remaining bytes.
    fn requests(&self) -> (Vec<(String, String)>, Vec<u8>) {
        let (mut requests, mut over) = (Vec::new(), Vec::new());
        for seen in self.connections.lock().unwrap().iter() {
            let seen = seen.lock().unwrap();
            let mut rest = &seen[..];
            while let Some((head, body, behind)) = first(rest) {
                requests.push((head, body));
                rest = behind;
            }
            over.extend_from_slice(rest);
        }
        (requests, over)
    }
}

fn record(mut stream: TcpStream, seen: &Mutex<Vec<u8>>) {
    let (mut piece, mut answered) = ([0; 4096], 0);
    while let Ok(read @ 1..) = stream.read(&mut piece) {
        let whole = {
            let mut seen = seen.lock().unwrap();
            seen.extend_from_slice(&piece[..read]);
            let (mut rest, mut whole) = (&seen[..], 0);
            while let Some((_, _, behind)) = first(rest) {
                (rest, whole) = (behind, whole + 1);
            }
            whole
        };
        while answered < whole {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
            answered += 1;
        }
    }
}

/// The first message of these bytes, its body, and the bytes after it.
fn first(mut bytes: &[u8]) -> Option<(String, String, &[u8])> {
    let head = read_head(&mut bytes).ok()?;
    let length = values(&head, "content-length").find_map(|length| length.parse().ok()).unwrap_or(0);
    let (body, behind) = bytes.split_at_checked(length)?;
    Some((head, String::from_utf8_lossy(body).into_owned(), behind))
}

/// Sends these bytes in pieces, then closes its side; reads to the end.
fn sent(gate: SocketAddr, bytes: &[u8], at_once: usize) -> Vec<u8> {
    let mut stream = connect(gate);
    for piece in bytes.chunks(at_once) {
        // A gateway that has already refused may have closed.
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
    let mut answers = Vec::new();
    let _ = stream.read_to_end(&mut answers);
    answers
}

/// The statuses of the answers; the gateway's own must have the right form.
fn statuses(answers: &[u8], name: &str) -> Vec<u16> {
    let (mut statuses, mut rest) = (Vec::new(), answers);
    while let Some((head, body, behind)) = first(rest) {
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let lower = head.to_lowercase();
        assert!(
            lower.lines().any(|line| line.starts_with("x-request-id: ") && line.len() == 14 + 32),
            "{name}: {head}"
        );
        if status != 200 {
            let told: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&body).unwrap();
            assert_eq!(told.keys().collect::<Vec<_>>(), ["errorCode", "errorMessage"], "{name}: {body}");
            for line in ["content-type: application/json", "cache-control: no-store"] {
                assert!(lower.lines().any(|l| l == line), "{name}: {head}");
            }
        }
        if matches!(status, 400 | 413 | 414 | 431) {
            assert!(lower.lines().any(|line| line == "connection: close"), "{name}: {head}");
            assert!(behind.is_empty(), "{name}: something comes behind a refusal: {behind:?}");
        }
        statuses.push(status);
        rest = behind;
    }
    assert!(rest.is_empty(), "{name}: {:?}", String::from_utf8_lossy(rest));
    statuses
}

fn with_headers(bytes: &[u8]) -> Vec<u8> {
    const MARK: &[u8] = b"{auth}";
    let mut whole = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(MARK.len()).position(|w| w == MARK) {
        whole.extend_from_slice(&rest[..at]);
        whole.extend_from_slice(signed("OWNER").as_bytes());
        rest = &rest[at + MARK.len()..];
    }
    whole.extend_from_slice(rest);
    whole
}

#[test]
fn no_message_is_split_and_no_body_byte_becomes_a_request() {
    let upstream = Recorder::start();
    let files = Files::new(upstream.address, &format!("[ownership.delegate]\n[runtime]\nworkers = 2\n{KEEPS}"));
    // Bytes after a message must be read, too.
    files.listen("[[listener]]\naddress = \"127.0.0.1:0\"\nkeep_alive = \"always\"\n");
    let gate = Gate::by(files);
    let corpus = corpus();
    assert!(corpus.len() >= 150, "{} messages", corpus.len());
    let mut names: Vec<&str> = corpus.iter().map(|message| &*message.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), corpus.len(), "each has a name of its own");

    let mut wrong = Vec::new();
    let (mut expected, mut refusals) = (Vec::new(), 0);
    for Message { name, bytes, answers, passed } in &corpus {
        // In one piece, in two, and byte by byte if that does not take minutes.
        for at_once in [bytes.len(), bytes.len().div_ceil(2), 1] {
            if at_once == 1 && bytes.len() > 1024 {
                continue;
            }
            let told = statuses(&sent(gate.address(), &with_headers(bytes), at_once), name);
            if told != *answers {
                wrong.push(format!("{name}, {at_once} at once: {told:?} and not {answers:?}"));
            }
            expected.extend(passed.iter().copied());
            refusals += answers.iter().filter(|status| **status == 400).count();
        }
    }
    let (seen, over) = upstream.requests();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(over.is_empty(), "bytes that are no request: {:?}", String::from_utf8_lossy(&over));
    for (head, _) in &seen {
        let line = format!("DELETE /crm-core/v1/segments/{SEGMENT} HTTP/1.1\r\n");
        assert!(head.starts_with(&line), "{head}");
        assert!(!head.to_lowercase().lines().any(|line| line.starts_with("smuggled")), "{head}");
        assert!(!head.replace("\r\n", "").contains(['\r', '\n', '\0']), "{head:?}");
    }
    let mut bodies: Vec<&str> = seen.iter().map(|(_, body)| &**body).collect();
    // The pool chooses connections: the order is kept on each of them, not overall.
    bodies.sort_unstable();
    expected.sort_unstable();
    assert_eq!(bodies, expected, "each signed request once, with its own body");
    let refused = r#"saltgate_requests_total{outcome="refused",reason="malformed_request"} "#;
    let truncated =
        corpus.iter().filter(|message| message.name.ends_with("end early") || message.name.ends_with("ends early"));
    // A body that ends early is counted as a client that left: in one piece, in two, and byte by byte.
    let left: usize = truncated.map(|message| if message.bytes.len() > 1024 { 2 } else { 3 }).sum();
    let counted = format!("{refused}{}\n", refusals - left);
    until("every refusal is counted", || gate.metrics().contains(&counted));
}
