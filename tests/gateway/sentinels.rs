//! A fleet whose Redis is found by Sentinels: real masters, replicas and Sentinels through planned and unplanned failovers,
//! and old masters that come back.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use saltgate::parts::Clock;

use crate::fleet_budgets::wait_of;
use crate::harness::{Files, Gate, Upstream, service, signed, until};
use crate::http::get;
use crate::operations::{Process, text, told};
use crate::redis::{ACCEPT, Load, Redis, free_port, gate, refused_to_start, settings};

/// A Sentinel process, killed with the test.
struct Sentinel {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Sentinel {
    fn watching(master: u16) -> Self {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let config = dir.path().join("sentinel.conf");
        let text = format!(
            "bind 127.0.0.1\nport {port}\ndir {}\nsentinel monitor mymaster 127.0.0.1 {master} 2\n\
             sentinel down-after-milliseconds mymaster 1000\nsentinel failover-timeout mymaster 2000\n",
            dir.path().display()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("redis-server");
        command.arg(&config).arg("--sentinel").stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("tests/requirements.sh installs redis-server");
        let sentinel = Self { child, port, _dir: dir };
        until("the Sentinel answers", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        sentinel
    }

    fn ask(&self, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The port of the master.
    fn master(&self) -> u16 {
        let told = self.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"]);
        told.lines().nth(1).and_then(|port| port.trim().parse().ok()).unwrap_or_default()
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Forwards connections to a port, until it cuts some of them off.
struct Relay {
    port: u16,
    cut: Arc<Mutex<Cut>>,
    open: Arc<Mutex<Vec<(bool, TcpStream, TcpStream)>>>,
}

/// Whose connections a relay closes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    Nobody,
    Sentinels,
    Everybody,
}

impl Cut {
    fn is_for(self, sentinel: bool) -> bool {
        self == Self::Everybody || self == Self::Sentinels && sentinel
    }
}

impl Relay {
    fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = listener.local_addr().unwrap().port();
        let relay = Self { port: here, cut: Arc::new(Mutex::new(Cut::Nobody)), open: Arc::default() };
        let (cut, open) = (relay.cut.clone(), relay.open.clone());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(mut client) = client else { return };
                let (cut, open) = (cut.clone(), open.clone());
                std::thread::spawn(move || {
                    // A Sentinel names itself in its first request.
                    let mut first = [0; 4096];
                    let Ok(read @ 1..) = client.read(&mut first) else { return };
                    let sentinel = first[..read].windows(9).any(|window| window == b"sentinel-");
                    if cut.lock().unwrap().is_for(sentinel) {
                        return;
                    }
                    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)) else { return };
                    if server.write_all(&first[..read]).is_err() {
                        return;
                    }
                    open.lock().unwrap().push((sentinel, client.try_clone().unwrap(), server.try_clone().unwrap()));
                    let (mut back, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut back, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                    let _ = std::io::copy(&mut client, &mut server);
                    let _ = server.shutdown(Shutdown::Both);
                });
            }
        });
        relay
    }

    fn cuts(&self, what: Cut) {
        *self.cut.lock().unwrap() = what;
        self.open.lock().unwrap().retain(|(sentinel, client, server)| {
            if what.is_for(*sentinel) {
                let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
            }
            !what.is_for(*sentinel)
        });
    }
}

/// A master, a replica, and three Sentinels that watch the master at a port of a relay.
struct Fleet {
    servers: [Redis; 2],
    relay: Relay,
    sentinels: Vec<Sentinel>,
    clock: Clock,
}

