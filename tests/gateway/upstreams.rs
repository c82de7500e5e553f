//! Several servers behind the gateway, over every kind of connection: whichever fails, nothing is lost and nothing
//! is deleted twice.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use saltgate::parts::Clock;
use saltgate::parts::Config;
use saltgate::parts::{RequestHead, Resolve, Resolving, ServerAddress, Servers, Upstream as Service, UpstreamSettings};
use tokio_rustls::TlsAcceptor;

use crate::harness::{Behaviour, Files, Gate, PATIENT, SEGMENT, Upstream, answer, but_delete, service, signed, until};
use crate::http::{Answer, Received, delete, exchange, read_until_closed};
use crate::spoken::BOTH;

const DELEGATE: &str = "[ownership.delegate]\n";

/// An address where nothing listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn http(upstream: &Upstream) -> String {
    format!("http://{}", upstream.address)
}

/// Writes a configuration with these lines for `[upstream]`.
fn configure(files: &Files, servers: &[String], lines: &str, more: &str) {
    let placeholder = SocketAddr::from(([127, 0, 0, 1], 1));
    files.configure(placeholder, more);
    let text = std::fs::read_to_string(files.path()).unwrap();
    let written = text
        .replace(&format!("servers = [\"http://{placeholder}\"]\n"), &format!("servers = {servers:?}\n{lines}"))
        .replace(
            &format!("response_timeout = \"{PATIENT}\"\nconnect_timeout = \"{PATIENT}\"\n"),
            "connect_timeout = \"5s\"\n",
        );
    assert_ne!(text, written);
    std::fs::write(files.path(), written).unwrap();
}

fn gate(servers: &[String], lines: &str, more: &str) -> Gate {
    let files = Files::new(nobody(), more);
    configure(&files, servers, lines, more);
    Gate::from_files(files, Clock::system())
}

fn ordinary() -> Upstream {
    Upstream::start(service("account-1", "member-1"))
}

/// The usual service, with `/up`, which reports whether it is healthy.
fn with_health(well: &Arc<AtomicBool>) -> Upstream {
    let (ordinary, well) = (service("account-1", "member-1"), well.clone());
    let play: Behaviour = Arc::new(move |seen, stream| match (seen.target.as_str(), well.load(Ordering::SeqCst)) {
        ("/up", true) => answer(stream, "200 OK", "", "{}"),
        ("/up", false) => answer(stream, "500 Internal Server Error", "", "{}"),
        _ => ordinary(seen, stream),
    });
    Upstream::start(play)
}

const HEALTH: &str =
    "[upstream.health]\npath = \"/up\"\ninterval = \"20ms\"\ntimeout = \"5s\"\nunhealthy_threshold = 2\n";

fn healthy(gate: &Gate, server: &str, is: u8) -> bool {
    gate.metrics().contains(&format!("saltgate_upstream_healthy{{server=\"{server}\"}} {is}\n"))
}

#[test]
fn with_a_dead_server_every_deletion_arrives_exactly_once() {
    let upstream = ordinary();
    let dead = format!("http://{}", nobody());
    let gate = gate(&[dead.clone(), http(&upstream)], "", "");
    for n in 1..=30 {
        assert_eq!(BOTH[n % 2].delete(gate.address(), &signed("OWNER")).status, 200);
        assert_eq!(upstream.deletes(), n);
    }
    until("the metrics show the dead server", || healthy(&gate, &dead, 0) && healthy(&gate, &http(&upstream), 1));
}

#[test]
fn a_recovered_server_is_used_again() {
    let first = ordinary();
    let address = nobody();
    let gate = gate(&[http(&first), format!("http://{address}")], "", "");
    (0..20).for_each(|_| assert_eq!(gate.delete(&signed("OWNER")).status, 200));
    let listener = TcpListener::bind(address).unwrap();
    let deletes = Arc::new(AtomicUsize::new(0));
    let counted = deletes.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let counted = counted.clone();
            std::thread::spawn(move || serve(stream, &counted));
        }
    });
    until("the trial is made", || {
        assert_eq!(gate.delete(&signed("OWNER")).status, 200);
        deletes.load(Ordering::SeqCst) > 0
    });
}

