//! What a Redis server says of itself, read strictly: a missing or odd value is an error, never guessed.

use std::time::Duration;

use redis::Value;
use tokio::time::timeout;

use super::script::{Number, decimal};
use super::server::Trouble;
use super::{Connection, RedisSettings};
use crate::net::Authority;

/// The oldest supported major version of Redis: the scripts depend on its behaviour. Valkey says of itself that it is Redis 7.2.4.
const OLDEST: u64 = 7;

/// The kind of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Standalone,
    Cluster,
    Sentinel,
}

/// See the module.
#[derive(Debug)]
pub(super) struct About {
    /// Its name and version.
    program: String,
    mode: Mode,
    /// The run id of the server.
    pub(super) run: String,
    /// The replication id: the history of its data.
    pub(super) history: String,
    /// Its master, if it is a replica.
    copies: Option<String>,
    policy: String,
    /// Whether it takes writes only while enough replicas follow it (`min-replicas-to-write`).
    pub(super) needs_replicas: bool,
    /// Bytes that its data use.
    pub(super) used: u64,
    /// `maxmemory` in bytes; 0 if unlimited.
    pub(super) most: u64,
}

/// A server's clock and key count.
pub(super) struct Counted {
    /// Its clock, in milliseconds since 1970.
    pub(super) time: i64,
    pub(super) keys: usize,
}

/// What kind of server is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// A single master without a cluster.
    Alone,
    /// A master without a cluster, which Sentinels name.
    Named,
    /// A master of a cluster.
    InCluster,
    /// Any server of a cluster.
    Seed,
}

impl Expected {
    /// What holds the data.
    pub(super) fn of(settings: &RedisSettings) -> Self {
        match (settings.cluster, &settings.sentinel) {
            (true, _) => Self::InCluster,
            (false, Some(_)) => Self::Named,
            (false, None) => Self::Alone,
        }
    }
}

/// Asks a server about itself, and checks that it is what is expected.
pub(super) async fn ask(
    connection: &mut Connection,
    address: &Authority,
    expected: Expected,
    number: Number,
    limit: Duration,
) -> Result<About, Trouble> {
    let mut ask = redis::pipe();
    ask.cmd("INFO").arg("server").cmd("PING").arg(number.to_string());
    let [server] = answers(connection, &ask, number, limit).await?;
    let server = text(&server).ok_or_else(strange)?;
    // A Sentinel or a very old Redis lacks some of the fields that follow.
    judge_kind(server, address, expected)?;
    ask.clear();
    ask.cmd("INFO").arg("memory").cmd("INFO").arg("replication").cmd("PING").arg(number.to_string());
    let [memory, replication] = answers(connection, &ask, number, limit).await?;
    let (memory, replication) = text(&memory).zip(text(&replication)).ok_or_else(strange)?;
    judged(server, memory, replication, address, expected)
}

/// Reads what a server says of itself, and checks that it is what is expected.
pub(super) fn judged(
    server: &str,
    memory: &str,
    replication: &str,
    address: &Authority,
    expected: Expected,
) -> Result<About, Trouble> {
    judge_kind(server, address, expected)?;
    let about = About::read(server, memory, replication)?;
    about.judge(address, expected)?;
    Ok(about)
}

/// Asks for the server's time and number of keys.
pub(super) async fn count(connection: &mut Connection, number: Number, limit: Duration) -> Result<Counted, Trouble> {
    let mut ask = redis::pipe();
    ask.cmd("TIME").cmd("DBSIZE").cmd("PING").arg(number.to_string());
    let [time, keys] = answers(connection, &ask, number, limit).await?;
    counted(&time, &keys).ok_or_else(strange)
}

pub(super) fn counted(time: &Value, keys: &Value) -> Option<Counted> {
    let Value::Array(time) = time else { return None };
    let [seconds, micros] = time.as_slice() else { return None };
    let (seconds, micros) = (decimal(text(seconds)?)?, decimal(text(micros)?)?);
    if micros >= 1_000_000 {
        return None;
    }
    let time = i64::try_from(seconds).ok()?.checked_mul(1000)?.checked_add((micros / 1000).cast_signed())?;
    let Value::Int(keys) = keys else { return None };
    Some(Counted { time, keys: usize::try_from(*keys).ok()? })
}

/// Sends requests that end with a `PING` with a number, and returns the other replies. If the number is not echoed,
/// the replies belong to other requests.
async fn answers<const N: usize>(
    connection: &mut Connection,
    ask: &redis::Pipeline,
    number: Number,
    limit: Duration,
) -> Result<[Value; N], Trouble> {
    let late = |_| Trouble::OutOfReach(format!("no answer within {} ms", limit.as_millis()));
    let mut answers: Vec<Value> = timeout(limit, ask.query_async(connection)).await.map_err(late)??;
    let echo = answers.pop().ok_or_else(strange)?;
    if !number.is_echoed(&echo) {
        return Err(Trouble::OutOfSync);
    }
    answers.try_into().map_err(|_| strange())
}

fn strange() -> Trouble {
    Trouble::OutOfReach("describes itself in a way that is not understood".into())
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}

