//! A cluster: masters with a replica each, which hear each other, elect successors, and give each other slots.

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

/// Something for each slot.
type Slots<T> = [T; SLOTS as usize];

/// The cluster by the word of one server.
#[derive(Clone)]
pub(super) struct View {
    /// The master of each slot.
    pub(super) owners: Slots<usize>,
    /// The epoch of what each server says of itself.
    pub(super) epochs: Vec<u64>,
    /// To which server a slot of its own is being moved, and from which one it gets a slot.
    pub(super) migrating: Slots<Option<usize>>,
    pub(super) importing: Slots<Option<usize>>,
}

impl View {
    fn slots_of(&self, master: usize) -> Vec<usize> {
        (0..self.owners.len()).filter(|slot| self.owners[*slot] == master).collect()
    }

    /// All masters that have slots.
    pub(super) fn masters(&self) -> Vec<usize> {
        let mut masters = self.owners.to_vec();
        masters.sort_unstable();
        masters.dedup();
        masters
    }

    fn epoch_of(&self, slot: usize) -> u64 {
        self.epochs[self.owners[slot]]
    }
}

pub(super) struct Cluster {
    pub(super) views: Vec<View>,
    /// When each server has heard each other.
    heard: Vec<Vec<Instant>>,
    /// How much later than the timeout each notices that another is gone: at most half of it.
    late: Vec<Vec<Duration>>,
    /// Until when each takes no commands after its start.
    joins: Vec<Instant>,
    /// The highest epoch that each has heard of, or voted in.
    pub(super) current: Vec<u64>,
}

/// The slot of a key.
pub(super) fn slot(key: &str) -> usize {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or(key, |(tag, _)| tag);
    usize::from(slots::slot(tag.as_bytes()) % SLOTS)
}

impl Cluster {
    pub(super) fn new(masters: usize, servers: usize, now: Instant, dice: &mut Dice) -> Self {
        let view = View {
            owners: std::array::from_fn(|slot| slot * masters / usize::from(SLOTS)),
            epochs: (1..=servers as u64).map(|epoch| if epoch <= masters as u64 { epoch } else { 0 }).collect(),
            migrating: Default::default(),
            importing: Default::default(),
        };
        let half = u64::try_from(NODE_TIMEOUT.as_millis() / 2).unwrap();
        let mut late = || (0..servers).map(|_| Duration::from_millis(dice.roll(half))).collect();
        Self {
            views: vec![view; servers],
            heard: vec![vec![now; servers]; servers],
            late: (0..servers).map(|_| late()).collect(),
            joins: vec![now; servers],
            current: vec![masters as u64; servers],
        }
    }

    /// Whether one server takes another for gone.
    fn misses(&self, server: usize, other: usize) -> bool {
        server != other && self.heard[server][other].elapsed() > NODE_TIMEOUT + self.late[server][other]
    }

    /// Whether a server takes no commands, because it does not hear a majority of the masters.
    fn is_down(&self, server: usize) -> bool {
        let masters = self.views[server].masters();
        let heard = masters.iter().filter(|master| !self.misses(server, **master)).count();
        heard <= masters.len() / 2 || self.joins[server] > Instant::now()
    }

    /// A process was started anew: it has heard nobody yet.
    pub(super) fn joins(&mut self, server: usize) {
        let long_ago = Instant::now().checked_sub(4 * NODE_TIMEOUT).unwrap_or_else(Instant::now);
        self.heard[server].fill(long_ago);
        self.joins[server] = Instant::now() + REJOINS;
    }

    /// Gives what a server says of itself an epoch above all that it has heard of, without a vote.
    pub(super) fn raise_epoch(&mut self, server: usize) {
        self.current[server] += 1;
        self.views[server].epochs[server] = self.current[server];
    }
}

impl State {
    /// What the cluster has to say to a command before the server runs it.
    pub(super) fn cluster_says(&mut self, to: usize, command: &[String]) -> Option<Value> {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let keys: &[&str] = match words[..] {
            ["CLUSTER", "INFO"] => {
                let state = if self.cluster.is_down(to) { "fail" } else { "ok" };
                let epoch = self.cluster.current[to];
                return Some(bulk(format!("cluster_state:{state}\r\ncluster_current_epoch:{epoch}\r\n")));
            }
            ["CLUSTER", "SLOTS"] => return Some(self.slots(to)),
            ["CLUSTER", "NODES"] => {
                let epochs = self.cluster.views[to].epochs.iter().enumerate();
                let lines = epochs.map(|(server, epoch)| {
                    format!("{server:040x} server:{}@0 master - 0 0 {epoch} connected\n", port(server))
                });
                return Some(bulk(lines.collect::<String>()));
            }
            ["EVALSHA", _, "2", ..] => &words[3..5],
            ["EVALSHA", _, _, _, ..] => &words[3..4],
            ["GET" | "SET", _, ..] => &words[1..2],
            _ => return None,
        };
        if self.cluster.is_down(to) {
            return Some(error("CLUSTERDOWN The cluster is down"));
        }
        let view = &self.cluster.views[to];
        let slot = slot(keys[0]);
        if view.owners[slot] != to || !self.nodes[to].is_master() {
            return Some(error(&format!("MOVED {slot} server:{}", port(view.owners[slot]))));
        }
        let target = view.migrating[slot]?;
        // All keys, some of them, or none.
        match keys.iter().filter(|key| self.nodes[to].holds(key)).count() {
            here if here == keys.len() => None,
            0 => Some(error(&format!("ASK {slot} server:{}", port(target)))),
            _ => Some(error("TRYAGAIN Multiple keys request during rehashing of slot")),
        }
    }

