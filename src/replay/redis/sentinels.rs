//! The Sentinels: which server is the master, and since which failover.
//!
//! 1. Every Sentinel in the settings is asked at each check of the watcher, for the master's address and its **epoch**:
//!    Sentinel counts failovers, and every one has a higher epoch. The address and the epoch belong together: the epoch is
//!    read before and after the address, and must not have changed.
//! 2. A server is the master if more than half of all Sentinels say so, at one epoch. Two such majorities have a Sentinel
//!    in common, and no Sentinel goes back to a lower epoch.
//! 3. The answer is good for [`TERM`] from the moment of the question. So a gateway that reaches the old master, but not
//!    the Sentinels, has stopped using it at most [`TERM`] after another gateway can learn of a new one. The fence of the
//!    new master is longer by that much: it covers every salt that was spent at the old one.
//! 4. The epoch is in the epoch marker and in every claim. A master of an earlier failover that comes back has the history
//!    that was attested once, but an older epoch in its marker: it is fenced like one that lost its data.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::script::{Number, decimal};
use super::server::{Server, Trouble};
use super::settings::{SentinelSettings, TlsFiles};
use crate::net::Authority;

/// How long a server is used as the master after the Sentinels were asked.
pub(super) const TERM: Duration = Duration::from_secs(3);
/// The timeout for one Sentinel, connection included: well below [`TERM`], so that one that hangs does not end it.
const LIMIT: Duration = Duration::from_millis(750);

/// What one Sentinel says of the master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    /// The Sentinel's own id: the settings may name one by two addresses.
    id: String,
    master: Authority,
    epoch: u64,
    /// How many Sentinels it knows, itself included.
    sentinels: usize,
}

/// The Sentinels of the settings.
pub(super) struct Sentinels {
    name: String,
    nodes: Vec<Arc<Server>>,
}

impl Sentinels {
    pub(super) fn new(settings: &SentinelSettings, tls: &TlsFiles) -> Result<Self, Trouble> {
        let node = |(address, access): &(Authority, _)| Ok(Arc::new(Server::new(address.clone(), access, tls)?));
        let nodes = settings.nodes.iter().map(node).collect::<Result<_, Trouble>>()?;
        Ok(Self { name: settings.master.clone(), nodes })
    }

    /// The master by the word of a majority, and the epoch of the failover that made it the master.
    pub(super) async fn master(&self, number: Number) -> Result<(Authority, u64), Trouble> {
        elected(&self.reports(number).await)
    }

    /// What each Sentinel says.
    pub(super) async fn reports(&self, number: Number) -> Vec<(Authority, Result<Report, Trouble>)> {
        let mut asked = JoinSet::new();
        for node in &self.nodes {
            let (node, name) = (node.clone(), self.name.clone());
            asked.spawn(async move {
                let report = timeout(LIMIT, ask(&node, &name, number)).await;
                let report = report.unwrap_or_else(|_| Err(Trouble::OutOfReach("no answer in time".into())));
                if report.is_err() {
                    node.disconnect();
                }
                (node.address.clone(), report)
            });
        }
        let mut reports = asked.join_all().await;
        reports.sort_by(|(one, _), (other, _)| one.cmp(other));
        reports
    }
}

async fn ask(node: &Server, name: &str, number: Number) -> Result<Report, Trouble> {
    let mut connection = node.connection(LIMIT).await?;
    let mut ask = redis::pipe();
    for what in ["MASTER", "GET-MASTER-ADDR-BY-NAME", "MASTER"] {
        ask.cmd("SENTINEL").arg(what).arg(name);
    }
    ask.cmd("SENTINEL").arg("MYID").cmd("PING").arg(number.to_string());
    let answers: Result<Vec<Value>, _> = ask.query_async(&mut connection).await;
    let answers = answers.map_err(|error| match error.to_string() {
        text if text.contains("No such master") => {
            Trouble::Misconfigured(format!("is a Sentinel that watches no master with the name {name}"))
        }
        text if text.contains("unknown command") => Trouble::Misconfigured("is not a Sentinel".into()),
        _ => error.into(),
    })?;
    let [before, address, after, id, echo] = &answers[..] else { return Err(Trouble::OutOfSync) };
    if !number.is_echoed(echo) {
        return Err(Trouble::OutOfSync);
    }
    Report::read(id, before, address, after).ok_or_else(|| {
        Trouble::OutOfReach("describes the master in a way that is not understood, or that changed meanwhile".into())
    })
}

