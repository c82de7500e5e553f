//! When the limits of connections are reached: which connections are closed, which stay, and what is logged.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use saltgate::parts::Clock;
use socket2::{Domain, Socket, Type};

use crate::harness::{Files, Gate, PATIENCE, SEGMENT, Upstream, service, signed, until};
use crate::http::{Kept, Request, delete, get, read_until_closed};
use crate::http2::{Client, END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, frame, head};
use crate::operations::Process;
use crate::tls::{self, Authority, BOTH};

/// The addresses of two strangers.
pub const STRANGERS: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)];

/// A connection from this address.
pub fn from(address: Ipv4Addr, gate: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((address, 0)).into()).unwrap();
    socket.connect(&gate.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A gateway with a plain listener, one that requires the PROXY header, one with TLS, and one with HTTP/1 only.
pub struct Front {
    pub gate: Gate,
    pub authority: Authority,
    pub plain: SocketAddr,
    pub proxied: SocketAddr,
    pub tls: SocketAddr,
    pub only_http1: SocketAddr,
}

pub fn front(upstream: &Upstream, limits: &str) -> Front {
    let more = format!(
        "[runtime]\nworkers = 2\n[passthrough]\nmethods = [\"GET\"]\nprefixes = [\"/open/\"]\n[limits]\n{limits}"
    );
    let files = Files::new(upstream.address, &more);
    let authority = Authority::new();
    authority.write(files.dir.path(), "a", &["a.example"]);
    files.listen(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[[listener]]\naddress = \"127.0.0.1:0\"\nproxy_protocol = \"required\"\n\
         [[listener]]\naddress = \"127.0.0.1:0\"\n[listener.tls]\ncertificates = [{ chain = \"a.pem\", key = \"a.key\" }]\n\
         [[listener]]\naddress = \"127.0.0.1:0\"\nhttp2 = false\n",
    );
    let mut gate = Gate::by(files);
    let addresses: Vec<SocketAddr> =
        gate.gateway().addresses().iter().map(|a| a.to_string().parse().unwrap()).collect();
    let [plain, proxied, tls, only_http1] = addresses[..] else { panic!("four listeners") };
    Front { gate, authority, plain, proxied, tls, only_http1 }
}

/// A TLS connection on which nothing was sent yet.
fn shaken_hands(stream: TcpStream, front: &Front, protocol: &[u8]) -> tls::Tls {
    let mut client = front.authority.client(None, BOTH);
    client.alpn_protocols = vec![protocol.to_vec()];
    tls::over(stream, client, "a.example").unwrap()
}

const FOR_EVER: &str = "header_timeout = \"1h\"\nidle_timeout = \"1h\"\n";

#[test]
fn the_oldest_unauthenticated_connection_makes_room_for_a_new_one() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let half = format!("{}X: ", Request::new("DELETE", &format!("/crm-core/v1/segments/{SEGMENT}")).unfinished());
    let unsigned = head("DELETE", &[(":authority", "gate"), ("authorization", "Bearer x")]);
    let begun = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    let refused = [&begun[..], &frame(HEADERS, END_HEADERS | END_STREAM, 1, &unsigned)].concat();
    type Stall<'s> = Box<dyn Fn(&Front, Ipv4Addr) -> Box<dyn std::any::Any> + 's>;
    let says = |bytes: Vec<u8>| -> Stall<'_> {
        Box::new(move |front, stranger| {
            let mut stream = from(stranger, front.plain);
            let _ = stream.write_all(&bytes);
            Box::new(stream)
        })
    };
    let stalls: Vec<(&str, Stall<'_>)> = vec![
        ("nothing", says(Vec::new())),
        ("half a head", says(half.into_bytes())),
        ("half a preface", says(PREFACE[..9].to_vec())),
        ("HTTP/2 without a request", says(begun)),
        ("HTTP/2, refused", says(refused)),
        ("a head behind one that passes", says(b"GET /open/x HTTP/1.1\r\nHost: a\r\n\r\nGET /op".to_vec())),
        ("refused, and not closed", says(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec())),
        ("no PROXY header", Box::new(|front, stranger| Box::new(from(stranger, front.proxied)))),
        ("no handshake", Box::new(|front, stranger| Box::new(from(stranger, front.tls)))),
        (
            "a handshake and no more",
            Box::new(|front, stranger| Box::new(shaken_hands(from(stranger, front.tls), front, b"http/1.1"))),
        ),
        (
            "a handshake for HTTP/2 and no more",
            Box::new(|front, stranger| Box::new(shaken_hands(from(stranger, front.tls), front, b"h2"))),
        ),
    ];
    for (what, stall) in stalls {
        let front = front(&upstream, &format!("{FOR_EVER}max_connections = 8\n"));
        let mut caller = Kept::to(front.plain);
        assert_eq!(caller.delete(&signed("OWNER")), 200);
        let held: Vec<_> = (0..12).map(|n| stall(&front, STRANGERS[n % 2])).collect();
        until("it is full", || front.gate.metrics().contains("full_total{limit=\"max_connections\"}"));
        for _ in 0..3 {
            assert_eq!(delete(front.plain, &signed("OWNER")).status, 200, "{what}");
            assert_eq!(Client::by_prior_knowledge(front.plain).delete(&signed("OWNER")).status, 200, "{what}");
            assert_eq!(Client::by_alpn(front.tls, &front.authority).delete(&signed("OWNER")).status, 200, "{what}");
        }
        assert!(caller.is_open());
        assert_eq!(caller.delete(&signed("OWNER")), 200, "{what}: a caller's connection stays");
        let metrics = front.gate.metrics();
        assert!(metrics.contains("saltgate_connections_evicted_total{limit=\"max_connections\"}"), "{what}: {metrics}");
        assert!(metrics.contains("saltgate_connections_max 8"), "{what}: {metrics}");
        drop(held);
    }
}

