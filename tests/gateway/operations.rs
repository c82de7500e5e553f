//! Start, reload and end; the command line; what operators see.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use saltgate::parts::Clock;
use saltgate::parts::Config;

use crate::harness::{
    Files, Gate, Latch, Upstream, answer, but_delete, deleting_after, salt, secret, service, signed, until,
};
use crate::http::{Request, delete, exchange, get};
use crate::spoken::{BOTH, Spoken};

pub fn saltgate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_saltgate"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub fn told(arguments: &[&str], input: &str) -> Output {
    let mut child = saltgate(arguments).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A gateway in its own process, killed with the test.
pub struct Process {
    pub child: Child,
    log: std::path::PathBuf,
}

impl Process {
    pub fn serve(files: &Files) -> Self {
        Self::serve_with(files, &[])
    }

    pub fn serve_with(files: &Files, options: &[&str]) -> Self {
        let mut arguments = vec!["serve", "--config"];
        let path = files.path();
        arguments.push(path.to_str().unwrap());
        arguments.extend(options);
        Self::serve_by(&arguments, files.dir.path().join("log"))
    }

    /// The same by these arguments, with its log in this file.
    pub fn serve_by(arguments: &[&str], log: std::path::PathBuf) -> Self {
        let mut command = saltgate(arguments);
        let child = command.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
        let process = Self { child, log };
        until("it serves", || process.log().contains("\"serving\""));
        process
    }

    /// A process that was started in another way, with its log in this file.
    pub fn of(child: Child, log: std::path::PathBuf) -> Self {
        Self { child, log }
    }

    /// A running gateway, or the output of one that did not start.
    pub fn attempt(files: &Files) -> Result<Self, String> {
        let log = files.dir.path().join("log");
        let mut command = saltgate(&["serve", "--config", files.path().to_str().unwrap()]);
        let child = command.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
        let process = std::cell::RefCell::new(Self { child, log });
        let ended = || process.borrow_mut().child.try_wait().unwrap().is_some();
        until("it serves, or ends", || process.borrow().log().contains("\"serving\"") || ended());
        if ended() { Err(process.borrow().log()) } else { Ok(process.into_inner()) }
    }

    /// Its files may not grow beyond this many bytes. The log is a pipe, which has no size.
    pub fn limited_to(files: &Files, bytes: u64) -> Self {
        let run = format!(
            "trap '' XFSZ; exec prlimit --fsize={bytes}:unlimited {} serve --config {} 2>&1 >/dev/null",
            env!("CARGO_BIN_EXE_saltgate"),
            files.path().display()
        );
        let child = Command::new("sh").args(["-c", &run]).stdout(Stdio::piped()).spawn().unwrap();
        Self::reading(child, files)
    }

    /// A gateway whose log is on its standard output.
    pub fn reading(mut child: Child, files: &Files) -> Self {
        let log = files.dir.path().join("log");
        let (mut lines, mut kept) = (child.stdout.take().unwrap(), std::fs::File::create(&log).unwrap());
        std::thread::spawn(move || std::io::copy(&mut lines, &mut kept));
        let process = Self { child, log };
        until("it serves", || process.log().contains("\"serving\""));
        process
    }

    pub fn lift_limit(&self) {
        let pid = self.child.id().to_string();
        let lifted = Command::new("prlimit").args(["--fsize=unlimited", "--pid", &pid]).status();
        assert!(lifted.unwrap().success());
    }

    /// Whether every thread of it is stopped, as by SIGSTOP.
    pub fn is_stopped(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap_or_default()).all(
            // The state stands behind the name, which is in brackets.
            |status| status.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')),
        )
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub fn admin(&self) -> std::net::SocketAddr {
        self.announced("admin")
    }

    pub fn address(&self) -> std::net::SocketAddr {
        self.announced("address")
    }

    fn announced(&self, field: &str) -> std::net::SocketAddr {
        let log = self.log();
        let line = log.lines().find(|line| line.contains("\"serving\"")).unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line[field].as_str().unwrap().parse().unwrap()
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.wait();
    }

    pub fn wait(&mut self) {
        self.child.wait().unwrap();
    }