/// Answers as the usual service does, and counts deletions.
fn serve(mut stream: TcpStream, deletes: &AtomicUsize) {
    while let Some(received) = Received::read(&mut stream) {
        deletes.fetch_add(usize::from(received.method == "DELETE"), Ordering::SeqCst);
        answer(&mut stream, "200 OK", "", r#"{"accountId":"account-1","ownerId":"member-1"}"#);
    }
}

#[test]
fn a_request_on_a_broken_connection_is_not_sent_to_another_server() {
    let connections = Arc::new(AtomicUsize::new(0));
    let resetting = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, connections) = (listener.local_addr().unwrap(), connections.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                connections.fetch_add(1, Ordering::SeqCst);
                while stream.peek(&mut [0]).is_ok_and(|n| n == 0) {}
            }
        });
        format!("http://{address}")
    };
    let gate = gate(&[resetting(), resetting()], "", DELEGATE);
    for n in 1..=5 {
        let refused = gate.delete(&signed("OWNER"));
        assert_eq!((refused.status, refused.error_code().as_str()), (502, "OutcomeUnknown"));
        assert_eq!(connections.load(Ordering::SeqCst), n);
    }
}

#[test]
fn health_checks_remove_a_server_and_add_it_again() {
    let well = Arc::new(AtomicBool::new(true));
    let (first, second) = (with_health(&well), with_health(&Arc::new(AtomicBool::new(true))));
    let gate = gate(&[http(&first), http(&second)], "", HEALTH);
    until("both are used", || {
        assert_eq!(gate.delete(&signed("OWNER")).status, 200);
        first.deletes() > 0 && second.deletes() > 0
    });
    well.store(false, Ordering::SeqCst);
    until("the first is out", || healthy(&gate, &http(&first), 0));
    let (before, others) = (first.deletes(), second.deletes());
    (0..20).for_each(|_| assert_eq!(gate.delete(&signed("OWNER")).status, 200));
    assert_eq!((first.deletes(), second.deletes()), (before, others + 20));
    well.store(true, Ordering::SeqCst);
    until("the first is in again", || healthy(&gate, &http(&first), 1));
    until("and used", || {
        assert_eq!(gate.delete(&signed("OWNER")).status, 200);
        first.deletes() > before
    });
}

#[test]
fn without_a_healthy_server_the_answer_is_502_and_nothing_is_sent() {
    let well = Arc::new(AtomicBool::new(false));
    let upstream = with_health(&well);
    let mut gate = gate(&[http(&upstream)], "", &format!("{DELEGATE}{HEALTH}"));
    until("it is out", || healthy(&gate, &http(&upstream), 0));
    let refused = gate.delete(&signed("OWNER"));
    assert_eq!((refused.status, refused.error_code().as_str()), (502, "BadGateway"));
    assert!(gate.metrics().contains(r#"reason="upstream_unreachable"} 1"#));
    let ready = crate::http::get(gate.admin(), "/ready");
    assert!(ready.status == 200 && ready.body.contains("degraded: no server"), "{ready:?}");
    // A reload that does not change the server keeps its state.
    let config = Config::load(&gate.files.path());
    gate.gateway().reload(config).unwrap();
    assert_eq!(gate.delete(&signed("OWNER")).status, 502);
    assert!(upstream.last.lock().unwrap().iter().all(|seen| seen.target == "/up"));
    well.store(true, Ordering::SeqCst);
    until("it is in again", || gate.delete(&signed("OWNER")).status == 200);
}

#[test]
fn a_busy_server_gets_fewer_requests() {
    const ENOUGH: usize = 30;
    let fast = Upstream::start(service("account-1", "member-1"));
    let served = fast.deletes.clone();
    let (held, at_once) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let most = at_once.clone();
    let slow = Upstream::start(but_delete(move |stream| {
        most.fetch_max(held.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        until("the other has done the work", || served.load(Ordering::SeqCst) >= ENOUGH);
        held.fetch_sub(1, Ordering::SeqCst);
        answer(stream, "200 OK", "", "{}");
    }));
    let gate = gate(&[http(&slow), http(&fast)], "response_timeout = \"30s\"\n", DELEGATE);
    let address = gate.address();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || (0..15).map(|_| delete(address, &signed("OWNER")).status).collect::<Vec<_>>())
        })
        .collect();
    clients.into_iter().for_each(|client| assert_eq!(client.join().unwrap(), [200; 15]));
    assert_eq!(slow.deletes() + fast.deletes(), 60);
    let at_once = at_once.load(Ordering::SeqCst);
    assert!((1..=3).contains(&at_once), "{at_once} of four clients waited for the slow one");
}

