//! Reloaded settings apply to open connections, over both protocols.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::{Files, Gate, Upstream, but_delete, service, signed, until};
use crate::http::{Request, connect, next_answer, read_until_closed};
use crate::http2::{DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, Raw, frame, head};
use crate::spoken::{BOTH, Caller, Spoken};

const LISTENER: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\n";

fn gate(upstream: &Upstream, limits: &str) -> Gate {
    Gate::by(Files::new(upstream.address, &format!("[limits]\n{limits}[ownership.delegate]\n")))
}

/// Reloads with these limits, none of which needs a restart.
fn reload(gate: &mut Gate, upstream: &Upstream, limits: &str) {
    gate.files.configure(upstream.address, &format!("[limits]\n{limits}[ownership.delegate]\n"));
    assert_eq!(gate.reload().unwrap(), [""; 0], "{limits}");
}

/// An HTTP/1.1 connection that stays open.
struct One(TcpStream);

impl One {
    fn to(gate: &Gate) -> Self {
        Self(connect(gate.address()))
    }

    fn send(&mut self, fields: &str) {
        let request = Request::delete(&signed("OWNER")).fields(fields).http1();
        self.0.write_all(request.as_bytes()).unwrap();
    }

    fn status(&mut self) -> u16 {
        next_answer(&mut self.0).status
    }

    fn delete(&mut self) -> u16 {
        self.send("");
        self.status()
    }
}

fn with_field(bytes: usize) -> Request {
    Request::delete(&signed("OWNER")).field("x", &"x".repeat(bytes))
}

fn with_query(bytes: usize) -> Request {
    Request::delete(&signed("OWNER")).query(&"q".repeat(bytes))
}

#[test]
fn a_reload_raises_the_limits_of_heads_and_targets() {
    for spoken in BOTH {
        larger(spoken, "max_header_bytes", with_field, 431);
        larger(spoken, "max_target_bytes", with_query, 414);
    }
}

fn larger(spoken: Spoken, setting: &str, large: fn(usize) -> Request, status: u16) {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let mut gate = gate(&upstream, &format!("{setting} = \"2KiB\"\n"));
    let address = gate.address();
    let told = |caller: &mut Caller, ask: Request| caller.ask(&ask).unwrap().status;
    let mut caller = spoken.connect(address);
    assert_eq!(told(&mut caller, Request::delete(&signed("OWNER"))), 200, "{spoken:?}: {setting}");
    // HTTP/1 refuses such a head and closes its connection.
    let mut refused = spoken.connect(address);
    assert_eq!(told(&mut refused, large(10 << 10)), status, "{spoken:?}: {setting}");
    reload(&mut gate, &upstream, &format!("{setting} = \"12KiB\"\n"));
    // The same connections.
    assert_eq!(told(&mut caller, large(10 << 10)), 200, "{spoken:?}: {setting}");
    if spoken == Spoken::Http2 {
        assert_eq!(told(&mut refused, large(10 << 10)), 200, "{setting}");
    }
    reload(&mut gate, &upstream, &format!("{setting} = \"60KiB\"\n"));
    match spoken {
        // However much larger it is.
        Spoken::Http1 => assert_eq!(told(&mut caller, large(50 << 10)), 200, "{setting}"),
        // A connection of HTTP/2 cannot raise its own limit that far: it is told to end, loses nothing, and the
        // next one has the new limit.
        Spoken::Http2 => caller.ended(),
    }
    assert_eq!(spoken.ask(address, &large(50 << 10)).status, 200, "{spoken:?}: {setting}");
    // A lower limit applies at once.
    let mut caller = spoken.connect(address);
    assert_eq!(told(&mut caller, large(50 << 10)), 200, "{spoken:?}: {setting}");
    reload(&mut gate, &upstream, &format!("{setting} = \"2KiB\"\n"));
    assert_eq!(told(&mut caller, large(10 << 10)), status, "{spoken:?}: {setting}");
}