    /// Sends SIGSTOP; returns when every thread has stopped.
    pub fn stop(&self) {
        self.signal("-STOP");
        let is_stopped = |task: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
        };
        let tasks = format!("/proc/{}/task", self.child.id());
        until("it has stopped", || std::fs::read_dir(&tasks).unwrap().flatten().all(is_stopped));
    }

    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_reload_under_load_loses_no_request_and_a_bad_one_changes_nothing() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "");
    let process = Process::serve(&files);
    let (address, ending) = (process.address(), Arc::new(AtomicBool::new(false)));
    let load: Vec<_> = (0..4)
        .map(|n| {
            let ending = ending.clone();
            std::thread::spawn(move || {
                let (spoken, mut served) = (BOTH[n % 2], 0);
                let mut caller = spoken.connect(address);
                while !ending.load(Ordering::Relaxed) {
                    let answer = caller.ask(&Request::delete(&signed("OWNER"))).unwrap();
                    assert_eq!((answer.status, answer.field("connection")), (200, None), "{spoken:?}");
                    served += 1;
                }
                served
            })
        })
        .collect();
    for n in 1..=5 {
        process.signal("-HUP");
        until("it is reloaded", || process.log().matches("\"reloaded\"").count() == n);
    }
    std::fs::write(files.path(), "nonsense = [").unwrap();
    process.signal("-HUP");
    until("the fault is logged", || process.log().contains("not reloaded"));
    files.configure(upstream.address, "[limits]\nmax_in_flight = 7\n");
    process.signal("-HUP");
    until("settings that need a restart are named", || process.log().contains("limits.max_in_flight"));
    ending.store(true, Ordering::Relaxed);
    let served: usize = load.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert!(served > 0);
    assert_eq!(upstream.deletes(), served);
}

#[test]
fn the_thread_that_reads_a_configuration_has_a_lower_priority_than_the_workers() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let process = Process::serve(&Files::new(upstream.address, ""));
    let pid = process.child.id();
    // The command is in parentheses; the third field follows it.
    let nice = |task: &Path| -> i32 {
        let stat = std::fs::read_to_string(task.join("stat")).unwrap();
        stat.rsplit(')').next().unwrap().split_whitespace().nth(16).unwrap().parse().unwrap()
    };
    let main = PathBuf::from(format!("/proc/{pid}/task/{pid}"));
    // The tests may run with a lower priority themselves.
    let usual = nice(Path::new("/proc/self"));
    until("the thread that reloads is nicer", || nice(&main) == (usual + 10).min(19));
    let tasks = std::fs::read_dir(main.parent().unwrap()).unwrap().map(|task| task.unwrap().path());
    // A thread that has ended since has no name any more.
    let comm = |task: &PathBuf| std::fs::read_to_string(task.join("comm")).unwrap_or_default();
    let workers: Vec<_> = tasks.filter(|task| comm(task).starts_with("worker")).collect();
    assert!(!workers.is_empty());
    assert!(workers.iter().all(|worker| nice(worker) == usual));
}

#[test]
fn a_key_removed_by_a_reload_is_unknown() {
    BOTH.into_iter().for_each(is_unknown_from_then_on);
}

fn is_unknown_from_then_on(spoken: Spoken) {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let mut gate = Gate::before(&upstream);
    assert_eq!(spoken.delete(gate.address(), &signed("MEMBER")).status, 200);
    let spent = signed("OWNER");
    assert_eq!(spoken.delete(gate.address(), &spent).status, 200);
    let keys = gate.files.dir.path().join("keys.toml");
    let without = std::fs::read_to_string(&keys).unwrap().replace("NCSMEMBER", "NCSOTHER");
    std::fs::write(&keys, without).unwrap();
    let config = Config::load(&gate.files.path());
    gate.gateway().reload(config).unwrap();
    assert_eq!(spoken.delete(gate.address(), &signed("MEMBER")).status, 401);
    assert_eq!(spoken.delete(gate.address(), &spent).status, 401, "a spent salt stays spent");
    assert_eq!(spoken.delete(gate.address(), &signed("OWNER")).status, 200);
}

#[test]
fn sigterm_finishes_what_is_in_flight_and_ends_with_0() {
    BOTH.into_iter().for_each(finishes_what_is_in_flight);
}

