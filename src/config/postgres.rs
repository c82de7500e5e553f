//! Reads `[directory.postgres]`, `[ownership.postgres]` and `[audit.ship]`.

#[cfg(feature = "postgres")]
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use super::numbers::MILLISECOND;
use super::section::Section;
use super::source::Source;
use super::statement;
use super::user_info::{BadPercent, decoded, redacted};
use crate::credential::{Doubt, Hidden};
use crate::net::{Authority, AuthorityError};
use crate::postgres::{KeyTableSettings, OwnerQuery, PostgresAddress, PostgresServer};
use crate::seal::KeyRing;
use crate::ship::ShipSettings;

const URL: &str = "an address such as \"postgres://gate:${PG_PASSWORD}@db-1,db-2:5433/crm\"";
const QUERY: &str = "a query whose columns are api_key, secret_1, account, member and role";
const OWNER: &str =
    "a query of account and creator, such as \"select account_id, owner_id from segment where id = $1\"";
const DIRECTORY: &str = "directory.postgres";
const OWNERSHIP: &str = "ownership.postgres";
const SHIP: &str = "audit.ship";
const VERSION: &str = "a query of one value that changes with the keys";
/// With shorter intervals a database would do little else.
const LEAST_INTERVAL: Duration = Duration::from_millis(50);

/// The table of keys.
pub(super) fn key_table(mut section: Section<'_>, seal: KeyRing) -> Option<KeyTableSettings> {
    let source = section.source;
    let at = section.at;
    let faults = source.fault_count();
    let tls = files(&mut section, DIRECTORY);
    let address = address(&mut section, DIRECTORY, "url", &tls);
    let listen = section.has("listen_url").then(|| self::address(&mut section, DIRECTORY, "listen_url", &tls));
    let listen = listen.flatten();
    section.known("listen_url");
    let query = section.text_or("query", KeyTableSettings::QUERY, QUERY);
    let version_query = section.optional_text("version_query", VERSION);
    let interval = section.duration("interval", KeyTableSettings::INTERVAL, LEAST_INTERVAL);
    let at_stale = section.at("max_stale");
    let max_stale = section.duration("max_stale", KeyTableSettings::MAX_STALE, LEAST_INTERVAL);
    let timeout = section.duration("timeout", KeyTableSettings::TIMEOUT, MILLISECOND);
    let at_snapshot = section.at("snapshot");
    let snapshot = section.optional_text("snapshot", "the path of a file that the gateway writes");
    section.finish();
    if snapshot.is_some() && seal.sealing().is_none() {
        let message = "needs a key to seal it by, because the secrets of all keys are in it; add [seal] with keys = [{ id = \"…\", \
                       file = \"…\" }], or leave it out";
        source.fault_at(at_snapshot, "directory.postgres.snapshot", message);
    }
    if max_stale <= interval {
        let message = "is not longer than interval: every key would be refused between two looks at the database";
        source.fault_at(at_stale, "directory.postgres.max_stale", message);
    }
    refuse_if_absent(source, at, DIRECTORY, "[directory.file]");
    if source.fault_count() > faults {
        return None;
    }
    let is_ours = query == KeyTableSettings::QUERY;
    let version_query = version_query.or_else(|| is_ours.then(|| KeyTableSettings::VERSION_QUERY.into()));
    Some(KeyTableSettings {
        address: address?,
        listen,
        query: statement(query),
        version_query: version_query.map(statement),
        is_ours,
        interval,
        max_stale,
        timeout,
        snapshot: snapshot.map(|path| source.resolve(&path)),
        seal: seal.into(),
    })
}

/// The query of the owner of a segment.
pub(super) fn owner_query(mut section: Section<'_>) -> Option<OwnerQuery> {
    let source = section.source;
    let at = section.at;
    let faults = source.fault_count();
    let tls = files(&mut section, OWNERSHIP);
    let address = address(&mut section, OWNERSHIP, "url", &tls);
    let (at_query, query) = (section.at("query"), section.text("query", OWNER).map(statement));
    let timeout = section.duration("timeout", OwnerQuery::TIMEOUT, LEAST_INTERVAL);
    section.finish();
    if let Some(Err(why)) = query.as_deref().map(statement::judge) {
        source.fault_at(at_query, "ownership.postgres.query", format!("{why}; expected {OWNER}"));
    }
    refuse_if_absent(source, at, OWNERSHIP, "[ownership.upstream]");
    if source.fault_count() > faults {
        return None;
    }
    Some(OwnerQuery { address: address?, query: query?, timeout })
}

