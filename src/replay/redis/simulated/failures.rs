//! What goes wrong with servers and network.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::machine::{Data, Effect};
use super::network::State;
use super::{RedisWorld, Topology};

/// How often things went wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) failovers: u64,
    pub(crate) lost_writes: u64,
    pub(crate) crashes: u64,
    pub(crate) stops: u64,
    pub(crate) partitions: u64,
    pub(crate) steps: u64,
    pub(crate) moved_slots: u64,
    /// Those that were moved without some of their keys.
    pub(crate) moved_without_all_keys: u64,
    pub(crate) filled: u64,
    /// How many claims servers refused to run, by their error.
    pub(crate) claims_refused: BTreeMap<String, u64>,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.failovers += other.failovers;
        self.lost_writes += other.lost_writes;
        self.crashes += other.crashes;
        self.stops += other.stops;
        self.partitions += other.partitions;
        self.steps += other.steps;
        self.moved_slots += other.moved_slots;
        self.moved_without_all_keys += other.moved_without_all_keys;
        self.filled += other.filled;
        for (error, count) in other.claims_refused {
            *self.claims_refused.entry(error).or_default() += count;
        }
    }
}

/// What a server starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum With {
    Everything,
    Snapshot,
    Nothing,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Failure {
    Crash,
    Restart,
    Stop,
    Partition,
    Planned,
    Lag,
    ClockStep,
    Flush,
    /// A server has no memory left.
    Full,
    /// A slot moves to another master of the cluster.
    Reshard,
    /// The same, and the new master is stopped and replaced before it is told that the slot is its own.
    PausedReshard,
    /// A master is stopped; as soon as it goes on, its successor crashes.
    Relapse,
}

/// What goes wrong in every topology, some of it more often.
pub(crate) const FAILURES: [Failure; 13] = [
    Failure::Crash,
    Failure::Crash,
    Failure::Restart,
    Failure::Stop,
    Failure::Stop,
    Failure::Partition,
    Failure::Partition,
    Failure::Planned,
    Failure::Lag,
    Failure::ClockStep,
    Failure::Flush,
    Failure::Full,
    Failure::Relapse,
];

/// The same, and what goes wrong only in a cluster.
pub(crate) const FAILURES_OF_A_CLUSTER: [Failure; 17] = {
    let mut all = [Failure::Reshard; 17];
    let (common, _) = all.split_at_mut(FAILURES.len());
    common.copy_from_slice(&FAILURES);
    all[16] = Failure::PausedReshard;
    all
};

impl RedisWorld {
    /// One thing goes wrong, and right again some time later.
    pub(crate) async fn fails(&self) {
        let (failure, server, length) = {
            let mut state = self.state();
            let failure = {
                let failures = state.settings.failures;
                state.dice.pick(failures)
            };
            let (servers, master) = (state.nodes.len(), state.some_master());
            // A second, or half a minute.
            let most = 1 << (9 + state.dice.roll(7));
            let length = Duration::from_millis(100 + state.dice.roll(most));
            let server = if state.dice.one_in(2) { master } else { state.dice.below(servers) };
            (failure, server, length)
        };
        match failure {
            Failure::Crash => {
                self.state().crash(server);
                sleep(length).await;
                self.state().start_with_some_data(server);
            }
            Failure::Restart => {
                self.state().crash(server);
                sleep(Duration::from_millis(20)).await;
                self.state().start_with_some_data(server);
            }
            Failure::Stop => self.state().stop(server, length),
            Failure::Relapse => {
                let length = length + Duration::from_secs(10);
                let master = {
                    let mut state = self.state();
                    let master = state.some_master();
                    state.stop(master, length);
                    master
                };
                sleep(length).await;
                let successor = {
                    let mut state = self.state();
                    let successor = state.some_master();
                    if successor != master {
                        state.crash(successor);
                    }
                    successor
                };
                sleep(Duration::from_secs(15)).await;
                self.state().start_with_some_data(successor);
            }
            Failure::Partition => self.state().part(length),
            Failure::Planned => {
                let mut state = self.state();
                let sentinels = state.watchers.len();
                let leader = state.dice.below(sentinels);
                match state.settings.topology {
                    Topology::Alone => {}
                    Topology::Sentinels => _ = state.fail_over(leader, true),
                    Topology::Cluster => _ = state.elect(server, true),
                }
            }
            Failure::Reshard if self.state().settings.topology == Topology::Cluster => self.moves_slots().await,
            Failure::PausedReshard => self.moves_a_slot(true).await,
            Failure::Reshard => {}
            Failure::Full => {
                {
                    let mut state = self.state();
                    let tells = state.dice.one_in(2);
                    state.nodes[server].is_full = Some(tells);
                    state.tally.filled += 1;
                    state.tell(format!("server {server} has no memory left for {length:?}"));
                }
                sleep(length).await;
                self.state().nodes[server].is_full = None;
            }
            Failure::Lag => {
                self.state().nodes[server].lag = length.min(Duration::from_secs(5));
                sleep(4 * length).await;
                self.state().nodes[server].lag = Duration::ZERO;
            }
            Failure::ClockStep => {
                let by = {
                    let mut state = self.state();
                    let by = state.dice.roll(2 * 3_600_000) as i64 - 3_600_000;
                    let by = if state.dice.one_in(2) { by / 3600 } else { by };
                    state.step(server, by);
                    by
                };
                // Long enough for every gateway to notice.
                sleep(length + Duration::from_secs(45)).await;
                self.state().step(server, -by);
            }
            Failure::Flush => {
                let mut state = self.state();
                if state.nodes[server].is_ready() && state.nodes[server].is_master() {
                    state.nodes[server].machine.data.apply(Effect::Flush);
                    state.nodes[server].machine.effects.push(Effect::Flush);
                    state.tell(format!("server {server} is flushed"));
                }
            }
        }
    }

    pub(crate) fn tally(&self) -> Tally {
        self.state().tally.clone()
    }

    pub(crate) fn tell(&self, what: impl Into<String>) {
        self.state().tell(what);
    }

    /// The last things that happened.
    pub(crate) fn story(&self) -> String {
        self.state().story.join("\n")
    }
}

impl State {
    pub(super) fn stop(&mut self, server: usize, length: Duration) {
        self.nodes[server].stopped_until = Some(Instant::now() + length);
        self.tally.stops += 1;
        self.tell(format!("server {server} is stopped for {length:?}"));
    }

    fn crash(&mut self, server: usize) {
        self.nodes[server].is_up = false;
        self.tally.crashes += 1;
        self.tell(format!("server {server} crashes"));
    }

    fn start_with_some_data(&mut self, server: usize) {
        if self.nodes[server].is_up {
            return;
        }
        let with = self.dice.pick(&[With::Everything, With::Snapshot, With::Nothing]);
        let data = match with {
            With::Everything => std::mem::take(&mut self.nodes[server].machine.data),
            With::Snapshot => self.nodes[server].snapshot.clone(),
            With::Nothing => Data::default(),
        };
        self.start(server, data);
        if self.settings.topology == Topology::Cluster {
            self.cluster.joins(server);
        }
        self.tell(format!("server {server} starts with {with:?}"));
    }

    fn step(&mut self, server: usize, by: i64) {
        self.nodes[server].ahead += by;
        self.tally.steps += 1;
        self.tell(format!("the clock of server {server} is set by {by} ms"));
    }
}
