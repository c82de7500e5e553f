//! The Sentinels: each has a view of its own, and a majority elects a new master.

use std::time::Duration;

use redis::Value;
use tokio::time::Instant;

use super::machine::{bulk, error};
use super::network::{State, port};

/// `down-after-milliseconds`.
const DOWN_AFTER: Duration = Duration::from_secs(1);
/// The shortest time between two failovers of one leader (`failover-timeout`).
const PAUSE: Duration = Duration::from_secs(4);

pub(super) struct Sentinel {
    master: usize,
    /// The epoch of the failover that made it the master.
    epoch: u64,
    /// The highest epoch that it has voted in.
    voted: u64,
    /// When the master was there last.
    seen: Instant,
    tried: Instant,
}

impl Sentinel {
    pub(super) fn new(now: Instant) -> Self {
        Self { master: 0, epoch: 0, voted: 0, seen: now, tried: now }
    }
}

impl State {
    /// The number of a Sentinel in the network.
    fn node_of(&self, sentinel: usize) -> usize {
        self.nodes.len() + sentinel
    }

    pub(super) fn sentinel_says(&self, number: usize, command: &[String]) -> Value {
        let Sentinel { master, epoch, .. } = &self.watchers[number];
        let fields = |pairs: &[(&str, String)]| {
            Value::Array(pairs.iter().flat_map(|(name, value)| [bulk(*name), bulk(value.as_str())]).collect())
        };
        match command.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["PING", number] => bulk(number),
            ["SENTINEL", "MASTER", _] => fields(&[
                ("name", "m".into()),
                ("config-epoch", epoch.to_string()),
                ("num-other-sentinels", (self.watchers.len() - 1).to_string()),
            ]),
            ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", _] => {
                Value::Array(vec![bulk("server"), bulk(port(*master).to_string())])
            }
            ["SENTINEL", "MYID"] => bulk(format!("{number:040x}")),
            _ => error("ERR unknown command"),
        }
    }

    pub(super) fn sentinels_look(&mut self) {
        let now = Instant::now();
        for number in 0..self.watchers.len() {
            let (node, master) = (self.node_of(number), self.watchers[number].master);
            if self.nodes[master].is_running() && self.nodes[master].is_master() && self.reaches(node, master) {
                self.watchers[number].seen = now;
            }
            self.learn(number);
            self.put_right(number);
        }
        let leader = self.dice.below(self.watchers.len());
        self.fail_over(leader, false);
    }

    fn is_down(&self, sentinel: usize) -> bool {
        self.watchers[sentinel].seen.elapsed() > DOWN_AFTER
    }

    /// Hears of a later failover.
    fn learn(&mut self, number: usize) {
        for other in 0..self.watchers.len() {
            let (master, epoch) = (self.watchers[other].master, self.watchers[other].epoch);
            let reaches = self.reaches(self.node_of(number), self.node_of(other));
            if reaches && epoch > self.watchers[number].epoch && self.dice.one_in(20) {
                let sentinel = &mut self.watchers[number];
                (sentinel.master, sentinel.epoch, sentinel.seen) = (master, epoch, Instant::now());
            }
        }
    }

    /// Makes other masters replicas, some seconds after it has seen them, if it knows the last failover.
    fn put_right(&mut self, number: usize) {
        let last = self.watchers.iter().map(|sentinel| sentinel.epoch).max();
        if Some(self.watchers[number].epoch) != last {
            return;
        }
        let (node, master) = (self.node_of(number), self.watchers[number].master);
        for server in 0..self.nodes.len() {
            let is_there = self.nodes[server].is_ready() && self.reaches(node, server);
            if server != master && is_there && self.nodes[server].follows != Some(master) && self.dice.one_in(400) {
                self.demote(server, master);
            }
        }
    }

    /// Elects a new master if this one is down, or if it is `planned`. Returns whether it did.
    pub(super) fn fail_over(&mut self, leader: usize, planned: bool) -> bool {
        let (node, master) = (self.node_of(leader), self.watchers[leader].master);
        if !planned && (!self.is_down(leader) || self.watchers[leader].tried.elapsed() < PAUSE) {
            return false;
        }
        let voters: Vec<usize> =
            (0..self.watchers.len()).filter(|other| self.reaches(node, self.node_of(*other))).collect();
        let agree = voters.iter().filter(|voter| self.watchers[**voter].master == master && self.is_down(**voter));
        if voters.len() <= self.watchers.len() / 2 || !planned && agree.count() < 2 {
            return false;
        }
        // It has heard of a later failover from none of them, or it is not elected.
        if voters.iter().any(|voter| self.watchers[*voter].epoch > self.watchers[leader].epoch) {
            return false;
        }
        let is_candidate = |server: &usize| {
            let candidate = &self.nodes[*server];
            *server != master && candidate.is_ready() && self.reaches(node, *server)
        };
        let candidates: Vec<usize> = (0..self.nodes.len()).filter(is_candidate).collect();
        if candidates.is_empty() {
            return false;
        }
        let chosen = self.dice.pick(&candidates);
        let epoch = 1 + voters.iter().map(|voter| self.watchers[*voter].voted).max().unwrap_or_default();
        for voter in voters {
            self.watchers[voter].voted = epoch;
        }
        let sentinel = &mut self.watchers[leader];
        (sentinel.master, sentinel.epoch) = (chosen, epoch);
        (sentinel.seen, sentinel.tried) = (Instant::now(), Instant::now());
        self.promote(chosen, master);
        true
    }
}
