//! Budgets and shares that hold for a whole fleet: real gateways in front of one Redis, which is killed, and clocks that differ.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use saltgate::parts::Clock;

use crate::control::command;
use crate::harness::{Files, Gate, Latch, Upstream, service, signed, until};
use crate::http::{Answer, Kept, Request, delete, exchange, get};
use crate::operations::{Process, text};
use crate::redis::{ACCEPT, Redis};

/// The settings of a fleet with these lines of its own, and a record.
fn settings(redis: &Redis, more: &str) -> String {
    let fleet = "timeout = \"5s\"\n[safeguard]\nscope = \"fleet\"\nlease = \"5s\"\n[control]\nsocket = \"c.sock\"\n";
    redis
        .settings(&format!("{ACCEPT}{fleet}{more}"))
        .replace("clock_margin = \"200ms\"", "clock_margin = \"2s\"")
        .replace("danger_no_record = true", "path = \"record\"")
}

/// Gateways in processes of their own, and their files.
fn fleet<const N: usize>(upstream: &Upstream, settings: &str) -> [(Process, Files); N] {
    let all: Vec<(Process, Files)> = (0..N)
        .map(|_| {
            let files = Files::new(upstream.address, settings);
            (Process::serve(&files), files)
        })
        .collect();
    all.iter().for_each(|(process, _)| is_in_use(process.admin()));
    all.try_into().ok().unwrap()
}

fn is_in_use(admin: SocketAddr) {
    until("it is in use", || get(admin, "/ready").body.contains("\"replay\":\"ok\""));
}

