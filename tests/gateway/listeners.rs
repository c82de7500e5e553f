//! Listeners, and whose reports about clients are trusted.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use saltgate::parts::Clock;
use saltgate::parts::Config;
use saltgate::parts::Gateway;
use saltgate::parts::ListenAddress;

use crate::harness::{Files, Gate, Latch, PATIENCE, SEGMENT, Upstream, deleting_after, service, signed, until};
use crate::http::{Kept, Request, connect, delete, get, next_answer, read_until_closed, values};
use crate::operations::Process;
use crate::spoken::{BOTH, Caller, Spoken};

/// A deletion, after these bytes.
fn request(before: &[u8], fields: &str) -> Vec<u8> {
    let head = Request::delete(&signed("OWNER")).fields(fields).closing().http1();
    [before, head.as_bytes()].concat()
}

fn send(address: SocketAddr, bytes: &[u8]) -> u16 {
    let mut stream = connect(address);
    let _ = stream.write_all(bytes);
    read_until_closed(&mut stream).status
}

/// The client address that the upstream got with the last deletion.
fn forwarded_for(upstream: &Upstream) -> Option<String> {
    let seen = upstream.last.lock().unwrap();
    let deletion = seen.iter().rfind(|seen| seen.method == "DELETE").unwrap();
    values(&deletion.head, "x-forwarded-for").next().map(str::to_owned)
}

fn gate(upstream: &Upstream, listeners: &str, more: &str) -> Gate {
    let files = Files::new(upstream.address, more);
    files.listen(listeners);
    Gate::by(files)
}

#[test]
fn a_port_and_a_unix_socket_lead_to_the_same_gateway() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let listeners = "[[listener]]\naddress = \"127.0.0.1:0\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n\
                     [[listener]]\naddress = \"unix:gate.sock\"\nmode = \"0640\"\n";
    let mut gate = gate(&upstream, listeners, "");
    let socket = gate.files.dir.path().join("gate.sock");
    let addresses = gate.gateway().addresses();
    assert_eq!(addresses.len(), 3);
    for address in &addresses {
        if let ListenAddress::Tcp(address) = address {
            assert_eq!(delete(*address, &signed("OWNER")).status, 200);
            assert_eq!(forwarded_for(&upstream).as_deref(), Some("127.0.0.1"));
        }
    }
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o640);
    let by_socket = |fields: &str| {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&request(b"", fields)).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    let told = by_socket("X-Forwarded-For: 192.0.2.1\r\n");
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    assert_eq!(forwarded_for(&upstream), None, "there is no address, and none is made up");
    assert_eq!(upstream.deletes(), 3);
    assert!(gate.files.record().iter().any(|line| line["client"].is_null() && line["segment"] == SEGMENT));

    let second = Gateway::start(Config::load(&gate.files.path()).unwrap(), Clock::system()).err().unwrap();
    assert!(second.to_string().contains("gate.sock is in use"), "{second}");
    assert!(by_socket("").starts_with("HTTP/1.1 200"), "the second has not taken it away");
    assert!(gate.drain());
    assert!(!socket.exists(), "it goes with the gateway");
}

#[test]
fn a_reload_does_not_touch_the_target_of_a_link_at_the_socket_path() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let listener = |mode: &str| format!("[[listener]]\naddress = \"unix:gate.sock\"\nmode = \"{mode}\"\n");
    let mut gate = gate(&upstream, &listener("0640"), "");
    let dir = gate.files.dir.path().to_owned();
    let (socket, precious) = (dir.join("gate.sock"), dir.join("precious"));
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    gate.files.listen(&listener("0660"));
    gate.reload().unwrap();
    assert_eq!(mode(&socket), 0o660);
    std::fs::write(&precious, "precious").unwrap();
    std::fs::set_permissions(&precious, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::remove_file(&socket).unwrap();
    std::os::unix::fs::symlink(&precious, &socket).unwrap();
    gate.files.listen(&listener("0666"));
    gate.reload().unwrap();
    assert_eq!(mode(&precious), 0o600);
    assert!(gate.drain());
    assert_eq!((mode(&precious), std::fs::read(&precious).unwrap().as_slice()), (0o600, &b"precious"[..]));
    assert!(socket.is_symlink(), "the link is not ours to remove");
}

