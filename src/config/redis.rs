//! Reads `[replay.redis]`.

use std::io;
use std::path::Path;

use super::fault::Fault;
use super::numbers::MILLISECOND;
use super::section::Section;
use super::texts::quoted;
use super::user_info::{BadPercent, decoded, redacted};
use crate::credential::{Doubt, Hidden};
use crate::net::{Authority, AuthorityError};
use crate::replay::{OnFailover, RedisSettings, Room, WhenNew, Window};

const URL: &str = "an address such as \"redis://gate:${REDIS_PASSWORD}@redis:6379\"; several of a cluster's servers with commas between";

pub(super) fn redis(mut section: Section<'_>, room: Room, when_new: WhenNew, window: Window) -> Option<RedisSettings> {
    let source = section.source;
    let at = section.at("url");
    let text = section.hidden_text("url", URL, redacted);
    let cluster = section.flag("cluster", false);
    let at_ca = section.at("ca");
    let ca = section.optional_text("ca", "the path of certificates in PEM").map(|path| source.resolve(&path));
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
        fault(at_ca, "replay.redis.ca", "is set for an address without TLS; expected rediss://");
    }
    let Url { servers, tls, username, password, database } = url;
    // Usually the value of a variable that ends in a line end.
    for (what, text) in [("user", &username), ("password", &password)] {
        if let Some(doubt) = text.as_ref().and_then(|text| Doubt::of(text.as_bytes())) {
            source.warn_at(at, "replay.redis.url", format!("has a {what} that {doubt}"));
        }
    }
    let password = password.map(Hidden);
    Some(RedisSettings {
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
        room,
        when_new,
        on_failover,
        window,
    })
}

impl Fault {
    /// Redis cannot be used because the file of its certificate authorities cannot be read.
    pub(crate) fn of_redis_ca(file: &Path, error: &io::Error) -> Self {
        Self::new(file, None, "replay.redis.ca", format!("cannot be read: {error}"))
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Url {
    servers: Vec<Authority>,
    tls: bool,
    username: Option<String>,
    password: Option<String>,
    database: i64,
}

/// Redis's own port.
const PORT: u16 = 6379;

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
    let servers = hosts.split(',').map(|text| Authority::parse(text, Some(PORT))).collect::<Result<Vec<_>, _>>()?;
    let (username, password) = match user.map(|user| user.split_once(':').unwrap_or((user, ""))) {
        None => (None, None),
        Some((name, password)) => (decoded(name)?, decoded(password)?),
    };
    Ok(Url { servers, tls, username, password, database })
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
        assert_eq!((url.tls, url.username.as_deref(), url.password.as_deref()), (true, Some("gate"), Some("p@ss:w")));
        let url = parse("redis://:word@h/3").unwrap();
        assert_eq!((url.username, url.password.as_deref(), url.database), (None, Some("word"), 3));
        assert_eq!(parse("redis://h").unwrap().database, 0);
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
