//! The servers: their processes, clocks, roles and replication.

use std::collections::VecDeque;
use std::time::Duration;

use redis::Value;
use tokio::time::Instant;

use super::Topology;
use super::machine::{Data, Effect, Machine, NOTHING, bulk, error};
use super::network::{State, port};
use crate::adversary::Dice;

/// How long after its last replica left a master names its history anew (an hour in Redis).
const BACKLOG: Duration = Duration::from_secs(60);
/// `min-replicas-max-lag`.
const MOST_LAG: Duration = Duration::from_secs(2);

pub(super) struct Server {
    pub(super) machine: Machine,
    pub(super) is_up: bool,
    /// Connections belong to one of these.
    pub(super) process: u64,
    pub(super) stopped_until: Option<Instant>,
    /// How far its clock is ahead, in milliseconds.
    pub(super) ahead: i64,
    pub(super) follows: Option<usize>,
    /// Whether it has all that its master had when it began to follow.
    is_in_step: bool,
    /// What its master sent it, and when it takes that.
    under_way: VecDeque<(Instant, Effect)>,
    /// How far it lags.
    pub(super) lag: Duration,
    /// Since when it has no replica, if its history has had one.
    alone_since: Option<Instant>,
    has_backlog: bool,
    pub(super) snapshot: Data,
    /// Until when it loads its data after a start.
    pub(super) loads_until: Option<Instant>,
    /// Whether it has no memory left; and whether it says so when it is asked for that.
    pub(super) is_full: Option<bool>,
    /// When its master has heard of it last.
    acknowledged: Instant,
}

/// A run id or the name of a history.
fn name(dice: &mut Dice) -> String {
    format!("{:016x}{:016x}00000001", dice.roll(u64::MAX), dice.roll(u64::MAX))
}

impl Server {
    pub(super) fn new(dice: &mut Dice, follows: Option<usize>) -> Self {
        Self {
            machine: Machine::new(name(dice), name(dice)),
            is_up: true,
            process: dice.roll(u64::MAX),
            stopped_until: None,
            ahead: dice.roll(100) as i64 - 50,
            follows,
            is_in_step: false,
            under_way: VecDeque::new(),
            lag: Duration::ZERO,
            alone_since: None,
            has_backlog: false,
            snapshot: Data::default(),
            loads_until: None,
            is_full: None,
            acknowledged: Instant::now(),
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.is_up && self.stopped_until.is_none_or(|until| until <= Instant::now())
    }

    fn is_loading(&self) -> bool {
        self.loads_until.is_some_and(|until| until > Instant::now())
    }

    /// Whether it runs and has loaded its data: before it takes no commands, and does not hear the others.
    pub(super) fn is_ready(&self) -> bool {
        self.is_running() && !self.is_loading()
    }

    pub(super) fn is_master(&self) -> bool {
        self.follows.is_none()
    }

    pub(super) fn holds(&self, key: &str) -> bool {
        self.machine.data.string(key).is_some()
    }

    /// Takes what has arrived from its master.
    fn catch_up(&mut self) {
        let now = Instant::now();
        while self.under_way.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, effect)) = self.under_way.pop_front() else { return };
            self.machine.data.apply(effect);
        }
    }

    fn has_history(&mut self, history: String, earlier: String) {
        (self.machine.history, self.machine.earlier) = (history, earlier);
    }
}

impl State {
    /// What a server answers to one command.
    pub(super) fn server_says(&mut self, to: usize, command: &[String]) -> Value {
        let answer = self.refuses(to, command).unwrap_or_else(|| self.runs(to, command));
        if let (Value::ServerError(error), Some("2")) = (&answer, command.get(2).map(String::as_str)) {
            *self.tally.claims_refused.entry(error.code().to_owned()).or_default() += 1;
        }
        answer
    }

    /// What a server says to a command that it does not even try to run.
    fn refuses(&mut self, to: usize, command: &[String]) -> Option<Value> {
        if self.settings.topology == Topology::Cluster {
            let answer = self.cluster_says(to, command);
            if answer.is_some() {
                return answer;
            }
        }
        let runs_always = ["INFO", "TIME"].contains(&command[0].as_str());
        let is_loading = self.nodes[to].is_loading() && !runs_always;
        is_loading.then(|| error("LOADING Redis is loading the dataset in memory"))
    }