impl Fleet {
    fn start() -> Self {
        let master = Redis::start(&["--repl-diskless-sync-delay", "0"]);
        let relay = Relay::before(master.port);
        // The address by which the Sentinels know the master: they would set another one right.
        let port = relay.port.to_string();
        let replica = Redis::start(&["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"]);
        until("the replica follows", || replica.cli(&["INFO", "replication"]).contains("master_link_status:up"));
        let sentinels: Vec<Sentinel> = (0..3).map(|_| Sentinel::watching(relay.port)).collect();
        until("the Sentinels know each other and the replica", || {
            sentinels.iter().all(|sentinel| {
                let told = sentinel.ask(&["SENTINEL", "MASTER", "mymaster"]);
                let told: Vec<&str> = told.lines().collect();
                let has = |name: &str, value: &str| told.windows(2).any(|pair| pair == [name, value]);
                has("num-other-sentinels", "2") && has("num-slaves", "1")
            })
        });
        Self { servers: [master, replica], relay, sentinels, clock: Clock::system() }
    }

    fn settings(&self, nodes: &[u16]) -> String {
        let nodes: Vec<String> = nodes.iter().map(|port| format!("\"redis://127.0.0.1:{port}\"")).collect();
        let sentinel = format!("sentinel = {{ master = \"mymaster\", nodes = [{}] }}\n", nodes.join(", "));
        // A busy machine keeps an answer waiting.
        settings("redis://mymaster", &format!("{ACCEPT}timeout = \"1s\"\n{sentinel}"))
            .replace("clock_margin = \"200ms\"", "clock_margin = \"500ms\"")
    }

    fn nodes(&self) -> Vec<u16> {
        self.sentinels.iter().map(|sentinel| sentinel.port).collect()
    }

    fn gates(&self, upstream: &Upstream) -> [Gate; 2] {
        let settings = self.settings(&self.nodes());
        [gate(upstream, &settings), gate(upstream, &settings)]
    }

    /// Waits until the Sentinels agree on the master.
    fn is_led_by(&self, port: u16) {
        until("the Sentinels agree", || self.sentinels.iter().all(|sentinel| sentinel.master() == port));
    }

    /// Waits through a fault that began then.
    fn recovers(&self, fault: &str, load: &Load, began: Duration) {
        load.is_refused();
        load.passes(200);
        self.prints_pauses(fault, load, began);
    }

    /// Prints how long each gateway let nothing through.
    #[allow(clippy::print_stdout, reason = "a measurement for the reader of the test")]
    fn prints_pauses(&self, fault: &str, load: &Load, began: Duration) {
        let pauses = load.longest_pauses(began);
        println!("{fault}: the gateways let nothing through for {pauses:.1?}");
    }
}

#[test]
fn headers_pass_once_through_failovers_by_sentinel() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let mut fleet = Fleet::start();
    let gates = fleet.gates(&upstream);
    let load = Load::start(&[&gates[0], &gates[1]]);
    load.passes(200);

    let mut began = fleet.clock.elapsed();
    until("a failover begins", || {
        began = fleet.clock.elapsed();
        fleet.sentinels[0].ask(&["SENTINEL", "FAILOVER", "mymaster"]).contains("OK")
    });
    fleet.recovers("planned failover", &load, began);
    let (first, second) = (fleet.relay.port, fleet.servers[1].port);
    fleet.is_led_by(second);
    until("the old master follows", || {
        fleet.servers[0].cli(&["INFO", "replication"]).contains("master_link_status:up")
    });

    let began = fleet.clock.elapsed();
    fleet.servers[1].kill();
    fleet.recovers("master killed", &load, began);
    fleet.is_led_by(first);
    // It comes back empty, as a master, and is made a replica.
    fleet.servers[1].run();
    load.passes(200);

    let headers = load.end();
    assert_eq!(upstream.deletes(), headers);
}

