use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::document::{Section, Source, quoted};
use super::{Authority, Places};

/// `[replay.redis]`.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names are the contract's")]
pub struct Redis {
    pub places: Places,
    /// One server, or some of a cluster's.
    pub servers: Vec<Authority>,
    pub cluster: bool,
    /// `rediss://`.
    pub tls: bool,
    /// Who signs its certificate.
    pub ca: Option<PathBuf>,
    pub username: Option<String>,
    pub password: Option<Hidden>,
    pub database: i64,
    pub prefix: String,
    pub timeout: Duration,
    pub clock_margin: Duration,
    pub on_failover: OnFailover,
}

/// `on_failover`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailover {
    /// Nothing is admitted that may have been spent before.
    Fence,
    /// What was lost can be replayed.
    DangerAccept,
}

/// Text that is never shown.
#[derive(Clone)]
pub struct Hidden(pub String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

const URL: &str = "an address such as \"redis://gate:${REDIS_PASSWORD}@redis:6379\"; several of a cluster's servers with commas between";

pub(super) fn redis<'s>(mut section: Section<'s>, s: &mut Source<'s>, places: Places) -> Option<Redis> {
    let at = section.at("url");
    let text = section.hidden_text(s, "url", URL, redacted);
    let cluster = section.flag(s, "cluster", false);
    let at_ca = section.at("ca");
    let ca = section.optional_text(s, "ca", "the path of certificates in PEM").map(|path| s.resolve(&path));
    let at_prefix = section.at("prefix");
    let prefix = section.text_or(s, "prefix", "saltgate", "text");
    let timeout = section.duration(s, "timeout", Duration::from_millis(250), Duration::from_millis(1));
    let clock_margin = section.duration(s, "clock_margin", Duration::from_secs(5), Duration::from_millis(1));
    let words = [("fence", OnFailover::Fence), ("danger_accept", OnFailover::DangerAccept)];
    let on_failover = section.word(s, "on_failover", &words, words[0]);
    section.finish(s);

    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte);
    if prefix.is_empty() || prefix.len() > 64 || !prefix.bytes().all(plain) {
        // Braces would put every salt in one slot of a cluster.
        let message = format!("is {}; expected 1 to 64 letters, digits, `.`, `_`, `-` or `:`", quoted(&prefix));
        s.fault_at(at_prefix, "replay.redis.prefix", message);
    }
    let mut fault = |at, key: &str, message: &str| s.fault_at(at, key, message);
    let url = match parse(&text?) {
        Ok(url) => url,
        Err(problem) => {
            fault(at, "replay.redis.url", &format!("{problem}; expected {URL}"));
            return None;
        }
    };
    if url.servers.len() > 1 && !cluster {
        fault(at, "replay.redis.url", "names several servers; expected one, or cluster = true");
    }
    if cluster && url.database != 0 {
        fault(at, "replay.redis.url", "names a database; a cluster has none but 0");
    }
    if ca.is_some() && !url.tls {
        fault(at_ca, "replay.redis.ca", "stands beside an address without TLS; expected rediss://");
    }
    let Url { servers, tls, username, password, database } = url;
    let password = password.map(Hidden);
    Some(Redis {
        places,
        servers,
        cluster,
        tls,
        ca,
        username,
        password,
        database,
        prefix,
        timeout,
        clock_margin,
        on_failover,
    })
}

#[derive(Debug, PartialEq, Eq)]
struct Url {
    servers: Vec<Authority>,
    tls: bool,
    username: Option<String>,
    password: Option<String>,
    database: i64,
}

/// No problem quotes the text: there is a password in it.
fn parse(text: &str) -> Result<Url, &'static str> {
    let (tls, rest) = match text.split_once("://") {
        Some(("redis", rest)) => (false, rest),
        Some(("rediss", rest)) => (true, rest),
        _ => return Err("does not begin with redis:// or rediss://"),
    };
    let (user, rest) = match rest.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, rest),
    };
    let (hosts, database) = match rest.split_once('/') {
        None | Some((_, "")) => (rest.trim_end_matches('/'), 0),
        Some((hosts, database)) => (hosts, database.parse().map_err(|_| "ends in what is no number of a database")?),
    };
    if database < 0 {
        return Err("ends in what is no number of a database");
    }
    let servers: Option<Vec<Authority>> = hosts.split(',').map(server).collect();
    let (username, password) = match user.map(|user| user.split_once(':').unwrap_or((user, ""))) {
        None => (None, None),
        Some((name, password)) => (decoded(name)?, decoded(password)?),
    };
    Ok(Url { servers: servers.ok_or("names no server")?, tls, username, password, database })
}

fn server(text: &str) -> Option<Authority> {
    let parsed: http::uri::Authority = text.parse().ok()?;
    let host = parsed.host().trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then(|| Authority { host: host.into(), port: parsed.port_u16().unwrap_or(6379) })
}

/// `%40` and its like; nothing at all is none.
fn decoded(text: &str) -> Result<Option<String>, &'static str> {
    const PROBLEM: &str = "has a `%` in its user or password that is not followed by two hex digits of UTF-8";
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (high, low) = digit().zip(digit()).ok_or(PROBLEM)?;
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| PROBLEM)?);
    }
    let text = String::from_utf8(bytes).map_err(|_| PROBLEM)?;
    Ok((!text.is_empty()).then_some(text))
}

/// The address without its user and password.
fn redacted(text: &str) -> String {
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, hosts))) => format!("{scheme}://…@{hosts}"),
        (None, Some(_)) => "…".into(),
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_part_by_part() {
        let host = |host: &str, port| Authority { host: host.into(), port };
        let url = parse("rediss://gate:p%40ss:w@a:7000,[::1]:7001,c/").unwrap();
        assert_eq!(url.servers, [host("a", 7000), host("::1", 7001), host("c", 6379)]);
        assert_eq!((url.tls, url.username.as_deref(), url.password.as_deref()), (true, Some("gate"), Some("p@ss:w")));
        let url = parse("redis://:word@h/3").unwrap();
        assert_eq!((url.username, url.password.as_deref(), url.database), (None, Some("word"), 3));
        assert_eq!(parse("redis://h").unwrap().database, 0);
        for wrong in
            ["", "h:1", "http://h", "redis://", "redis://a,,b", "redis://h/x", "redis://h/-1", "redis://u:%4@h"]
        {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_shown_has_no_password() {
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
