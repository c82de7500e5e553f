//! Reads `[replay.redis]`.

use std::io;
use std::path::{Path, PathBuf};

use super::fault::Fault;
use super::numbers::MILLISECOND;
use super::section::Section;
use super::source::Source;
use super::texts::quoted;
use super::user_info::{BadPercent, decoded, redacted};
use crate::credential::{Doubt, Hidden};
use crate::net::{Authority, AuthorityError};
use crate::replay::{Access, ClientCertificate, OnFailover, RedisSettings, Room, SentinelSettings, WhenNew, Window};

const URL: &str = "an address such as \"redis://gate:${REDIS_PASSWORD}@redis:6379\"; several of a cluster's servers with commas between";
const NODES: &str = "a list of all Sentinels, such as [\"redis://sentinel-1:26379\", \"redis://sentinel-2:26379\"]";

pub(super) fn redis(mut section: Section<'_>, room: Room, when_new: WhenNew, window: Window) -> Option<RedisSettings> {
    let source = section.source;
    let faults = source.fault_count();
    let at = section.at("url");
    let sentinel = section.has("sentinel");
    // With Sentinels it is needed only for TLS, a user, a password or a database.
    let text = if !sentinel || at.is_some() || source.outline.is_some() {
        Some(section.hidden_text("url", URL, redacted))
    } else {
        section.known("url");
        None
    };
    section.note_optional("url");
    let cluster = section.flag("cluster", false);
    let named = sentinel.then(|| sentinels(section.section("sentinel"))).flatten();
    section.known("sentinel");
    let (at_ca, ca) = (section.at("ca"), tls_file(&mut section, "ca"));
    let (at_certificate, certificate) = (section.at("certificate"), tls_file(&mut section, "certificate"));
    let key = tls_file(&mut section, "key");
    let at_prefix = section.at("prefix");
    let prefix = section.text_or("prefix", RedisSettings::PREFIX, "text");
    let timeout = section.duration("timeout", RedisSettings::TIMEOUT, MILLISECOND);
    let clock_margin = section.duration("clock_margin", RedisSettings::CLOCK_MARGIN, MILLISECOND);
    let words = [("fence", OnFailover::Fence), ("danger_accept", OnFailover::DangerAccept)];
    let on_failover = section.word("on_failover", &words, RedisSettings::ON_FAILOVER);
    section.finish();

    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte);
    if prefix.is_empty() || prefix.len() > 64 || !prefix.bytes().all(plain) {
        // Braces would put every salt in one slot of a cluster.
        let message = format!("is {}; expected 1 to 64 letters, digits, `.`, `_`, `-` or `:`", quoted(&prefix));
        source.fault_at(at_prefix, "replay.redis.prefix", message);
    }
    let fault = |at, key: &str, message: &str| source.fault_at(at, key, message);
    let url = match text {
        None => Url::default(),
        Some(text) => match parse(&text?) {
            Ok(url) => url,
            Err(problem) => {
                fault(at, "replay.redis.url", &format!("{problem}; expected {URL}"));
                return None;
            }
        },
    };
    if url.servers.len() > 1 && !cluster {
        fault(at, "replay.redis.url", "names several servers; expected one, or cluster = true");
    }
    if cluster && url.access.database != 0 {
        fault(at, "replay.redis.url", "names a database; a cluster has none but 0");
    }
    if cluster && sentinel {
        fault(
            None,
            "replay.redis.sentinel",
            "is set with cluster = true; a cluster has no Sentinels, expected one of both",
        );
    }
    if let Some(SentinelSettings { master, .. }) = &named
        && url.servers.iter().any(|server| !server.host().eq_ignore_ascii_case(master))
    {
        let message = format!(
            "names a server, whose address the Sentinels give; expected {} as its host: user, password, database and TLS \
             are taken from it",
            quoted(master)
        );
        fault(at, "replay.redis.url", &message);
    }
    let has_tls = url.access.tls || named.iter().flat_map(|named| &named.nodes).any(|(_, access)| access.tls);
    if ca.is_some() && !has_tls {
        fault(at_ca, "replay.redis.ca", "is set for an address without TLS; expected rediss://");
    }
    if certificate.is_some() && !has_tls {
        fault(at_certificate, "replay.redis.certificate", "is set for an address without TLS; expected rediss://");
    }
    if certificate.is_some() != key.is_some() && source.outline.is_none() {
        fault(at_certificate, "replay.redis.certificate", "and key belong together; expected both or none");
    }
    warn_of_doubts(source, at, "replay.redis.url", &url.access);
    if source.fault_count() > faults {
        return None;
    }
    Some(RedisSettings {
        servers: if sentinel { Vec::new() } else { url.servers },
        cluster,
        sentinel: named,
        access: url.access,
        ca,
        client_certificate: certificate.zip(key).map(|(certificate, key)| ClientCertificate { certificate, key }),
        prefix,
        timeout,
        clock_margin,
        room,
        fleet_shares: false,
        when_new,
        on_failover,
        window,
    })
}

fn tls_file(section: &mut Section<'_>, name: &'static str) -> Option<PathBuf> {
    let source = section.source;
    section.optional_text(name, "the path of a file in PEM").map(|path| source.resolve(&path))
}