#[test]
fn a_required_proxy_header_sets_the_client() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let listeners = "[[listener]]\naddress = \"127.0.0.1:0\"\nproxy_protocol = \"required\"\n";
    let gate = gate(&upstream, listeners, "[limits]\nheader_timeout = \"300ms\"\n");
    let v2 = |command: u8, family: u8, body: &[u8]| {
        let head =
            [b"\r\n\r\n\0\r\nQUIT\n", &[0x20 | command, family, 0, u8::try_from(body.len()).unwrap()][..]].concat();
        [&head, body].concat()
    };
    let long = |length: u16| {
        let head = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11"[..], &length.to_be_bytes()].concat();
        let mut body = vec![192, 0, 2, 9, 10, 0, 0, 1, 0, 80, 1, 187, 0x20];
        body.resize(usize::from(length), 0xEE);
        [head, body].concat()
    };
    let with_more = v2(1, 0x11, &[192, 0, 2, 8, 10, 0, 0, 1, 0, 80, 1, 187, 0xEE, 0, 1, 0]);
    for (header, client) in [
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n".to_vec(), "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 ::1 56324 443\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (with_more, "192.0.2.8"),
        (long(6000), "192.0.2.9"),
        (long(16 << 10), "192.0.2.9"),
        (v2(0, 0, &[]), "127.0.0.1"),
    ] {
        assert_eq!(send(gate.address(), &request(&header, "")), 200, "{client}");
        assert_eq!(forwarded_for(&upstream).as_deref(), Some(client));
    }
    let deleted = upstream.deletes();
    let too_long = long((16 << 10) + 1);
    for wrong in
        [&b""[..], b"PROXY TCP4 192.0.2.7 10.0.0.1 1\r\n", b"PROXY TCP4 x y 1 2\r\n", &v2(1, 0x12, &[1; 12]), &too_long]
    {
        assert_eq!(send(gate.address(), &request(wrong, "")), 0, "closed without a word");
    }
    let refused = "saltgate_connections_refused_total{reason=\"proxy_header\"} 5";
    until("they are counted", || gate.metrics().contains(refused));
    // Byte by byte it is the same header, and an incomplete one is not awaited forever.
    let mut slow = TcpStream::connect(gate.address()).unwrap();
    slow.set_nodelay(true).unwrap();
    for byte in b"PROXY TCP4 192.0.2.9 10.0.0.1 1 2\r\n" {
        slow.write_all(&[*byte]).unwrap();
    }
    slow.write_all(&request(b"", "")).unwrap();
    assert_eq!(read_until_closed(&mut slow).status, 200);
    assert_eq!(forwarded_for(&upstream).as_deref(), Some("192.0.2.9"));
    assert_eq!(send(gate.address(), b"PROXY TCP4 192.0"), 0);
    until("it is counted", || gate.metrics().contains("saltgate_connections_refused_total{reason=\"too_slow\"} 1"));
    assert_eq!(upstream.deletes(), deleted + 1);
}

#[test]
fn only_a_trusted_proxy_may_send_the_proxy_header() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let listeners = "[[listener]]\naddress = \"127.0.0.1:0\"\nproxy_protocol = \"required\"\ntrusted_proxies = [\"192.0.2.0/24\"]\n";
    let strange = gate(&upstream, listeners, "");
    let header = b"PROXY TCP4 198.51.100.1 10.0.0.1 1 2\r\n";
    assert_eq!(send(strange.address(), &request(header, "")), 0);
    until("it is counted", || strange.metrics().contains("{reason=\"untrusted_proxy\"} 1"));
    let trusted = gate(&upstream, &listeners.replace("192.0.2.0/24", "127.0.0.0/8"), "");
    assert_eq!(send(trusted.address(), &request(header, "X-Forwarded-For: 192.0.2.66\r\n")), 200);
    let told = forwarded_for(&upstream);
    assert_eq!(told.as_deref(), Some("198.51.100.1"), "whom the header names is not trusted by that");
}