/// Forwards bytes to a server.
fn pipe(near: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static, far: SocketAddr) {
    tokio::spawn(async move {
        let (mut near, mut far) = (near, tokio::net::TcpStream::connect(far).await.unwrap());
        drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
    });
}

/// Runs on its own thread until the test ends.
fn in_background(work: impl Future<Output = ()> + Send + 'static) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::thread::spawn(move || runtime.block_on(work));
}

#[test]
fn a_unix_socket_is_an_upstream() {
    let upstream = ordinary();
    let files = Files::new(nobody(), "");
    let path = files.dir.path().join("crm.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    let far = upstream.address;
    in_background(async move {
        let listener = tokio::net::UnixListener::from_std(listener).unwrap();
        while let Ok((stream, _)) = listener.accept().await {
            pipe(stream, far);
        }
    });
    // The path is relative to the configuration.
    configure(&files, &["unix:crm.sock".into()], "", "");
    let gate = Gate::from_files(files, Clock::system());
    (0..3).for_each(|_| assert_eq!(gate.delete(&signed("OWNER")).status, 200));
    assert_eq!(upstream.deletes(), 3);
    let seen = upstream.last.lock().unwrap().last().cloned().unwrap();
    assert!(seen.head.to_lowercase().contains("\r\nhost: localhost\r\n"), "{}", seen.head);
    std::fs::remove_file(&path).unwrap();
}

/// A certificate authority of the test.
pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn certify(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        (CertificateParams::new(vec![name.into()]).unwrap().signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn roots(&self) -> RootCertStore {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        roots
    }

    /// A TLS server with this name in front of `far`; clients need a certificate of `clients`.
    fn server(&self, name: &str, far: SocketAddr, clients: Option<&Self>) -> SocketAddr {
        self.server_that(name, clients, move |stream| pipe(stream, far))
    }

    /// Like that, but closes connections without close_notify.
    pub fn abrupt_server(&self, name: &str, far: SocketAddr) -> SocketAddr {
        self.server_that(name, None, move |stream| {
            tokio::spawn(async move {
                let (mut from_far, mut to_far) = tokio::net::TcpStream::connect(far).await.unwrap().into_split();
                let (mut from_near, mut to_near) = tokio::io::split(stream);
                tokio::select! {
                    _ = tokio::io::copy(&mut from_far, &mut to_near) => {}
                    _ = tokio::io::copy(&mut from_near, &mut to_far) => {}
                }
            });
        })
    }

    /// A TLS server with this name that handles each connection so.
    fn server_that(
        &self,
        name: &str,
        clients: Option<&Self>,
        serve: impl Fn(tokio_rustls::server::TlsStream<tokio::net::TcpStream>) + Send + 'static,
    ) -> SocketAddr {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(clients.roots()), provider).build().unwrap(),
            ),
        };
        let (certificate, key) = self.certify(name);
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        in_background(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve(stream);
                }
            }
        });
        address
    }
}

/// A gateway in front of this TLS address; `files` are written next to its configuration.
fn tls_gate(address: SocketAddr, lines: &str, files: &[(&str, &str)], more: &str) -> Gate {
    let directory = Files::new(nobody(), more);
    for (name, text) in files {
        std::fs::write(directory.dir.path().join(name), text).unwrap();
    }
    let more = format!("{more}[upstream.tls]\nca = \"roots.pem\"\n{lines}");
    configure(&directory, &[format!("https://{address}")], "", &more);
    Gate::from_files(directory, Clock::system())
}

