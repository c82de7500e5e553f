//! A cluster: masters with a replica each, which hear each other and elect successors.

use std::time::Duration;

use redis::Value;
use tokio::time::Instant;

use super::machine::{bulk, error};
use super::network::{State, port};
use crate::adversary::Dice;
use crate::replay::redis::slots;

/// The slots of the whole cluster.
pub(super) const SLOTS: u16 = 16;
/// `cluster-node-timeout`.
const NODE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a master that was started anew takes no commands.
const REJOINS: Duration = Duration::from_secs(2);

/// Which server is the master of each part of the slots, by the word of one server.
type View = Vec<(usize, u64)>;

pub(super) struct Cluster {
    views: Vec<View>,
    /// When each server has heard each other.
    heard: Vec<Vec<Instant>>,
    /// How much later than the timeout each notices that another is gone: at most half of it.
    late: Vec<Vec<Duration>>,
    /// Until when each takes no commands after its start.
    joins: Vec<Instant>,
    voted: Vec<u64>,
}

impl Cluster {
    pub(super) fn new(masters: usize, servers: usize, now: Instant, dice: &mut Dice) -> Self {
        let view: View = (0..masters).map(|master| (master, master as u64)).collect();
        let half = u64::try_from(NODE_TIMEOUT.as_millis() / 2).unwrap();
        let mut late = || (0..servers).map(|_| Duration::from_millis(dice.roll(half))).collect();
        Self {
            views: vec![view; servers],
            heard: vec![vec![now; servers]; servers],
            late: (0..servers).map(|_| late()).collect(),
            joins: vec![now; servers],
            voted: vec![masters as u64; servers],
        }
    }

    fn shards(&self) -> usize {
        self.views[0].len()
    }

    /// The part that holds the slot of a key.
    fn shard(&self, key: &str) -> usize {
        let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or(key, |(tag, _)| tag);
        usize::from(slots::slot(tag.as_bytes()) % SLOTS) * self.shards() / usize::from(SLOTS)
    }

    /// Whether one server takes another for gone.
    fn misses(&self, server: usize, other: usize) -> bool {
        server != other && self.heard[server][other].elapsed() > NODE_TIMEOUT + self.late[server][other]
    }

    /// Whether a server takes no commands, because it does not hear a majority of the masters.
    fn is_down(&self, server: usize) -> bool {
        let view = &self.views[server];
        let heard = view.iter().filter(|(master, _)| !self.misses(server, *master)).count();
        heard <= view.len() / 2 || self.joins[server] > Instant::now()
    }

    /// A process was started anew: it has heard nobody yet.
    pub(super) fn joins(&mut self, server: usize) {
        let long_ago = Instant::now().checked_sub(4 * NODE_TIMEOUT).unwrap_or_else(Instant::now);
        self.heard[server].fill(long_ago);
        self.joins[server] = Instant::now() + REJOINS;
    }
}

impl State {
    /// What the cluster has to say to a command before the server runs it.
    pub(super) fn cluster_says(&mut self, to: usize, command: &[String]) -> Option<Value> {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let key = match words[..] {
            ["CLUSTER", "INFO"] => {
                let state = if self.cluster.is_down(to) { "fail" } else { "ok" };
                let known = self.cluster.views[to].iter().map(|(_, epoch)| *epoch).max();
                let epoch = self.cluster.voted[to].max(known.unwrap_or_default());
                return Some(bulk(format!("cluster_state:{state}\r\ncluster_current_epoch:{epoch}\r\n")));
            }
            ["CLUSTER", "SLOTS"] => return Some(self.slots(to)),
            ["EVALSHA", _, _, key, ..] | ["GET" | "SET", key, ..] => key,
            _ => return None,
        };
        if self.cluster.is_down(to) {
            return Some(error("CLUSTERDOWN The cluster is down"));
        }
        let (master, _) = self.cluster.views[to][self.cluster.shard(key)];
        (master != to || !self.nodes[to].is_master()).then(|| error(&format!("MOVED 1 server:{}", port(master))))
    }

    fn slots(&self, to: usize) -> Value {
        let shard = |slot: u16| usize::from(slot) * self.cluster.shards() / usize::from(SLOTS);
        let range = |(number, (master, _)): (usize, &(usize, u64))| {
            let mine = || (0..SLOTS).filter(|slot| shard(*slot) == number).map(i64::from);
            let server = vec![bulk("server"), Value::Int(port(*master).into()), bulk(format!("{master:040x}"))];
            let ends = (mine().min().unwrap_or_default(), mine().max().unwrap_or_default());
            Value::Array(vec![Value::Int(ends.0), Value::Int(ends.1), Value::Array(server)])
        };
        Value::Array(self.cluster.views[to].iter().enumerate().map(range).collect())
    }

    pub(super) fn cluster_looks(&mut self) {
        let now = Instant::now();
        for server in 0..self.nodes.len() {
            if !self.nodes[server].is_running() {
                continue;
            }
            for other in 0..self.nodes.len() {
                if server != other && self.nodes[other].is_running() && self.reaches(server, other) {
                    self.cluster.heard[server][other] = now;
                    if self.dice.one_in(6) {
                        self.believe(server, other);
                    }
                }
            }
        }
        for shard in 0..self.cluster.shards() {
            let candidate = self.dice.below(self.nodes.len());
            if self.dice.one_in(5) {
                self.elect(shard, candidate, false);
            }
        }
    }

    /// Takes what another says of later elections.
    fn believe(&mut self, server: usize, other: usize) {
        for shard in 0..self.cluster.shards() {
            let (mine, theirs) = (self.cluster.views[server][shard], self.cluster.views[other][shard]);
            if theirs.1 <= mine.1 {
                continue;
            }
            self.cluster.views[server][shard] = theirs;
            let follows = self.nodes[server].follows;
            if theirs.0 != server && (mine.0 == server || follows == Some(mine.0)) {
                self.demote(server, theirs.0);
            }
        }
    }

    /// Makes this replica the master if a majority of the masters miss its own, or if it is `planned`.
    pub(super) fn elect(&mut self, shard: usize, candidate: usize, planned: bool) -> bool {
        let (master, epoch) = self.cluster.views[candidate][shard];
        let server = &self.nodes[candidate];
        if !server.is_running() || server.follows != Some(master) {
            return false;
        }
        // The old master hands over.
        if planned && !(self.nodes[master].is_running() && self.reaches(candidate, master)) {
            return false;
        }
        let votes = |voter: &usize| {
            let knows = self.cluster.views[*voter][shard].1 <= epoch;
            let is_there = self.nodes[*voter].is_running() && self.nodes[*voter].is_master();
            let agrees = planned || self.cluster.misses(*voter, master);
            knows && is_there && agrees && self.reaches(candidate, *voter)
        };
        let masters = self.cluster.views[candidate].iter().map(|(master, _)| *master);
        let voters: Vec<usize> = masters.filter(votes).collect();
        if voters.len() <= self.cluster.shards() / 2 {
            return false;
        }
        let voted = voters.iter().chain([&candidate]).map(|voter| self.cluster.voted[*voter]);
        let epoch = 1 + voted.max().unwrap_or_default();
        for voter in voters.into_iter().chain([candidate]) {
            self.cluster.voted[voter] = epoch;
        }
        self.cluster.views[candidate][shard] = (candidate, epoch);
        self.promote(candidate, master);
        if planned {
            self.believe(master, candidate);
        }
        true
    }
}
