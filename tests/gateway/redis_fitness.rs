//! Servers at `replay.redis.url` that cannot be a store of spent salts are refused by name.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use saltgate::parts::Clock;
use saltgate::parts::Config;
use saltgate::parts::Gateway;

use crate::harness::{Files, Upstream, service, signed, until};
use crate::http::get;
use crate::operations::{text, told};
use crate::redis::{ACCEPT, Redis, free_port, gate, refused_to_start, settings};

/// Checks that a start and `check --live` refuse it with these words.
fn is_refused(upstream: &Upstream, port: u16, words: &[&str]) {
    let settings = settings(&format!("redis://127.0.0.1:{port}"), ACCEPT);
    let start = refused_to_start(upstream, &settings);
    let files = Files::new(upstream.address, &settings);
    let check = told(&["check", "--live", "--config", files.path().to_str().unwrap()], "");
    assert_eq!(check.status.code(), Some(1));
    let check = text(&check.stderr);
    for word in words {
        assert!(start.contains(word), "start: {word}: {start}");
        assert!(check.contains(word), "check: {word}: {check}");
    }
}

/// A server that answers INFO with this text, and everything else with OK.
fn pretend(info: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            std::thread::spawn(move || answer(stream, info));
        }
    });
    port
}

fn answer(mut stream: TcpStream, info: &str) {
    let mut bytes = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut bytes) {
        let asked = String::from_utf8_lossy(&bytes[..read]).into_owned();
        let words: Vec<&str> = asked.split("\r\n").filter(|word| !word.starts_with(['*', '$'])).collect();
        let mut answers = String::new();
        let mut words = words.into_iter().peekable();
        while let Some(word) = words.next() {
            match word.to_ascii_uppercase().as_str() {
                "INFO" => {
                    words.next();
                    answers += &format!("${}\r\n{info}\r\n", info.len());
                }
                "PING" => match words.next() {
                    Some(echo) => answers += &format!("${}\r\n{echo}\r\n", echo.len()),
                    None => answers += "+PONG\r\n",
                },
                "" => {}
                _ => answers += "+OK\r\n",
            }
        }
        if stream.write_all(answers.as_bytes()).is_err() {
            return;
        }
    }
}

#[test]
fn an_old_redis_is_refused_with_its_version() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let info = "redis_version:6.2.14\r\nredis_mode:standalone\r\nrun_id:0123456789abcdef0123456789abcdef01234567\r\nused_memory:1\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\nrole:master\r\nmaster_replid:0123456789abcdef0123456789abcdef01234567\r\n";
    is_refused(&upstream, pretend(info), &["Redis 6.2.14", "expected 7"]);
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_sentinel_and_a_replica_are_refused_by_name() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let master = Redis::start(&[]);
    let replica = Redis::start(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    is_refused(&upstream, replica.port, &["is a replica of 127.0.0.1", &master.port.to_string(), "name the master"]);

    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let config = dir.path().join("sentinel.conf");
    let watches = format!("bind 127.0.0.1\nport {port}\nsentinel monitor mymaster 127.0.0.1 {} 1\n", master.port);
    std::fs::write(&config, watches).unwrap();
    let mut sentinel = Command::new("redis-server");
    sentinel.arg(&config).arg("--sentinel").current_dir(&dir).stdout(Stdio::null()).stderr(Stdio::null());
    let _sentinel = Ended(sentinel.spawn().unwrap());
    until("the Sentinel answers", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    is_refused(&upstream, port, &["is a Sentinel", "name the master"]);
    // Whichever way it is named.
    let told = refused_to_start(&upstream, &settings(&format!("redis://127.0.0.1:{port}"), "cluster = true\n"));
    assert!(told.contains("is a Sentinel"), "{told}");
}

/// A port where nothing answers until it is told to forward.
fn silent(port: u16) -> (u16, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap().port();
    let speaks = Arc::new(AtomicBool::new(false));
    let told = speaks.clone();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(mut client) = client else { return };
            if !told.load(Ordering::SeqCst) {
                continue;
            }
            let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
            let (mut back, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut client, &mut server));
            std::thread::spawn(move || std::io::copy(&mut back, &mut to));
        }
    });
    (here, speaks)
}

