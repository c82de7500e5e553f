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
