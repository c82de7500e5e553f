use std::path::PathBuf;
use std::time::Duration;

use http::HeaderValue;

use super::Authority;
use super::document::{Section, Source, quoted};

/// `[upstream]`.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Where the service is.
    pub servers: Vec<Server>,
    /// `Host`; each server's own if `None`.
    pub host: Option<HeaderValue>,
    /// How servers prove who they are.
    pub tls: Tls,
    /// How servers are asked whether they are well.
    pub health: Option<Health>,
    /// What becomes of the client's `Authorization`.
    pub authorization: Authorization,
    /// How long the addresses of a name are believed.
    pub dns_refresh: Duration,
    /// For a connection.
    pub connect_timeout: Duration,
    /// For an answer.
    pub response_timeout: Duration,
    /// For a connection to wait.
    pub idle_timeout: Duration,
}

/// One of `upstream.servers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// `http://`.
    Http(Authority),
    /// `https://`.
    Https(Authority),
    /// `unix:`.
    Unix(PathBuf),
}

/// `upstream.authorization`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// It goes no further.
    Strip,
    /// The service gets what the client sent.
    Keep,
}

/// `[upstream.tls]`.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "the names are the contract's")]
pub struct Tls {
    pub ca: Option<PathBuf>,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub server_name: Option<String>,
}

/// `[upstream.health]`.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names are the contract's")]
pub struct Health {
    pub path: String,
    pub interval: Duration,
    pub timeout: Duration,
    pub healthy_threshold: usize,
    pub unhealthy_threshold: usize,
}

const SERVERS: &str =
    "a list such as [\"http://127.0.0.1:9000\", \"https://crm.internal:8443\", \"unix:/run/crm.sock\"]";
/// Which of them were tried is one machine word.
const MAX_SERVERS: usize = 64;
const MILLISECOND: Duration = Duration::from_millis(1);

pub(super) fn upstream<'s>(root: &mut Section<'s>, s: &mut Source<'s>) -> Option<Upstream> {
    let mut section = root.section(s, "upstream");
    let at = section.at("servers");
    let servers = section.some_texts(s, "servers", SERVERS);
    let servers = servers.and_then(|texts| self::servers(&texts, at, s));
    let connect_timeout = section.duration(s, "connect_timeout", Duration::from_secs(1), MILLISECOND);
    let response_timeout = section.duration(s, "response_timeout", Duration::from_secs(10), MILLISECOND);
    let idle_timeout = section.duration(s, "idle_timeout", Duration::from_secs(4), MILLISECOND);
    let dns_refresh = section.duration(s, "dns_refresh", Duration::from_secs(30), MILLISECOND);
    let words = [("strip", Authorization::Strip), ("keep", Authorization::Keep)];
    let authorization = section.word(s, "authorization", &words, words[0]);
    let host = host(&mut section, s);
    let health = section.has("health").then(|| health(&mut section, s));
    let speaks_tls = servers.as_ref().is_none_or(|all| all.iter().any(|server| matches!(server, Server::Https(_))));
    let tls = tls(&mut section, s, speaks_tls);
    section.finish(s);
    Some(Upstream {
        servers: servers?,
        host,
        tls,
        health: match health {
            Some(health) => Some(health?),
            None => None,
        },
        authorization,
        dns_refresh,
        connect_timeout,
        response_timeout,
        idle_timeout,
    })
}

fn servers(texts: &[String], at: Option<usize>, s: &mut Source<'_>) -> Option<Vec<Server>> {
    const KEY: &str = "upstream.servers";
    let mut servers = Vec::new();
    for (n, text) in texts.iter().enumerate() {
        match server(text, s) {
            Ok(server) if servers.contains(&server) => {
                s.fault_at(at, KEY, format!("names {} twice; expected each server once", quoted(text)));
                return None;
            }
            Ok(server) => servers.push(server),
            Err(problem) => {
                // It may hold a password, which is shown to nobody.
                let shown = if text.contains('@') { "…".into() } else { quoted(text) };
                s.fault_at(at, KEY, format!("{shown} (number {} of the list) {problem}; expected {SERVERS}", n + 1));
                return None;
            }
        }
    }
    if servers.len() > MAX_SERVERS {
        s.fault_at(at, KEY, format!("names {} servers; expected at most {MAX_SERVERS}", servers.len()));
        return None;
    }
    Some(servers)
}

