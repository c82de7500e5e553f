//! Reads `[upstream]`.

use std::time::Duration;

use http::HeaderValue;

use super::numbers::MILLISECOND;
use super::section::Section;
use super::socket::{MAX_SOCKET_PATH, SocketPathError, socket_path};
use super::source::Source;
use super::texts::quoted;
use crate::net::{Authority, AuthorityError};
use crate::upstream::headers::Authorization;
use crate::upstream::{HealthSettings, MAX_SERVERS, ServerAddress, UpstreamSettings, UpstreamTls};

const SERVERS: &str =
    "a list such as [\"http://127.0.0.1:9000\", \"https://crm.internal:8443\", \"unix:/run/crm.sock\"]";
/// A higher threshold would judge a server by checks of hours ago.
const MAX_THRESHOLD: usize = 1_000;

/// The section, and the position of its `servers`.
pub(super) fn upstream(root: &mut Section<'_>) -> (Option<UpstreamSettings>, Option<usize>) {
    let section = root.section("upstream");
    let at = section.at("servers");
    (checked(section), at)
}

fn checked(mut section: Section<'_>) -> Option<UpstreamSettings> {
    let source = section.source;
    let at = section.at("servers");
    let servers = section.some_texts("servers", SERVERS);
    let servers = servers.and_then(|texts| self::servers(&texts, at, source));
    let connect_timeout = section.duration("connect_timeout", UpstreamSettings::CONNECT_TIMEOUT, MILLISECOND);
    let response_timeout = section.duration("response_timeout", UpstreamSettings::RESPONSE_TIMEOUT, MILLISECOND);
    let idle_timeout = section.duration("idle_timeout", UpstreamSettings::IDLE_TIMEOUT, MILLISECOND);
    let fresh = section.duration("fresh", UpstreamSettings::FRESH, Duration::ZERO);
    let answer_timeout = section.duration("answer_timeout", UpstreamSettings::ANSWER_TIMEOUT, MILLISECOND);
    let dns_refresh = section.duration("dns_refresh", UpstreamSettings::DNS_REFRESH, MILLISECOND);
    let words = [("strip", Authorization::Strip), ("keep", Authorization::Keep)];
    let authorization = section.word("authorization", &words, UpstreamSettings::AUTHORIZATION);
    let host = host(&mut section);
    let health = section.has("health").then(|| health(&mut section));
    let speaks_tls = servers
        .as_ref()
        .is_none_or(|all| all.iter().any(|server| matches!(server, ServerAddress::Network { tls: true, .. })));
    let tls = tls(&mut section, speaks_tls);
    section.finish();
    Some(UpstreamSettings {
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
        fresh,
        answer_timeout,
        ..UpstreamSettings::new(servers?)
    })
}

fn servers(texts: &[String], at: Option<usize>, source: &Source<'_>) -> Option<Vec<ServerAddress>> {
    const KEY: &str = "upstream.servers";
    let mut servers = Vec::new();
    for (n, text) in texts.iter().enumerate() {
        match server(text, source) {
            Ok(server) if servers.contains(&server) => {
                source.fault_at(at, KEY, format!("names {} twice; expected each server once", quoted(text)));
                return None;
            }
            Ok(server) => servers.push(server),
            Err(problem) => {
                // It may contain a password, which must not be shown.
                let shown = if text.contains('@') { "…".into() } else { quoted(text) };
                source.fault_at(
                    at,
                    KEY,
                    format!("{shown} (number {} of the list) {problem}; expected {SERVERS}", n + 1),
                );
                return None;
            }
        }
    }
    if servers.len() > MAX_SERVERS {
        source.fault_at(at, KEY, format!("names {} servers; expected at most {MAX_SERVERS}", servers.len()));
        return None;
    }
    Some(servers)
}