/// Where the record is copied to.
pub(super) fn ship(mut section: Section<'_>) -> Option<ShipSettings> {
    let source = section.source;
    let at = section.at;
    let faults = source.fault_count();
    let tls = files(&mut section, SHIP);
    let address = address(&mut section, SHIP, "postgres", &tls);
    let interval = section.duration("interval", ShipSettings::INTERVAL, LEAST_INTERVAL);
    let timeout = section.duration("timeout", ShipSettings::TIMEOUT, MILLISECOND);
    section.finish();
    refuse_if_absent(source, at, SHIP, "no [audit.ship]");
    if source.fault_count() > faults {
        return None;
    }
    Some(ShipSettings { address: address?, interval, timeout })
}

fn refuse_if_absent(source: &Source<'_>, at: usize, section: &str, instead: &str) {
    if let (Some(why), None) = (source.without_postgres, source.outline) {
        source.fault_at(Some(at), section, format!("{why}; use {instead}, or a build with that feature"));
    }
}

/// The files that TLS uses for every address of a section.
struct Files {
    ca: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
}

fn files(section: &mut Section<'_>, of: &'static str) -> Files {
    let source = section.source;
    let ca = section.optional_text("ca", "the path of certificates in PEM").map(|path| source.resolve(&path));
    let at = section.at("certificate").or(section.at("key"));
    let certificate = section.optional_text("certificate", "the path of the gateway's own certificate, in PEM");
    let key = section.optional_text("key", "the path of the key of the certificate, in PEM");
    if certificate.is_some() != key.is_some() {
        source.fault_at(at, of, "needs both certificate and key; one of them is missing");
    }
    let identity = certificate.zip(key).map(|(one, other)| (source.resolve(&one), source.resolve(&other)));
    Files { ca, identity }
}

/// The query without the `;` at its end.
fn statement(text: String) -> String {
    text.trim_end().trim_end_matches(';').trim_end().to_owned()
}

/// The address that a command was given, in which `${NAME}` is the environment's.
///
/// # Errors
/// What is wrong with it, without any part of it.
#[cfg(feature = "postgres")]
pub(crate) fn address_of(text: &str, ca: Option<PathBuf>) -> Result<PostgresAddress, String> {
    let environment = |name: &str| std::env::var(name).ok();
    let source = Source::new(Path::new(""), "", &environment);
    let Some(text) = source.expand(0, "", text) else {
        return Err("names a variable by `${NAME}` that is not set, or has a `${` without its `}`".into());
    };
    let address = parse(&text).map_err(|problem| format!("{problem}; expected {URL}"))?;
    let ca = ca.filter(|_| address.tls);
    Ok(PostgresAddress { ca, ..address })
}

fn address(section: &mut Section<'_>, of: &'static str, name: &'static str, files: &Files) -> Option<PostgresAddress> {
    let source = section.source;
    let (at, key) = (section.at(name), section.key(name));
    let text = section.hidden_text(name, URL, shown)?;
    let address = match parse(&text) {
        Ok(address) => {
            PostgresAddress { section: of, ca: files.ca.clone(), identity: files.identity.clone(), ..address }
        }
        Err(problem) => {
            source.fault_at(at, &key, format!("{problem}; expected {URL}"));
            return None;
        }
    };
    // Usually the value of a variable that ends in a line end.
    if let Some(doubt) = address.password.as_ref().and_then(|Hidden(text)| Doubt::of(text.as_bytes())) {
        source.warn_at(at, &key, format!("has a password that {doubt}"));
    }
    let is_near = |server: &PostgresServer| match server {
        PostgresServer::Tcp(authority) => authority.address().is_some_and(|address| address.is_loopback()),
        PostgresServer::Socket(..) => true,
    };
    if !address.tls && !address.servers.iter().all(is_near) {
        let message = match of {
            DIRECTORY => {
                "has sslmode=disable: whoever is on the way to the database reads every secret, and can change keys"
            }
            SHIP => {
                "has sslmode=disable: whoever is on the way to the database reads the record, and can drop lines of it"
            }
            _ => "has sslmode=disable: whoever is on the way to the database can say whose a segment is",
        };
        source.warn_at(at, &key, message);
    }
    if !address.tls && (files.ca.is_some() || files.identity.is_some()) {
        let set = if files.ca.is_some() { "ca" } else { "certificate" };
        source.fault_at(at, &key, format!("has no TLS, but {set} is set; take away sslmode=disable, or {set}"));
        return None;
    }
    if !address.tls && address.requires_binding {
        source.fault_at(
            at,
            &key,
            "has no TLS, so no login can be bound to a certificate; take away channel_binding=require",
        );
        return None;
    }
    Some(address)
}