/// The old master comes back with the history that was attested, and everything that was spent since is unknown to it.
#[test]
fn an_old_master_that_comes_back_and_is_elected_admits_nothing_that_was_spent_elsewhere() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let mut fleet = Fleet::start();
    let gates = fleet.gates(&upstream);
    let load = Load::start(&[&gates[0], &gates[1]]);
    load.passes(100);
    let (first, second) = (fleet.relay.port, fleet.servers[1].port);
    let history = |fleet: &Fleet| {
        let told = fleet.servers[0].cli(&["INFO", "replication"]);
        told.lines().find(|line| line.starts_with("master_replid:")).unwrap_or_default().to_owned()
    };
    let before = history(&fleet);

    // Cut off for longer than its successor is fenced.
    let began = fleet.clock.elapsed();
    fleet.servers[0].signal("-STOP");
    fleet.recovers("master stopped", &load, began);
    fleet.is_led_by(second);
    let spent: Vec<String> = (0..20).map(|_| signed("OWNER")).collect();
    for header in &spent {
        assert_eq!(gates[0].delete(header).status, 200);
    }
    fleet.servers[0].signal("-CONT");
    fleet.servers[1].kill();
    fleet.is_led_by(first);
    assert_eq!(history(&fleet), before, "it was never made a replica, so its history is the attested one");
    load.passes(200);
    for header in &spent {
        for gate in &gates {
            assert_ne!(gate.delete(header).status, 200);
        }
    }
    let headers = load.end();
    assert_eq!(upstream.deletes(), headers + spent.len());
}

/// One gateway reaches the old master and no Sentinel, the other one everything but the old master.
#[test]
fn two_masters_that_are_alive_at_once_let_nothing_pass_twice() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let fleet = Fleet::start();
    let relays: Vec<Relay> = fleet.sentinels.iter().map(|sentinel| Relay::before(sentinel.port)).collect();
    let relayed: Vec<u16> = relays.iter().map(|relay| relay.port).collect();
    let gates = [gate(&upstream, &fleet.settings(&fleet.nodes())), gate(&upstream, &fleet.settings(&relayed))];
    let load = Load::start(&[&gates[0], &gates[1]]);
    load.passes(200);

    let began = fleet.clock.elapsed();
    relays.iter().for_each(|relay| relay.cuts(Cut::Everybody));
    fleet.relay.cuts(Cut::Sentinels);
    fleet.is_led_by(fleet.servers[1].port);
    until("the new master is used, behind its fence", || get(gates[0].admin(), "/ready").body.contains("fenced until"));
    until("its fence has fallen", || get(gates[0].admin(), "/ready").body.contains("\"replay\":\"ok\""));
    load.passes(200);
    fleet.prints_pauses("master cut off, with one of two gateways", &load, began);
    // Both take writes; only the new one is used.
    let is_master = |redis: &Redis| redis.cli(&["INFO", "replication"]).contains("role:master");
    assert!(is_master(&fleet.servers[0]) && is_master(&fleet.servers[1]));
    let ready = get(gates[1].admin(), "/ready").body;
    assert!(ready.contains("Sentinels must agree on the master"), "{ready}");
    assert_eq!(gates[1].delete(&signed("OWNER")).status, 503);
    load.passes(500);
    assert!(is_master(&fleet.servers[0]), "it was alive all the time");

    relays.iter().for_each(|relay| relay.cuts(Cut::Nobody));
    fleet.relay.cuts(Cut::Nobody);
    until("the other gateway uses the new master", || gates[1].delete(&signed("OWNER")).status == 200);
    let headers = load.end();
    assert!(upstream.deletes() > headers);
}

/// What a lagging replica did not get is not known, so the budget is closed.
#[test]
fn a_failover_closes_the_budgets_of_a_fleet_for_their_span() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let fleet = Fleet::start();
    let more = "[safeguard]\nscope = \"fleet\"\nlease = \"5s\"\n[budget]\nper_key = \"100000/hour\"\n";
    let settings = fleet.settings(&fleet.nodes()) + more;
    let gates = [(); 2].map(|()| gate(&upstream, &settings));
    for gate in &gates {
        until("it is in use", || gate.delete(&signed("OWNER")).status == 200);
    }
    until("a failover begins", || fleet.sentinels[0].ask(&["SENTINEL", "FAILOVER", "mymaster"]).contains("OK"));
    for gate in &gates {
        until("the new master is used, and closed", || gate.delete(&signed("OWNER")).status == 429);
        // It was fenced before, for 5 s.
        let left = wait_of(&gate.delete(&signed("OWNER")));
        assert!((3500..=3604).contains(&left), "{left}");
        let ready = get(gate.admin(), "/ready").body;
        assert!(ready.contains("budgets are closed until"), "{ready}");
    }
}