fn finishes_what_is_in_flight(spoken: Spoken) {
    let answers = Latch::default();
    let upstream = Upstream::start(deleting_after(&answers));
    let files = Files::new(upstream.address, "");
    let mut process = Process::serve(&files);
    let address = process.address();
    let mut in_flight = spoken.connect(address);
    in_flight.send(&Request::delete(&signed("OWNER")));
    until("it is in flight", || upstream.deletes() == 1);
    process.signal("-TERM");
    until("nothing more is accepted", || std::net::TcpStream::connect(address).is_err());
    answers.open();
    assert_eq!(in_flight.answer().unwrap().status, 200, "{spoken:?}");
    assert_eq!(process.child.wait().unwrap().code(), Some(0));
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn one_runtime_for_all_cores_serves_and_drains_as_one_per_core_does() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let mut gate = Gate::with(upstream.address, "[runtime]\nworkers = \"shared\"\n", Clock::system());
    let address = gate.address();
    let header = signed("OWNER");
    let threads: Vec<_> = (0..8)
        .map(|n| {
            let (header, spoken) = (header.clone(), BOTH[n % 2]);
            std::thread::spawn(move || [header, signed("MEMBER")].map(|header| spoken.delete(address, &header).status))
        })
        .collect();
    let statuses: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(statuses.iter().filter(|[once, _]| *once == 200).count(), 1, "the salts are the process's");
    assert!(statuses.iter().all(|[_, own]| *own == 200), "{statuses:?}");
    assert!(gate.drain());
}

#[test]
fn a_full_disk_is_503_before_anything_is_spent_and_recovers_by_itself() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "");
    // A limit on the size of files simulates a full disk: a write beyond it fails in the same way.
    let mut process = Process::limited_to(&files, 2048);
    let address = process.address();
    let mut answers = Vec::new();
    let refused = loop {
        let header = signed("OWNER");
        let answer = BOTH[answers.len() % 2].delete(address, &header);
        answers.push(answer.status);
        assert!(matches!(answer.status, 200 | 500 | 503), "{answer:?}");
        if answer.status == 503 {
            assert_eq!(answer.error_code(), "ServiceUnavailable");
            break header;
        }
        assert!(answers.len() < 50, "{answers:?}");
    };
    assert_eq!(get(process.admin(), "/ready").status, 503);
    let sent = answers.iter().filter(|status| **status == 200).count();
    assert_eq!(upstream.deletes(), sent, "what was not on record was not sent");
    process.lift_limit();
    until("it can be written again", || get(process.admin(), "/ready").status == 200);
    assert_eq!(Spoken::Http2.delete(address, &refused).status, 200, "it had spent nothing");
    process.signal("-TERM");
    process.child.wait().unwrap();
    let record = files.record();
    let count = |kind: &str| record.iter().filter(|line| line["kind"] == kind).count();
    assert_eq!((count("intent"), count("outcome")), (sent + 1, sent + 1), "no line is torn, none is lost");
}

#[test]
fn a_second_gateway_on_the_same_port_is_refused() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = Gate::before(&upstream);
    let files = Files::new(upstream.address, "");
    let config = std::fs::read_to_string(files.path()).unwrap();
    std::fs::write(files.path(), config.replacen("127.0.0.1:0", &gate.address().to_string(), 1)).unwrap();
    let second = told(&["serve", "--config", files.path().to_str().unwrap()], "");
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("is in use"), "{}", text(&second.stderr));
}

#[test]
fn bad_configurations_end_with_78_and_usage_with_2() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "");
    let path = files.path();
    let path = path.to_str().unwrap();
    let sound = told(&["check", "--config", path], "");
    assert_eq!(sound.status.code(), Some(0), "{}", text(&sound.stderr));
    assert!(text(&sound.stderr).contains("\"ADMIN\" is not a role"), "a warning for it");
    assert!(!text(&sound.stdout).contains(&secret("OWNER")));
    for (arguments, code) in [
        (vec!["check", "--config", "/"], 78),
        (vec!["serve", "--config", "/no/such/file"], 78),
        (vec!["serve"], 2),
        (vec!["nonsense"], 2),
        (vec!["sign", "--api-key", "K", "--secret-env", "NO_SUCH_VARIABLE"], 78),
    ] {
        assert_eq!(told(&arguments, "").status.code(), Some(code), "{arguments:?}");
    }
    let keys = files.dir.path().join("keys.toml");
    let alike = std::fs::read_to_string(&keys).unwrap().replace(&secret("MEMBER"), &secret("OWNER"));
    std::fs::write(&keys, alike).unwrap();
    let fault = told(&["check", "--config", path], "");
    assert_eq!(fault.status.code(), Some(78));
    assert!(text(&fault.stderr).contains("signs like") && !text(&fault.stderr).contains(&secret("OWNER")));
}