    fn runs(&mut self, to: usize, command: &[String]) -> Value {
        let has_replicas = !self.needs_replicas || self.has_good_replica(to);
        let truth = self.truth() as i64;
        let off = self.settings.off;
        let server = &mut self.nodes[to];
        server.catch_up();
        server.machine.time = truth + server.ahead;
        server.machine.refuses = match server.is_master() {
            false => Some("READONLY You can't write against a read only replica."),
            true if !has_replicas => Some("NOREPLICAS Not enough good replicas to write."),
            true => None,
        };
        server.machine.is_full = server.is_full.is_some() && server.is_master();
        let answer = server.machine.runs(command, &self.scripts, off);
        let answer = answer.unwrap_or_else(|| self.info(to, command));
        self.replicate(to);
        answer
    }

    /// One of the masters.
    pub(super) fn some_master(&mut self) -> usize {
        let masters: Vec<usize> = (0..self.nodes.len()).filter(|number| self.nodes[*number].is_master()).collect();
        if masters.is_empty() { 0 } else { self.dice.pick(&masters) }
    }

    fn info(&self, to: usize, command: &[String]) -> Value {
        let machine = &self.nodes[to].machine;
        let mode = if self.settings.topology == Topology::Cluster { "cluster" } else { "standalone" };
        match command.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["INFO", "server"] => {
                bulk(format!("redis_version:7.0.15\r\nredis_mode:{mode}\r\nrun_id:{}\r\n", machine.run))
            }
            ["INFO", "memory"] => {
                let used = if self.nodes[to].is_full == Some(true) { 1000 } else { 900 };
                bulk(format!("used_memory:{used}\r\nmaxmemory:1000\r\nmaxmemory_policy:noeviction\r\n"))
            }
            ["INFO", "replication"] => {
                let role = match self.nodes[to].follows {
                    None => "role:master".into(),
                    Some(master) => format!("role:slave\r\nmaster_host:server\r\nmaster_port:{}", port(master)),
                };
                let good = u8::from(self.has_good_replica(to));
                let good =
                    if self.needs_replicas { format!("min_slaves_good_slaves:{good}\r\n") } else { String::new() };
                bulk(format!("{role}\r\nmaster_replid:{}\r\n{good}", machine.history))
            }
            _ => error(&format!("ERR unknown command {command:?}")),
        }
    }

    /// Whether a replica has been heard of lately (`min-replicas-max-lag`).
    fn has_good_replica(&self, master: usize) -> bool {
        let is_good = |server: &Server| {
            server.follows == Some(master) && server.is_in_step && server.acknowledged.elapsed() < MOST_LAG
        };
        self.nodes.iter().any(is_good)
    }

    /// Sends the changes of a master to those replicas that are in step.
    pub(super) fn replicate(&mut self, from: usize) {
        let effects = std::mem::take(&mut self.nodes[from].machine.effects);
        if effects.is_empty() || !self.nodes[from].is_master() {
            return;
        }
        for to in 0..self.nodes.len() {
            if self.nodes[to].follows != Some(from) || !self.nodes[to].is_in_step {
                continue;
            }
            let (reaches, late) = (self.reaches(from, to), Duration::from_millis(self.dice.roll(3)));
            let replica = &mut self.nodes[to];
            if !reaches || !replica.is_up {
                replica.is_in_step = false;
                continue;
            }
            let at = Instant::now() + replica.lag + late;
            let at = replica.under_way.back().map_or(at, |(last, _)| at.max(*last));
            replica.under_way.extend(effects.iter().map(|effect| (at, effect.clone())));
        }
    }

    pub(super) fn tick(&mut self) {
        let truth = self.truth() as i64;
        for number in 0..self.nodes.len() {
            let server = &mut self.nodes[number];
            if !server.is_running() {
                continue;
            }
            server.catch_up();
            server.machine.time = truth + server.ahead;
            if server.is_master() && self.dice.one_in(10) {
                self.nodes[number].machine.expire();
                self.replicate(number);
            }
            if self.dice.one_in(600) {
                self.nodes[number].snapshot = self.nodes[number].machine.data.clone();
            }
            match self.nodes[number].follows {
                Some(master) => self.follow(number, master),
                None => self.names_its_history(number),
            }
        }
        match self.settings.topology {
            Topology::Alone => {}
            Topology::Sentinels => self.sentinels_look(),
            Topology::Cluster => self.cluster_looks(),
        }
    }

    /// Begins to follow its master, with all data that it has.
    fn follow(&mut self, replica: usize, master: usize) {
        let is_there = self.nodes[master].is_ready() && self.nodes[master].is_master() && self.reaches(replica, master);
        if is_there && self.nodes[replica].is_ready() {
            self.nodes[replica].acknowledged = Instant::now();
        }
        if self.nodes[replica].is_in_step || !is_there || !self.nodes[replica].is_ready() || !self.dice.one_in(5) {
            return;
        }
        if !self.nodes[master].has_backlog {
            // The first replica: the master names its history anew.
            let history = name(&mut self.dice);
            self.nodes[master].has_history(history, NOTHING.into());
            self.nodes[master].has_backlog = true;
        }
        let of = &self.nodes[master].machine;
        let (data, history, earlier) = (of.data.clone(), of.history.clone(), of.earlier.clone());
        let server = &mut self.nodes[replica];
        server.under_way.clear();
        server.machine.data = data;
        server.has_history(history, earlier);
        (server.is_in_step, server.has_backlog) = (true, true);
    }

    /// A master that has had no replica for long names its history anew.
    fn names_its_history(&mut self, master: usize) {
        let is_alone = self.nodes.iter().all(|server| server.follows != Some(master) || !server.is_in_step);
        let now = Instant::now();
        let server = &mut self.nodes[master];
        if !is_alone || !server.has_backlog {
            server.alone_since = None;
        } else if now - *server.alone_since.get_or_insert(now) > BACKLOG {
            (server.has_backlog, server.alone_since) = (false, None);
            let history = name(&mut self.dice);
            self.nodes[master].has_history(history, NOTHING.into());
        }
    }

    /// Makes a server a replica of another.
    pub(super) fn demote(&mut self, number: usize, master: usize) {
        let server = &mut self.nodes[number];
        if server.follows == Some(master) {
            return;
        }
        server.follows = Some(master);
        server.is_in_step = false;
        server.under_way.clear();
        // Sentinels close the connections of clients; a cluster does not, and a Sentinel may fail to.
        if self.dice.one_in(2) {
            self.nodes[number].process = self.dice.roll(u64::MAX);
        }
        self.tell(format!("server {number} follows server {master}"));
    }

    /// Makes a replica the master. What has not arrived is lost. An old master, which nobody has made a replica yet, stays
    /// what it is.
    pub(super) fn promote(&mut self, number: usize, instead_of: usize) {
        self.tally.failovers += 1;
        if self.nodes[number].is_master() {
            return self.tell(format!("server {number} is the master again, instead of {instead_of}"));
        }
        let history = name(&mut self.dice);
        let server = &mut self.nodes[number];
        server.catch_up();
        let lost = server.under_way.len();
        server.under_way.clear();
        let earlier = server.machine.history.clone();
        server.has_history(history, earlier);
        server.follows = None;
        server.has_backlog = true;
        self.tally.lost_writes += lost as u64;
        self.tell(format!("server {number} is promoted instead of {instead_of}, without the last {lost} writes"));
    }

    /// Starts a process anew, with these data.
    pub(super) fn start(&mut self, number: usize, data: Data) {
        let (run, history) = (name(&mut self.dice), name(&mut self.dice));
        let (process, loads) = (self.dice.roll(u64::MAX), self.dice.pick(&[5, 500, 5000]));
        let loads = Duration::from_millis(self.dice.roll(loads));
        let server = &mut self.nodes[number];
        server.loads_until = Some(Instant::now() + loads);
        server.machine.restart(run, data);
        let earlier = server.machine.history.clone();
        server.has_history(history, earlier);
        (server.is_up, server.process, server.stopped_until) = (true, process, None);
        (server.is_in_step, server.has_backlog, server.alone_since) = (false, false, None);
        server.under_way.clear();
    }
}
