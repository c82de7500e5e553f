//! During each attack, valid requests are sent too, and all of them are answered. Memory and descriptors stay
//! within a limit, and return to their level before the attack.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use socket2::{Domain, Socket, Type};

use crate::harness::{Files, PATIENCE, SEGMENT, Upstream, service, signed, until};
use crate::http::{Kept, Request, delete, get};
use crate::http2::{END_HEADERS, END_STREAM, HEADERS, PREFACE, RST_STREAM, SETTINGS, frame, head};
use crate::operations::Process;

/// How much memory an attack may use above the gateway's level before it. An idle connection takes a few KiB,
/// somewhat more in a test build.
const MEMORY: u64 = 64 << 20;
/// How much more memory each further wave may take: freed memory must be reused.
const AGAIN: u64 = 8 << 20;
/// Settings with only this deadline short enough for a test to wait for. The others are as usual, because the customer must
/// meet them, too, on a machine that is busy with the attack.
fn short(deadline: &str) -> String {
    format!("[limits]\n{deadline} = \"2s\"\n[ownership.delegate]\n")
}

/// A busy machine may need a while to open all connections of an attack. The memory for repeats of the customer's deletions is
/// limited, because it does not belong to the attack.
const PATIENT: &str = "[limits]\nheader_timeout = \"60s\"\n[replay]\nmax_repeats = 100\n[replay.memory]\nwhen_new = \"accept\"\n[ownership.delegate]\n";

/// More than the buffers of two sockets hold. One copy for all connections.
static LARGE: [u8; 32 << 20] = [0; 32 << 20];

/// Attacks run one at a time, because their effects could not be distinguished otherwise.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A gateway in its own process, with a customer who keeps deleting.
struct Attack {
    process: Process,
    upstream: Upstream,
    before: Taken,
    customer: Option<std::thread::JoinHandle<()>>,
    served: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    _files: Files,
    _alone: MutexGuard<'static, ()>,
}

/// The resources that a process uses.
#[derive(Clone, Copy, Debug)]
struct Taken {
    memory: u64,
    descriptors: usize,
}

impl Taken {
    fn by(process: u32, what: &str) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
        let kilobytes: u64 = line.trim_matches([':', '\t', ' ']).split(' ').next().unwrap().parse().unwrap();
        let descriptors = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().count();
        Self { memory: kilobytes << 10, descriptors }
    }
}

impl Attack {
    fn on_a_gateway_with(more: &str) -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let ordinary = service("account-1", "member-1");
        let upstream = Upstream::start(Arc::new(move |seen, stream| match seen.target.as_str() {
            "/large" => {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", LARGE.len());
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&LARGE));
            }
            _ => ordinary(seen, stream),
        }));
        let files = Files::new(upstream.address, more);
        let process = Process::serve(&files);
        let address = process.address();
        let (served, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let customer = {
            let (served, over) = (served.clone(), over.clone());
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    // Each on a connection of its own: new clients must be let in during the attack.
                    assert_eq!(delete(address, &signed("OWNER")).status, 200, "a good request beside the attack");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        until("the customer is served", || served.load(Ordering::Relaxed) >= 5);
        let before = Taken::by(process.child.id(), "VmRSS");
        Self { process, upstream, before, customer: Some(customer), served, over, _files: files, _alone: alone }
    }

    fn address(&self) -> SocketAddr {
        self.process.address()
    }

    /// Checks that the customer is still served.
    fn still_serves(&self) {
        let served = self.served.load(Ordering::Relaxed);
        until("the customer is still served", || {
            self.served.load(Ordering::Relaxed) >= served + 5 || self.customer.as_ref().unwrap().is_finished()
        });
    }

    /// The attack is over: everything must be as before.
    fn end(mut self) {
        self.still_serves();
        self.over.store(true, Ordering::Relaxed);
        self.customer.take().unwrap().join().unwrap();
        let (process, before) = (self.process.child.id(), self.before);
        let peak = Taken::by(process, "VmHWM").memory;
        assert!(peak < before.memory + MEMORY, "at its peak it held {} MiB more", (peak - before.memory) >> 20);
        until("descriptors come back", || Taken::by(process, "VmRSS").descriptors <= before.descriptors + 4);
        assert_eq!(self.upstream.deletes(), self.served.load(Ordering::Relaxed), "nothing but the customer's");
    }
}

/// A connection from one of many addresses, because an attacker has more than one.
fn from(n: usize, gate: SocketAddr) -> TcpStream {
    from_with_buffer(n, gate, None)
}