/// Sends a fresh header of each role to each gateway again and again, by clients that begin at once, and returns how many got
/// each status.
fn storm(gateways: &[SocketAddr], roles: &[&'static str], each: usize) -> [usize; 2] {
    let barrier = Barrier::new(gateways.len() * roles.len());
    let statuses: Vec<u16> = std::thread::scope(|threads| {
        let clients: Vec<_> = gateways
            .iter()
            .flat_map(|gateway| roles.iter().map(move |role| (*gateway, *role)))
            .map(|(gateway, role)| {
                let barrier = &barrier;
                threads.spawn(move || {
                    let mut client = Kept::to(gateway);
                    barrier.wait();
                    (0..each).map(|_| client.delete(&signed(role))).collect::<Vec<u16>>()
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let passed = statuses.iter().filter(|status| **status == 200).count();
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    [passed, statuses.len() - passed]
}

/// For how long the answer says that the budget is spent.
pub fn wait_of(answer: &Answer) -> u64 {
    assert_eq!((answer.status, answer.field("retry-after")), (429, None), "{}", answer.body);
    let rest = answer.body.split_once("Sign a new request after ").unwrap().1;
    rest.split_once(" second").unwrap().0.parse().unwrap()
}

#[test]
fn three_gateways_let_through_exactly_the_budget_and_a_restart_gives_nothing_back() {
    let (redis, upstream) = (Redis::start(&[]), Upstream::start(service("account-1", "member-1")));
    let settings = settings(&redis, "[budget]\nper_key = \"30/hour\"\nper_account = \"50/day\"\n");
    let mut gateways: [_; 3] = fleet(&upstream, &settings);
    let addresses = gateways.each_ref().map(|(process, _)| process.address());
    assert_eq!(storm(&addresses, &["OWNER"; 4], 10), [30, 90], "of the key");
    assert_eq!(storm(&addresses, &["DEVELOPER", "MEMBER"], 10), [20, 40], "of the account");
    assert_eq!(upstream.deletes(), 50);
    assert_eq!(redis.cli(&["ZCARD", "saltgate:budget:key:NCSOWNER"]).trim(), "30");
    assert_eq!(redis.cli(&["ZCARD", "saltgate:budget:account:account-1"]).trim(), "50");
    let life: u64 = redis.cli(&["TTL", "saltgate:budget:account:account-1"]).trim().parse().unwrap();
    assert!((604_000..=604_800).contains(&life), "{life}");

    let (process, files) = &mut gateways[0];
    process.kill();
    *process = Process::serve(files);
    is_in_use(process.admin());
    let left = wait_of(&delete(process.address(), &signed("OWNER")));
    assert!((86_000..=86_400).contains(&left), "{left}: both have room again after a day");
    // Asked without a deletion.
    let path = format!("/crm-core/v1/segments/{}/deletion-check", crate::harness::SEGMENT);
    let ask = Request::new("POST", &path).field("authorization", &signed("OWNER"));
    let dry = exchange(process.address(), &ask.http1()).body;
    assert!(dry.contains("\"wouldDelete\":false") && dry.contains("budget_spent"), "{dry}");
    let header = signed("OWNER");
    let told = command(files, &["explain", "--live"], &header);
    assert!(text(&told.stdout).contains("the deletion budget is spent"), "{}", text(&told.stdout));
    assert_eq!(upstream.deletes(), 50);
}

#[test]
fn a_fleet_without_budgets_counts_no_deletions() {
    let (redis, upstream) = (Redis::start(&[]), Upstream::start(service("account-1", "member-1")));
    let [(process, _files)] = fleet(&upstream, &settings(&redis, ""));
    assert_eq!(delete(process.address(), &signed("OWNER")).status, 200);
    assert_eq!(redis.cli(&["--scan", "--pattern", "saltgate:budget:*"]), "");
    assert!(!get(process.admin(), "/ready").body.contains("\"budget\""));
}

#[test]
fn a_reload_that_widens_a_budget_gives_back_nothing_and_refuses_nothing() {
    let (redis, upstream) = (Redis::start(&[]), Upstream::start(service("account-1", "member-1")));
    let with = |budget: &str| settings(&redis, &format!("[budget]\n{budget}"));
    let mut gates = [(); 2].map(|()| {
        Gate::with(upstream.address, &with("per_key = \"3/hour\"\nper_account = \"100/hour\"\n"), Clock::system())
    });
    gates.iter().for_each(|gate| is_in_use(gate.admin()));
    let passed = |gates: &[Gate; 2]| (0..20).filter(|n| gates[n % 2].delete(&signed("OWNER")).status == 200).count();
    let reload = |gates: &mut [Gate; 2], budget: &str| {
        for gate in gates {
            gate.files.configure(upstream.address, &with(budget));
            gate.reload().unwrap();
        }
    };
    assert_eq!(passed(&gates), 3);
    reload(&mut gates, "per_key = \"5/day\"\nper_account = \"100/hour\"\n");
    assert_eq!(passed(&gates), 2, "more of them, and longer");
    reload(&mut gates, "per_account = \"100/hour\"\n");
    assert_eq!(passed(&gates), 20, "without a budget they are counted all the same");
    reload(&mut gates, "per_key = \"30/day\"\n");
    let left = wait_of(&gates[0].delete(&signed("OWNER")));
    assert!((86_000..=86_400).contains(&left), "{left}: what was before the newest five is not known one by one");
    reload(&mut gates, "per_key = \"26/day\"\non_lost_counts = \"danger_accept\"\n");
    assert_eq!(passed(&gates), 0, "that is no loss");
    reload(&mut gates, "per_account = \"26/day\"\n");
    assert_eq!(passed(&gates), 1, "the account's were all kept");
}

#[test]
fn redis_that_comes_back_empty_closes_the_budgets_for_their_span() {
    let (mut redis, upstream) = (Redis::start(&[]), Upstream::start(service("account-1", "member-1")));
    let with = |more: &str| settings(&redis, &format!("[budget]\nper_key = \"100000/minute\"\n{more}"));
    let (closed, open) = (with(""), with("on_lost_counts = \"danger_accept\"\n"));
    let mut gates = [(); 2].map(|()| Gate::with(upstream.address, &closed, Clock::system()));
    for gate in &gates {
        is_in_use(gate.admin());
        assert_eq!(gate.delete(&signed("OWNER")).status, 200);
        assert!(get(gate.admin(), "/ready").body.contains("\"budget\":\"ok\""));
    }
    redis.kill();
    redis.run();
    for gate in &gates {
        let is_closed = || get(gate.admin(), "/ready").body.contains("budgets are closed until");
        until("the loss is noticed", is_closed);
        until("its fence has fallen", || gate.delete(&signed("OWNER")).status == 429);
        let left = wait_of(&gate.delete(&signed("OWNER")));
        // A minute and twice `clock_margin` since the fence began, which took 5 s.
        assert!((40..=60).contains(&left), "{left}");
        let ready = get(gate.admin(), "/ready");
        assert!(ready.status == 200 && ready.body.contains("budgets are closed until"), "{}", ready.body);
        assert!(gate.metrics().contains("saltgate_part_ok{part=\"budget\"} 0"));
    }
    let header = signed("OWNER");
    let told = command(&gates[0].files, &["explain", "--live"], &header);
    assert!(text(&told.stdout).contains("Redis lost which deletions were made"), "{}", text(&told.stdout));
    assert_eq!(upstream.deletes(), 2);
    // Who accepts the loss says so.
    gates[0].files.configure(upstream.address, &open);
    gates[0].reload().unwrap();
    assert_eq!(gates[0].delete(&header).status, 200);
    assert!(get(gates[0].admin(), "/ready").body.contains("\"budget\":\"ok\""));
    wait_of(&gates[1].delete(&signed("OWNER")));
}

/// Redis is gone between the claim and the count.
#[test]
fn without_an_answer_about_the_budget_nothing_is_sent() {
    let mut redis = Redis::start(&[]);
    let (latch, ordinary) = (Latch::default(), service("account-1", "member-1"));
    let held = latch.clone();
    let upstream = Upstream::start(Arc::new(move |seen, stream| {
        if seen.method == "GET" {
            held.wait();
        }
        ordinary(seen, stream);
    }));
    let look_up = "[ownership.upstream]\naccount = \"/accountId\"\ncreator = \"/ownerId\"";
    let settings = settings(&redis, "[budget]\nper_key = \"1000/hour\"\n").replace("[ownership.delegate]", look_up);
    let [(process, _files)] = fleet(&upstream, &settings);
    let address = process.address();
    std::thread::scope(|threads| {
        let client = threads.spawn(move || delete(address, &signed("OWNER")).status);
        until("its salt is spent", || upstream.gets() == 1);
        redis.kill();
        latch.open();
        assert_eq!(client.join().unwrap(), 500);
    });
    until("the log says why", || process.log().contains("the budget of the fleet is not known: Redis at 127.0.0.1"));
    assert_eq!(delete(address, &signed("OWNER")).status, 503, "before its salt is spent");
    assert_eq!(upstream.deletes(), 0);
}

/// The clocks of a gateway and of Redis may be minutes apart: all count by Redis' clock.
#[test]
fn gateways_whose_clocks_differ_by_minutes_share_a_budget() {
    let (redis, upstream) = (Redis::start(&[]), Upstream::start(service("account-1", "member-1")));
    let settings = settings(&redis, "[budget]\nper_account = \"8/minute\"\n")
        .replace("clock_margin = \"2s\"", "clock_margin = \"10m\"")
        .replace("window_future = \"1s\"", "window_future = \"10m\"");
    let system = Clock::system();
    let (clock, hands) = Clock::manual(system.now() + Duration::from_secs(300));
    let ending = Arc::new(AtomicBool::new(false));
    let ticking = {
        let (ending, system) = (ending.clone(), system.clone());
        std::thread::spawn(move || {
            let mut last = system.elapsed();
            while !ending.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
                let now = system.elapsed();
                hands.advance(now - last);
                last = now;
            }
        })
    };
    let gates =
        [Gate::with(upstream.address, &settings, clock), Gate::with(upstream.address, &settings, Clock::system())];
    gates.iter().for_each(|gate| is_in_use(gate.admin()));
    assert_eq!(storm(&gates.each_ref().map(Gate::address), &["OWNER", "MEMBER"], 10), [8, 32]);
    for gate in &gates {
        let left = wait_of(&gate.delete(&signed("OWNER")));
        assert!((30..=60).contains(&left), "{left}");
    }
    ending.store(true, Ordering::SeqCst);
    ticking.join().unwrap();
    assert_eq!(upstream.deletes(), 8);
}

#[test]
fn an_intent_that_cannot_be_written_gives_back_what_it_took() {
    let (redis, upstream) = (Redis::start(&[]), Upstream::start(service("account-1", "member-1")));
    let files = Files::new(upstream.address, &settings(&redis, "[budget]\nper_key = \"1000/hour\"\n"));
    let process = Process::limited_to(&files, 8192);
    is_in_use(process.admin());
    let mut statuses = Vec::new();
    until("its record is full", || {
        statuses.push(delete(process.address(), &signed("OWNER")).status);
        statuses.contains(&503)
    });
    assert!(statuses.contains(&500), "an intent was refused after the salt was spent: {statuses:?}");
    let passed = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(redis.cli(&["ZCARD", "saltgate:budget:key:NCSOWNER"]).trim(), passed.to_string(), "{statuses:?}");
}

#[test]
fn a_key_holds_its_share_of_the_fleets_store_once() {
    let (redis, upstream) = (Redis::start(&[]), Upstream::start(service("account-1", "member-1")));
    let settings = settings(&redis, "").replace("timeout = \"5s\"", "timeout = \"5s\"\nmax_salts_per_key = 25");
    let gateways: [_; 3] = fleet(&upstream, &settings);
    let addresses = gateways.each_ref().map(|(process, _)| process.address());
    let first = signed("OWNER");
    assert_eq!(delete(addresses[0], &first).status, 200);
    assert_eq!(storm(&addresses, &["OWNER"; 3], 20), [24, 156]);
    assert_eq!(delete(addresses[1], &first).status, 401, "a replay is a replay");
    assert_eq!(delete(addresses[1], &signed("MEMBER")).status, 200, "another key");
    let refused = delete(addresses[2], &signed("OWNER"));
    assert_eq!((refused.status, refused.body.contains("within the window")), (429, true), "{}", refused.body);
    assert_eq!(refused.field("retry-after"), Some("60"), "its salt is not spent, so the same header may come again");
    assert_eq!(upstream.deletes(), 26);
}

/// The script alone, with a window of 1.6 s.
#[test]
fn a_share_is_free_again_when_its_salts_have_ended() {
    let redis = Redis::start(&[]);
    let script = format!("{}/src/replay/redis/claim.lua", env!("CARGO_MANIFEST_DIR"));
    let info = redis.cli(&["INFO", "replication"]);
    let history = info.lines().find_map(|line| line.strip_prefix("master_replid:")).unwrap();
    redis.cli(&["SET", "w", &format!("1 ab {history} {:020} 800 800", 7)]);
    let (clock, date) = (Clock::system(), format!("{:020}", 8));
    let spend = |salt: &str, life: &str| {
        let now = clock.now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis().to_string();
        let arguments = [date.as_str(), life, "800", "800", &now, "2000", "n", "mark", "", "2"];
        let told = redis.cli(&[&["--eval", &script, salt, "w", "share", ","], &arguments[..]].concat());
        told.trim().replace(&format!(" {salt} n"), "")
    };
    assert_eq!([spend("a", "300"), spend("b", "60000"), spend("c", "300")], ["SPENT", "SPENT", "SHARE"]);
    assert_eq!(spend("b", "300"), "REUSED mark", "a replay all the same");
    assert_eq!(redis.cli(&["EXISTS", "c"]).trim(), "0");
    until("the first has ended", || spend("d", "60000") == "SPENT");
    assert_eq!(redis.cli(&["EXISTS", "a"]).trim(), "0", "not before");
    assert_eq!(spend("e", "300"), "SHARE");
    assert!((1..=2).contains(&redis.cli(&["HLEN", "share"]).trim().parse().unwrap()), "what has ended is gone");
    assert!(redis.cli(&["PTTL", "share"]).trim().parse::<u64>().unwrap() > 0);
}

/// The script alone: what decides, and what it does not know.
#[test]
fn the_script_counts_only_what_it_can_know() {
    const MINUTE: &str = "60000000";
    let redis = Redis::start(&[]);
    let script = format!("{}/src/replay/redis/budget.lua", env!("CARGO_MANIFEST_DIR"));
    let now = || Clock::system().now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let number = std::cell::Cell::new(0);
    let ask = |what: &str, key: (&str, &str), account: (&str, &str), ahead: i64, accept: &str| {
        number.set(number.get() + 1);
        let (n, clock) = (format!("{:04}", number.get()), (now().as_millis() as i64 + ahead).to_string());
        let mut all =
            vec!["--eval", &script, "w", "key", "account", ",", what, &n, "", &clock, "2000", accept, "60000"];
        all.extend([key.0, MINUTE, key.1, account.0, MINUTE, account.1]);
        redis.cli(&all).trim().replace(&format!(" {what} {n}"), "")
    };
    let take = |key, account| ask("take", key, account, 0, "0");
    // Without the wait.
    let word = |told: &str| told.split(' ').next().unwrap().to_owned();
    let vouch = |floor: Duration| {
        let info = redis.cli(&["INFO", "replication"]);
        let history = info.lines().find_map(|line| line.strip_prefix("master_replid:")).unwrap();
        redis.cli(&["SET", "w", &format!("1 ab {history} {:020} 900000 1000", floor.as_nanos())]);
    };
    let none = ("0", "0");
    assert_eq!(take(("9", "9"), none), "FORGOT", "nobody vouched");
    redis.cli(&["SET", "w", "3 of a later version"]);
    assert_eq!(take(("9", "9"), none), "VERSION");
    redis.cli(&["SET", "w", &format!("1 ab {} {:020} 900000 1000", "0".repeat(40), 7)]);
    assert_eq!(take(("9", "9"), none), "FORGOT", "another history");
    vouch(Duration::from_nanos(7));
    let marker = redis.cli(&["GET", "w"]);
    redis.cli(&["SET", "w", &format!("2{} {:020}", marker.trim().trim_start_matches('1'), 6)]);
    assert_eq!(take(("9", "9"), none), "FORGOT", "another failover");
    vouch(Duration::from_nanos(7));
    for ahead in [-3000, 3000] {
        assert_eq!(ask("take", ("9", "9"), none, ahead, "0"), "CLOCK");
    }
    assert_eq!(redis.cli(&["EXISTS", "key"]).trim(), "0", "nothing was counted");

    assert_eq!(ask("judge", ("2", "2"), ("9", "9"), 0, "0"), "ALLOWED");
    assert_eq!(redis.cli(&["EXISTS", "key"]).trim(), "0", "nor by that");
    assert_eq!([take(("2", "2"), ("9", "9")), take(("2", "2"), ("9", "9"))], ["ALLOWED", "ALLOWED"]);
    let told = take(("2", "2"), ("9", "9"));
    let wait: u64 = told.strip_prefix("EXCEEDED ").unwrap().parse().unwrap();
    assert!((50_000_000..=60_000_000).contains(&wait), "{wait}");
    assert_eq!(word(&take(("9", "9"), ("2", "9"))), "EXCEEDED", "the account's");
    let cards = || ["key", "account"].map(|set| redis.cli(&["ZCARD", set]).trim().to_owned());
    assert_eq!(cards(), ["2", "2"], "for both or for neither");
    assert!(redis.cli(&["PTTL", "key"]).trim().parse::<i64>().unwrap() > 0);

    // More than are kept: of the third newest it is known when it was, and of older ones nothing.
    assert_eq!([take(("0", "2"), none), take(("0", "2"), none)], ["ALLOWED", "ALLOWED"]);
    assert_eq!(cards(), ["3", "2"]);
    for (limit, says) in [("1", "EXCEEDED"), ("3", "EXCEEDED"), ("4", "EXCEEDED"), ("100", "EXCEEDED")] {
        assert_eq!(word(&ask("judge", (limit, "100"), none, 0, "0")), says, "{limit}");
    }
    // Once those have left the span, the newest two decide.
    let old = (now() - Duration::from_secs(61)).as_micros().to_string();
    redis.cli(&["ZADD", "key", &old, "-"]);
    assert_eq!(ask("judge", ("3", "3"), none, 0, "0"), "ALLOWED");
    assert_eq!(word(&ask("judge", ("2", "3"), none, 0, "0")), "EXCEEDED");

    // A floor in the past: the counts are complete since the fence began, a second before.
    vouch(now() - Duration::from_secs(30));
    let told = ask("judge", ("9", "9"), none, 0, "0");
    let wait: u64 = told.strip_prefix("LOST ").unwrap().parse().unwrap();
    assert!((20_000_000..=29_000_000).contains(&wait), "{wait}");
    assert_eq!(ask("judge", ("9", "9"), none, 0, "1"), "ALLOWED", "the loss is accepted");
    vouch(now() - Duration::from_secs(60));
    assert_eq!(ask("judge", ("9", "9"), none, 0, "0"), "ALLOWED", "and over");

    // Nothing is dated before what was counted already.
    let ahead = (now() + Duration::from_secs(600)).as_micros().to_string();
    redis.cli(&["ZADD", "key", &ahead, "later"]);
    assert_eq!(take(("0", "9"), none), "ALLOWED");
    assert_eq!(redis.cli(&["ZCOUNT", "key", &ahead, "+inf"]).trim(), "2");
}
