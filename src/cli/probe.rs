//! `saltgate probe`: asks the admin listener of the gateway on this machine whether it lives, or is ready. For images without
//! a shell.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{fail, report};
use crate::config;
use crate::console::say;
use crate::plain;

/// The default address of the admin listener.
const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9901);
/// How long a whole probe may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// The most bytes of an answer.
const MAX_ANSWER: usize = 64 << 10;

#[derive(Clone, Copy, ValueEnum)]
enum Endpoint {
    /// The process runs and answers
    Live,
    /// The gateway serves requests: not while it starts, is fenced, drains, or misses a part that it needs
    Ready,
}

#[derive(Args)]
pub(super) struct Arguments {
    /// What to ask for
    endpoint: Endpoint,
    /// The configuration that names the address of the admin listener, in TOML [default address: 127.0.0.1:9901]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Why a probe fails.
#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error("cannot be reached: {0}; is the gateway running?")]
    Unreachable(io::Error),
    #[error("gave no answer within {DEADLINE:?}")]
    Late,
    #[error("gave no answer of HTTP: {0}; is this the admin listener?")]
    NoAnswer(String),
    #[error("answered {status} to {path}: {why}")]
    Answered { path: &'static str, status: StatusCode, why: String },
}

impl Endpoint {
    fn path(self) -> &'static str {
        match self {
            Self::Live => "/live",
            Self::Ready => "/ready",
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let address = match arguments.config.as_deref().map(config::admin_address) {
        None => DEFAULT,
        Some(Ok(address)) => address,
        Some(Err(faults)) => {
            // Whoever probes distinguishes only 0 and 1: Docker reserves 2, and Kubernetes takes all others for 1.
            report(&faults);
            return ExitCode::FAILURE;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(error),
    };
    let endpoint = arguments.endpoint;
    let probed = runtime.block_on(async { timeout(DEADLINE, probe(address, endpoint)).await });
    match probed.unwrap_or(Err(ProbeError::Late)) {
        Ok(()) => {
            say!("{}", endpoint.path().trim_start_matches('/'));
            ExitCode::SUCCESS
        }
        Err(error) => fail(format!("the admin listener {address} {error}")),
    }
}

async fn probe(address: SocketAddr, endpoint: Endpoint) -> Result<(), ProbeError> {
    let no_answer = |error: &dyn fmt::Display| ProbeError::NoAnswer(error.to_string());
    let stream = connect(address).await.map_err(ProbeError::Unreachable)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| no_answer(&error))?;
    tokio::spawn(connection);
    let path = endpoint.path();
    let request = Request::get(path).header(HOST, address.to_string()).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| no_answer(&error))?;
    let (head, body) = sender.send_request(request).await.map_err(|error| no_answer(&error))?.into_parts();
    let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| no_answer(&error))?.to_bytes();
    match head.status {
        StatusCode::OK => Ok(()),
        status => Err(ProbeError::Answered { path, status, why: why(&body) }),
    }
}

/// Connects to the listener; to one that listens on every address, by the loopback interface.
async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let loopback = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        // The second works where the loopback interface has no IPv6 address.
        IpAddr::V6(ip) if ip.is_unspecified() => vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()],
        ip => vec![ip],
    };
    let all: Vec<SocketAddr> = loopback.into_iter().map(|ip| SocketAddr::new(ip, address.port())).collect();
    TcpStream::connect(&*all).await
}

/// What keeps the gateway from being ready, as `/ready` says it in its parts.
fn why(body: &[u8]) -> String {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let parts = answer["parts"].as_object().into_iter().flatten();
    let gone = parts.filter_map(|(name, part)| {
        let told = part.as_str().filter(|told| *told != "ok" && !told.starts_with("degraded: "))?;
        Some(format!("{name}: {told}"))
    });
    let gone = gone.collect::<Vec<_>>().join("; ");
    if gone.is_empty() { plain::line(&String::from_utf8_lossy(body)).to_string() } else { gone }
}