/// Checks mode and version.
fn judge_kind(server: &str, address: &Authority, expected: Expected) -> Result<(), Trouble> {
    let version = field(server, "redis_version").ok_or_else(strange)?;
    match mode(server)? {
        Mode::Sentinel => {
            return Err(Trouble::Misconfigured(format!(
                "at {address} is a Sentinel, which holds no data: name the master that it watches"
            )));
        }
        Mode::Cluster if matches!(expected, Expected::Alone | Expected::Named) => {
            return Err(Trouble::Misconfigured(format!("at {address} is a cluster: set cluster = true")));
        }
        Mode::Standalone if matches!(expected, Expected::InCluster | Expected::Seed) => {
            return Err(Trouble::Misconfigured(format!(
                "at {address} is not a cluster: leave out cluster = true, or name the cluster's servers"
            )));
        }
        Mode::Cluster | Mode::Standalone => {}
    }
    let major = version.split('.').next().and_then(decimal).ok_or_else(strange)?;
    if major < OLDEST {
        return Err(Trouble::Misconfigured(format!("at {address} is Redis {version}; expected {OLDEST} or later")));
    }
    Ok(())
}

fn mode(server: &str) -> Result<Mode, Trouble> {
    // Valkey 8 and later have the second name in place of the first.
    match (field(server, "redis_mode"), field(server, "server_mode")) {
        (Some("standalone"), None) | (None, Some("standalone")) => Ok(Mode::Standalone),
        (Some("cluster"), None) | (None, Some("cluster")) => Ok(Mode::Cluster),
        (Some("sentinel"), None) | (None, Some("sentinel")) => Ok(Mode::Sentinel),
        _ => Err(strange()),
    }
}

/// Name and version, for people.
fn program(server: &str) -> Option<String> {
    match field(server, "valkey_version") {
        Some(version) => Some(format!("Valkey {version}")),
        None => Some(format!("Redis {}", field(server, "redis_version")?)),
    }
}

impl About {
    fn read(server: &str, memory: &str, replication: &str) -> Result<Self, Trouble> {
        let missing = |name: &str| Trouble::OutOfReach(format!("reports no {name}, or one that is not understood"));
        let id = |info, name| {
            let is_id = |id: &&str| id.len() == 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
            field(info, name).filter(is_id).map(str::to_owned).ok_or_else(|| missing(name))
        };
        let number = |name| field(memory, name).and_then(decimal).ok_or_else(|| missing(name));
        let copies = match field(replication, "role") {
            Some("master") => None,
            Some("slave") => {
                let of = |name| field(replication, name).ok_or_else(|| missing(name));
                Some(format!("{}:{}", of("master_host")?, of("master_port")?))
            }
            Some(_) | None => return Err(missing("role")),
        };
        Ok(Self {
            program: program(server).ok_or_else(|| missing("redis_version"))?,
            mode: mode(server)?,
            run: id(server, "run_id")?,
            history: id(replication, "master_replid")?,
            copies,
            policy: field(memory, "maxmemory_policy").ok_or_else(|| missing("maxmemory_policy"))?.to_owned(),
            used: number("used_memory")?,
            most: number("maxmemory")?,
            // The field is there only with `min-replicas-to-write` above 0.
            needs_replicas: field(replication, "min_slaves_good_slaves").is_some(),
        })
    }

    fn judge(&self, address: &Authority, expected: Expected) -> Result<(), Trouble> {
        if self.policy != "noeviction" {
            return Err(Trouble::Misconfigured(format!(
                "at {address} has maxmemory-policy {}: it may evict spent salts, which could then be replayed; expected \
                 noeviction",
                self.policy
            )));
        }
        match (&self.copies, expected) {
            (Some(master), Expected::Alone) => Err(Trouble::Misconfigured(format!(
                "at {address} is a replica of {master} and cannot store salts: name the master"
            ))),
            // In a cluster, and with Sentinels, the master may change at any time.
            (Some(_), Expected::InCluster | Expected::Named) => Err(Trouble::OutOfReach("is not a master now".into())),
            (Some(_), Expected::Seed) | (None, _) => Ok(()),
        }
    }
}

impl std::fmt::Display for About {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match (self.mode, &self.copies) {
            (Mode::Cluster, None) => "a master of a cluster",
            (Mode::Cluster, Some(_)) => "a replica in a cluster",
            (Mode::Standalone | Mode::Sentinel, None) => "a master",
            (Mode::Standalone | Mode::Sentinel, Some(_)) => "a replica",
        };
        write!(f, "{}, {kind}", self.program)?;
        if self.needs_replicas { f.write_str(", min-replicas-to-write is set") } else { Ok(()) }
    }
}

