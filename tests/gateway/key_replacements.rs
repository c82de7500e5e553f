//! 100 000 keys of a table are replaced again and again under load: no request waits for that.
//!
//! A measurement, not a test of every build: `tests/field/keys/run` runs it with an optimized program. Each phase with
//! replacements is followed by one with the same load and the same work for the database, whose keys stay the same; so what
//! the machine and the database cost is in both.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use saltgate::parts::Clock;

use crate::harness::signed;
use crate::http::{Request, get};
use crate::key_tables::{files, ours, upstream};
use crate::operations::Process;
use crate::postgres::Postgres;
use crate::spoken::Spoken;

const MANY: &str = "insert into saltgate.key (api_key, account, member, role, secret_1) select 'MANY' || n, 'account-' || n, 'member-' || n, 'MEMBER', md5(n::text) || md5('b' || n) from generate_series(1, 100000) as n";
/// How long a phase takes, and how many there are of each kind.
const PHASE: Duration = Duration::from_secs(8);
const PHASES: usize = 4;
/// The time between two requests of a client, and the number of clients.
const PACE: Duration = Duration::from_millis(2);
const CLIENTS: usize = 2;
/// By how much a request may be held up.
const HELD_UP: Duration = Duration::from_millis(5);

/// What a phase cost.
#[derive(Default)]
struct Phase {
    /// From when each request was due to the end of its answer.
    took: Vec<Duration>,
    /// Processor time of each thread of the gateway, and its time of waiting for a processor, in nanoseconds.
    threads: BTreeMap<String, [u64; 2]>,
    changes: usize,
}

impl Phase {
    fn add(&mut self, other: Self) {
        self.took.extend(other.took);
        self.changes += other.changes;
        for (name, [ran, waited]) in other.threads {
            let sum = self.threads.entry(name).or_default();
            *sum = [sum[0] + ran, sum[1] + waited];
        }
    }

    fn part(&mut self, of_thousand: usize) -> Duration {
        self.took.sort();
        self.took[(self.took.len() * of_thousand / 1000).min(self.took.len() - 1)]
    }

    fn told(&mut self, name: &str) -> String {
        let [half, most, nearly, last] = [500, 990, 999, 1000].map(|part| self.part(part));
        let (requests, changes) = (self.took.len(), self.changes);
        let mut text = format!(
            "{name}: {requests} requests, {changes} changes: p50 {half:?}, p99 {most:?}, p99.9 {nearly:?}, most {last:?}\n"
        );
        for (thread, [ran, waited]) in &self.threads {
            let [ran, waited] = [ran, waited].map(|nanos| *nanos as f64 / 1e3 / requests as f64);
            text += &format!("  {thread}: ran {ran:.1} µs and waited {waited:.1} µs for a processor, per request\n");
        }
        text
    }
}

/// The processor time of each thread of a process, and its time of waiting for one; threads of one name together.
fn threads(pid: u32) -> BTreeMap<String, [u64; 2]> {
    let mut found = BTreeMap::<String, [u64; 2]>::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let times: Vec<u64> = read("schedstat").split_whitespace().filter_map(|time| time.parse().ok()).collect();
        if let [ran, waited, ..] = times[..] {
            let sum = found.entry(read("comm").trim().to_owned()).or_default();
            *sum = [sum[0] + ran, sum[1] + waited];
        }
    }
    found.retain(|name, _| ["worker", "keys", "record"].iter().any(|known| name.starts_with(known)));
    found
}

/// One phase. With `replaced`, the changed rows are those of the keys.
fn phase(process: &Process, server: &Postgres, replaced: bool) -> Phase {
    let clock = Clock::system();
    let before = threads(process.child.id());
    let ended = AtomicBool::new(false);
    let mut phase = std::thread::scope(|scope| {
        let changes = scope.spawn(|| {
            let mut changes = 0;
            while !ended.load(Ordering::Relaxed) {
                // Each update makes new versions of all rows; the other table costs the database the same, and so does reading
                // all keys, which the gateway does not do then.
                if replaced {
                    server.sql("update saltgate.key set member = member || 'x' where api_key like 'MANY%'");
                } else {
                    server.sql("update other set member = member || 'x' where api_key like 'MANY%'; select count(*) from (select * from saltgate.gateway_key offset 0) as all_keys");
                }
                changes += 1;
                std::thread::sleep(Duration::from_millis(200));
            }
            changes
        });
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let clock = clock.clone();
                let address = process.address();
                scope.spawn(move || {
                    let mut caller = Spoken::Http1.connect(address);
                    let started = clock.elapsed() + PACE * client as u32 / CLIENTS as u32;
                    let (mut due, mut took) = (started, Vec::new());
                    while due < started + PHASE {
                        std::thread::sleep(due.saturating_sub(clock.elapsed()));
                        let request = Request::delete(&signed("OWNER"));
                        assert_eq!(caller.ask(&request).unwrap().status, 200);
                        let answered = clock.elapsed();
                        took.push(answered.saturating_sub(due));
                        // A machine that is too slow for the pace must not add up its delays.
                        due = (due + PACE).max(answered);
                    }
                    took
                })
            })
            .collect();
        let took = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        ended.store(true, Ordering::Relaxed);
        Phase { took, changes: changes.join().unwrap(), threads: BTreeMap::new() }
    });
    let nothing = [0, 0];
    phase.threads = threads(process.child.id())
        .into_iter()
        .map(|(name, [ran, waited])| {
            let [earlier_ran, earlier_waited] = before.get(&name).unwrap_or(&nothing);
            (name, [ran - earlier_ran, waited - earlier_waited])
        })
        .collect();
    phase
}

#[test]
#[ignore = "100 000 keys; tests/field/keys/run"]
fn no_request_waits_while_a_hundred_thousand_keys_are_replaced() {
    let (server, upstream) = (ours(), upstream());
    server.sql(MANY);
    server.sql("create table other as select * from saltgate.key; create unique index on other (api_key)");
    let seal = "[seal]\nkeys = [{ id = \"k\", file = \"kek\" }]\n";
    let files = files(&upstream, &server.url(), &format!("timeout = \"60s\"\nsnapshot = \"keys.snapshot\"\n{seal}"));
    std::fs::write(files.dir.path().join("kek"), [7; 32]).unwrap();
    let process = Process::serve(&files);
    assert!(get(process.admin(), "/metrics").body.contains("saltgate_directory_keys 100003"));
    phase(&process, &server, false);
    let (mut quiet, mut replaced) = (Phase::default(), Phase::default());
    for _ in 0..PHASES {
        replaced.add(phase(&process, &server, true));
        quiet.add(phase(&process, &server, false));
    }
    println!("{}{}", quiet.told("the same keys"), replaced.told("keys replaced"));
    let taken = process.log().matches("have changed, and are in force").count();
    println!("{taken} sets of keys were taken");
    assert!(taken > PHASES, "they were replaced");
    let (with, without) = (replaced.part(999), quiet.part(999));
    assert!(with <= without + HELD_UP, "p99.9 is {with:?} with replacements, and {without:?} without");
}