#[test]
fn a_gateway_is_not_ready_until_a_redis_that_takes_salts_has_answered_once() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    // A server that answers but accepts no writes: a master that requires a replica.
    let redis = Redis::start(&["--min-replicas-to-write", "1"]);
    let (port, speaks) = silent(redis.port);
    let gate = gate(&upstream, &settings(&format!("redis://127.0.0.1:{port}"), ACCEPT));
    let ready = || get(gate.admin(), "/ready");
    assert_eq!(ready().status, 503, "{}", ready().body);
    assert!(ready().body.contains("no Redis that takes salts has answered yet"), "{}", ready().body);
    speaks.store(true, Ordering::SeqCst);
    until("it says what is wrong", || ready().body.contains("NOREPLICAS"));
    assert_eq!(ready().status, 503);
    redis.cli(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    until("it is ready", || ready().status == 200);
    assert_eq!(gate.delete(&signed("OWNER")).status, 200);
    // From here on other gateways may have the same problem, so an unreachable store is degraded.
    redis.cli(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    until("it is noticed before a claim meets it", || ready().body.contains("degraded"));
    assert_eq!((ready().status, gate.delete(&signed("OWNER")).status), (200, 503));
}

#[test]
fn a_start_without_redis_waits_and_logs_it() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let settings = settings(&format!("redis://127.0.0.1:{}", free_port()), ACCEPT);
    let files = Files::new(upstream.address, &settings);
    let gateway = Gateway::start(Config::load(&files.path()).unwrap(), Clock::system()).unwrap();
    assert_eq!(get(gateway.admin_address().unwrap(), "/ready").status, 503);
    gateway.drain();
    let check = told(&["check", "--live", "--config", files.path().to_str().unwrap()], "");
    assert!(text(&check.stderr).contains("failed: redis 127.0.0.1"), "{}", text(&check.stderr));
}

/// Somebody makes the only master a replica, without Sentinels. A claim that reaches it then was not run.
#[test]
fn a_claim_that_a_demoted_master_refuses_spends_nothing_and_passes_if_the_master_is_back_in_time() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let redis = Redis::start(&[]);
    // Otherwise its salts would be fenced when it is a master again.
    let accept = "on_failover = \"danger_accept\"\n";
    let gates = ["1s", "60s"]
        .map(|timeout| gate(&upstream, &redis.settings(&format!("{ACCEPT}{accept}timeout = \"{timeout}\"\n"))));
    let in_use = || until("it is in use", || gates.iter().all(|gate| gate.delete(&signed("OWNER")).status == 200));
    let refused = || {
        let told = redis.cli(&["INFO", "errorstats"]);
        told.lines().find_map(|line| line.strip_prefix("errorstat_READONLY:").map(str::to_owned)).unwrap_or_default()
    };
    let (demote, promote) = (["REPLICAOF", "127.0.0.1", "1"], ["REPLICAOF", "NO", "ONE"]);
    in_use();

    // The gateway may notice before a claim meets it; then it is 503, and the next time decides.
    let mut header = String::new();
    until("a claim meets it", || {
        let before = refused();
        header = signed("OWNER");
        redis.cli(&demote);
        let answer = gates[0].delete(&header);
        let met = refused() != before;
        assert!(answer.status == 503 || met && answer.status == 500, "{} {}", answer.status, answer.body);
        assert!(answer.status == 503 || answer.body.contains("nothing was deleted"), "{}", answer.body);
        redis.cli(&promote);
        in_use();
        answer.status == 500
    });
    let deletes = upstream.deletes();
    assert_eq!([0, 0].map(|_| gates[0].delete(&header).status), [200, 401], "it was not spent");
    assert_eq!(upstream.deletes(), deletes + 1);

    // The other one waits as long as its timeout says.
    until("a claim that met it passes", || {
        let before = refused();
        let (header, address) = (signed("OWNER"), gates[1].address());
        redis.cli(&demote);
        let sent = std::thread::spawn(move || crate::http::delete(address, &header).status);
        until("it was refused", || sent.is_finished() || refused() != before);
        let met = refused() != before;
        redis.cli(&promote);
        let status = sent.join().unwrap();
        assert!(status == 503 || met && status == 200, "{status}");
        in_use();
        status == 200
    });
}