/// Why this is not an address of PostgreSQL. The text never quotes the address, which contains a password.
#[derive(Debug, thiserror::Error)]
enum UrlError {
    #[error("does not begin with postgres:// or postgresql://")]
    Scheme,
    #[error("names no user")]
    User,
    #[error("names no database")]
    Database,
    #[error("has a `%` in its user, password, database or host that is not followed by two hex digits of UTF-8")]
    Percent,
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error("has an sslmode other than verify-full (the default) and disable; the others believe every certificate")]
    SslMode,
    #[error("has target_session_attrs other than read-write, which is the default")]
    Attributes,
    #[error("has a channel_binding other than prefer (the default) and require")]
    Binding,
    #[error(
        "has a parameter other than sslmode, channel_binding, host, port and target_session_attrs; a pooler would refuse it"
    )]
    Parameter,
    #[error("names hosts twice: before the database and as host=")]
    TwoHosts,
    #[error("has a host= that is not the absolute path of a directory with a Unix socket")]
    Socket,
}

impl From<BadPercent> for UrlError {
    fn from(_: BadPercent) -> Self {
        Self::Percent
    }
}

/// The address; its section and authorities are set by the caller.
fn parse(text: &str) -> Result<PostgresAddress, UrlError> {
    let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
    if !["postgres", "postgresql"].contains(&scheme) {
        return Err(UrlError::Scheme);
    }
    let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let (user, rest) = rest.rsplit_once('@').ok_or(UrlError::User)?;
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let (hosts, database) = rest.split_once('/').ok_or(UrlError::Database)?;
    let (mut tls, mut requires_binding, mut folder, mut port) = (true, false, None, PostgresServer::PORT);
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.split_once('=').ok_or(UrlError::Parameter)? {
            ("sslmode", "verify-full") => tls = true,
            ("sslmode", "disable") => tls = false,
            ("sslmode", _) => return Err(UrlError::SslMode),
            ("channel_binding", "prefer") => requires_binding = false,
            ("channel_binding", "require") => requires_binding = true,
            ("channel_binding", _) => return Err(UrlError::Binding),
            ("target_session_attrs", "read-write") => {}
            ("target_session_attrs", _) => return Err(UrlError::Attributes),
            ("host", path) => folder = decoded(path)?,
            ("port", text) => port = Authority::parse(&format!("localhost:{text}"), None)?.port(),
            _ => return Err(UrlError::Parameter),
        }
    }
    let servers = match (folder, hosts) {
        (Some(folder), "") if folder.starts_with('/') => {
            // Nobody else is on the way through a Unix socket.
            tls = false;
            vec![PostgresServer::Socket(folder.into(), port)]
        }
        (Some(_), "") => return Err(UrlError::Socket),
        (Some(_), _) => return Err(UrlError::TwoHosts),
        (None, hosts) => {
            let server = |text| Authority::parse(text, Some(port)).map(PostgresServer::Tcp);
            hosts.split(',').map(server).collect::<Result<_, _>>()?
        }
    };
    Ok(PostgresAddress {
        section: DIRECTORY,
        servers,
        user: decoded(user)?.ok_or(UrlError::User)?,
        password: decoded(password)?.map(Hidden),
        database: decoded(database)?.ok_or(UrlError::Database)?,
        tls,
        ca: None,
        identity: None,
        requires_binding,
    })
}

