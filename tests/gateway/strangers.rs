//! Clients without a valid signature can use only a bounded part of the gateway, and delay nobody.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use saltgate::parts::Clock;

use crate::crowded::{Front, STRANGERS, from, front};
use crate::harness::{PATIENCE, SEGMENT, Upstream, service, signed, until};
use crate::http::{Request, delete, read_answer};
use crate::http2::{Client, END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, frame, head};
use crate::tls::{self, BOTH};

/// How soon a deletion must be answered under any pressure.
const SOON: Duration = Duration::from_secs(2);
/// Few, so that few sockets fill the gateway.
const ROOM: usize = 48;
/// How many connections each of two strangers holds: together more than the limit, and each no more than its share.
const HELD: usize = 30;
/// How long a stranger waits before it opens the next connection. Each is held for a second and a half.
const EVERY: Duration = Duration::from_millis(50);

/// What strangers connect to.
struct Presses {
    plain: SocketAddr,
    proxied: SocketAddr,
    tls: SocketAddr,
    /// A spent header: all that a stranger can have of a caller's.
    spent: String,
}

impl Presses {
    const KINDS: usize = 9;

    /// Opens one more connection; the bytes are sent on it from time to time.
    fn open(&self, stranger: Ipv4Addr, kind: usize) -> (TcpStream, &'static [u8]) {
        let path = format!("/crm-core/v1/segments/{SEGMENT}");
        let delete = Request::new("DELETE", &path).unfinished();
        let request = head("DELETE", &[(":authority", "gate"), ("authorization", "Bearer x")]);
        let begun = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
        let (address, first, then): (_, Vec<u8>, &'static [u8]) = match kind % Self::KINDS {
            0 => (self.plain, Vec::new(), b""),
            1 => (self.plain, format!("{delete}X: ").into_bytes(), b"x"),
            // A body that does not arrive, once without a header and once with a header that somebody captured.
            2 => (self.plain, format!("{delete}Content-Length: 100\r\n\r\n").into_bytes(), b"x"),
            3 => {
                let head = format!("{delete}Authorization: {}\r\nContent-Length: 100\r\n\r\n", self.spent);
                (self.plain, head.into_bytes(), b"x")
            }
            4 => (self.plain, b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n\0\r\nPOST".repeat(50), b"GET / HTTP/1.1\r\n"),
            5 => {
                let streams = (0..40).flat_map(|n| frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &request));
                (self.plain, begun.into_iter().chain(streams).collect(), b"")
            }
            6 => (self.plain, [begun, frame(HEADERS, 0, 1, &request)].concat(), b""),
            // The head of a record that begins a handshake.
            7 => (self.tls, vec![22, 3, 1, 2, 0, 1, 0, 1], b"\0"),
            _ => (self.proxied, b"PROXY TCP4 192.0.2.1".to_vec(), b""),
        };
        let mut stream = from(stranger, address);
        // Writing fails if it is closed already.
        let _ = stream.write_all(&first);
        (stream, then)
    }

    /// Continues until told to end, and counts what it opened.
    fn press(&self, stranger: Ipv4Addr, opened: &AtomicUsize, over: &AtomicBool) {
        let mut held = VecDeque::new();
        for kind in 0.. {
            if over.load(Ordering::Relaxed) {
                return;
            }
            held.push_back(self.open(stranger, kind));
            opened.fetch_add(1, Ordering::Relaxed);
            if held.len() > HELD {
                held.pop_front();
            }
            for (stream, then) in &mut held {
                let _ = stream.write_all(then);
            }
            std::thread::sleep(EVERY);
        }
    }
}

/// The status of a deletion on a new connection, without a second attempt.
type Deletion = fn(&Front) -> u16;

const DELETIONS: [(&str, Deletion); 4] = [
    ("HTTP/1.1", |front| delete(front.plain, &signed("OWNER")).status),
    ("HTTP/2", |front| Client::by_prior_knowledge(front.plain).delete(&signed("OWNER")).status),
    ("HTTP/1.1 over TLS", |front| {
        let tcp = TcpStream::connect(front.tls).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut tls = tls::over(tcp, front.authority.client(None, BOTH), "a.example").unwrap();
        tls.write_all(Request::delete(&signed("OWNER")).closing().http1().as_bytes()).unwrap();
        read_answer(&mut tls).unwrap().status
    }),
    ("HTTP/2 over TLS", |front| Client::by_alpn(front.tls, &front.authority).delete(&signed("OWNER")).status),
];

#[test]
fn deletions_are_answered_promptly_while_strangers_flood_from_two_addresses() {
    const ROUNDS: usize = 8;
    let upstream = Upstream::start(service("account-1", "member-1"));
    let limits = format!("max_connections = {ROOM}\nheader_timeout = \"10s\"\nidle_timeout = \"1h\"\n");
    let pressed = front(&upstream, &limits);
    // A gateway without pressure shows how busy the machine is.
    let quiet = front(&upstream, "");
    let spent = signed("MEMBER");
    assert_eq!(pressed.gate.delete(&spent).status, 200);
    let presses = Presses { plain: pressed.plain, proxied: pressed.proxied, tls: pressed.tls, spent };
    let (opened, over, clock) = (AtomicUsize::new(0), AtomicBool::new(false), Clock::system());
    let mut done = 1;
    std::thread::scope(|scope| {
        let (presses, opened, over) = (&presses, &opened, &over);
        for stranger in STRANGERS {
            scope.spawn(move || presses.press(stranger, opened, over));
        }
        // Also if an assertion fails.
        let _over = Over(over);
        until("it is full", || pressed.gate.metrics().contains("evicted_total{limit=\"max_connections\"}"));
        for round in 0..ROUNDS {
            for (how, deletion) in DELETIONS {
                let took = |front| {
                    let began = clock.elapsed();
                    assert_eq!(deletion(front), 200, "{how}, round {round}");
                    clock.elapsed() - began
                };
                let (pressed, quiet) = (took(&pressed), took(&quiet));
                done += 2;
                assert!(
                    pressed < SOON + 2 * quiet,
                    "{how}, round {round}: {pressed:?}, and {quiet:?} where nobody presses"
                );
            }
        }
    });
    assert!(opened.load(Ordering::Relaxed) > 2 * HELD);
    assert_eq!(upstream.deletes(), done, "nothing but what was signed");
    until("what strangers held is released", || pressed.gate.metrics().contains("saltgate_connections 0\n"));
}

/// Ends the pressure, however the test ends.
struct Over<'o>(&'o AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn http_2_announces_a_limit_of_a_hundred_streams() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let front = front(&upstream, "");
    let mut stream = from(STRANGERS[0], front.plain);
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[3], SETTINGS, "they come first");
    let mut settings = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
    stream.read_exact(&mut settings).unwrap();
    // SETTINGS_MAX_CONCURRENT_STREAMS, which h2 enforces.
    let streams = settings.chunks(6).find(|setting| setting[..2] == [0, 3]);
    assert_eq!(streams, Some(&[0, 3, 0, 0, 0, 100][..]));
}