impl Report {
    /// Reads the answers about the master before and after the one with its address. `None` if the epoch changed in
    /// between, or anything is missing or odd.
    pub(super) fn read(id: &Value, before: &Value, address: &Value, after: &Value) -> Option<Self> {
        let id = text(id).filter(|id| id.len() == 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        let [host, port] = address.as_sequence()? else { return None };
        let port = decimal(text(port)?).and_then(|port| u16::try_from(port).ok())?;
        let master = Authority::new(text(host)?, port).ok()?;
        let epochs = [before, after].map(|value| decimal(field(value, "config-epoch")?));
        let [Some(epoch), Some(again)] = epochs else { return None };
        let others = decimal(field(after, "num-other-sentinels")?)?;
        let sentinels = usize::try_from(others).ok()?.checked_add(1)?;
        (epoch == again).then(|| Self { id: id.to_owned(), master, epoch, sentinels })
    }
}

#[cfg(any(test, fuzzing))]
impl Report {
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { master, epoch, sentinels, .. } = self;
        write!(f, "a Sentinel, one of {sentinels}: {master} is the master since failover {epoch}")
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}

/// The value of a field in a list of names and values; `None` if it is missing or occurs twice.
fn field<'v>(fields: &'v Value, name: &str) -> Option<&'v str> {
    let (pairs, rest) = fields.as_sequence()?.as_chunks::<2>();
    let mut values = pairs.iter().filter(|[found, _]| text(found) == Some(name)).map(|[_, value]| value);
    let value = values.next().filter(|_| rest.is_empty())?;
    values.next().is_none().then(|| text(value)).flatten()
}