/// Like [`from`], with a receive buffer of this size in bytes. A hundred buffers without a limit would fill the machine's memory
/// for sockets.
fn from_with_buffer(n: usize, gate: SocketAddr, receive_buffer: Option<usize>) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes).unwrap();
    }
    let [a, b] = u16::try_from(n / 200 + 256).unwrap().to_be_bytes();
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 1, a, b), 0)).into()).unwrap();
    socket.connect(&gate.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Waits until the gateway has closed a connection, and returns what it sent.
fn closed(mut stream: TcpStream) -> String {
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn five_thousand_idle_connections_leak_nothing() {
    let attack = Attack::on_a_gateway_with(PATIENT);
    let process = attack.process.child.id();
    let wave = || {
        let idle: Vec<TcpStream> = (0..5_000).map(|n| from(n, attack.address())).collect();
        until("all of them are in", || Taken::by(process, "VmRSS").descriptors >= attack.before.descriptors + 5_000);
        attack.still_serves();
        drop(idle);
        until("all of them are gone", || Taken::by(process, "VmRSS").descriptors <= attack.before.descriptors + 4);
        Taken::by(process, "VmHWM").memory
    };
    let peaks = [wave(), wave(), wave()];
    // A leak shows after every wave; a one-time difference in memory layout does not.
    let least = peaks.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).min().unwrap();
    assert!(least < AGAIN, "each further wave took {} KiB more", least >> 10);
    attack.end();
}

#[test]
fn idle_connections_are_closed_in_time() {
    let attack = Attack::on_a_gateway_with(&short("header_timeout"));
    let idle: Vec<TcpStream> = (0..500).map(|n| from(n, attack.address())).collect();
    for stream in idle {
        assert_eq!(closed(stream), "", "nobody asked for anything");
    }
    attack.end();
}

#[test]
fn slow_heads_are_timed_out() {
    let attack = Attack::on_a_gateway_with(&short("header_timeout"));
    let mut slow: Vec<TcpStream> = (0..500).map(|n| from(n, attack.address())).collect();
    let head = format!("{}X: ", Request::new("DELETE", &format!("/crm-core/v1/segments/{SEGMENT}")).unfinished());
    for round in 0..30 {
        for stream in &mut slow {
            let byte = head.as_bytes().get(round).copied().unwrap_or(b'x');
            let _ = stream.write_all(&[byte]);
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let timed_out = slow.into_iter().map(closed).filter(|said| said.starts_with("HTTP/1.1 408")).count();
    // A client that writes after the end may lose the answer to a reset.
    assert!(timed_out > 0, "a slow head gets 408");
    attack.end();
}

#[test]
fn slow_bodies_are_timed_out() {
    let attack = Attack::on_a_gateway_with(&short("body_timeout"));
    let mut slow: Vec<TcpStream> = (0..500).map(|n| from(n, attack.address())).collect();
    for stream in &mut slow {
        let head = Request::delete(&signed("MEMBER")).field("Content-Length", "100").unfinished();
        stream.write_all(format!("{head}\r\nx").as_bytes()).unwrap();
    }
    attack.still_serves();
    for stream in slow {
        let said = closed(stream);
        // 429: requests of other keys still get slots.
        assert!(said.starts_with("HTTP/1.1 408") || said.starts_with("HTTP/1.1 429"), "{said}");
    }
    attack.end();
}

#[test]
fn slow_readers_are_disconnected() {
    let large = "[passthrough]\nmethods = [\"GET\"]\nprefixes = [\"/large\"]\n";
    let attack = Attack::on_a_gateway_with(&format!("{}{large}", short("write_timeout")));
    let mut slow: Vec<TcpStream> = (0..100).map(|n| from_with_buffer(n, attack.address(), Some(64 << 10))).collect();
    // They request more than the buffers in between can hold, and read nothing.
    for stream in &mut slow {
        stream.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    until("all of them are asked for", || attack.upstream.gets() == slow.len());
    attack.still_serves();
    let process = attack.process.child.id();
    until("clients that do not read are disconnected", || {
        Taken::by(process, "VmRSS").descriptors <= attack.before.descriptors + 4
    });
    for stream in slow {
        assert!(closed(stream).len() < LARGE.len(), "it was cut off");
    }
    attack.end();
}

#[test]
fn header_floods() {
    let attack = Attack::on_a_gateway_with(PATIENT);
    for n in 0..500 {
        let mut stream = from(n, attack.address());
        let flood: String = match n % 3 {
            0 => format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(1 << 20)),
            1 => format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(50_000)),
            _ => format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(1 << 20)),
        };
        let _ = stream.write_all(flood.as_bytes());
        let _ = stream.shutdown(Shutdown::Write);
        let said = closed(stream);
        let status = if n % 3 == 2 { "HTTP/1.1 414" } else { "HTTP/1.1 431" };
        // A client that writes after the end may lose the answer to a reset.
        assert!(said.is_empty() || said.starts_with(status), "{n}: {said}");
    }
    attack.end();
}

#[test]
fn connection_churn() {
    let attack = Attack::on_a_gateway_with(PATIENT);
    for n in 0..10_000 {
        let stream = from(n, attack.address());
        // Every second connection ends with a reset.
        if n % 2 == 0 {
            socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        }
        drop(stream);
    }
    attack.end();
}

/// Sends this many requests with these bytes over several connections, each answered before the next.
fn repeated(attack: &Attack, total: usize, request: &(dyn Fn() -> String + Sync)) -> Vec<(u16, usize)> {
    const CONNECTIONS: usize = 8;
    let address = attack.address();
    let one = |n: usize| {
        let mut counts = std::collections::BTreeMap::new();
        let mut kept = Kept::to(address);
        for _ in 0..total / CONNECTIONS + usize::from(n < total % CONNECTIONS) {
            *counts.entry(kept.delete(&request())).or_insert(0) += 1;
        }
        counts
    };
    let all = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS).map(|n| scope.spawn(move || one(n))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let mut sums = std::collections::BTreeMap::new();
    all.into_iter().flatten().for_each(|(status, count)| *sums.entry(status).or_insert(0) += count);
    sums.into_iter().collect()
}

#[test]
fn a_hundred_thousand_wrong_signatures_are_refused_or_throttled() {
    let attack = Attack::on_a_gateway_with(PATIENT);
    let good = signed("OWNER");
    let wrong = format!("{}{}", &good[..good.len() - 64], "0".repeat(64));
    let answers = repeated(&attack, 100_000, &|| wrong.clone());
    let [(401, refused), (429, throttled)] = answers[..] else { panic!("{answers:?}") };
    assert_eq!(refused + throttled, 100_000);
    // A thousand at once, plus those that the budget regains meanwhile; the customer has the same address.
    assert!((1_000..50_000).contains(&refused), "{answers:?}");
    attack.end();
}

#[test]
fn one_captured_header_a_hundred_thousand_times() {
    let attack = Attack::on_a_gateway_with(PATIENT);
    let captured = signed("MEMBER");
    let answers = repeated(&attack, 100_000, &|| captured.clone());
    assert_eq!(answers, [(200, 1), (401, 99_999)]);
    attack.served.fetch_add(1, Ordering::Relaxed);
    attack.end();
}

#[test]
fn rapid_resets_of_http_2() {
    const ATTACKERS: usize = 20;
    // Each client opens a stream and resets it, again and again, whether or not it is answered.
    let attack = Attack::on_a_gateway_with(PATIENT);
    let address = attack.address();
    let reset_streams = |n: usize| {
        let mut stream = from(n, address);
        stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).unwrap();
        let mut reading = stream.try_clone().unwrap();
        // The answers are read, so that only the gateway can stop the attack.
        let closed = std::thread::spawn(move || std::io::copy(&mut reading, &mut std::io::sink()));
        let request = head("DELETE", &[(":authority", "gate"), ("authorization", "HMAC-SHA256 x")]);
        let burst = |burst: u32| -> Vec<u8> {
            let one = |id| {
                let reset = frame(RST_STREAM, 0, id, &[0, 0, 0, 8]);
                [frame(HEADERS, END_HEADERS | END_STREAM, id, &request), reset].concat()
            };
            (0..100).flat_map(|n| one(200 * burst + 2 * n + 1)).collect()
        };
        let cut_off = (0..500).any(|n| stream.write_all(&burst(n)).is_err());
        drop(closed.join().unwrap());
        cut_off
    };
    let cut_off = std::thread::scope(|scope| {
        let attackers: Vec<_> = (0..ATTACKERS).map(|n| scope.spawn(move || reset_streams(n))).collect();
        attack.still_serves();
        attackers.into_iter().map(|attacker| attacker.join().unwrap()).filter(|cut| *cut).count()
    });
    assert_eq!(cut_off, ATTACKERS, "every one of them is cut off long before its end");
    let metrics = get(attack.process.admin(), "/metrics").body;
    assert!(metrics.contains("saltgate_connections_refused_total{reason=\"flood\"}"), "{metrics}");
    attack.end();
}
