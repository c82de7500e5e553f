//! TLS: server certificates, client certificates, and replaced files.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use crate::harness::{Files, Gate, PATIENCE, Upstream, service, signed, until};
use crate::http::{Answer, Lost, Request, read_answer};
use crate::operations::{saltgate, text};

/// An authority that signs certificates in these tests.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut wanted = CertificateParams::new([]).unwrap();
        wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(wanted, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these names, and its key, in PEM.
    pub fn issue(&self, names: &[&str]) -> (String, String) {
        self.issue_until(names, 2099)
    }

    pub fn issue_until(&self, names: &[&str], year: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut wanted = CertificateParams::new(names).unwrap();
        wanted.not_after = rcgen::date_time_ymd(year, 1, 1);
        (wanted.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    /// Writes them as `name.pem` and `name.key`.
    pub fn write(&self, dir: &Path, name: &str, names: &[&str]) {
        let (chain, key) = self.issue(names);
        std::fs::write(dir.join(format!("{name}.pem")), chain).unwrap();
        std::fs::write(dir.join(format!("{name}.key")), key).unwrap();
    }

    /// A client that trusts this authority, and presents a certificate if it has one.
    pub fn client(
        &self,
        shows: Option<&(String, String)>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let builder = builder.with_protocol_versions(versions).unwrap().with_root_certificates(roots);
        match shows {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        }
    }
}

pub const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

pub type Tls = StreamOwned<ClientConnection, TcpStream>;

fn connect(address: SocketAddr, client: ClientConfig, name: &'static str) -> std::io::Result<Tls> {
    let tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    over(tcp, client, name)
}

/// Does the handshake on an existing connection.
pub fn over(tcp: TcpStream, client: ClientConfig, name: &'static str) -> std::io::Result<Tls> {
    let connection = ClientConnection::new(Arc::new(client), ServerName::try_from(name).unwrap()).unwrap();
    let mut tls = StreamOwned::new(connection, tcp);
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock)?;
    }
    Ok(tls)
}

/// The certificate that is presented for this name.
fn shown(address: SocketAddr, authority: &Authority, name: &'static str) -> CertificateDer<'static> {
    let tls = connect(address, authority.client(None, BOTH), name).unwrap();
    tls.conn.peer_certificates().unwrap()[0].clone().into_owned()
}

fn der(pem: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(&std::fs::read(pem).unwrap()).unwrap()
}

/// Sends a deletion on a connection that stays open.
fn delete(tls: &mut Tls) -> Result<Answer, Lost> {
    let request = Request::delete(&signed("OWNER")).http1();
    tls.write_all(request.as_bytes()).map_err(|error| Lost(error.to_string()))?;
    read_answer(tls)
}

const LISTENER: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\n[listener.tls]\n";

fn gate(upstream: &Upstream, tls: &str, prepare: impl FnOnce(&Path)) -> Gate {
    let files = Files::new(upstream.address, "[limits]\nheader_timeout = \"1s\"\n");
    prepare(files.dir.path());
    files.listen(&format!("{LISTENER}{tls}"));
    Gate::by(files)
}

#[test]
fn the_requested_name_chooses_the_certificate() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let authority = Authority::new();
    let tls = "certificates = [{ chain = \"a.pem\", key = \"a.key\" }, { chain = \"b.pem\", key = \"b.key\" }]\n";
    let gate = gate(&upstream, tls, |dir| {
        authority.write(dir, "a", &["a.example", "localhost"]);
        authority.write(dir, "b", &["b.example", "*.b.example"]);
    });
    let dir = gate.files.dir.path();
    let [a, b] = ["a.pem", "b.pem"].map(|name| der(&dir.join(name)));
    for (name, certificate) in [("a.example", &a), ("b.example", &b), ("X.B.Example", &b)] {
        assert_eq!(shown(gate.address(), &authority, name), *certificate, "{name}");
    }
    // A client that requests an unknown name gets the first certificate, and refuses it itself.
    let mut stranger = authority.client(None, BOTH);
    stranger.enable_sni = false;
    let tls = connect(gate.address(), stranger, "a.example").unwrap();
    assert_eq!(tls.conn.peer_certificates().unwrap()[0], a);
    assert!(connect(gate.address(), authority.client(None, BOTH), "deep.x.b.example").is_err());
    for version in BOTH {
        let mut tls = connect(gate.address(), authority.client(None, &[version]), "a.example").unwrap();
        let answer = delete(&mut tls).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let seen = upstream.last.lock().unwrap().last().unwrap().head.to_lowercase();
    assert!(seen.contains("x-forwarded-proto: https"), "{seen}");
    assert!(
        gate.metrics().contains(
            "saltgate_certificate_expires_timestamp_seconds{name=\"a.example\",part=\"listener\"} 4070908800"
        )
    );
    // Bytes that are not a handshake, and a handshake that does not arrive.
    let mut plain = TcpStream::connect(gate.address()).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: gate\r\n\r\n").unwrap();
    until("they are counted", || gate.metrics().contains("{reason=\"tls_handshake\"}"));
    let silent = TcpStream::connect(gate.address()).unwrap();
    until("it is counted", || gate.metrics().contains("{reason=\"too_slow\"} 1"));
    drop(silent);
}

#[test]
fn tls_1_2_can_be_switched_off() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let authority = Authority::new();
    let tls = "min_version = \"1.3\"\ncertificates = [{ chain = \"a.pem\", key = \"a.key\" }]\n";
    let gate = gate(&upstream, tls, |dir| authority.write(dir, "a", &["a.example"]));
    let with = |version| connect(gate.address(), authority.client(None, &[version]), "a.example");
    assert!(with(&rustls::version::TLS12).is_err());
    assert!(delete(&mut with(&rustls::version::TLS13).unwrap()).unwrap().status == 200);
}