/// Counts the Sentinels' votes.
pub(super) fn elected(reports: &[(Authority, Result<Report, Trouble>)]) -> Result<(Authority, u64), Trouble> {
    let mut votes = BTreeMap::<(u64, &Authority), BTreeSet<&str>>::new();
    // Those who do not answer count, too, and so do those that the settings do not name.
    let mut all = reports.len();
    for report in reports.iter().filter_map(|(_, report)| report.as_ref().ok()) {
        votes.entry((report.epoch, &report.master)).or_default().insert(&report.id);
        all = all.max(report.sentinels);
    }
    let needed = all / 2 + 1;
    if let Some(((epoch, master), _)) = votes.iter().find(|(_, votes)| votes.len() >= needed) {
        return Ok(((*master).clone(), *epoch));
    }
    let mut told = format!("{needed} of {all} Sentinels must agree on the master");
    if reports.len() < needed {
        told += &format!(", and sentinel.nodes names only {}: name all of them", reports.len());
    }
    for (address, report) in reports {
        told += &match report {
            Ok(report) => format!("; {address} says {} at epoch {}", report.master, report.epoch),
            Err(trouble) => format!("; {address}: {trouble}"),
        };
    }
    let misconfigured = reports.iter().any(|(_, report)| matches!(report, Err(Trouble::Misconfigured(_))));
    Err(if misconfigured || reports.len() < needed { Trouble::Misconfigured(told) } else { Trouble::OutOfReach(told) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Authority {
        Authority::new("redis", port).unwrap()
    }

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().into())
    }

    fn fields(pairs: &[(&str, &str)]) -> Value {
        Value::Array(pairs.iter().flat_map(|(name, value)| [bulk(name), bulk(value)]).collect())
    }

    #[test]
    fn a_master_has_more_than_half_of_all_sentinels_at_one_epoch() {
        let says =
            |master: u16, epoch, sentinels| Ok(Report { id: String::new(), master: at(master), epoch, sentinels });
        let as_id = |id: &str, report: Result<Report, Trouble>| report.map(|it| Report { id: id.into(), ..it });
        let silent = || Err(Trouble::OutOfReach("no answer in time".into()));
        let vote = |reports: Vec<Result<Report, Trouble>>| {
            let mut reports: Vec<_> = (1..).map(at).zip(reports).collect();
            for (address, report) in &mut reports {
                if let Some(report) = report.as_mut().ok().filter(|report| report.id.is_empty()) {
                    report.id = address.to_string();
                }
            }
            elected(&reports).map(|(master, epoch)| (master.port(), epoch)).map_err(|trouble| trouble.to_string())
        };
        assert_eq!(vote(vec![says(7, 1, 3), says(7, 1, 3), says(7, 1, 3)]), Ok((7, 1)));
        assert_eq!(vote(vec![says(7, 1, 3), silent(), says(7, 1, 3)]), Ok((7, 1)));
        assert_eq!(vote(vec![says(7, 1, 3), says(8, 2, 3), says(8, 2, 3)]), Ok((8, 2)));
        assert_eq!(vote(vec![says(7, 0, 1)]), Ok((7, 0)));
        for (name, reports, told) in [
            ("one of three", vec![says(7, 1, 3), silent(), silent()], "2 of 3 Sentinels must agree"),
            ("two masters", vec![says(7, 1, 3), says(8, 1, 3), silent()], "redis:2 says redis:8 at epoch 1"),
            ("two epochs", vec![says(7, 1, 3), says(7, 2, 3), silent()], "redis:7 at epoch 2"),
            ("half", vec![says(7, 1, 4), says(7, 1, 4), silent(), silent()], "3 of 4"),
            ("two of five named", vec![says(7, 1, 5), says(7, 1, 5)], "names only 2"),
            ("one by two addresses", vec![as_id("a", says(7, 1, 3)), as_id("a", says(7, 1, 3)), silent()], "2 of 3"),
            ("none", vec![silent(), silent(), silent()], "no answer in time"),
        ] {
            let why = vote(reports).unwrap_err();
            assert!(why.contains(told), "{name}: {why}");
        }
    }

    #[test]
    fn a_report_is_read_strictly() {
        let master = |epoch: &str| fields(&[("name", "m"), ("config-epoch", epoch), ("num-other-sentinels", "2")]);
        let address = |port: &str| Value::Array(vec![bulk("redis"), bulk(port)]);
        let id = bulk(&"a".repeat(40));
        let good = Report::read(&id, &master("5"), &address("7"), &master("5"));
        assert_eq!(good, Some(Report { id: "a".repeat(40), master: at(7), epoch: 5, sentinels: 3 }));
        assert_eq!(Report::read(&bulk("a"), &master("5"), &address("7"), &master("5")), None, "no id");
        for (name, before, address, after) in [
            ("a failover in between", master("5"), address("7"), master("6")),
            ("an odd epoch", master("+5"), address("7"), master("+5")),
            ("an epoch too many", master("5"), address("7"), {
                fields(&[("config-epoch", "5"), ("config-epoch", "5"), ("num-other-sentinels", "2")])
            }),
            ("no other Sentinels", master("5"), address("7"), fields(&[("config-epoch", "5")])),
            ("no master of that name", master("5"), Value::Nil, master("5")),
            ("no port", master("5"), address("0"), master("5")),
            ("a name without a value", master("5"), address("7"), Value::Array(vec![bulk("config-epoch")])),
        ] {
            assert_eq!(Report::read(&id, &before, &address, &after), None, "{name}");
        }
    }
}