#[test]
fn x_forwarded_for_counts_only_from_trusted_proxies() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let plain = gate(&upstream, "[[listener]]\naddress = \"127.0.0.1:0\"\n", "");
    assert_eq!(send(plain.address(), &request(b"", "X-Forwarded-For: 192.0.2.1\r\n")), 200);
    assert_eq!(forwarded_for(&upstream).as_deref(), Some("127.0.0.1"), "nobody is trusted by default");
    let listeners = "[[listener]]\naddress = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]\n";
    let gate = gate(&upstream, listeners, "");
    for (fields, client) in [
        ("", "127.0.0.1"),
        ("X-Forwarded-For: 203.0.113.9, 192.0.2.1, 10.1.1.1\r\n", "192.0.2.1"),
        ("X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 10.1.1.1\r\n", "192.0.2.1"),
        ("X-Forwarded-For: 192.0.2.1, nonsense\r\n", "127.0.0.1"),
        ("X-Forwarded-For: \u{e9}, 192.0.2.1, 10.1.1.1\r\n", "192.0.2.1"),
        ("X-Forwarded-For: \u{e9}\r\nX-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1"),
        ("Forwarded: for=192.0.2.1\r\n", "127.0.0.1"),
    ] {
        assert_eq!(send(gate.address(), &request(b"", fields)), 200);
        assert_eq!(forwarded_for(&upstream).as_deref(), Some(client), "{fields}");
    }
    let record = gate.files.record();
    assert!(record.iter().any(|line| line["client"] == "192.0.2.1"), "the record says so too");
}

#[test]
fn no_client_has_more_connections_than_its_share() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let limits = "[limits]\nmax_connections_per_client = 2\n";
    let listeners = "[[listener]]\naddress = \"127.0.0.1:0\"\n[[listener]]\naddress = \"127.0.0.1:0\"\nproxy_protocol = \"required\"\n\
                     [[listener]]\naddress = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.1\"]\n";
    let mut gate = gate(&upstream, listeners, limits);
    let addresses: Vec<SocketAddr> =
        gate.gateway().addresses().iter().map(|a| a.to_string().parse().unwrap()).collect();
    let [plain, proxied, trusted] = addresses[..] else { panic!("three listeners") };
    let mut held: Vec<Kept> = (0..2).map(|_| Kept::to(plain)).collect();
    held.iter_mut().for_each(|held| assert_eq!(held.delete(&signed("OWNER")), 200));
    assert_eq!(delete(plain, &signed("OWNER")).status, 0, "the third is closed");
    until("it is counted", || gate.metrics().contains("{reason=\"client_share\"} 1"));
    assert!(gate.metrics().contains("saltgate_connections 2"));
    // Behind a proxy, clients are counted and not the proxy.
    for client in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
        let header = format!("PROXY TCP4 {client} 10.0.0.1 1 2\r\n");
        assert_eq!(send(proxied, &request(header.as_bytes(), "")), 200);
    }
    let mut of_one: Vec<TcpStream> = (0..2).map(|_| TcpStream::connect(proxied).unwrap()).collect();
    for stream in &mut of_one {
        let kept = String::from_utf8(request(b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n", "")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(kept.replace("Connection: close\r\n", "").as_bytes()).unwrap();
        assert_eq!(next_answer(stream).status, 200);
    }
    assert!(gate.metrics().contains("saltgate_connections 4"), "both are kept");
    let neighbour = b"PROXY TCP6 2001:db8::ffff:1 ::1 1 2\r\n";
    until("a neighbour in the same /64 is closed", || send(proxied, &request(neighbour, "")) == 0);
    // A trusted proxy is not counted as one client.
    let mut many: Vec<Kept> = (0..5).map(|_| Kept::to(trusted)).collect();
    many.iter_mut().for_each(|held| assert_eq!(held.delete(&signed("OWNER")), 200));
    held.pop();
    until("who leaves makes room", || delete(plain, &signed("OWNER")).status == 200);
}

#[test]
fn a_full_gateway_lets_the_next_connection_wait() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let limits = "[limits]\nmax_connections = 1\n[runtime]\nworkers = 3\n";
    let gate = gate(&upstream, "[[listener]]\naddress = \"127.0.0.1:0\"\n", limits);
    let mut first = Kept::to(gate.address());
    assert_eq!(first.delete(&signed("OWNER")), 200);
    let address = gate.address();
    let waiting = std::thread::spawn(move || delete(address, &signed("OWNER")).status);
    assert_eq!(first.delete(&signed("OWNER")), 200);
    assert!(!waiting.is_finished());
    drop(first);
    assert_eq!(waiting.join().unwrap(), 200);
}

