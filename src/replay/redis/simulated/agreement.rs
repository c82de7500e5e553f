//! The scripts as they are written here, against the scripts in a real Redis: the same commands, chosen at random, on both.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use redis::{Client, ConnectionLike, Value};

use super::machine::{Machine, Scripts};
use crate::adversary::{Dice, rounds_and_seed};

/// A server, killed with the test.
struct Real {
    child: Child,
    connection: redis::Connection,
}

impl Drop for Real {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Real {
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("redis-server");
        command.args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--enable-debug-command",
            "yes",
        ]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let connection = Client::open(format!("redis://127.0.0.1:{port}")).unwrap().get_connection().unwrap();
        Self { child, connection }
    }

    fn ask(&mut self, words: &[String]) -> Result<Value, String> {
        let mut command = redis::Cmd::new();
        command.arg(words);
        let answer = self.connection.req_command(&command).and_then(Value::extract_error);
        answer.map_err(|error| error.code().unwrap_or("none").to_owned())
    }

    fn told(&mut self, words: &[&str]) -> String {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let Ok(Value::BulkString(bytes)) = self.ask(&words) else { panic!("{words:?}") };
        String::from_utf8(bytes).unwrap()
    }

    /// Gives the simulated server the names and the time of this one.
    fn names(&mut self, machine: &mut Machine) {
        let info = self.told(&["INFO", "server"]) + &self.told(&["INFO", "replication"]);
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
        machine.run = field("run_id:");
        machine.history = field("master_replid:");
        machine.earlier = field("master_replid2:");
        let is_replica = info.contains("role:slave");
        machine.refuses = match is_replica {
            true => Some("READONLY"),
            false => info.contains("min_slaves_good_slaves:0").then_some("NOREPLICAS"),
        };
        // A replica takes whatever its master sends.
        machine.is_full = !is_replica && self.told(&["INFO", "memory"]).contains("maxmemory:1\r");
        let Ok(Value::Array(time)) = self.ask(&["TIME".into()]) else { panic!("no time") };
        let [seconds, micros] = [0, 1].map(|n| redis::from_redis_value_ref::<i64>(&time[n]).unwrap());
        machine.time = seconds * 1000 + micros / 1000;
    }
}

/// Texts that begin with a number of milliseconds are the same if these are close.
fn is_same(real: &Value, simulated: &Value) -> bool {
    let text = |value: &Value| redis::from_redis_value_ref::<String>(value).unwrap_or_default();
    match (real, simulated) {
        (Value::Array(real), Value::Array(simulated)) => {
            real.len() == simulated.len()
                && real.iter().zip(simulated).all(|(real, simulated)| is_same(real, simulated))
        }
        _ if real == simulated => true,
        _ => {
            let (real, simulated) = (text(real), text(simulated));
            let [Some(real), Some(simulated)] = [real.split_once(' '), simulated.split_once(' ')] else { return false };
            let [Ok(near), Ok(far)] = [real.0.parse::<i64>(), simulated.0.parse::<i64>()] else { return false };
            real.1 == simulated.1 && (near - far).abs() < 5000
        }
    }
}

/// Where several gateways are told of, Redis has an order of its own.
fn sorted(value: Value) -> Value {
    match value {
        Value::Array(mut values) if values.len() > 3 => {
            values[2..]
                .sort_by_key(|value| redis::from_redis_value_ref::<String>(value).unwrap_or_default().split_off(2));
            Value::Array(values)
        }
        other => other,
    }
}