#[test]
fn a_client_at_its_limit_loses_its_own_oldest_connection_and_no_other_client_does() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let front = front(&upstream, &format!("{FOR_EVER}max_connections_per_client = 3\n"));
    let mut neighbour = from(STRANGERS[1], front.plain);
    let mut silent: Vec<TcpStream> = (0..3).map(|_| from(STRANGERS[0], front.plain)).collect();
    until("all are in", || front.gate.metrics().contains("saltgate_connections 4"));
    let deletion = || Request::delete(&signed("OWNER")).closing().http1();
    let mut newcomer = from(STRANGERS[0], front.plain);
    newcomer.write_all(deletion().as_bytes()).unwrap();
    assert_eq!(read_until_closed(&mut newcomer).status, 200);
    let mut ask = |stream: &mut TcpStream| {
        // Writing may fail on a closed connection.
        let _ = stream.write_all(deletion().as_bytes());
        read_until_closed(stream).status
    };
    // Workers do not accept in the order in which the clients connected.
    let mut told: Vec<u16> = silent.iter_mut().map(&mut ask).collect();
    told.sort_unstable();
    assert_eq!(told, [0, 200, 200], "one of its own is closed");
    assert_eq!(ask(&mut neighbour), 200, "and nobody else's");
    let metrics = front.gate.metrics();
    for name in ["full", "evicted"] {
        let counted = format!("saltgate_connections_{name}_total{{limit=\"max_connections_per_client\"}} 1");
        assert!(metrics.contains(&counted), "{metrics}");
    }
}

#[test]
fn header_timeout_also_runs_before_the_first_byte() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let front = front(&upstream, "header_timeout = \"300ms\"\nidle_timeout = \"1h\"\n");
    let connect = |address| from(STRANGERS[0], address);
    let mut proxied = connect(front.proxied);
    proxied.write_all(b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2\r\n").unwrap();
    let streams = [connect(front.plain), connect(front.only_http1), proxied];
    for (n, mut stream) in streams.into_iter().enumerate() {
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "{n}: closed, and nothing said");
    }
    for protocol in [&b"http/1.1"[..], b"h2"] {
        let mut tls = shaken_hands(connect(front.tls), &front, protocol);
        // HTTP/2 begins with the gateway's settings.
        let mut said = Vec::new();
        let _ = tls.read_to_end(&mut said);
        assert!(protocol == b"h2" || said.is_empty());
    }
    until("all are gone", || front.gate.metrics().contains("saltgate_connections 0"));
}

#[test]
fn a_full_gateway_warns_once_a_minute() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let limits = "[limits]\nmax_connections = 4\nmax_connections_per_client = 3\n";
    let files = Files::new(upstream.address, limits);
    let process = Process::serve(&files);
    let held: Vec<TcpStream> = (0..8).map(|n| from(STRANGERS[n % 2], process.address())).collect();
    let metrics = || get(process.admin(), "/metrics").body;
    until("some were closed for others", || metrics().contains("evicted_total{limit=\"max_connections\"} 4"));
    let held: Vec<TcpStream> = held.into_iter().chain((0..8).map(|_| from(STRANGERS[0], process.address()))).collect();
    let of_client = "evicted_total{limit=\"max_connections_per_client\"}";
    until("and some of one client", || metrics().contains(of_client));
    let warned = |of: &str| process.log().lines().filter(|line| line.contains("WARN") && line.contains(of)).count();
    until("it is warned of", || warned("every connection that limits.max_connections allows") == 1);
    until("of the client too", || warned("a client has as many connections") == 1);
    assert!(process.log().contains("\"client\":\"127.0.0.2\""), "and it names the client: {}", process.log());
    drop(held);
    assert_eq!(delete(process.address(), &signed("OWNER")).status, 200);
}

#[test]
fn silent_connections_do_not_block_the_admin_listener() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "");
    let process = Process::serve(&files);
    let mut held: Vec<TcpStream> = (0..260).map(|n| from(STRANGERS[n % 2], process.admin())).collect();
    assert_eq!(get(process.admin(), "/live").status, 200);
    assert_eq!(get(process.admin(), "/ready").status, 200);
    assert_eq!(held.remove(0).read(&mut [0]).unwrap_or(0), 0, "the oldest is closed");
}

#[test]
fn a_new_connection_waits_if_all_others_are_in_use() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = Gate::with(upstream.address, &format!("[limits]\n{FOR_EVER}max_connections = 2\n"), Clock::system());
    let mut callers = [Kept::to(gate.address()), Kept::to(gate.address())];
    callers.iter_mut().for_each(|caller| assert_eq!(caller.delete(&signed("OWNER")), 200));
    let address = gate.address();
    let waiting = std::thread::spawn(move || delete(address, &signed("OWNER")).status);
    until("it waits", || gate.metrics().contains("full_total{limit=\"max_connections\"} 1"));
    callers.iter_mut().for_each(|caller| assert_eq!(caller.delete(&signed("OWNER")), 200));
    assert!(!waiting.is_finished());
    drop(callers);
    assert_eq!(waiting.join().unwrap(), 200);
}