/// Deletes on kept connections until told to end, or until nobody listens any more. Returns how often; every status
/// must be 200.
fn load(spoken: Spoken, address: SocketAddr, ending: &Arc<AtomicBool>) -> std::thread::JoinHandle<usize> {
    let ending = ending.clone();
    std::thread::spawn(move || {
        let (mut served, mut kept) = (0, None);
        while !ending.load(Ordering::Relaxed) {
            if kept.as_ref().is_none_or(|kept: &Caller| !kept.is_open()) {
                let Ok(stream) = TcpStream::connect(address) else { break };
                kept = Some(spoken.on(stream));
            }
            let answer = match kept.as_mut().unwrap().ask(&Request::delete(&signed("OWNER"))) {
                Err(lost) if spoken == Spoken::Http2 && lost.was_not_taken() => {
                    kept = None;
                    continue;
                }
                answer => answer.unwrap(),
            };
            assert_eq!(answer.status, 200, "{spoken:?}");
            if answer.field("connection") == Some("close") {
                kept = None;
            }
            served += 1;
        }
        served
    })
}

#[test]
fn adding_and_removing_listeners_under_load_loses_no_request() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (stays, goes, comes) = (free(), free(), free());
    let listener = |address: SocketAddr| format!("[[listener]]\naddress = \"{address}\"\n");
    let files = Files::new(upstream.address, "");
    files.listen(&format!("{}{}", listener(stays), listener(goes)));
    let mut gate = Gate::by(files);
    let (ending, gone) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let at_stays: Vec<_> = (0..3).map(|n| load(BOTH[n % 2], stays, &ending)).collect();
    let at_goes: Vec<_> = (0..3).map(|n| load(BOTH[n % 2], goes, &gone)).collect();
    until("there is load", || upstream.deletes() > 50);

    gate.files.listen(&format!("{}{}trusted_proxies = [\"127.0.0.1\"]\n", listener(comes), listener(stays)));
    assert_eq!(gate.reload().unwrap(), [""; 0], "no listener needs a restart");
    // A program that another test starts also holds the sockets, between its fork and its exec.
    until("what is gone accepts no more", || TcpStream::connect(goes).is_err());
    // The clients were told, and have left by themselves.
    let mut served: usize = at_goes.into_iter().map(|thread| thread.join().unwrap()).sum();
    let at_comes = load(Spoken::Http2, comes, &ending);
    assert_eq!(send(stays, &request(b"", "X-Forwarded-For: 192.0.2.1\r\n")), 200);
    served += 1;
    let seen = upstream.last.lock().unwrap().clone();
    assert!(
        seen.iter().any(|seen| seen.head.to_lowercase().contains("x-forwarded-for: 192.0.2.1\r\n")),
        "it is by the new settings"
    );

    // An address that cannot be bound leaves everything unchanged, and nothing of the rest is applied.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let never = free();
    gate.files.listen(&format!("{}{}", listener(never), listener(other.local_addr().unwrap())));
    let told = gate.reload().unwrap_err();
    assert!(told.contains("listener.address") && told.contains("is in use"), "{told}");
    until("the new address is released", || TcpStream::connect(never).is_err());
    assert_eq!(gate.gateway().addresses().len(), 2);
    let so_far = upstream.deletes();
    until("the load goes on", || upstream.deletes() > so_far + 50);
    ending.store(true, Ordering::Relaxed);
    served += at_stays.into_iter().chain([at_comes]).map(|thread| thread.join().unwrap()).sum::<usize>();
    assert_eq!(upstream.deletes(), served);

    // A removed listener may return.
    gate.files.listen(&listener(goes));
    gate.reload().unwrap();
    assert_eq!(delete(goes, &signed("OWNER")).status, 200);
    assert!(TcpStream::connect(stays).is_err());
}