/// Why this is not an address of a server.
#[derive(Debug, thiserror::Error)]
enum ServerAddressError {
    #[error("does not begin with http://, https:// or unix:")]
    Scheme,
    #[error("has a path; a server has none, since requests keep theirs")]
    Path,
    #[error("has a user; no user is sent to a server")]
    User,
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Socket(#[from] SocketPathError),
}

fn server(text: &str, source: &Source<'_>) -> Result<ServerAddress, ServerAddressError> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(ServerAddress::Unix(socket_path(path, source, MAX_SOCKET_PATH)?));
    }
    let (tls, rest, port) = match text.split_once("://") {
        Some(("http", rest)) => (false, rest, 80),
        Some(("https", rest)) => (true, rest, 443),
        _ => return Err(ServerAddressError::Scheme),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains('/') {
        return Err(ServerAddressError::Path);
    }
    if rest.contains('@') {
        return Err(ServerAddressError::User);
    }
    let at = Authority::parse(rest, Some(port))?;
    Ok(ServerAddress::Network { at, tls })
}

fn host(section: &mut Section<'_>) -> Option<HeaderValue> {
    let source = section.source;
    const EXPECTED: &str = "a host, or a host and port, such as \"crm.internal\"";
    let at = section.at("host");
    let text = section.optional_text("host", EXPECTED)?;
    // The port may be left out; the service knows its default.
    let value = Authority::parse(&text, Some(80)).map(|_| HeaderValue::try_from(&text).ok());
    match value {
        Ok(value) => value,
        Err(error) => {
            source.fault_at(at, "upstream.host", format!("is {}, which {error}; expected {EXPECTED}", quoted(&text)));
            None
        }
    }
}

fn health(section: &mut Section<'_>) -> Option<HealthSettings> {
    let source = section.source;
    const EXPECTED: &str = "a path such as \"/health\" that answers 2xx while the server is healthy";
    let mut health = section.section("health");
    let at = health.at("path");
    let path = health.text("path", EXPECTED);
    let interval = health.duration("interval", HealthSettings::INTERVAL, 10 * MILLISECOND);
    let timeout = health.duration("timeout", HealthSettings::TIMEOUT, MILLISECOND);
    let healthy_threshold = health.count_up_to("healthy_threshold", HealthSettings::HEALTHY_THRESHOLD, MAX_THRESHOLD);
    let unhealthy_threshold =
        health.count_up_to("unhealthy_threshold", HealthSettings::UNHEALTHY_THRESHOLD, MAX_THRESHOLD);
    health.finish();
    let path = path?;
    // The parser drops a fragment.
    let whole = path.parse::<http::uri::PathAndQuery>().is_ok_and(|parsed| parsed.as_str() == path);
    if !path.starts_with('/') || !whole {
        source.fault_at(at, "upstream.health.path", format!("is {}; expected {EXPECTED}", quoted(&path)));
        return None;
    }
    Some(HealthSettings { path, interval, timeout, healthy_threshold, unhealthy_threshold })
}

fn tls(section: &mut Section<'_>, speaks_tls: bool) -> UpstreamTls {
    let source = section.source;
    let at = section.at("tls");
    let mut tls = section.section("tls");
    let (at_certificate, at_key) = (tls.at("certificate"), tls.at("key"));
    let mut file = |name, expected| tls.optional_text(name, expected).map(|path| source.resolve(&path));
    let ca = file("ca", "the path of certificates in PEM");
    let certificate = file("certificate", "the path of a certificate in PEM, followed by its chain");
    let key = file("key", "the path of a private key in PEM");
    let server_name = tls.optional_text("server_name", "the name that the servers' certificates have");
    tls.finish();
    if at.is_some() && !speaks_tls {
        source.fault_at(at, "upstream.tls", "is set for servers without TLS; expected a server with https://");
    }
    if certificate.is_some() && key.is_none() {
        source.fault_at(
            at_certificate,
            "upstream.tls.certificate",
            "is set without upstream.tls.key; expected both or none",
        );
    }
    if key.is_some() && certificate.is_none() {
        source.fault_at(at_key, "upstream.tls.key", "is set without upstream.tls.certificate; expected both or none");
    }
    UpstreamTls { ca, identity: certificate.zip(key), server_name }
}