/// `[replay.redis.sentinel]`.
fn sentinels(mut section: Section<'_>) -> Option<SentinelSettings> {
    let source = section.source;
    let at = section.at("nodes");
    let master = section.text("master", "the name by which the Sentinels know the master, such as \"mymaster\"");
    let texts = section.some_hidden_texts("nodes", NODES, redacted);
    section.finish();
    let mut nodes = Vec::<(Authority, Access)>::new();
    for text in texts? {
        let fault = |message: &str| source.fault_at(at, "replay.redis.sentinel.nodes", message);
        match parse_with(&text, SENTINEL_PORT) {
            Err(problem) => fault(&format!("holds an address that {problem}; expected {NODES}")),
            Ok(Url { servers, .. }) if servers.len() != 1 => {
                fault("holds an address of several Sentinels; expected one address for each");
            }
            Ok(Url { access, .. }) if access.database != 0 => {
                fault("holds an address with a database; a Sentinel has none");
            }
            Ok(Url { servers, access }) => {
                warn_of_doubts(source, at, "replay.redis.sentinel.nodes", &access);
                nodes.extend(servers.into_iter().map(|server| (server, access.clone())));
            }
        }
    }
    Some(SentinelSettings { master: master?, nodes })
}

/// A doubtful user or password is usually the value of a variable that ends in a line end.
fn warn_of_doubts(source: &Source<'_>, at: Option<usize>, key: &str, access: &Access) {
    let password = access.password.as_ref().map(|Hidden(password)| password);
    for (what, text) in [("user", access.username.as_ref()), ("password", password)] {
        if let Some(doubt) = text.and_then(|text| Doubt::of(text.as_bytes())) {
            source.warn_at(at, key, format!("has a {what} that {doubt}"));
        }
    }
}

impl Fault {
    /// Redis cannot be used because a file for TLS cannot be read.
    pub(crate) fn of_redis_file(setting: &str, file: &Path, error: &io::Error) -> Self {
        Self::new(file, None, setting, format!("cannot be read: {error}"))
    }
}

#[derive(Debug, Default)]
struct Url {
    servers: Vec<Authority>,
    access: Access,
}

/// Redis's own port.
const PORT: u16 = 6379;
/// Sentinel's.
const SENTINEL_PORT: u16 = 26_379;

/// Why this is not an address of Redis. The text never quotes the address, which contains a password.
#[derive(Debug, thiserror::Error)]
enum UrlError {
    #[error("does not begin with redis:// or rediss://")]
    Scheme,
    #[error("ends in something that is not the number of a database")]
    Database,
    #[error("has a `%` in its user or password that is not followed by two hex digits of UTF-8")]
    Percent,
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

impl From<BadPercent> for UrlError {
    fn from(_: BadPercent) -> Self {
        Self::Percent
    }
}

fn parse(text: &str) -> Result<Url, UrlError> {
    parse_with(text, PORT)
}

fn parse_with(text: &str, port: u16) -> Result<Url, UrlError> {
    let (tls, rest) = match text.split_once("://") {
        Some(("redis", rest)) => (false, rest),
        Some(("rediss", rest)) => (true, rest),
        _ => return Err(UrlError::Scheme),
    };
    let (user, rest) = match rest.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, rest),
    };
    let (hosts, database) = match rest.split_once('/') {
        None | Some((_, "")) => (rest.trim_end_matches('/'), 0),
        Some((hosts, database)) => (hosts, self::database(database).ok_or(UrlError::Database)?),
    };
    let servers = hosts.split(',').map(|text| Authority::parse(text, Some(port))).collect::<Result<Vec<_>, _>>()?;
    let (username, password) = match user.map(|user| user.split_once(':').unwrap_or((user, ""))) {
        None => (None, None),
        Some((name, password)) => (decoded(name)?, decoded(password)?),
    };
    let password = password.map(Hidden);
    Ok(Url { servers, access: Access { tls, username, password, database } })
}

/// A database in plain digits. Redis has 16 by default, and never more than fit in 31 bits.
fn database(text: &str) -> Option<i64> {
    let plain = text == "0" || !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse::<i32>().ok().filter(|_| plain).map(i64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_an_address_is_parsed() {
        let host = |host: &str, port| Authority::new(host, port).unwrap();
        let url = parse("rediss://gate:p%40ss:w@a:7000,[::1]:7001,c/").unwrap();
        assert_eq!(url.servers, [host("a", 7000), host("::1", 7001), host("c", 6379)]);
        let hidden = |text: &str| Some(Hidden(text.into()));
        let Access { tls, username, password, .. } = url.access;
        assert_eq!((tls, username.as_deref(), password), (true, Some("gate"), hidden("p@ss:w")));
        let Access { username, password, database, .. } = parse("redis://:word@h/3").unwrap().access;
        assert_eq!((username, password, database), (None, hidden("word"), 3));
        assert_eq!(parse("redis://h").unwrap().access.database, 0);
        for wrong in [
            "",
            "h:1",
            "http://h",
            "redis://",
            "redis://a,,b",
            "redis://h/x",
            "redis://h/-1",
            "redis://h/+1",
            "redis://h/01",
            "redis://h:99999",
            "redis://u:%4@h",
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_shown_address_has_no_password() {
        for text in [
            "redis://gate:hunter2@h:1/0",
            "redis://:hunter2@h",
            "redis://hunter2@h",
            "hunter2@h",
            "redis://x:hun@ter2:hunter2@h",
        ] {
            assert!(!redacted(text).contains("unter2"), "{}", redacted(text));
        }
        assert_eq!(redacted("rediss://u:p@h:1,i:2/0"), "rediss://…@h:1,i:2/0");
        assert_eq!(redacted("redis://h:1"), "redis://h:1");
        assert_eq!(format!("{:?}", Some(Hidden("hunter2".into()))), "Some(…)");
    }
}