#[test]
fn explain_names_the_clause_and_never_a_secret_or_a_right_signature() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "");
    let path = files.path();
    let explain = |header: &str| {
        let output = told(&["explain", "--config", path.to_str().unwrap()], header);
        let said = text(&output.stdout);
        assert!(!said.contains(&secret("OWNER")) && !said.contains(&secret("MEMBER")), "{said}");
        said
    };
    let good = signed("OWNER");
    let right = good.rsplit('=').next().unwrap();
    assert!(explain(&good).contains("still good for use"));
    let other_key = explain(&good.replace("NCSOWNER", "NCSMEMBER"));
    assert!(other_key.contains("NCSOWNER") && !other_key.contains(right), "{other_key}");
    let now = saltgate::parts::Clock::system().now();
    let korean = crate::harness::signed_at("OWNER", now + std::time::Duration::from_secs(9 * 3600), &salt());
    let korean = explain(&korean);
    assert!(korean.contains("local time of +09:00 labelled as UTC"), "{korean}");
    let comma = "HMAC-SHA256 apiKey=NCSOWNER, date=2026-11-24T07:38:08,56+09:00, salt=0123456789ab, signature=00";
    let comma = explain(comma);
    assert!(comma.contains("a comma stands before the fraction: write a dot"), "{comma}");
    // The comma is byte 20, after 15 columns of labels and a quote.
    let mark = format!("\"2026-11-24T07:38:08,56+09:00\"\n{:>36} read up to byte 19\n", "^");
    assert!(comma.contains(&mark) && comma.contains("write 2026-11-24T07:38:08.56+09:00"), "{comma}");
    assert!(explain("Bearer x").contains("must be HMAC-SHA256"));
    assert!(explain(&good.replace("salt=", "salt=!")).contains("salt must be"));
}

#[test]
fn every_refusal_is_in_the_log_under_its_id_and_no_secret_salt_or_signature_anywhere() {
    let upstream = Upstream::start(service("account-1", "member-2"));
    let files = Files::new(upstream.address, "");
    let process = Process::serve(&files);
    let address = process.address();
    let header = signed("MEMBER");
    let [salt, signature] =
        ["salt=", "signature="].map(|name| header.split(name).nth(1).unwrap().split(',').next().unwrap());
    let refused = [
        (delete(address, &header), "not_creator"),
        (delete(address, &header), "salt_reused"),
        (delete(address, &header.replace("NCSMEMBER", "NCSOWNER")), "signature_mismatch"),
        (delete(address, "Bearer x"), "unsupported_scheme"),
    ];
    for (answer, reason) in &refused {
        let id = answer.field("x-request-id").unwrap();
        until(reason, || process.log().lines().any(|line| line.contains(id) && line.contains(reason)));
    }
    let record = || files.record_text();
    until("a request that spent its salt is recorded", || record().contains("not_creator"));
    let record = record();
    let everything = process.log() + &record;
    for hidden in [salt, signature, &secret("MEMBER"), &secret("OWNER")] {
        assert!(!everything.contains(hidden), "{hidden}");
    }
}

#[test]
fn a_log_without_successes_has_everything_else_and_a_reload_restores_them() {
    let fails = Arc::new(AtomicBool::new(false));
    let upstream = Upstream::start(but_delete({
        let fails = fails.clone();
        move |stream| {
            let status = if fails.load(Ordering::Relaxed) { "404 Not Found" } else { "204 No Content" };
            answer(stream, status, "", "");
        }
    }));
    let files = Files::new(upstream.address, "[runtime]\nworkers = 1\n[log]\nsuccesses = false\n");
    let process = Process::serve(&files);
    let deleted = |header: &str, status| {
        let answer = delete(process.address(), header);
        assert_eq!(answer.status, status);
        answer.field("x-request-id").unwrap().to_owned()
    };
    let header = signed("OWNER");
    let (done, refused) = (deleted(&header, 204), deleted(&header, 401));
    fails.store(true, Ordering::Relaxed);
    let failed = deleted(&signed("OWNER"), 404);
    // Lines of one worker keep their order: once the last of them is written, all are.
    for told in [&refused, &failed] {
        until("everything else is logged", || process.log().contains(told));
    }
    // The line of the repeat names the first request, which has no line of its own.
    assert!(!process.log().contains(&format!("\"request_id\":\"{done}\"")), "{}", process.log());
    assert!(files.record_text().contains(&done) && get(process.admin(), "/metrics").body.contains("reason=\"ok\"} 2"));

    files.configure(upstream.address, "");
    process.signal("-HUP");
    until("it is reloaded", || process.log().contains("\"reloaded\""));
    fails.store(false, Ordering::Relaxed);
    let told = deleted(&signed("OWNER"), 204);
    until("it is reported again", || process.log().contains(&told));
}