#[test]
fn a_request_on_a_removed_listener_is_answered() {
    BOTH.into_iter().for_each(is_answered_where_the_listener_goes);
}

fn is_answered_where_the_listener_goes(spoken: Spoken) {
    let answers = Latch::default();
    let upstream = Upstream::start(deleting_after(&answers));
    let mut gate = Gate::before(&upstream);
    let mut caller = spoken.connect(gate.address());
    caller.send(&Request::delete(&signed("OWNER")));
    until("it is under way", || upstream.deletes() == 1);
    gate.files.listen("[[listener]]\naddress = \"unix:gate.sock\"\n");
    gate.reload().unwrap();
    answers.open();
    let answer = caller.answer().unwrap();
    let announced = (spoken == Spoken::Http1).then_some("close");
    assert_eq!((answer.status, answer.field("connection")), (200, announced), "{spoken:?}");
    caller.ended();
}

#[test]
fn silent_connections_do_not_delay_a_drain_and_a_late_request_is_still_answered() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    for spoken in BOTH {
        let mut gate = Gate::before(&upstream);
        let silent = TcpStream::connect(gate.address()).unwrap();
        let late = TcpStream::connect(gate.address()).unwrap();
        until("both are there", || gate.metrics().contains("saltgate_connections 2"));
        let address = gate.address();
        let draining = std::thread::spawn(move || gate.drain());
        until("nothing more is accepted", || TcpStream::connect(address).is_err());
        let answer = spoken.on(late).ask(&Request::delete(&signed("OWNER")));
        assert_eq!(answer.unwrap().status, 200, "{spoken:?}");
        assert!(draining.join().unwrap(), "{spoken:?}");
        drop(silent);
    }
}

#[test]
fn a_drain_answers_requests_in_progress_and_closes_idle_connections() {
    for spoken in BOTH {
        let answers = Latch::default();
        let upstream = Upstream::start(deleting_after(&answers));
        let mut gate = Gate::patient(&upstream, "");
        let (mut busy, mut idle) = (spoken.connect(gate.address()), spoken.connect(gate.address()));
        assert_eq!(idle.ask(&Request::delete("HMAC-SHA256 x")).unwrap().status, 401);
        busy.send(&Request::delete(&signed("OWNER")));
        until("it is under way", || upstream.deletes() == 1);
        let draining = std::thread::spawn(move || gate.drain());
        idle.ended();
        answers.open();
        assert_eq!(busy.answer().unwrap().status, 200, "{spoken:?}");
        busy.ended();
        assert!(draining.join().unwrap(), "{spoken:?}: all of it ended by itself");
    }
}

#[test]
fn a_drain_announces_itself_while_it_still_accepts() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "[limits]\ndrain_delay = \"10m\"\n");
    let mut gate = Process::serve(&files);
    let (address, admin) = (gate.address(), gate.admin());
    let delete = |caller: &mut Caller| {
        let answer = caller.ask(&Request::delete(&signed("OWNER"))).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.head);
        answer.field("connection") == Some("close")
    };
    let mut early = BOTH.map(|spoken| spoken.connect(address));
    assert_eq!(early.each_mut().map(delete), [false; 2]);
    assert_eq!(early.each_mut().map(|caller| caller.is_open()), [true; 2]);
    gate.signal("-TERM");
    until("/ready says so", || get(admin, "/ready").status == 503);
    until("answers say so", || delete(&mut Spoken::Http1.connect(address)));
    // Existing connections are told as well: HTTP/1 with the next answer, HTTP/2 at once.
    let [by_http_1, by_http_2] = &mut early;
    assert!(delete(by_http_1));
    by_http_1.ended();
    by_http_2.ended();
    // HTTP/2 announces it together with the first answer.
    let mut late = Spoken::Http2.connect(address);
    delete(&mut late);
    late.ended();
    assert!(TcpStream::connect(address).is_ok(), "it still accepts");
    gate.signal("-TERM");
    gate.wait();
    assert!(TcpStream::connect(address).is_err());

    let mut gate = Gate::with(upstream.address, "[limits]\ndrain_delay = \"200ms\"\n", Clock::system());
    let address = gate.address();
    assert!(gate.drain(), "and ends by itself");
    assert!(TcpStream::connect(address).is_err());
}
