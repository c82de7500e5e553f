//! `compare-load`: sends signed DELETEs over 127.0.0.1, checks every answer, and measures. Prints one line of JSON.
//! The first unexpected answer ends it with status 1.

mod http1;
mod http2;
mod tally;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use rustls::crypto::ring as provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use saltgate_compare::sign::{Kind, Signer};
use tally::Tally;

const USAGE: &str = "\
compare-load --target HOST:PORT --keys FILE [option…]     of an option given twice the last counts
  --keys FILE        lines of apiKey,secret,…
  --kind KIND        good, bad-signature, unknown-key, stale-date, replayed (good)
  --expect STATUS    what every answer must have (200)
  --transport T      http, tls, h2: plain, or TLS 1.3 with HTTP/1.1, or with HTTP/2 (http)
  --ca FILE          whose certificate is believed, for tls and h2
  --connections N    kept alive (32); --streams N: under way at once on each, h2 only (8)
  --warmup S         not measured (1); --seconds S: measured (4)
  --requests N       instead of --seconds: so many, measured from the first
  --rate R           open loop: Poisson arrivals, R a second; latency counts from when a request was due
  --pids P,…         whose CPU time is measured
";

/// The options of a run.
pub struct Options {
    target: SocketAddr,
    kind: Kind,
    expect: u16,
    connections: usize,
    streams: usize,
    rate: Option<f64>,
    tls: Option<Arc<ClientConfig>>,
}

fn main() -> ExitCode {
    match run() {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(fault) => {
            eprintln!("compare-load: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<String, Box<dyn std::error::Error>> {
    let given = Given(std::env::args().skip(1).collect());
    if given.0.is_empty() {
        return Err(USAGE.into());
    }
    // Waits end when they are due, not up to 50 µs later.
    rustix::thread::set_current_timer_slack(std::num::NonZero::new(1))?;
    let transport = given.text("--transport").unwrap_or("http");
    let tls = match transport {
        "http" => None,
        "tls" => Some(trust(&given, b"http/1.1")?),
        "h2" => Some(trust(&given, b"h2")?),
        _ => return Err(USAGE.into()),
    };
    let options = Options {
        target: given.number("--target")?.ok_or(USAGE)?,
        kind: Kind::named(given.text("--kind").unwrap_or("good")).ok_or(USAGE)?,
        expect: given.number("--expect")?.unwrap_or(200),
        connections: given.number("--connections")?.unwrap_or(32),
        streams: given.number("--streams")?.unwrap_or(8),
        rate: given.number("--rate")?,
        tls,
    };
    let signer = Signer::new(&std::fs::read_to_string(given.text("--keys").ok_or(USAGE)?)?)?;
    let pids = given.text("--pids").unwrap_or_default();
    let pids = pids.split(',').filter(|pid| !pid.is_empty()).map(str::parse).collect::<Result<_, _>>()?;
    let requests = given.number("--requests")?;
    let warmup = if requests.is_some() { 0.0 } else { given.number("--warmup")?.unwrap_or(1.0) };
    let tally = Tally::new(warmup, given.number("--seconds")?.unwrap_or(4.0), requests, pids);
    let tally = if transport == "h2" {
        if options.rate.is_some() || requests.is_some() || options.kind == Kind::Replayed {
            return Err("none of --rate, --requests and --kind replayed is made for --transport h2".into());
        }
        http2::drive(options, signer, tally)?
    } else {
        http1::drive(&options, signer, tally)?
    };
    Ok(tally.line()?)
}

/// TLS 1.3 with one suite and one group, so that every peer does the same work.
fn trust(given: &Given, protocol: &[u8]) -> Result<Arc<ClientConfig>, Box<dyn std::error::Error>> {
    let ca = PathBuf::from(given.text("--ca").ok_or("--ca is missing")?);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    let mut crypto = provider::default_provider();
    crypto.cipher_suites = vec![provider::cipher_suite::TLS13_AES_128_GCM_SHA256];
    crypto.kx_groups = vec![provider::kx_group::X25519];
    let mut config = ClientConfig::builder_with_provider(crypto.into())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config.into())
}

struct Given(Vec<String>);

impl Given {
    fn text(&self, name: &str) -> Option<&str> {
        let at = self.0.iter().rposition(|word| word == name)?;
        self.0.get(at + 1).map(String::as_str)
    }

    fn number<N: std::str::FromStr>(&self, name: &str) -> Result<Option<N>, String> {
        self.text(name).map(|text| text.parse().map_err(|_| format!("{name} {text} cannot be read"))).transpose()
    }
}

/// The expected answer to a request.
pub struct Expected {
    status: u16,
}

impl Expected {
    /// Checks an answer to the deletion of `segment`.
    pub fn judge(&self, segment: u64, status: u16, body: &[u8]) -> Result<(), String> {
        let told = match status {
            200 => body == format!(r#"{{"segmentId":"{}"}}"#, name(segment)).as_bytes(),
            _ => body.starts_with(br#"{"errorCode":"#),
        };
        if status == self.status && told {
            return Ok(());
        }
        let body = String::from_utf8_lossy(&body[..body.len().min(200)]);
        Err(format!("expected {} for segment {}, was answered {status} {body}", self.status, name(segment)))
    }
}

/// The id of a segment; collisions are very unlikely.
pub fn name(segment: u64) -> String {
    format!("sg-{:012x}", segment >> 16)
}