#[test]
fn nothing_is_sent_before_the_server_has_proved_its_identity() {
    let upstream = ordinary();
    let (ours, theirs) = (Authority::new(), Authority::new());
    let by_address = ours.server("127.0.0.1", upstream.address, None);
    let by_name = ours.server("crm.internal", upstream.address, None);
    let named = "server_name = \"crm.internal\"\n";
    let rows: [(&str, SocketAddr, &Authority, &str, u16); 5] = [
        ("its address", by_address, &ours, "", 200),
        ("another authority", by_address, &theirs, "", 502),
        ("another name", by_name, &ours, "", 502),
        ("the name it has", by_name, &ours, named, 200),
        ("a name it has not", by_address, &ours, named, 502),
    ];
    for (name, address, authority, lines, status) in rows {
        let before = upstream.last.lock().unwrap().len();
        let gate = tls_gate(address, lines, &[("roots.pem", &authority.pem)], DELEGATE);
        let answered = gate.delete(&signed("OWNER"));
        assert_eq!(answered.status, status, "{name}: {answered:?}");
        if status == 200 {
            continue;
        }
        assert_eq!(answered.error_code(), "BadGateway", "{name}");
        assert!(!answered.body.to_lowercase().contains("certificate"), "{name}: the cause is for the log");
        assert!(gate.metrics().contains(r#"reason="upstream_unreachable"} 1"#), "{name}");
        assert_eq!(upstream.last.lock().unwrap().len(), before, "{name}: nothing left");
    }
    assert_eq!(upstream.deletes(), 2);
}

#[test]
fn a_service_that_requests_a_certificate_gets_it() {
    let upstream = ordinary();
    let (ours, theirs) = (Authority::new(), Authority::new());
    let address = ours.server("127.0.0.1", upstream.address, Some(&ours));
    let identity = "certificate = \"gate.pem\"\nkey = \"gate.key\"\n";
    for (authority, lines, status) in [(&ours, identity, 200), (&theirs, identity, 502), (&ours, "", 502)] {
        let (certificate, key) = authority.certify("gate");
        let (certificate, key) = (certificate.pem(), key.serialize_pem());
        let files = [("roots.pem", ours.pem.as_str()), ("gate.pem", &certificate), ("gate.key", &key)];
        let gate = tls_gate(address, lines, &files, "");
        let answered = gate.delete(&signed("OWNER"));
        assert_eq!(answered.status, status, "{answered:?}");
    }
    assert_eq!(upstream.deletes(), 1);
}

/// A server on one address of this machine that keeps its connections, and how many it got.
fn on(address: SocketAddr) -> Option<Arc<AtomicUsize>> {
    let listener = TcpListener::bind(address).ok()?;
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || serve(stream, &AtomicUsize::new(0)));
        }
    });
    Some(connections)
}

struct Told(Arc<Mutex<Vec<IpAddr>>>, Arc<AtomicUsize>);

impl Resolve for Told {
    fn resolve<'r>(&'r self, host: &'r str) -> Resolving<'r> {
        assert_eq!(host, "crm.internal");
        self.1.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Ok(self.0.lock().unwrap().clone()) })
    }
}

#[test]
fn a_name_is_resolved_again_and_its_addresses_are_used_in_turn() {
    let (first, second): (IpAddr, IpAddr) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
    let (port, ones, twos) = (0..100)
        .find_map(|_| {
            let port = nobody().port();
            Some((port, on((first, port).into())?, on((second, port).into())?))
        })
        .unwrap();
    let count = |of: &AtomicUsize| of.load(Ordering::SeqCst);
    let (told, asked) = (Arc::new(Mutex::new(vec![first, second])), Arc::new(AtomicUsize::new(0)));
    let (clock, time) = Clock::manual(UNIX_EPOCH);
    let address =
        ServerAddress::Network { at: saltgate::parts::Authority::new("crm.internal", port).unwrap(), tls: false };
    let mut settings = UpstreamSettings::new(vec![address]);
    settings.resolver = Arc::new(Told(told.clone(), asked.clone()));
    let servers = Arc::new(Servers::new(settings, clock, None).unwrap());
    let upstream = Service::new(&servers);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ask = || {
        let question = RequestHead::new(&http::Method::GET, "/x", None).unwrap();
        runtime.block_on(async { upstream.ask(question).await.unwrap() });
    };
    for _ in 0..4 {
        ask();
        // Kept connections become too old to be reused, but names do not expire yet.
        time.advance(Duration::from_secs(5));
    }
    assert_eq!((count(&ones), count(&twos), count(&asked)), (2, 2, 1), "in turns, and asked for once");
    *told.lock().unwrap() = vec![second];
    ask();
    let kept = count(&ones);
    time.advance(Duration::from_secs(11));
    (0..3).for_each(|_| ask());
    assert_eq!((count(&ones), count(&asked)), (kept, 2), "asked for again, and the old address is left");

    // A connection that is never idle is closed, too, once its address is gone.
    *told.lock().unwrap() = vec![first];
    let before = count(&ones);
    time.advance(Duration::from_secs(3));
    ask();
    assert_eq!(count(&ones), before, "it is used as long as nobody says otherwise");
    for _ in 0..10 {
        time.advance(Duration::from_secs(3));
        runtime.block_on(async {
            servers.refresh_names();
            tokio::task::yield_now().await;
        });
        ask();
    }
    assert_eq!((count(&ones), count(&asked)), (before + 1, 3));
}