    fn slots(&self, to: usize) -> Value {
        let owners = &self.cluster.views[to].owners;
        let mut ranges = Vec::new();
        let mut first = 0;
        for slot in 0..owners.len() {
            let master = owners[slot];
            if owners.get(slot + 1) == Some(&master) {
                continue;
            }
            let server = vec![bulk("server"), Value::Int(port(master).into()), bulk(format!("{master:040x}"))];
            ranges.push(Value::Array(vec![Value::Int(first), Value::Int(slot as i64), Value::Array(server)]));
            first = slot as i64 + 1;
        }
        Value::Array(ranges)
    }

    pub(super) fn cluster_looks(&mut self) {
        let now = Instant::now();
        for server in 0..self.nodes.len() {
            if !self.nodes[server].is_ready() {
                continue;
            }
            for other in 0..self.nodes.len() {
                if server != other && self.nodes[other].is_ready() && self.reaches(server, other) {
                    self.cluster.heard[server][other] = now;
                    if self.dice.one_in(6) {
                        self.hear(server, other);
                    }
                }
            }
        }
        for _ in 0..3 {
            let candidate = self.dice.below(self.nodes.len());
            if self.dice.one_in(5) {
                self.elect(candidate, false);
            }
        }
    }

    /// Hears what another says of itself, and which later master it knows of the slots that this one claims.
    pub(super) fn hear(&mut self, server: usize, other: usize) {
        self.cluster.current[server] = self.cluster.current[server].max(self.cluster.current[other]);
        let (mine, theirs) = (&self.cluster.views[server], &self.cluster.views[other]);
        let claimed = theirs.slots_of(other);
        let epoch = theirs.epochs[other];
        let myself = self.nodes[server].follows.unwrap_or(server);
        let is_later = |slot: &&usize| theirs.epoch_of(**slot) > mine.epochs[myself] && theirs.owners[**slot] != myself;
        let later = mine.slots_of(myself).iter().find(is_later).map(|slot| theirs.owners[*slot]);
        let later = later.filter(|owner| theirs.epochs[*owner] > mine.epochs[*owner]);
        let update = later.map(|owner| (owner, theirs.epochs[owner], theirs.slots_of(owner)));
        if self.nodes[other].is_master() {
            self.believe(server, other, epoch, claimed);
            let both = self.nodes[server].is_master() && self.cluster.views[server].epochs[server] == epoch;
            // Two masters with one epoch: the one with the lower name raises its own.
            if both && server < other {
                self.cluster.raise_epoch(server);
            }
        }
        if let Some((owner, epoch, claimed)) = update {
            self.believe(server, owner, epoch, claimed);
        }
    }

    /// Takes for true that a master has these slots, as of an epoch, if nobody has them as of a later one.
    fn believe(&mut self, server: usize, master: usize, epoch: u64, claimed: Vec<usize>) {
        if master == server {
            return;
        }
        let myself = self.nodes[server].follows.unwrap_or(server);
        let view = &mut self.cluster.views[server];
        view.epochs[master] = view.epochs[master].max(epoch);
        let (mut is_mine, mut lost) = (false, Vec::new());
        for slot in claimed {
            // A slot that is being imported changes its master only by command.
            if view.owners[slot] == master || view.importing[slot].is_some() || view.epoch_of(slot) >= epoch {
                continue;
            }
            is_mine |= view.owners[slot] == myself;
            if view.owners[slot] == server {
                lost.push(slot);
            }
            view.owners[slot] = master;
        }
        if is_mine && view.slots_of(myself).is_empty() {
            self.demote(server, master);
        } else {
            self.drop_slots(server, &lost);
        }
    }

    /// Makes this replica the master if a majority of the masters miss its own, or if it is `planned`.
    pub(super) fn elect(&mut self, candidate: usize, planned: bool) -> bool {
        let server = &self.nodes[candidate];
        let Some(master) = server.follows.filter(|_| server.is_ready()) else { return false };
        let view = &self.cluster.views[candidate];
        let (claimed, epoch, masters) = (view.slots_of(master), view.epochs[master], view.masters());
        // The old master hands over.
        if claimed.is_empty() || planned && !(self.nodes[master].is_ready() && self.reaches(candidate, master)) {
            return false;
        }
        let votes = |voter: &usize| {
            let knows = claimed.iter().all(|slot| self.cluster.views[*voter].epoch_of(*slot) <= epoch);
            let is_there = self.nodes[*voter].is_ready() && self.nodes[*voter].is_master();
            let agrees = planned || self.cluster.misses(*voter, master);
            knows && is_there && agrees && self.reaches(candidate, *voter)
        };
        let voters: Vec<usize> = masters.iter().copied().filter(votes).collect();
        if voters.len() <= masters.len() / 2 {
            return false;
        }
        let current = voters.iter().chain([&candidate]).map(|voter| self.cluster.current[*voter]);
        let epoch = 1 + current.max().unwrap_or_default();
        for voter in voters.into_iter().chain([candidate]) {
            self.cluster.current[voter] = epoch;
        }
        let view = &mut self.cluster.views[candidate];
        view.epochs[candidate] = epoch;
        for slot in claimed {
            view.owners[slot] = candidate;
        }
        self.promote(candidate, master);
        if planned {
            self.hear(master, candidate);
        }
        true
    }
}