fn command(dice: &mut Dice, scripts: &Scripts, now: i64) -> Vec<String> {
    let digits = |number: u64| format!("{number:020}");
    let epoch = match dice.roll(12) {
        0 => String::new(),
        epoch @ 1..3 => digits(epoch),
        _ => digits(3),
    };
    let (past, future) = (if dice.one_in(20) { "7" } else { "1000" }, "2000");
    let (date, floor) = (digits(dice.roll(6)), digits(dice.roll(6)));
    // Far from the limit: time passes between both.
    let clock = (now - dice.pick(&[0, 0, 0, 3_600_000, -3_600_000])).to_string();
    let salt = format!("salt{}", dice.roll(4));
    let number = dice.roll(100).to_string();
    let words: Vec<String> = match dice.roll(20) {
        0..12 => {
            let claim =
                ["EVALSHA", scripts.claim.get_hash(), "2", &salt, "marker", &date, "900000", past, future, &clock];
            let mark = dice.pick(&["", "abcd"]);
            claim.iter().chain(&["600000", &number, mark, &epoch]).map(|word| (*word).into()).collect()
        }
        12..15 => {
            let force = dice.pick(&["0", "0", "0", "1"]);
            let other = digits(dice.roll(6));
            let attest = ["EVALSHA", scripts.attest.get_hash(), "1", "marker", past, future, &floor, &other, force];
            attest.iter().chain(&[number.as_str(), &epoch, &clock, "600000"]).map(|word| (*word).into()).collect()
        }
        15..17 => {
            let (version, gateway) = (dice.roll(5).to_string(), dice.roll(3).to_string());
            let fleet = ["EVALSHA", scripts.fleet.get_hash(), "1", "fleet"];
            let rest = match dice.roll(3) {
                0 => vec!["read", &number, &gateway, "a name", "3", &version, "a state"],
                1 => vec!["replace", &number, &version, "another state"],
                _ => vec!["members", &number],
            };
            fleet.into_iter().chain(rest).map(Into::into).collect()
        }
        17 => {
            let run = dice.pick(&["aa", "zz", ""]);
            let markers = ["1", "2"].map(|version| format!("{version} {run} bb {floor} 1000 2000"));
            let text = dice.pick(&[0, 1]);
            let end = dice.pick(&["", " ", " 00000000000000000002", " 5 ", "x"]);
            vec!["SET".into(), "marker".into(), format!("{}{end}", markers[text]), "PX".into(), "900000".into()]
        }
        _ => vec!["GET".into(), dice.pick(&["marker", "salt1", "salt2"]).into()],
    };
    words
}

#[test]
fn the_simulated_scripts_do_what_the_real_ones_do() {
    let (rounds, seed) = rounds_and_seed(5000);
    let (mut dice, mut real, scripts) = (Dice(seed), Real::start(), Scripts::new());
    let mut machine = Machine::new(String::new(), String::new());
    let mut words = std::collections::BTreeSet::new();
    for text in [include_str!("../claim.lua"), include_str!("../attest.lua"), include_str!("../fleet.lua")] {
        let load = ["SCRIPT", "LOAD", text].map(str::to_owned);
        assert_eq!(real.ask(&load).ok(), machine.runs(&load, &scripts, None));
    }
    for round in 0..rounds {
        let change: Option<&[&str]> = match dice.roll(60) {
            0 => Some(&["DEBUG", "CHANGE-REPL-ID"]),
            1 => Some(&["REPLICAOF", "127.0.0.1", "1"]),
            2..6 => Some(&["REPLICAOF", "NO", "ONE"]),
            6 => {
                machine.data = super::machine::Data::default();
                Some(&["FLUSHALL"])
            }
            7 => Some(&["CONFIG", "SET", "maxmemory", "1"]),
            8..11 => Some(&["CONFIG", "SET", "maxmemory", "0"]),
            11 => Some(&["CONFIG", "SET", "min-replicas-to-write", "1"]),
            12..15 => Some(&["CONFIG", "SET", "min-replicas-to-write", "0"]),
            _ => None,
        };
        if let Some(change) = change {
            // A replica cannot be flushed, and neither can a master that needs one.
            real.ask(&["REPLICAOF", "NO", "ONE"].map(str::to_owned)).unwrap();
            if change == ["FLUSHALL"] {
                real.ask(&["CONFIG", "SET", "min-replicas-to-write", "0"].map(str::to_owned)).unwrap();
            }
            real.ask(&change.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).unwrap();
        }
        real.names(&mut machine);
        let command = command(&mut dice, &scripts, machine.time);
        let answer = real.ask(&command);
        let simulated = machine.runs(&command, &scripts, None).unwrap().extract_error();
        let simulated = simulated.map_err(|error| error.code().unwrap_or("none").to_owned());
        let told = format!("round {round}: {command:?}: {answer:?} and {simulated:?}");
        match (answer, simulated) {
            (Ok(real), Ok(simulated)) => assert!(is_same(&sorted(real.clone()), &sorted(simulated)), "{told}"),
            (real, simulated) => assert!(real.is_err() && real == simulated, "{told}"),
        }
        let word = told.split(['"', ' ', '\'', '(', ')']).find(|word| WORDS.contains(word));
        words.extend(word.map(str::to_owned));
    }
    assert_eq!(words.len(), WORDS.len(), "every answer occurs: {words:?}");
}

/// The answers of the scripts.
const WORDS: [&str; 13] = [
    "SPENT",
    "REUSED",
    "FLOOR",
    "FORGOT",
    "CLOCK",
    "VERSION",
    "WINDOW",
    "LATER",
    "OK",
    "RAISED",
    "READONLY",
    "NOREPLICAS",
    "OOM",
];