/// An address that does not respond: its queue is full, and nobody accepts.
fn swallowing(address: SocketAddr) -> Option<(socket2::Socket, Vec<socket2::Socket>)> {
    let socket = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let listening = socket();
    listening.bind(&address.into()).ok()?;
    listening.listen(0).unwrap();
    let fill = || {
        let client = socket();
        client.set_nonblocking(true).unwrap();
        let _ = client.connect(&address.into());
        client
    };
    let filling = (0..4).map(|_| fill()).collect();
    Some((listening, filling))
}

#[test]
fn an_unresponsive_address_costs_its_timeout_once() {
    let (first, second): (IpAddr, IpAddr) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
    let (port, _held, service) = (0..100)
        .find_map(|_| {
            let port = nobody().port();
            Some((port, swallowing((first, port).into())?, closing_after_each((second, port).into())?))
        })
        .unwrap();
    let address =
        ServerAddress::Network { at: saltgate::parts::Authority::new("crm.internal", port).unwrap(), tls: false };
    let mut settings = UpstreamSettings::new(vec![address]);
    settings.resolver = Arc::new(Told(Arc::new(Mutex::new(vec![first, second])), Arc::default()));
    // The first of two addresses gets half of it.
    settings.connect_timeout = Duration::from_secs(2);
    let servers = Arc::new(Servers::new(settings, Clock::system(), None).unwrap());
    let upstream: Service = Service::new(&servers);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (clock, asked) = (Clock::system(), 12);
    let began = clock.elapsed();
    for _ in 0..asked {
        let question = RequestHead::new(&http::Method::GET, "/x", None).unwrap();
        assert_eq!(runtime.block_on(upstream.ask(question)).unwrap().status(), 200);
    }
    let took = clock.elapsed() - began;
    assert_eq!(service.load(Ordering::SeqCst), asked, "each on a connection of its own");
    assert!(took < Duration::from_secs(9), "{took:?}: it is not waited for again and again, a second each time");
}

/// A server that answers one request per connection, and how many connections it got.
fn closing_after_each(address: SocketAddr) -> Option<Arc<AtomicUsize>> {
    let listener = TcpListener::bind(address).ok()?;
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 4096]);
            answer(&mut stream, "200 OK", "Connection: close\r\n", "{}");
        }
    });
    Some(connections)
}

#[test]
fn the_service_gets_the_clients_authorization_only_with_keep() {
    let upstream = ordinary();
    for (lines, kept) in [("", false), ("authorization = \"keep\"\n", true), ("host = \"crm\"\n", false)] {
        let gate = gate(&[http(&upstream)], lines, "");
        let header = signed("OWNER");
        assert_eq!(gate.delete(&header).status, 200);
        let seen = upstream.last.lock().unwrap();
        let [.., asked, deleted] = seen.as_slice() else { panic!("{seen:?}") };
        assert_eq!((asked.method.as_str(), deleted.method.as_str()), ("GET", "DELETE"));
        let values = |head: &str, name: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(
            values(&asked.head, "authorization"),
            Vec::<String>::new(),
            "a question has nothing of the client's"
        );
        let expected = if kept { vec![header] } else { vec![] };
        assert_eq!(values(&deleted.head, "authorization"), expected);
        assert_eq!(values(&deleted.head, "x-saltgate-member"), ["member-1"], "all the same");
        let host = if lines.contains("host") { "crm".into() } else { upstream.address.to_string() };
        assert_eq!((values(&asked.head, "host"), values(&deleted.head, "host")), (vec![host.clone()], vec![host]));
    }
}

#[test]
fn changing_servers_under_load_loses_nothing() {
    let all = [ordinary(), ordinary(), ordinary()];
    let mut gate = gate(&[http(&all[0])], "", "");
    let address = gate.address();
    until("the first is reported", || gate.metrics().contains(&http(&all[0])));
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut answers: Vec<Answer> = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    answers.push(delete(address, &signed("OWNER")));
                }
                answers
            })
        })
        .collect();
    let deletes = || all.iter().map(Upstream::deletes).sum::<usize>();
    for servers in [&all[1..2], &all[..], &all[2..], &all[..1], &all[1..]] {
        configure(&gate.files, &servers.iter().map(http).collect::<Vec<_>>(), "", "");
        let config = Config::load(&gate.files.path());
        gate.gateway().reload(config).unwrap();
        let before: Vec<usize> = servers.iter().map(Upstream::deletes).collect();
        until("all of the new ones are used", || servers.iter().zip(&before).all(|(server, n)| server.deletes() > *n));
    }
    stop.store(true, Ordering::SeqCst);
    let answers: Vec<Answer> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    assert_eq!(deletes(), answers.len());
    until("removed servers have no metric any more", || !gate.metrics().contains(&http(&all[0])));
}