#[test]
fn a_body_has_the_timeout_in_force_when_it_begins() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let mut gate = gate(&upstream, "header_timeout = \"300ms\"\nbody_timeout = \"300ms\"\n");
    let mut two = Raw::to(gate.address(), &[]);
    let header = signed("OWNER");
    let request = head("DELETE", &[(":authority", "gate"), ("authorization", &header)]);
    let whole = [frame(HEADERS, END_HEADERS, 1, &request), frame(DATA, END_STREAM, 1, &[b'x'; 10])].concat();
    let mut one = One::to(&gate);
    assert_eq!(one.delete(), 200);
    reload(&mut gate, &upstream, "header_timeout = \"300ms\"\nbody_timeout = \"20s\"\n");
    // One frame and one body that take longer than the limit at the start.
    one.send("Content-Length: 10\r\n");
    let (most, last) = whole.split_at(whole.len() - 5);
    two.send(most).unwrap();
    for byte in last {
        std::thread::sleep(Duration::from_millis(150));
        two.send(&[*byte]).unwrap();
        one.0.write_all(b"xx").unwrap();
    }
    assert_eq!(one.status(), 200);
    let (kind, _, payload) = two.until(|kind, stream| stream == 1 || kind == GOAWAY).expect("an answer");
    assert!(kind == HEADERS && payload[..8].contains(&0x88), "{kind} {payload:?}");
    assert_eq!(upstream.deletes(), 3);
}

#[test]
fn connections_of_a_removed_listener_have_the_timeout_in_force() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let mut gate = gate(&upstream, "drain_timeout = \"1h\"\n");
    let mut callers = BOTH.map(|spoken| spoken.connect(gate.address()));
    for caller in &mut callers {
        assert_eq!(caller.ask(&Request::delete(&signed("OWNER"))).unwrap().status, 200);
    }
    // The listener is removed, and then a reload sets how long its connections are awaited.
    gate.files.listen("[[listener]]\naddress = \"unix:other.sock\"\n");
    assert_eq!(gate.reload().unwrap(), [""; 0]);
    let text = std::fs::read_to_string(gate.files.path()).unwrap();
    std::fs::write(gate.files.path(), text.replace("\"1h\"", "\"200ms\"")).unwrap();
    assert_eq!(gate.reload().unwrap(), [""; 0]);
    // Then they end, although nothing arrived on them.
    callers.iter_mut().for_each(Caller::ended);
}

#[test]
fn connections_that_are_waiting_have_the_timeouts_in_force() {
    const LONG: &str = "header_timeout = \"1h\"\nwrite_timeout = \"1h\"\nidle_timeout = \"1h\"\n";
    let large = "x".repeat(32 << 20);
    let upstream = Upstream::start(but_delete(move |stream| crate::harness::answer(stream, "200 OK", "", &large)));
    let short = |setting: &str| LONG.replace(&format!("{setting} = \"1h\""), &format!("{setting} = \"200ms\""));
    let request = || {
        let header = signed("OWNER");
        let request = head("DELETE", &[(":authority", "gate"), ("authorization", &header)]);
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &request)
    };
    let refused = || frame(HEADERS, END_HEADERS | END_STREAM, 1, &head("DELETE", &[(":authority", "gate")]));
    let open = |gate: &Gate| {
        let mut one = One::to(gate);
        one.0.write_all(b"GET /x HTTP/1.1\r\nHost: g\r\nContent-Length: 0\r\n\r\n").unwrap();
        assert_eq!(one.status(), 401);
        let mut two = Raw::to(gate.address(), &[]);
        two.send(&refused()).unwrap();
        assert!(two.until(|kind, stream| stream == 1 && kind == DATA).is_some());
        (one, two)
    };
    let files = |limits: &str| {
        let files = Files::new(upstream.address, &format!("[limits]\n{limits}[ownership.delegate]\n"));
        files.listen(&format!("{LISTENER}keep_alive = \"always\"\n"));
        files
    };
    let reload = |gate: &mut Gate, limits: &str| {
        gate.files.configure(upstream.address, &format!("[limits]\n{limits}[ownership.delegate]\n"));
        gate.files.listen(&format!("{LISTENER}keep_alive = \"always\"\n"));
        assert_eq!(gate.reload().unwrap(), [""; 0], "{limits}");
    };

    // For a head and for a frame.
    let mut gate = Gate::by(files(LONG));
    let (mut one, mut two) = open(&gate);
    reload(&mut gate, &short("header_timeout"));
    one.0.write_all(b"GET /ha").unwrap();
    assert_eq!(read_until_closed(&mut one.0).status, 408);
    two.send(&frame(HEADERS, END_HEADERS, 3, b"half")[..11]).unwrap();
    while two.next().is_some() {}

    // For the next message.
    let mut gate = Gate::by(files(LONG));
    let (mut one, mut two) = open(&gate);
    reload(&mut gate, &short("idle_timeout"));
    one.0.write_all(b"GET /x HTTP/1.1\r\nHost: g\r\n\r\n").unwrap();
    assert_eq!(read_until_closed(&mut one.0).status, 401);
    while two.next().is_some() {}

    // For reading what is written.
    let mut gate = Gate::by(files(LONG));
    let (mut one, _) = open(&gate);
    // No window for an answer.
    let mut two = Raw::to(gate.address(), &[0, 4, 0, 0, 0, 0]);
    two.send(&request()).unwrap();
    assert!(two.until(|kind, _| kind == HEADERS).is_some());
    reload(&mut gate, &short("write_timeout"));
    one.send("");
    while let Some((kind, ..)) = two.next() {
        assert_ne!(kind, DATA);
        if kind == PING {
            let _ = two.send(&frame(PING, 1, 0, &[0; 8]));
        }
        if kind == RST_STREAM || kind == GOAWAY {
            break;
        }
    }
    until("nobody is waited for any more", || gate.metrics().contains("saltgate_connections 0"));
    let mut taken = Vec::new();
    let _ = one.0.read_to_end(&mut taken);
    assert!(taken.len() < 32 << 20, "the whole answer came");
}

