//! The certificates that the gateway presents to the service and trusts for it: replacing them at runtime, and
//! their expiry.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::harness::{Files, Gate, signed, until};
use crate::http::read_head;
use crate::operations::{text, told};
use crate::tls::Authority;

/// A TLS service that answers every request with 200, and the certificates that its clients presented, in order.
struct Service {
    address: SocketAddr,
    shown: Arc<Mutex<Vec<CertificateDer<'static>>>>,
}

impl Service {
    /// Presents a certificate of `authority`, and accepts clients with a certificate of `clients`.
    fn start(authority: &Authority, clients: &Authority) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(clients.pem().as_bytes()).unwrap()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let (chain, key) = authority.issue(&["127.0.0.1"]);
        let chain = vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = Arc::new(config.with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let service = Self { address: listener.local_addr().unwrap(), shown: Arc::default() };
        let shown = service.shown.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, shown) = (config.clone(), shown.clone());
                std::thread::spawn(move || {
                    let tls = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
                    serve(tls, &shown)
                });
            }
        });
        service
    }

    fn last_shown(&self) -> CertificateDer<'static> {
        self.shown.lock().unwrap().last().unwrap().clone()
    }
}

fn serve(
    mut tls: StreamOwned<ServerConnection, std::net::TcpStream>,
    shown: &Mutex<Vec<CertificateDer<'static>>>,
) -> std::io::Result<()> {
    while read_head(&mut tls).is_ok() {
        let certificate = tls.conn.peer_certificates().unwrap()[0].clone().into_owned();
        shown.lock().unwrap().push(certificate);
        tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")?;
    }
    Ok(())
}

/// Writes both files of a certificate that expires at the end of this year.
fn renew(dir: &Path, authority: &Authority, year: i32) -> CertificateDer<'static> {
    let (chain, key) = authority.issue_until(&["gate.example"], year);
    std::fs::write(dir.join("gate.key"), key).unwrap();
    std::fs::write(dir.join("gate.pem"), &chain).unwrap();
    CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()
}

fn gate(service: &Service, authority: &Authority) -> (Gate, CertificateDer<'static>) {
    let files = Files::new(
        service.address,
        "[ownership.delegate]\n[upstream.tls]\nca = \"roots.pem\"\ncertificate = \"gate.pem\"\nkey = \"gate.key\"\n",
    );
    let config =
        std::fs::read_to_string(files.path()).unwrap().replace("servers = [\"http://", "servers = [\"https://");
    std::fs::write(files.path(), config).unwrap();
    std::fs::write(files.dir.path().join("roots.pem"), authority.pem()).unwrap();
    let first = renew(files.dir.path(), authority, 2098);
    (Gate::by(files), first)
}

const EXPIRES: &str = "saltgate_certificate_expires_timestamp_seconds";

#[test]
fn a_renewed_client_certificate_is_shown_without_a_reload() {
    let authority = Authority::new();
    let service = Service::start(&authority, &authority);
    let (gate, first) = gate(&service, &authority);
    let dir = gate.files.dir.path();
    assert_eq!(gate.delete(&signed("OWNER")).status, 200);
    assert_eq!(service.last_shown(), first);
    assert!(gate.metrics().contains(&format!("{EXPIRES}{{name=\"gate.example\",part=\"upstream\"}} 4039372800")));
    assert!(gate.metrics().contains(",part=\"upstream_ca\"} "), "{}", gate.metrics());

    let second = renew(dir, &authority, 2099);
    until("the new one is in force", || gate.metrics().contains("part=\"upstream\"} 4070908800"));
    assert_eq!(gate.delete(&signed("OWNER")).status, 200);
    assert_eq!(service.last_shown(), second, "a connection that was kept is not used on");

    std::fs::write(dir.join("gate.key"), authority.issue(&["x"]).1).unwrap();
    until("a wrong key is noticed", || gate.metrics().contains("saltgate_certificates_last_reload_success 0"));
    assert_eq!(gate.delete(&signed("OWNER")).status, 200);
    assert_eq!(service.last_shown(), second, "the old one stays in force");

    let third = renew(dir, &authority, 2097);
    until("a right one is taken again", || gate.metrics().contains("saltgate_certificates_last_reload_success 1"));
    assert_eq!(gate.delete(&signed("OWNER")).status, 200);
    assert_eq!(service.last_shown(), third);
}

#[test]
fn roots_that_are_replaced_are_trusted_and_the_old_ones_no_longer() {
    let (old, new) = (Authority::new(), Authority::new());
    let (of_old, of_new) = (Service::start(&old, &old), Service::start(&new, &old));
    let (mut gate, _) = gate(&of_old, &old);
    assert_eq!(gate.delete(&signed("OWNER")).status, 200);
    std::fs::write(gate.files.dir.path().join("roots.pem"), new.pem()).unwrap();
    until("the old root is trusted no longer", || gate.delete(&signed("OWNER")).status == 502);
    let config = std::fs::read_to_string(gate.files.path()).unwrap();
    let elsewhere = config.replace(&of_old.address.to_string(), &of_new.address.to_string());
    std::fs::write(gate.files.path(), elsewhere).unwrap();
    gate.reload().unwrap();
    assert_eq!(gate.delete(&signed("OWNER")).status, 200);
}

#[test]
fn every_expiry_is_a_metric_and_every_expired_certificate_a_warning() {
    let authority = Authority::new();
    let service = Service::start(&authority, &authority);
    let (gate, _) = gate(&service, &authority);
    drop(gate);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let redis = format!("[replay.redis]\nurl = \"rediss://{nobody}\"\nca = \"redis.pem\"\n");
    let files = Files::new(
        service.address,
        &format!(
            "{redis}[ownership.delegate]\n[upstream.tls]\nca = \"roots.pem\"\ncertificate = \"gate.pem\"\nkey = \"gate.key\"\n"
        ),
    );
    let config =
        std::fs::read_to_string(files.path()).unwrap().replace("servers = [\"http://", "servers = [\"https://");
    std::fs::write(files.path(), config).unwrap();
    let dir = files.dir.path().to_owned();
    std::fs::write(dir.join("roots.pem"), authority.pem()).unwrap();
    // Any certificate will do: it can expire without being that of an authority.
    std::fs::write(dir.join("redis.pem"), authority.issue_until(&["redis.example"], 2020).0).unwrap();
    renew(&dir, &authority, 2021);
    let checked = told(&["check", "--config", files.path().to_str().unwrap()], "");
    let said = text(&checked.stderr);
    assert_eq!(checked.status.code(), Some(0), "{said}");
    assert!(said.contains("upstream.tls.certificate: the certificate for gate.example has expired"), "{said}");
    assert!(said.contains("replay.redis.ca: the certificate for redis.example has expired"), "{said}");

    let gate = Gate::by(files);
    let metrics = gate.metrics();
    for (part, name, expires) in
        [("upstream", "gate.example", 1_609_459_200), ("redis_ca", "redis.example", 1_577_836_800)]
    {
        let line = format!("{EXPIRES}{{name=\"{name}\",part=\"{part}\"}} {expires}");
        assert!(metrics.contains(&line), "{line} is not in {metrics}");
    }
}