#[test]
fn a_gateway_that_names_too_few_sentinels_or_none_does_not_start() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let fleet = Fleet::start();
    let nodes = fleet.nodes();
    for (nodes, told) in [
        (vec![nodes[0]], "sentinel.nodes names only 1: name all of them"),
        (vec![fleet.servers[0].port, nodes[1], fleet.servers[1].port], "is not a Sentinel"),
    ] {
        let refused = refused_to_start(&upstream, &fleet.settings(&nodes));
        assert!(refused.contains(told), "{refused}");
    }
    let other = fleet.settings(&nodes).replace("mymaster", "theirs");
    let refused = refused_to_start(&upstream, &other);
    assert!(refused.contains("watches no master with the name theirs"), "{refused}");
    // With one that does not answer, two of three are enough.
    let two = [nodes[0], nodes[1], free_port()];
    let gate = gate(&upstream, &fleet.settings(&two));
    assert_eq!(gate.delete(&signed("OWNER")).status, 200);

    let files = Files::new(upstream.address, &fleet.settings(&nodes));
    let check = told(&["check", "--live", "--config", files.path().to_str().unwrap()], "");
    let check = text(&check.stdout);
    let master = format!("127.0.0.1:{} is the master since failover 0", fleet.relay.port);
    assert_eq!(check.matches(&master).count(), 3, "{check}");
    let of_master = format!("redis 127.0.0.1:{}: answers: ", fleet.relay.port);
    let line = check.lines().find(|line| line.contains(&of_master)).unwrap_or_else(|| panic!("{check}"));
    assert!(line.contains("Redis 7") || line.contains("Valkey "), "{line}");
    assert!(line.ends_with(", a master"), "{line}");
}

/// A gateway without Sentinels would believe an old master.
#[test]
fn a_gateway_that_names_the_master_itself_does_not_share_a_redis_with_those_that_ask_sentinels() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let fleet = Fleet::start();
    let by_name = gate(&upstream, &fleet.servers[0].settings(ACCEPT).replace("200ms", "500ms"));
    let header = signed("OWNER");
    assert_eq!(by_name.delete(&header).status, 200);
    let asking = gate(&upstream, &fleet.settings(&fleet.nodes()));
    // It takes over, behind the fence.
    until("it is in use", || asking.delete(&signed("OWNER")).status == 200);
    assert_ne!(asking.delete(&header).status, 200);
    assert_ne!(by_name.delete(&signed("OWNER")).status, 200);
    until("it says so", || get(by_name.admin(), "/ready").body.contains("gateways that find it by Sentinel"));
    let refused = refused_to_start(&upstream, &fleet.servers[0].settings(ACCEPT).replace("200ms", "500ms"));
    assert!(refused.contains("gateways that find it by Sentinel"), "{refused}");
}

#[test]
fn a_master_that_goes_on_without_replicas_is_warned_of_and_one_that_does_not_is_not() {
    let (upstream, fleet) = (Upstream::start(service("account-1", "member-1")), Fleet::start());
    let files = || Files::new(upstream.address, &fleet.settings(&fleet.nodes()));
    let told = |process: &Process| {
        until("it is in use", || process.log().contains("Redis is in use"));
        process.log().contains("min-replicas-to-write is 0")
    };
    let first = files();
    assert!(told(&Process::serve(&first)));
    for server in &fleet.servers {
        server.cli(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    }
    let second = files();
    assert!(!told(&Process::serve(&second)));
}

/// Without Sentinels nobody promotes a replica by itself.
#[test]
fn a_master_alone_is_not_warned_of() {
    let (redis, upstream) = (Redis::start(&[]), Upstream::start(service("account-1", "member-1")));
    let files = Files::new(upstream.address, &redis.settings(ACCEPT));
    let process = Process::serve(&files);
    until("it is in use", || process.log().contains("Redis is in use"));
    assert!(!process.log().contains("min-replicas-to-write"));
}