#[test]
fn settings_that_need_a_restart_are_named() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let mut gate = gate(&upstream, "");
    for setting in ["max_connections", "max_connections_per_client", "max_in_flight", "max_in_flight_per_key"] {
        gate.files.configure(upstream.address, &format!("[limits]\n{setting} = 99\n[ownership.delegate]\n"));
        assert!(gate.reload().unwrap().contains(&format!("limits.{setting}")));
    }
    for spoken in BOTH {
        let ask = Request::delete(&signed("OWNER")).text("x");
        assert_eq!(spoken.ask(gate.address(), &ask).status, 200, "{spoken:?}");
    }
}

#[test]
fn a_proxy_that_is_no_longer_trusted_loses_trust_on_open_connections() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "[ownership.delegate]\n");
    files.listen(&format!("{LISTENER}trusted_proxies = [\"127.0.0.0/8\"]\n"));
    let mut gate = Gate::by(files);
    let told = || {
        let seen = upstream.last.lock().unwrap();
        let head = seen.iter().rfind(|seen| seen.method == "DELETE").unwrap().head.to_lowercase();
        head.lines().find_map(|line| line.strip_prefix("x-forwarded-for: ").map(str::to_owned)).unwrap()
    };
    let mut callers = BOTH.map(|spoken| (spoken, spoken.connect(gate.address())));
    let forwarded = || Request::delete(&signed("OWNER")).field("x-forwarded-for", "192.0.2.1");
    for (spoken, caller) in &mut callers {
        assert_eq!(caller.ask(&forwarded()).unwrap().status, 200, "{spoken:?}");
        assert_eq!(told(), "192.0.2.1", "{spoken:?}");
    }
    // A reload that does not change the listener closes no connection.
    gate.reload().unwrap();
    for (spoken, caller) in &mut callers {
        assert_eq!(caller.ask(&forwarded()).unwrap().field("connection"), None, "{spoken:?}");
    }
    gate.files.listen(LISTENER);
    gate.reload().unwrap();
    // The next message on the same connection is judged on its own; settings that the connection began with cannot
    // change.
    for (spoken, caller) in &mut callers {
        let answer = caller.ask(&forwarded()).unwrap();
        assert_eq!((answer.status, told().as_str()), (200, "127.0.0.1"), "{spoken:?}");
        assert_eq!(answer.field("connection"), (*spoken == Spoken::Http1).then_some("close"));
        caller.ended();
    }
}