/// Points `..data` to another directory, as Kubernetes does.
fn swap(dir: &Path, to: &str) {
    let aside = dir.join("..data_tmp");
    std::os::unix::fs::symlink(to, &aside).unwrap();
    std::fs::rename(&aside, dir.join("..data")).unwrap();
}

#[test]
fn changed_certificates_are_loaded_without_affecting_connections() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let authority = Authority::new();
    let tls = "certificates = [{ chain = \"tls.pem\", key = \"tls.key\" }]\n";
    let mut gate = gate(&upstream, tls, |dir| {
        for version in ["v1", "v2", "v3"] {
            std::fs::create_dir(dir.join(version)).unwrap();
            authority.write(&dir.join(version), "tls", &["a.example"]);
        }
        // A key that belongs to no certificate.
        std::fs::copy(dir.join("v1/tls.key"), dir.join("v3/tls.key")).unwrap();
        swap(dir, "v1");
        for name in ["tls.pem", "tls.key"] {
            std::os::unix::fs::symlink(format!("..data/{name}"), dir.join(name)).unwrap();
        }
    });
    let (address, dir) = (gate.address(), gate.files.dir.path().to_owned());
    let [first, second] = ["v1", "v2"].map(|version| der(&dir.join(version).join("tls.pem")));
    let ending = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..3)
        .map(|_| {
            let (client, ending) = (authority.client(None, BOTH), ending.clone());
            std::thread::spawn(move || {
                let mut tls = connect(address, client, "a.example").unwrap();
                let mut served = 0;
                while !ending.load(Ordering::Relaxed) {
                    let answer = delete(&mut tls).unwrap();
                    assert_eq!(answer.status, 200, "{answer:?}");
                    served += 1;
                }
                served
            })
        })
        .collect();
    assert_eq!(shown(address, &authority, "a.example"), first);
    swap(&dir, "v2");
    until("new connections get the new one", || shown(address, &authority, "a.example") == second);
    assert!(gate.metrics().contains("saltgate_certificates_last_reload_success 1"));
    swap(&dir, "v3");
    until("a bad one is reported", || gate.metrics().contains("saltgate_certificates_last_reload_success 0"));
    assert_eq!(shown(address, &authority, "a.example"), second, "and the old one stays");
    let told = gate.reload().unwrap_err();
    assert!(told.contains("listener.tls.certificates.key") && told.contains("is not the key of"), "{told}");
    swap(&dir, "v1");
    until("a good one is taken again", || gate.metrics().contains("saltgate_certificates_last_reload_success 1"));
    assert_eq!(shown(address, &authority, "a.example"), first);
    swap(&dir, "v2");
    gate.reload().unwrap();
    assert_eq!(shown(address, &authority, "a.example"), second, "a reload loads them at once");
    ending.store(true, Ordering::Relaxed);
    let served: usize = load.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert!(served > 0);
    assert_eq!(upstream.deletes(), served);
}