/// The value of a field in the output of INFO; `None` if the field is missing or occurs twice.
pub(super) fn field<'t>(info: &'t str, name: &str) -> Option<&'t str> {
    let mut values = info.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:0123456789abcdef0123456789abcdef01234567\r\n";
    const MEMORY: &str = "used_memory:900\r\nused_memory_rss:1000\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n";
    const REPLICATION: &str = "role:master\r\nmaster_replid:89abcdef0123456789abcdef0123456789abcdef\r\n";

    fn address() -> Authority {
        Authority::new("redis", 6379).unwrap()
    }

    #[test]
    fn an_unsuitable_server_is_refused_with_the_reason() {
        let judge = |server: &str, memory: &str, replication: &str, expected| {
            judged(server, memory, replication, &address(), expected).map(drop)
        };
        let unfit = |verdict: Result<(), Trouble>| match verdict {
            Err(Trouble::Misconfigured(why)) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(judge(SERVER, MEMORY, REPLICATION, Expected::Alone), Ok(()));
        for (name, server, memory, replication, told) in [
            ("old", SERVER.replace("7.0.15", "6.2.7"), MEMORY.into(), REPLICATION.into(), "is Redis 6.2.7; expected 7"),
            ("Sentinel", SERVER.replace("standalone", "sentinel"), String::new(), String::new(), "is a Sentinel"),
            ("cluster", SERVER.replace("standalone", "cluster"), MEMORY.into(), REPLICATION.into(), "cluster = true"),
            (
                "evicts",
                SERVER.into(),
                MEMORY.replace("noeviction", "allkeys-lru"),
                REPLICATION.into(),
                "maxmemory-policy allkeys-lru",
            ),
            (
                "replica",
                SERVER.into(),
                MEMORY.into(),
                REPLICATION.replace("role:master", "role:slave\r\nmaster_host:10.0.0.1\r\nmaster_port:6379"),
                "is a replica of 10.0.0.1:6379",
            ),
        ] {
            let why = unfit(judge(&server, &memory, &replication, Expected::Alone));
            assert!(why.contains(told) && why.contains("redis:6379"), "{name}: {why}");
        }
        assert!(unfit(judge(SERVER, MEMORY, REPLICATION, Expected::InCluster)).contains("is not a cluster"));
    }

    #[test]
    fn valkey_is_known_by_its_own_name_and_version() {
        let valkey = SERVER.replace("redis_version:7.0.15", "redis_version:7.2.4\r\nvalkey_version:9.1.2");
        let server = valkey.replace("redis_mode", "server_mode");
        let about = judged(&server, MEMORY, REPLICATION, &address(), Expected::Alone).unwrap();
        assert_eq!(about.to_string(), "Valkey 9.1.2, a master");
        let sentinel = server.replace("standalone", "sentinel");
        assert!(matches!(judge_kind(&sentinel, &address(), Expected::Alone), Err(Trouble::Misconfigured(_))));
    }

    #[test]
    fn missing_or_odd_values_are_refused() {
        for (what, odd) in [
            ("redis_mode:standalone", "redis_mode:standalone\r\nserver_mode:cluster"),
            ("redis_mode:standalone", "server_mode:alone"),
            ("0123456789abcdef0123456789abcdef01234567", "0123"),
            ("0123456789abcdef0123456789abcdef01234567", "g123456789abcdef0123456789abcdef01234567"),
            ("run_id", "ran_id"),
            ("standalone", "alone"),
            ("used_memory:900", "used_memory:-900"),
            ("used_memory:900", "used_memory: 900"),
            ("run_id:", "run_id:\t"),
            ("master_replid:", "master_replid:\r"),
            ("maxmemory_policy:", "maxmemory_policy:allkeys-lru\r\nmaxmemory_policy:"),
            ("role:master", "role:master\r\nrole:slave"),
            ("used_memory:900", "used_memory:99999999999999999999"),
            ("maxmemory:0", "maxmemory:"),
            ("maxmemory_policy", "policy"),
            ("role:master", "role:primary"),
            ("master_replid", "replid"),
        ] {
            let [server, memory, replication] = [SERVER, MEMORY, REPLICATION].map(|info| info.replace(what, odd));
            let read = About::read(&server, &memory, &replication);
            assert!(matches!(read, Err(Trouble::OutOfReach(_))), "{what}: {odd}: {read:?}");
        }
    }

    #[test]
    fn time_and_number_of_keys_must_be_numbers_that_fit() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().into());
        let time = |seconds: &str, micros: &str| Value::Array(vec![bulk(seconds), bulk(micros)]);
        let good = counted(&time("1800000000", "999999"), &Value::Int(3)).unwrap();
        assert_eq!((good.time, good.keys), (1_800_000_000_999, 3));
        for (name, time, keys) in [
            ("micros", time("1800000000", "1000000"), Value::Int(3)),
            ("a sign", time("-1800000000", "0"), Value::Int(3)),
            ("too many seconds", time("9223372036854775807", "0"), Value::Int(3)),
            ("one number", Value::Array(vec![bulk("1")]), Value::Int(3)),
            ("integers", Value::Array(vec![Value::Int(1), Value::Int(1)]), Value::Int(3)),
            ("keys below none", time("1800000000", "0"), Value::Int(-1)),
            ("keys in words", time("1800000000", "0"), bulk("3")),
        ] {
            assert!(counted(&time, &keys).is_none(), "{name}");
        }
    }
}