#[test]
fn debug_lines_have_the_request_id_and_no_secret() {
    BOTH.into_iter().for_each(is_followed_by_its_id);
}

fn is_followed_by_its_id(spoken: Spoken) {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "[log]\nlevel = \"debug\"\n");
    let process = Process::serve(&files);
    let header = signed("OWNER");
    let answer = spoken.delete(process.address(), &header);
    assert_eq!(answer.status, 200);
    let id = answer.field("x-request-id").unwrap();
    let of_the_request = || {
        let lines = process.log();
        let lines = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.filter(|line| line["request_id"] == id).collect::<Vec<_>>()
    };
    until("its end is in the log", || of_the_request().iter().any(|line| line["outcome"] == "forwarded"));
    let lines = of_the_request();
    let passed: Vec<_> = lines.iter().filter(|line| line["message"] == "passed").collect();
    let stages: Vec<_> = passed.iter().map(|line| line["stage"].as_str().unwrap()).collect();
    assert_eq!(stages, ["Admit", "Spend", "Authorize", "Record", "Send"], "{spoken:?}");
    assert!(passed.iter().all(|line| line["peer"] == "127.0.0.1"), "{passed:?}");
    let [salt, signature] =
        ["salt=", "signature="].map(|name| header.split(name).nth(1).unwrap().split(',').next().unwrap());
    for hidden in [salt, signature, &secret("OWNER")] {
        assert!(!process.log().contains(hidden), "{hidden}");
    }
}

#[test]
fn setting_the_clock_is_reported_and_changes_nothing_else() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let start = Clock::system().now();
    let (clock, hands) = Clock::manual(start);
    let gate = Gate::with(upstream.address, "", clock);
    let header = crate::harness::signed_at("OWNER", start, &salt());
    assert_eq!(gate.delete(&header).status, 200);
    hands.set_wall(start + std::time::Duration::from_secs(7200));
    let ready = || get(gate.admin(), "/ready");
    until("it is reported", || ready().body.contains("degraded: the wall clock is 7200 s"));
    assert_eq!(ready().status, 200);
    hands.set_wall(start);
    until("it is right again", || ready().body.contains(r#""clock":"ok""#));
    assert!(gate.metrics().contains("saltgate_clock_jumps_total 2"));
    assert_eq!(gate.delete(&header).status, 401, "no jump brings a spent salt back");
}

#[test]
fn live_ready_and_metrics_report_the_state() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let mut gate = Gate::before(&upstream);
    gate.delete(&signed("OWNER"));
    gate.delete(&signed("NOBODY"));
    assert_eq!(get(gate.admin(), "/live").status, 200);
    assert_eq!(get(gate.admin(), "/ready").status, 200);
    assert_eq!(get(gate.admin(), "/other").status, 404);
    for path in ["/live", "/ready", "/metrics", "/status"] {
        for method in ["POST", "PUT", "DELETE"] {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n");
            let answer = exchange(gate.admin(), &request);
            assert_eq!((answer.status, answer.field("allow")), (405, Some("GET, HEAD")), "{method} {path}");
        }
    }
    let metrics = gate.metrics();
    for line in [
        r#"saltgate_requests_total{outcome="forwarded",reason="ok"} 1"#,
        r#"saltgate_requests_total{outcome="refused",reason="unknown_key"} 1"#,
        "saltgate_replay_salts 1",
        "saltgate_replay_max_salts 1000000",
        "saltgate_config_last_reload_success 1",
        "saltgate_build_info",
        "saltgate_audit_sync_seconds_count",
        "saltgate_request_seconds_count 2",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    assert!(!metrics.contains("NCS"), "no metric is labelled by key");
    assert!(gate.drain());
}