#[test]
fn clients_present_certificates_if_required() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let (authority, other) = (Authority::new(), Authority::new());
    let (good, forged) = (authority.issue(&["client"]), other.issue(&["client"]));
    for (auth, without) in [("optional", true), ("required", false)] {
        let tls = format!(
            "certificates = [{{ chain = \"a.pem\", key = \"a.key\" }}]\nclient_ca = \"ca.pem\"\nclient_auth = \"{auth}\"\n"
        );
        let gate = gate(&upstream, &tls, |dir| {
            authority.write(dir, "a", &["a.example"]);
            std::fs::write(dir.join("ca.pem"), authority.pem()).unwrap();
        });
        for version in BOTH {
            let served = |shows: Option<&(String, String)>| {
                let tls = connect(gate.address(), authority.client(shows, &[version]), "a.example");
                tls.is_ok_and(|mut tls| delete(&mut tls).is_ok_and(|answer| answer.status == 200))
            };
            assert_eq!(served(None), without, "{auth}, none");
            assert!(served(Some(&good)), "{auth}, a good one");
            assert!(!served(Some(&forged)), "{auth}, one that nobody we know has signed");
        }
    }
}

#[test]
fn faults_of_tls_files_name_the_line_of_their_setting() {
    let authority = Authority::new();
    let files = Files::new(([127, 0, 0, 1], 9).into(), "");
    let dir = files.dir.path();
    authority.write(dir, "a", &["a.example"]);
    authority.write(dir, "b", &["b.example", "a.example"]);
    std::fs::write(dir.join("no.pem"), "nothing").unwrap();
    let (chain, key) = authority.issue_until(&["old.example"], 2020);
    std::fs::write(dir.join("old.pem"), chain).unwrap();
    std::fs::write(dir.join("old.key"), key).unwrap();
    let check = |tls: &str| {
        files.listen(&format!("{LISTENER}{tls}"));
        let output = saltgate(&["check", "--config", files.path().to_str().unwrap()]).output().unwrap();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let pair = |chain: &str, key: &str| format!("certificates = [{{ chain = \"{chain}\", key = \"{key}\" }}]\n");
    let two = "certificates = [\n{ chain = \"a.pem\", key = \"a.key\" },\n{ chain = \"b.pem\", key = \"b.key\" }]\n";
    for (tls, code, parts) in [
        (pair("a.pem", "a.key"), 0, &["is sound"][..]),
        (pair("old.pem", "old.key"), 0, &["warning", "old.example has expired"]),
        (pair("x.pem", "a.key"), 78, &["toml:4: listener.tls.certificates.chain", "x.pem is not there"]),
        (pair("a.pem", "x.key"), 78, &["toml:4: listener.tls.certificates.key", "x.key is not there"]),
        (pair("a.pem", "b.key"), 78, &["listener.tls.certificates.key", "is not the key of the first certificate in"]),
        (pair("no.pem", "a.key"), 78, &["certificates.chain", "holds no certificate"]),
        (pair("a.pem", "a.pem"), 78, &["holds no private key"]),
        (two.into(), 78, &["toml:6: listener.tls.certificates.chain", "is for a.example, as", "a.pem is"]),
        (pair("a.pem", "a.key") + "client_ca = \"x.pem\"\n", 78, &["toml:3: listener.tls.client_ca", "is not there"]),
        ("certificates = []\n".into(), 78, &["listener.tls.certificates: names none"]),
        (String::new(), 78, &["listener.tls.certificates: is missing"]),
        (
            pair("a.pem", "a.key") + "client_auth = \"required\"\n",
            78,
            &["listener.tls.client_auth", "expected client_ca"],
        ),
        (pair("a.pem", "a.key") + "min_version = \"1.1\"\n", 78, &["listener.tls.min_version", "\"1.2\" or \"1.3\""]),
    ] {
        let (exit, told) = check(&tls);
        assert_eq!(exit, Some(code), "{tls}: {told}");
        for part in parts {
            assert!(told.contains(part), "{part:?} is not in {told}");
        }
    }
}

#[test]
fn a_reload_that_changes_everything_at_once_loses_nothing() {
    let upstreams = [0, 1].map(|_| Upstream::start(service("account-1", "member-1")));
    let authority = Authority::new();
    let files = Files::new(upstreams[0].address, "");
    let dir = files.dir.path().to_owned();
    authority.write(&dir, "tls", &["a.example"]);
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (stays, other) = (free(), free());
    let secure = format!(
        "[[listener]]\naddress = \"{stays}\"\n[listener.tls]\ncertificates = [{{ chain = \"tls.pem\", key = \"tls.key\" }}]\n"
    );
    let and_another = format!("{secure}[[listener]]\naddress = \"{other}\"\n");
    files.listen(&secure);
    let mut process = crate::operations::Process::serve(&files);
    let ending = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..4)
        .map(|n| {
            let (client, ending) = (authority.client(None, BOTH), ending.clone());
            std::thread::spawn(move || {
                let mut served = 0;
                while !ending.load(Ordering::Relaxed) {
                    // Some clients stay on a connection, some open a new one each time.
                    let mut tls = connect(stays, client.clone(), "a.example").unwrap();
                    for _ in 0..if n % 2 == 0 { 20 } else { 1 } {
                        let answer = delete(&mut tls).unwrap();
                        assert_eq!(answer.status, 200, "{answer:?}");
                        served += 1;
                    }
                }
                served
            })
        })
        .collect();
    let (keys, config) = (dir.join("keys.toml"), files.path());
    let known = std::fs::read_to_string(&keys).unwrap();
    for round in 1..=6 {
        let is_odd = round % 2 == 1;
        // Listeners, certificates, upstreams, routes and keys, all at once.
        authority.write(&dir, "tls", &["a.example"]);
        files.listen(if is_odd { &and_another } else { &secure });
        let [from, to] = if is_odd { [0, 1] } else { [1, 0] }.map(|n: usize| upstreams[n].address.to_string());
        let mut text = std::fs::read_to_string(&config).unwrap().replace(&from, &to);
        let route =
            "[[route]]\npath = \"/crm-core/v1/segments/{segmentId}\"\n[[route]]\npath = \"/v2/lists/{listId}\"\n";
        text = if is_odd { text + route } else { text.replace(route, "") };
        std::fs::write(&config, text).unwrap();
        let another =
            "[[key]]\napi_key = \"ANOTHER\"\nsecret = \"another-secret-0123\"\naccount = \"a\"\nmember = \"m\"\n";
        std::fs::write(&keys, if is_odd { format!("{known}{another}") } else { known.clone() }).unwrap();
        process.signal("-HUP");
        until("it is taken", || process.log().matches("\"reloaded\"").count() == round);
        assert_eq!(TcpStream::connect(other).is_ok(), is_odd, "the other listener comes and goes");
        let served = upstreams[usize::from(is_odd)].deletes();
        until("the new upstream serves", || upstreams[usize::from(is_odd)].deletes() > served + 20);
    }
    ending.store(true, Ordering::Relaxed);
    let served: usize = load.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(upstreams.iter().map(Upstream::deletes).sum::<usize>(), served, "each once, none lost");
    process.signal("-TERM");
    process.wait();
}