#[test]
fn an_upload_that_takes_longer_than_an_answer_may_is_not_cut_off() {
    let upstream = Upstream::start(Arc::new(|seen, stream| answer(stream, "200 OK", "", &seen.body)));
    let more = "[passthrough]\nmethods = [\"POST\"]\nprefixes = [\"/up/\"]\n";
    let gate = gate(&[http(&upstream)], "response_timeout = \"1s\"\n", more);
    let mut client = TcpStream::connect(gate.address()).unwrap();
    client.write_all(b"POST /up/x HTTP/1.1\r\nHost: g\r\nConnection: close\r\nContent-Length: 9\r\n\r\n").unwrap();
    for bit in b"123456789" {
        std::thread::sleep(Duration::from_millis(200));
        client.write_all(&[*bit]).unwrap();
    }
    let answered = read_until_closed(&mut client);
    assert_eq!((answered.status, answered.body.as_str()), (200, "123456789"), "{answered:?}");

    // If the upload stops, it is not awaited.
    let stopped = "POST /up/x HTTP/1.1\r\nHost: g\r\nConnection: close\r\nContent-Length: 9\r\n\r\n1234";
    assert_eq!(exchange(gate.address(), stopped).status, 504);
}

fn check_live(file: &Path) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_saltgate"));
    let output = command.args(["check", "--live", "--segment", SEGMENT, "--config"]).arg(file).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn check_live_tries_everything_and_changes_nothing() {
    let upstream = with_health(&Arc::new(AtomicBool::new(true)));
    let files = Files::new(nobody(), "");
    configure(&files, &[http(&upstream)], "", HEALTH);
    let (code, out, err) = check_live(&files.path());
    assert!(code == Some(0) && !err.contains("failed: "), "{out}{err}");
    let server = http(&upstream);
    for line in [
        format!("ok: upstream {server}: connected\n"),
        format!("ok: upstream {server}: GET /up: answered 200\n"),
        format!("ok: upstream {server}: ownership.upstream.account /accountId yields \"account-1\"\n"),
        format!("ok: upstream {server}: ownership.upstream.creator /ownerId yields \"member-1\"\n"),
    ] {
        assert!(out.contains(&line), "{line} is not in {out}");
    }
    let asked = upstream.last.lock().unwrap().last().cloned().unwrap();
    assert!(asked.target.ends_with(SEGMENT) && asked.head.to_lowercase().contains("x-saltgate-account: account-1"));

    let (dead, redis) = (format!("http://{}", nobody()), nobody());
    let more = format!(
        "[replay.redis]\nurl = \"redis://gate:hunter2@{redis}\"\n[ownership.upstream]\naccount = \"/account\"\ncreator = \"/ownerId\"\n{}",
        HEALTH.replace("/up", "/down")
    );
    configure(&files, &[dead.clone(), http(&upstream)], "", &more);
    let (code, out, err) = check_live(&files.path());
    assert_eq!(code, Some(1), "{out}{err}");
    let failed: Vec<&str> = err.lines().filter(|line| line.starts_with("failed: ")).collect();
    assert_eq!(failed.len(), 3, "{err}");
    assert!(failed[0].contains(&dead) && failed[1].contains("GET /down: answered 404"), "{err}");
    assert!(failed[2].contains(&format!("redis {redis}: ")), "{err}");

    configure(&files, &[http(&upstream)], "", &more.replace("/down", "/up"));
    let (_, out, err) = check_live(&files.path());
    assert!(err.contains("ownership.upstream.account /account yields nothing"), "{out}{err}");
    assert!(!out.contains("hunter2") && !err.contains("hunter2"));
    assert_eq!(upstream.deletes(), 0);
}

#[test]
fn check_finds_files_that_are_no_certificates() {
    let files = Files::new(nobody(), "");
    std::fs::write(files.dir.path().join("roots.pem"), "no certificate").unwrap();
    configure(&files, &[format!("https://{}", nobody())], "", "[upstream.tls]\nca = \"roots.pem\"\n");
    let (code, _, err) = check_live(&files.path());
    assert_eq!(code, Some(78));
    assert!(err.contains("upstream.tls.ca: ") && err.contains("roots.pem: holds no certificate"), "{err}");
}