fn server(text: &str, s: &Source<'_>) -> Result<Server, &'static str> {
    if let Some(path) = text.strip_prefix("unix:") {
        return if path.is_empty() { Err("names no path") } else { Ok(Server::Unix(s.resolve(path))) };
    }
    let (of, rest, port): (fn(Authority) -> Server, _, _) = match text.split_once("://") {
        Some(("http", rest)) => (Server::Http, rest, 80),
        Some(("https", rest)) => (Server::Https, rest, 443),
        _ => return Err("does not begin with http://, https:// or unix:"),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains('/') {
        return Err("has a path, and there is no path of a server: requests keep theirs");
    }
    if rest.contains('@') {
        return Err("has a user, and none is sent");
    }
    let parsed: http::uri::Authority = rest.parse().map_err(|_| "has no host and port")?;
    let host = parsed.host().trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() || (parsed.port().is_some() && parsed.port_u16().is_none_or(|port| port == 0)) {
        return Err("has no host and port");
    }
    Ok(of(Authority { host: host.into(), port: parsed.port_u16().unwrap_or(port) }))
}

fn host<'s>(section: &mut Section<'s>, s: &mut Source<'s>) -> Option<HeaderValue> {
    const EXPECTED: &str = "a host, or a host and port, such as \"crm.internal\"";
    let at = section.at("host");
    let text = section.optional_text(s, "host", EXPECTED)?;
    let sound = text.parse::<http::uri::Authority>().is_ok_and(|authority| !authority.as_str().contains('@'));
    let value = HeaderValue::try_from(&text).ok().filter(|_| sound);
    if value.is_none() {
        s.fault_at(at, "upstream.host", format!("is {}; expected {EXPECTED}", quoted(&text)));
    }
    value
}

fn health<'s>(section: &mut Section<'s>, s: &mut Source<'s>) -> Option<Health> {
    const EXPECTED: &str = "a path such as \"/health\" that answers 2xx while the server is well";
    let mut health = section.section(s, "health");
    let at = health.at("path");
    let path = health.text(s, "path", EXPECTED);
    let interval = health.duration(s, "interval", Duration::from_secs(5), 10 * MILLISECOND);
    let timeout = health.duration(s, "timeout", Duration::from_secs(1), MILLISECOND);
    let healthy_threshold = health.count(s, "healthy_threshold", 2);
    let unhealthy_threshold = health.count(s, "unhealthy_threshold", 3);
    health.finish(s);
    let path = path?;
    if !path.starts_with('/') || path.parse::<http::uri::PathAndQuery>().is_err() {
        s.fault_at(at, "upstream.health.path", format!("is {}; expected {EXPECTED}", quoted(&path)));
        return None;
    }
    Some(Health { path, interval, timeout, healthy_threshold, unhealthy_threshold })
}

fn tls<'s>(section: &mut Section<'s>, s: &mut Source<'s>, speaks_tls: bool) -> Tls {
    let at = section.at("tls");
    let mut tls = section.section(s, "tls");
    let (at_certificate, at_key) = (tls.at("certificate"), tls.at("key"));
    let mut file = |name, expected| tls.optional_text(s, name, expected).map(|path| s.resolve(&path));
    let ca = file("ca", "the path of certificates in PEM");
    let certificate = file("certificate", "the path of a certificate in PEM, its chain behind it");
    let key = file("key", "the path of a private key in PEM");
    let server_name = tls.optional_text(s, "server_name", "the name that the servers' certificates have");
    tls.finish(s);
    if at.is_some() && !speaks_tls {
        s.fault_at(at, "upstream.tls", "stands beside servers without TLS; expected a server with https://");
    }
    if certificate.is_some() && key.is_none() {
        s.fault_at(
            at_certificate,
            "upstream.tls.certificate",
            "stands without upstream.tls.key; expected both or none",
        );
    }
    if key.is_some() && certificate.is_none() {
        s.fault_at(at_key, "upstream.tls.key", "stands without upstream.tls.certificate; expected both or none");
    }
    Tls { ca, certificate, key, server_name }
}
