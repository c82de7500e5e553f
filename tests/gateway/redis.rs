//! A fleet that shares its spent salts in Redis: real servers that are killed, emptied and paused.

use std::collections::HashMap;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use saltgate::parts::Clock;
use saltgate::parts::Config;
use saltgate::parts::Gateway;

use crate::harness::{Files, Gate, Upstream, service, signed, until};
use crate::http::{Kept, get};

/// A Redis server on a free port, killed with the test.
pub struct Redis {
    child: Option<Child>,
    pub port: u16,
    dir: tempfile::TempDir,
    arguments: Vec<String>,
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Redis {
    /// Not started yet.
    pub fn on(port: u16, arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { child: None, port, dir, arguments: arguments.iter().map(|a| (*a).to_owned()).collect() }
    }

    pub fn start(arguments: &[&str]) -> Self {
        let mut redis = Self::on(free_port(), arguments);
        redis.run();
        redis
    }

    fn spawn(&mut self) {
        let port = self.port.to_string();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no"]);
        command.arg("--dir").arg(self.dir.path());
        if !self.arguments.iter().any(|argument| argument == "--tls-port") {
            command.args(["--port", &port]);
        }
        command.args(&self.arguments).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("tests/requirements.sh installs redis-server"));
    }

    pub fn run(&mut self) {
        self.spawn();
        until("Redis answers", || std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    pub fn cli(&self, arguments: &[&str]) -> String {
        let port = self.port.to_string();
        let output = Command::new("redis-cli").args(["-p", &port]).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Sends these commands at once.
    pub fn pipe(&self, commands: impl Iterator<Item = String>) {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &self.port.to_string()]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        let lines: String = commands.map(|line| line + "\n").collect();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }

    pub fn signal(&self, name: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn settings(&self, more: &str) -> String {
        settings(&format!("redis://127.0.0.1:{}", self.port), more)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A fence of 1.4 seconds.
pub fn settings(url: &str, more: &str) -> String {
    format!(
        "[authentication]\nwindow_future = \"1s\"\n[ownership.delegate]\n[audit]\ndanger_no_record = true\n[replay.redis]\nurl = \"{url}\"\nclock_margin = \"200ms\"\n{more}"
    )
}

pub const ACCEPT: &str = "when_new = \"accept\"\n";

pub fn gate(upstream: &Upstream, settings: &str) -> Gate {
    Gate::with(upstream.address, settings, Clock::system())
}

pub fn refused_to_start(upstream: &Upstream, settings: &str) -> String {
    let files = Files::new(upstream.address, settings);
    match Gateway::start(Config::load(&files.path()).unwrap(), Clock::system()) {
        Ok(_) => panic!("it started"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn explain_reports_spent_salts_from_redis() {
    let mut redis = Redis::start(&[]);
    let upstream = Upstream::start(service("account-1", "member-1"));
    let settings = redis.settings(&format!("{ACCEPT}[control]\nsocket = \"c.sock\"\nstate = \"kept\"\n"));
    let gate = gate(&upstream, &settings);
    until("it is ready", || get(gate.admin(), "/ready").body.contains("\"replay\":\"ok\""));
    let explained = |header: &str| {
        let question = saltgate::parts::Question::Explain { header: header.to_owned() };
        let mut said = String::new();
        let socket = gate.files.dir.path().join("c.sock");
        saltgate::parts::ask(&socket, &question, crate::harness::PATIENCE, |line| {
            said = line["en"].as_str().unwrap().to_owned();
        })
        .unwrap();
        said
    };
    let header = signed("OWNER");
    assert!(explained(&header).contains("not spent yet"), "{}", explained(&header));
    assert_eq!(gate.delete(&header).status, 200, "looking it up spent nothing");
    assert!(explained(&header).contains("spent already"));
    redis.kill();
    assert!(explained(&header).contains("does not say"), "{}", explained(&header));
}

#[test]
fn of_ten_thousand_headers_sent_to_two_gateways_at_once_each_passes_once() {
    const HEADERS: usize = 10_000;
    const CLIENTS: usize = 8;
    let (redis, upstream) = (Redis::start(&[]), Upstream::start(service("account-1", "member-1")));
    // A machine that is busy with so many keeps a claim waiting for longer than the clocks may differ elsewhere in these tests.
    let settings = redis.settings("when_new = \"accept\"\ntimeout = \"5s\"\n");
    let settings = settings.replace("clock_margin = \"200ms\"", "clock_margin = \"10s\"");
    // Ten thousand closed connections would use up all ports.
    let gates = [(); 2].map(|()| {
        let files = Files::new(upstream.address, &settings);
        files.listen("[[listener]]\naddress = \"127.0.0.1:0\"\nkeep_alive = \"always\"\n");
        Gate::by(files)
    });
    let addresses = gates.each_ref().map(Gate::address);
    let clients = (0..CLIENTS).map(|_| {
        std::thread::spawn(move || {
            let mut gates = addresses.map(Kept::to);
            for _ in 0..HEADERS / CLIENTS {
                let header = signed("OWNER");
                gates.iter_mut().for_each(|gate| gate.send(&header));
                let mut statuses = gates.each_mut().map(|gate| gate.status());
                statuses.sort_unstable();
                assert_eq!(statuses, [200, 401]);
            }
        })
    });
    clients.collect::<Vec<_>>().into_iter().for_each(|client| client.join().unwrap());
    assert_eq!(upstream.deletes(), HEADERS);

    // The stored keys reveal nothing and expire by themselves.
    let keys = redis.cli(&["--scan", "--pattern", "*"]);
    let mut salts = 0;
    for key in keys.lines().filter(|key| *key != "saltgate:epoch") {
        let hex = key.strip_prefix("saltgate:").unwrap();
        assert!(hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
        salts += 1;
    }
    assert_eq!(salts, HEADERS);
    let key = keys.lines().find(|key| *key != "saltgate:epoch").unwrap();
    let mark = redis.cli(&["GET", key]);
    assert!(mark.trim().len() == 64 && mark.trim().bytes().all(|byte| byte.is_ascii_hexdigit()), "{mark}");
    let life: i64 = redis.cli(&["PTTL", key]).trim().parse().unwrap();
    assert!((1..=920_001).contains(&life), "{life}");
    until("they are counted", || gates[0].metrics().contains("saltgate_replay_salts 10000"));
}

/// The scripts alone, without a watcher: what they refuse, they refuse in the step that would have spent the salt.
#[test]
fn a_claim_refuses_a_history_that_nobody_attested() {
    let mut redis = Redis::start(&[]);
    let script = |name: &str| format!("{}/src/replay/redis/{name}.lua", env!("CARGO_MANIFEST_DIR"));
    let run = |redis: &Redis, arguments: &[&str]| redis.cli(arguments).trim().to_owned();
    let digits = |n: u64| format!("{n:020}");
    let claim_at = |redis: &Redis, salt: &str, date: u64, window: &str, ahead: i64| {
        let now = Clock::system().now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64 + ahead;
        let (script, date, now) = (script("claim"), digits(date), now.to_string());
        let told = run(
            redis,
            &["--eval", &script, salt, "w", ",", &date, "60000", window, "1000", &now, "2000", "n1", "mark"],
        );
        // Every reply names the key and the number of the request.
        told.replace(&format!(" {salt} n1"), "")
    };
    let claim = |redis: &Redis, salt: &str| claim_at(redis, salt, 100, "900000", 0);
    let vouch_at = |redis: &Redis, fence: u64, force: &str, ahead: i64| {
        let now = Clock::system().now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64 + ahead;
        let (script, fence, now) = (script("attest"), digits(fence), now.to_string());
        let window = ["--eval", &script, "w", ",", "900000", "1000", &digits(7), &fence, force];
        let told = run(redis, &[&window[..], &["n2", "", &now, "2000"]].concat());
        told.replace(" w n2", "")
    };
    let vouch = |redis: &Redis, fence: u64, force: &str| vouch_at(redis, fence, force, 0);
    assert_eq!(claim(&redis, "a"), "FORGOT", "nobody vouched");
    assert_eq!([-3000, 3000].map(|ahead| vouch_at(&redis, 50, "0", ahead)), ["CLOCK", "CLOCK"]);
    assert_eq!(claim(&redis, "a"), "FORGOT", "a clock that is wrong sets no fence");
    assert_eq!(vouch(&redis, 50, "0"), format!("RAISED {}", digits(7)), "new");
    assert_eq!(vouch(&redis, 50, "0"), format!("OK {}", digits(7)), "once for all gateways");
    assert_eq!([claim(&redis, "a"), claim(&redis, "a"), claim(&redis, "b")], ["SPENT", "REUSED mark", "SPENT"]);
    assert_eq!(claim_at(&redis, "c", 7, "900000", 0), format!("FLOOR {}", digits(7)));
    assert_eq!(claim_at(&redis, "c", 8, "900001", 0), "WINDOW 900000 1000");
    assert_eq!(
        [claim_at(&redis, "c", 8, "900000", -3000), claim_at(&redis, "c", 8, "900000", 3000)],
        ["CLOCK", "CLOCK"]
    );
    assert_eq!(claim_at(&redis, "c", 8, "900000", 1000), "SPENT");

    // A restart from a file that is older than the last salt.
    redis.cli(&["SAVE"]);
    assert_eq!(claim(&redis, "later"), "SPENT");
    redis.kill();
    redis.run();
    until("it has loaded", || redis.cli(&["PING"]).contains("PONG"));
    assert_eq!(redis.cli(&["EXISTS", "a"]).trim(), "1", "the file was read");
    assert_eq!([claim(&redis, "later"), claim(&redis, "a")], ["FORGOT", "FORGOT"]);
    assert_eq!([-3000, 3000].map(|ahead| vouch_at(&redis, 20, "0", ahead)), ["CLOCK", "CLOCK"]);
    assert_eq!(vouch(&redis, 50, "0"), format!("RAISED {}", digits(50)));
    assert_eq!(vouch_at(&redis, 55, "0", -3000), format!("OK {}", digits(50)), "it sets none");
    assert_eq!(vouch(&redis, 40, "1"), format!("RAISED {}", digits(50)), "a floor never falls");
    assert_eq!(claim(&redis, "later"), "SPENT", "its date is above the floor");

    // A first replica gives the history a new name; nothing is lost, and nothing is fenced.
    let mut replica = Redis::start(&["--repl-diskless-sync-delay", "0"]);
    replica.cli(&["REPLICAOF", "127.0.0.1", &redis.port.to_string()]);
    until("it follows", || replica.cli(&["INFO", "replication"]).contains("master_link_status:up"));
    assert_eq!(claim(&redis, "d"), "FORGOT");
    assert_eq!(vouch(&redis, 60, "0"), format!("OK {}", digits(50)));
    assert_eq!(claim(&redis, "d"), "SPENT");
    // After its promotion, the replica may have lagged.
    until("it has the witness", || replica.cli(&["GET", "w"]) == redis.cli(&["GET", "w"]));
    assert!(claim(&replica, "e").contains("READONLY"));
    redis.kill();
    replica.cli(&["REPLICAOF", "NO", "ONE"]);
    assert_eq!(claim(&replica, "e"), "FORGOT");
    assert_eq!(vouch(&replica, 60, "0"), format!("RAISED {}", digits(60)));

    replica.cli(&["FLUSHALL"]);
    assert_eq!(claim(&replica, "f"), "FORGOT");
    replica.cli(&["SET", "w", "2 of a later version"]);
    assert_eq!([claim(&replica, "f"), vouch(&replica, 1, "0")], ["VERSION", "VERSION"]);
    replica.kill();
}

#[test]
fn a_gateway_whose_clock_differs_is_out_of_use() {
    let (redis, upstream) = (Redis::start(&[]), Upstream::start(service("account-1", "member-1")));
    let system = Clock::system();
    let (clock, hands) = Clock::manual(system.now());
    let ending = Arc::new(AtomicBool::new(false));
    let ticking = {
        let (hands, ending, system) = (hands.clone(), ending.clone(), system.clone());
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
    let gate = Gate::with(upstream.address, &redis.settings(ACCEPT), clock);
    let header = signed("OWNER");
    assert_eq!(gate.delete(&header).status, 200);
    hands.set_wall(system.now() + Duration::from_secs(10));
    until("it is noticed", || get(gate.admin(), "/ready").body.contains("clock and the gateway's differ"));
    assert_eq!(gate.delete(&header).status, 503);
    hands.set_wall(system.now());
    until("it is set right", || get(gate.admin(), "/ready").body.contains("\"replay\":\"ok\""));
    assert_eq!((gate.delete(&signed("OWNER")).status, gate.delete(&header).status), (200, 401));
    ending.store(true, Ordering::SeqCst);
    ticking.join().unwrap();
}

/// Clients that send fresh headers and, in between, old ones. Counts how often each passed.
pub struct Load {
    ending: Arc<AtomicBool>,
    passed: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    sent: Arc<Mutex<HashMap<String, usize>>>,
    /// By which gateway headers passed, and when.
    times: Arc<Mutex<Vec<(usize, Duration)>>>,
    clients: Vec<std::thread::JoinHandle<()>>,
    gates: Vec<SocketAddr>,
}

impl Load {
    pub fn start(gates: &[&Gate]) -> Self {
        let gates: Vec<SocketAddr> = gates.iter().map(|gate| gate.address()).collect();
        let mut load = Self {
            ending: Arc::default(),
            passed: Arc::default(),
            refused: Arc::default(),
            sent: Arc::default(),
            times: Arc::default(),
            clients: Vec::new(),
            gates,
        };
        load.clients = (0..6).map(|_| load.client()).collect();
        load
    }

    fn client(&self) -> std::thread::JoinHandle<()> {
        let (ending, passed, refused) = (self.ending.clone(), self.passed.clone(), self.refused.clone());
        let (sent, gates, times) = (self.sent.clone(), self.gates.clone(), self.times.clone());
        let clock = Clock::system();
        std::thread::spawn(move || {
            let mut gates: Vec<Kept> = gates.into_iter().map(Kept::to).collect();
            let mut mine: Vec<String> = Vec::new();
            for n in 0.. {
                if ending.load(Ordering::SeqCst) {
                    return;
                }
                let fresh = signed("OWNER");
                mine.push(fresh.clone());
                // Most often the previous one: it is spent, and nothing came in between.
                let older = mine[(n * 7919) % mine.len()].clone();
                let last = mine[mine.len().saturating_sub(2)].clone();
                for (turn, header) in [fresh, last, older].into_iter().enumerate() {
                    let gate = (n + turn) % gates.len();
                    match gates[gate].delete(&header) {
                        200 => {
                            passed.fetch_add(1, Ordering::SeqCst);
                            *sent.lock().unwrap().entry(header).or_default() += 1;
                            times.lock().unwrap().push((gate, clock.elapsed()));
                        }
                        503 => {
                            refused.fetch_add(1, Ordering::SeqCst);
                        }
                        401 | 500 => {}
                        other => panic!("{other}"),
                    }
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        })
    }

    pub fn passes(&self, more: usize) {
        let passed = self.passed.load(Ordering::SeqCst);
        until("headers pass", || self.passed.load(Ordering::SeqCst) >= passed + more);
    }

    pub fn is_refused(&self) {
        let refused = self.refused.load(Ordering::SeqCst);
        until("headers are refused", || self.refused.load(Ordering::SeqCst) > refused);
    }

    /// The longest time since then in which a gateway let nothing through, for each gateway.
    pub fn longest_pauses(&self, since: Duration) -> Vec<Duration> {
        let mut times = self.times.lock().unwrap().clone();
        times.sort_unstable_by_key(|(_, at)| *at);
        let now = Clock::system().elapsed();
        let of = |gate| {
            let times = times.iter().filter(|(by, at)| *by == gate && *at >= since).map(|(_, at)| *at).chain([now]);
            times.fold((since, Duration::ZERO), |(last, longest), at| (at, longest.max(at.saturating_sub(last)))).1
        };
        (0..self.gates.len()).map(of).collect()
    }

    /// Replays everything that passed, everywhere; nothing may have passed twice.
    pub fn end(self) -> usize {
        self.ending.store(true, Ordering::SeqCst);
        self.clients.into_iter().for_each(|client| client.join().unwrap());
        let sent = self.sent.lock().unwrap();
        for gate in &self.gates {
            let mut gate = Kept::to(*gate);
            for (header, passes) in sent.iter() {
                assert_eq!(*passes, 1, "{header}");
                assert_ne!(gate.delete(header), 200, "{header}");
            }
        }
        sent.len()
    }
}

#[test]
fn salts_that_redis_loses_cannot_be_replayed() {
    let (mut redis, upstream) = (Redis::start(&[]), Upstream::start(service("account-1", "member-1")));
    let settings = redis.settings(ACCEPT);
    let gates = [gate(&upstream, &settings), gate(&upstream, &settings)];
    let load = Load::start(&[&gates[0], &gates[1]]);
    load.passes(200);
    for _ in 0..2 {
        redis.cli(&["FLUSHALL"]);
        load.is_refused();
        load.passes(200);
    }
    redis.kill();
    load.is_refused();
    redis.run();
    load.passes(200);
    // Also with a file that is older than the last spent salts.
    redis.cli(&["SAVE"]);
    load.passes(200);
    redis.kill();
    load.is_refused();
    redis.run();
    load.passes(200);
    let headers = load.end();
    assert_eq!(upstream.deletes(), headers);
}

#[test]
fn with_danger_accept_lost_salts_can_be_replayed() {
    let (redis, upstream) = (Redis::start(&[]), Upstream::start(service("account-1", "member-1")));
    let gate = gate(&upstream, &redis.settings("when_new = \"accept\"\non_failover = \"danger_accept\"\n"));
    let header = signed("OWNER");
    assert_eq!((gate.delete(&header).status, gate.delete(&header).status), (200, 401));
    redis.cli(&["FLUSHALL"]);
    until("it is in use again", || gate.delete(&signed("OWNER")).status == 200);
    assert_eq!(gate.delete(&header).status, 200);
}

#[test]
fn a_cluster_that_loses_a_master_lets_nothing_pass_twice() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let mut servers: Vec<Redis> = (0..6)
        .map(|_| {
            let bus = free_port().to_string();
            Redis::start(&[
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &bus,
                "--cluster-node-timeout",
                "1000",
                "--cluster-require-full-coverage",
                "no",
                "--repl-diskless-sync-delay",
                "0",
            ])
        })
        .collect();
    let names: Vec<String> = servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
    let mut create = Command::new("redis-cli");
    create.args(["--cluster", "create"]).args(&names).args(["--cluster-replicas", "1", "--cluster-yes"]);
    assert!(create.stdout(Stdio::null()).status().unwrap().success());
    until("the cluster stands", || {
        let linked = |server: &Redis| {
            let info = server.cli(&["INFO", "replication"]);
            info.contains("role:master") || info.contains("master_link_status:up")
        };
        servers.iter().all(|s| s.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok") && linked(s))
    });
    let alone = refused_to_start(&upstream, &servers[0].settings(ACCEPT));
    assert!(alone.contains("cluster = true"), "{alone}");

    let url = format!("redis://{},{}", names[1], names[2]);
    let settings = settings(&url, "cluster = true\nwhen_new = \"accept\"\n");
    let gates = [gate(&upstream, &settings), gate(&upstream, &settings)];
    let load = Load::start(&[&gates[0], &gates[1]]);
    load.passes(300);
    servers[0].kill();
    load.is_refused();
    until("a replica takes over", || {
        !servers[1].cli(&["CLUSTER", "INFO"]).contains("cluster_state:fail") && {
            let nodes = servers[1].cli(&["CLUSTER", "NODES"]);
            nodes.lines().filter(|line| line.contains("master") && !line.contains("fail")).count() == 3
        }
    });
    until("it is in use, behind its fence", || get(gates[0].admin(), "/ready").body.contains("fenced until"));
    until("the fence has fallen", || get(gates[0].admin(), "/ready").body.contains("\"replay\":\"ok\""));
    load.passes(300);
    // Slots that move are fenced; the others are not.
    let myself = |server: &Redis| server.cli(&["CLUSTER", "MYID"]).trim().to_owned();
    let (from, to) = (myself(&servers[1]), myself(&servers[2]));
    let mut reshard = Command::new("redis-cli");
    reshard.args(["--cluster", "reshard", &names[1], "--cluster-from", &from, "--cluster-to", &to]);
    reshard.args(["--cluster-slots", "64", "--cluster-yes"]).stdout(Stdio::null());
    assert!(reshard.status().unwrap().success());
    load.passes(300);
    let headers = load.end();
    assert_eq!(upstream.deletes(), headers);
    let keys: usize =
        (1..6).map(|n| servers[n].cli(&["--scan", "--pattern", "saltgate:epoch:*"]).lines().count()).sum();
    assert!(keys >= 16_384, "a witness in each slot: {keys}");
}

#[test]
fn a_redis_that_hangs_is_unknown_then_unavailable_and_recovers() {
    let (redis, upstream) = (Redis::start(&[]), Upstream::start(service("account-1", "member-1")));
    let settings = redis.settings(ACCEPT);
    let gate = gate(&upstream, &format!("[runtime]\nworkers = 1\n{settings}"));
    let spent = signed("OWNER");
    assert_eq!(gate.delete(&spent).status, 200);
    redis.signal("-STOP");
    // The first to notice has already sent its claim.
    let lost: Vec<String> = (0..4).map(|_| signed("OWNER")).collect();
    let statuses: Vec<u16> = lost.iter().map(|header| gate.delete(header).status).collect();
    assert!(statuses.iter().all(|status| [500, 503].contains(status)), "{statuses:?}");
    assert_eq!(statuses.first(), Some(&500), "{statuses:?}");
    assert_eq!(statuses.last(), Some(&503), "the breaker is open: {statuses:?}");
    let early = signed("OWNER");
    assert_eq!(gate.delete(&early).status, 503);
    let ready = get(gate.admin(), "/ready");
    assert_eq!(ready.status, 200, "{}", ready.body);
    assert!(ready.body.contains("degraded: Redis at 127.0.0.1"), "{}", ready.body);
    redis.signal("-CONT");
    until("it recovers", || gate.delete(&signed("OWNER")).status == 200);
    assert_eq!(gate.delete(&early).status, 200, "503 spent nothing");
    for (header, status) in lost.iter().zip(statuses) {
        let again = gate.delete(header).status;
        // The lost claim may or may not have been carried out since.
        assert!(if status == 503 { again == 200 } else { [200, 401].contains(&again) }, "{status} then {again}");
        assert_ne!(gate.delete(header).status, 200);
    }
    assert_eq!(gate.delete(&spent).status, 401);
}

#[test]
fn an_idle_redis_connection_that_was_closed_loses_no_claim() {
    let (redis, upstream) = (Redis::start(&["--timeout", "2"]), Upstream::start(service("account-1", "member-1")));
    let gate = gate(&upstream, &format!("[runtime]\nworkers = 1\n{}", redis.settings(ACCEPT)));
    // The watcher's connection, which is never idle, and the worker's.
    let connected = || redis.cli(&["CLIENT", "LIST"]).lines().filter(|line| !line.contains("cmd=client")).count();
    assert_eq!(gate.delete(&signed("OWNER")).status, 200);
    assert_eq!(connected(), 2);
    until("Redis has closed it", || connected() == 1);
    assert_eq!(gate.delete(&signed("OWNER")).status, 200);
}

#[test]
fn a_start_waits_for_a_missing_redis() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let mut redis = Redis::on(free_port(), &[]);
    let [easy, strict] = ["", "[admin]\naddress = \"127.0.0.1:0\"\nready_needs = [\"replay\"]\n"].map(|admin| {
        let files = Files::new(upstream.address, &redis.settings(ACCEPT));
        let text = std::fs::read_to_string(files.path()).unwrap();
        let text = if admin.is_empty() { text } else { text.replace("[admin]\naddress = \"127.0.0.1:0\"\n", admin) };
        std::fs::write(files.path(), text).unwrap();
        let gateway = Gateway::start(Config::load(&files.path()).unwrap(), Clock::system()).unwrap();
        (gateway, files)
    });
    let ready = |gateway: &Gateway| get(gateway.admin_address().unwrap(), "/ready").status;
    assert_eq!((ready(&easy.0), ready(&strict.0)), (503, 503), "the state of the store is not known yet");
    let header = signed("OWNER");
    assert_eq!(crate::http::delete(easy.0.address().unwrap(), &header).status, 503);
    redis.run();
    until("it is there", || ready(&strict.0) == 200);
    until("it is ready", || ready(&easy.0) == 200);
    until("it is used", || crate::http::delete(easy.0.address().unwrap(), &header).status == 200);
    assert_eq!(crate::http::delete(strict.0.address().unwrap(), &header).status, 401);
}

#[test]
fn a_misconfigured_redis_is_refused_at_the_start() {
    let (redis, upstream) = (Redis::start(&[]), Upstream::start(service("account-1", "member-1")));
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let told = refused_to_start(&upstream, &redis.settings(ACCEPT));
    assert!(told.contains("maxmemory-policy allkeys-lru") && told.contains("noeviction"), "{told}");
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);

    let told = refused_to_start(&upstream, &redis.settings("cluster = true\n"));
    assert!(told.contains("is not a cluster"), "{told}");
    let gate = gate(&upstream, &redis.settings(ACCEPT));
    let other = redis.settings(ACCEPT).replace("window_future = \"1s\"", "window_future = \"2s\"");
    let told = refused_to_start(&upstream, &other);
    assert!(told.contains("window_future = 1000 ms") && told.contains("2000 ms"), "{told}");
    assert_eq!(gate.delete(&signed("OWNER")).status, 200, "the first one goes on");

    // A policy that is changed later is noticed, and nothing is admitted under it.
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "volatile-ttl"]);
    until("it is noticed", || get(gate.admin(), "/ready").body.contains("volatile-ttl"));
    assert_eq!(gate.delete(&signed("OWNER")).status, 503);
}

#[test]
fn a_reload_keeps_the_window_that_the_fleet_has() {
    let (redis, upstream) = (Redis::start(&[]), Upstream::start(service("account-1", "member-1")));
    let mut gate = gate(&upstream, &redis.settings(ACCEPT));
    let other = redis.settings(ACCEPT).replace("window_future = \"1s\"", "window_future = \"2s\"");
    gate.files.configure(upstream.address, &other);
    let config = Config::load(&gate.files.path());
    assert_eq!(gate.gateway().reload(config).unwrap().needs_restart, ["authentication.window_future"]);
    assert_eq!(gate.delete(&signed("OWNER")).status, 200);
}

#[test]
fn a_new_redis_is_fenced_and_limits_hold() {
    let (redis, upstream) = (Redis::start(&[]), Upstream::start(service("account-1", "member-1")));
    let gate = gate(&upstream, &redis.settings("max_salts = 8\nmax_salts_per_key = 3\n"));
    let early = signed("OWNER");
    assert_eq!(gate.delete(&early).status, 503);
    assert_eq!(get(gate.admin(), "/ready").status, 503);
    until("the fence has fallen", || get(gate.admin(), "/ready").status == 200);
    assert_eq!(gate.delete(&early).status, 401);
    let statuses: Vec<u16> = (0..4).map(|_| gate.delete(&signed("OWNER")).status).collect();
    assert_eq!(statuses, [200, 200, 200, 429]);
    for n in 0..5 {
        redis.cli(&["SET", &format!("saltgate:{n:032x}"), "", "PX", "60000"]);
    }
    until("it is full", || gate.delete(&signed("MEMBER")).status == 503);
    assert!(gate.metrics().contains(r#"reason="replay_full"}"#));
    redis.cli(&["FLUSHALL"]);
    until("there is room", || gate.delete(&signed("DEVELOPER")).status == 200);
    redis.cli(&["CONFIG", "SET", "maxmemory", "100kb"]);
    until("Redis is out of memory", || gate.delete(&signed("DEVELOPER")).status == 503);
    until("it says so", || get(gate.admin(), "/ready").body.contains("degraded: full"));
    assert_eq!(get(gate.admin(), "/ready").status, 200, "full is not out of reach");
}

/// A folder with an authority (`ca.pem`), and certificate and key of a server and of a client of it (`r`, `c`).
pub fn certificates() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let script = "
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca
        printf 'subjectAltName=IP:127.0.0.1' > san
        for of in r c; do
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $of.key -out $of.csr -subj /CN=$of
            openssl x509 -req -in $of.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out $of.pem
        done";
    let made = Command::new("sh").args(["-ec", script]).current_dir(&dir).stderr(Stdio::null()).status();
    assert!(made.unwrap().success());
    dir
}

#[test]
fn tls_and_a_user_with_minimal_rights_suffice() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let dir = certificates();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let port = free_port();
    let user = "gate on >hunter2 ~saltgate:* +evalsha +eval +script|load +get +set +info +time +dbsize +ping +hello +cluster|info +cluster|slots";
    let arguments: Vec<String> = [
        vec!["--port".into(), "0".into(), "--tls-port".into(), port.to_string()],
        vec!["--tls-cert-file".into(), file("r.pem"), "--tls-key-file".into(), file("r.key")],
        vec!["--tls-ca-cert-file".into(), file("ca.pem"), "--tls-auth-clients".into(), "no".into()],
        ["--user", "default", "off", "--user"].map(String::from).to_vec(),
        user.split(' ').map(String::from).collect(),
    ]
    .concat();
    let mut redis = Redis::on(port, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    redis.run();
    // Handshakes may take a while on a busy machine.
    let ca = format!("when_new = \"accept\"\ntimeout = \"5s\"\nca = \"{}\"\n", file("ca.pem"));
    let url = |password: &str| format!("rediss://gate:{password}@127.0.0.1:{port}");
    let gate = gate(&upstream, &settings(&url("hunter2"), &ca));
    let header = signed("OWNER");
    assert_eq!(
        (gate.delete(&header).status, gate.delete(&header).status),
        (200, 401),
        "{}",
        get(gate.admin(), "/ready").body
    );

    // What a fleet counts with needs more.
    let fleet = format!("{ca}[safeguard]\nscope = \"fleet\"\n[control]\nsocket = \"c.sock\"\nstate = \"kept\"\n");
    let told = refused_to_start(&upstream, &settings(&url("hunter2"), &fleet));
    assert!(told.contains("does not permit what the gateway needs") && told.contains("'exists'"), "{told}");

    let told = refused_to_start(&upstream, &settings(&url("hunter3"), &ca));
    assert!(told.contains("refuses the user or the password") && !told.contains("hunter"), "{told}");
    // A server without a certificate of that authority is not used.
    let other = format!("when_new = \"accept\"\nca = \"{}\"\n", file("ca.pem"));
    std::fs::copy(file("ca.pem"), file("kept.pem")).unwrap();
    let again = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca";
    assert!(
        Command::new("sh").args(["-ec", again]).current_dir(&dir).stderr(Stdio::null()).status().unwrap().success()
    );
    let stranger = Gate::with(upstream.address, &settings(&url("hunter2"), &other), Clock::system());
    assert_eq!(stranger.delete(&signed("OWNER")).status, 503);

    let config = Config::load(&gate.files.path()).unwrap();
    let shown = format!("{}{config:?}", config.describe(true));
    assert!(shown.contains("rediss://…@127.0.0.1") && !shown.contains("hunter2"), "{shown}");
}