/// The address without user and password, and without parameters that it cannot have.
fn shown(text: &str) -> String {
    match parse(text) {
        Ok(_) => redacted(text),
        Err(_) => redacted(text.split('?').next().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::directory::directory;
    use crate::config::ownership::ownership;

    #[test]
    fn every_part_of_an_address_is_parsed() {
        let host = |host: &str, port| PostgresServer::Tcp(Authority::new(host, port).unwrap());
        let address =
            parse("postgres://gate:p%40ss:w@a:7000,[::1]:7001,c/crm?target_session_attrs=read-write").unwrap();
        assert_eq!(address.servers, [host("a", 7000), host("::1", 7001), host("c", 5432)]);
        assert_eq!((&*address.user, &*address.database, address.tls), ("gate", "crm", true));
        assert_eq!(address.password, Some(Hidden("p@ss:w".into())));
        assert!(!address.requires_binding);
        assert!(parse("postgres://gate@h/crm?channel_binding=require").unwrap().requires_binding);
        assert!(!parse("postgresql://gate@h/crm?sslmode=disable").unwrap().tls);
        let local = parse("postgres://gate@/crm?host=%2Frun%2Fpg&port=6432").unwrap();
        assert_eq!(local.servers, [PostgresServer::Socket("/run/pg".into(), 6432)]);
        for wrong in [
            "",
            "h:1",
            "mysql://u@h/d",
            "postgres://h/d",
            "postgres://@h/d",
            "postgres://u@h",
            "postgres://u@h/",
            "postgres://u@a,,b/d",
            "postgres://u@h:99999/d",
            "postgres://u@h/d?sslmode=prefer",
            "postgres://u@h/d?sslmode=require",
            "postgres://u@h/d?options=-c",
            "postgres://u@h/d?channel_binding=disable",
            "postgres://u@h/d?target_session_attrs=any",
            "postgres://u@h/d?host=/run",
            "postgres://u@/d?host=run",
            "postgres://u:%4@h/d",
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_shown_address_has_no_password() {
        for text in [
            "postgres://gate:hunter2@h:1/d",
            "postgres://gate:hun@ter2:hunter2@h/d",
            "hunter2@h",
            "postgres://gate@h/d?password=hunter2",
        ] {
            assert!(!shown(text).contains("unter2"), "{}", shown(text));
            assert!(
                parse(text).map(|address| format!("{address} {address:?}")).is_ok_and(|text| !text.contains("unter2"))
                    || parse(text).is_err_and(|error| !error.to_string().contains("unter2"))
            );
        }
        assert_eq!(shown("postgres://u:p@h:1,i:2/d?sslmode=disable"), "postgres://…@h:1,i:2/d?sslmode=disable");
    }

    /// What [`ABSENT`](crate::postgres::ABSENT) does in a build without PostgreSQL, which does not compile without it.
    #[test]
    fn a_build_without_postgresql_refuses_both_sections_by_name() {
        let text = "[directory.postgres]\nurl = \"postgres://u:p@h/d\"\n[ownership.postgres]\nurl = \"postgres://u:p@h/d\"\n\
                    query = \"select account, owner from segment where id = $1\"\n";
        let read = |without_postgres| {
            let mut source = Source::new(Path::new("saltgate.toml"), text, &|_| None);
            source.without_postgres = without_postgres;
            let mut root = Section::document(&source).unwrap();
            let keys = directory(&mut root, KeyRing::default()).is_some();
            let owners = ownership(&mut root).is_some();
            (keys, owners, source.findings().faults.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(read(None), (true, true, Vec::new()));
        let (keys, owners, faults) = read(Some("is not in this build"));
        assert!(!keys && !owners);
        for (fault, section) in faults.iter().zip([
            "1: directory.postgres: is not in this build; use [directory.file]",
            "3: ownership.postgres: is not in this build; use [ownership.upstream]",
        ]) {
            assert!(fault.contains(section), "{fault}");
        }
        assert_eq!(faults.len(), 2);
    }
}
