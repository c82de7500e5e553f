//! Slots that move from one master of a cluster to another, by the commands of `redis-cli --cluster reshard` (and `fix`):
//! the one gives the slot away (MIGRATING) and the other takes it (IMPORTING), the keys are moved, and each master is told
//! who has it.

use std::time::Duration;

use tokio::time::{sleep, sleep_until};

use super::RedisWorld;
use super::cluster::{SLOTS, slot};
use super::machine::Effect;
use super::network::State;

#[derive(Clone, Copy, Debug)]
struct Move {
    slot: usize,
    from: usize,
    to: usize,
}

impl RedisWorld {
    /// Some slots are moved, one after the other.
    pub(super) async fn moves_slots(&self) {
        let slots = 1 + self.state().dice.roll(4);
        for _ in 0..slots {
            self.moves_a_slot(false).await;
        }
    }

    /// Moves a slot. If `pauses`, its new master is stopped before it is told so, for long enough to be replaced.
    pub(super) async fn moves_a_slot(&self, pauses: bool) {
        let Some(moved) = self.state().begins_to_move() else { return };
        let Move { to, .. } = moved;
        let (mut tries, is_forced) = (0, self.state().dice.one_in(4));
        let is_complete = loop {
            let pause = self.state().dice.roll(100);
            sleep(Duration::from_millis(pause)).await;
            tries += 1;
            if self.state().moves_some_keys(moved) {
                break true;
            }
            if tries == 60 || is_forced && self.state().dice.one_in(10) {
                break false;
            }
        };
        if is_complete || is_forced {
            // A command to a process that is stopped waits in its socket, and runs as soon as it goes on.
            if pauses {
                self.state().stop(to, Duration::from_secs(20));
            }
            let stopped = self.state().stopped_until(to);
            if let Some(until) = stopped {
                sleep_until(until).await;
            }
            self.state().assigns(moved, is_complete);
            sleep(Duration::from_millis(5)).await;
            self.state().tells_the_others(moved);
        }
        while !self.state().puts_right(moved) {
            sleep(Duration::from_millis(500)).await;
        }
    }
}

impl State {
    fn begins_to_move(&mut self) -> Option<Move> {
        let slot = self.dice.below(usize::from(SLOTS));
        let asked = self.some_master();
        let view = &self.cluster.views[asked];
        let (from, masters) = (view.owners[slot], view.masters());
        let to = self.dice.pick(&masters);
        let views = &self.cluster.views;
        let can = |server: usize| self.nodes[server].is_ready() && self.nodes[server].is_master();
        let is_free = views[from].migrating[slot].is_none() && views[to].importing[slot].is_none();
        let owns = views[from].owners.iter().filter(|owner| **owner == from).count();
        if from == to || !can(from) || !can(to) || !is_free || views[from].owners[slot] != from || owns < 2 {
            return None;
        }
        self.cluster.views[from].migrating[slot] = Some(to);
        self.cluster.views[to].importing[slot] = Some(from);
        self.tell(format!("slot {slot} begins to move from server {from} to server {to}"));
        Some(Move { slot, from, to })
    }

    /// Moves some keys (MIGRATE). Returns whether none is left.
    fn moves_some_keys(&mut self, Move { slot: moved, from, to }: Move) -> bool {
        let can = |server: usize| self.nodes[server].is_ready() && self.nodes[server].is_master();
        if !can(from) || !can(to) || !self.reaches(from, to) || self.nodes[to].is_full.is_some() {
            return false;
        }
        let at_once = 1 + self.dice.below(20);
        let mut keys = self.keys_of(from, moved);
        let is_all = keys.len() <= at_once;
        for _ in 0..at_once.min(keys.len()) {
            let key = keys.swap_remove(self.dice.below(keys.len()));
            let Some((value, until)) = self.nodes[from].machine.data.string(&key) else { continue };
            let later = self.nodes[to].ahead - self.nodes[from].ahead;
            self.nodes[to].machine.writes(Effect::Set(key.clone(), value, until.map(|until| until + later)));
            self.nodes[from].machine.writes(Effect::Delete(key));
        }
        self.replicate(from);
        self.replicate(to);
        is_all
    }

    fn keys_of(&self, server: usize, of: usize) -> Vec<String> {
        let mut keys: Vec<String> =
            self.nodes[server].machine.data.keys().filter(|key| slot(key) == of).cloned().collect();
        keys.sort_unstable();
        keys
    }

    /// A master forgets the keys of slots that it has lost.
    pub(super) fn drop_slots(&mut self, server: usize, lost: &[usize]) {
        for key in lost.iter().flat_map(|slot| self.keys_of(server, *slot)).collect::<Vec<_>>() {
            self.nodes[server].machine.writes(Effect::Delete(key));
        }
        if !lost.is_empty() {
            self.replicate(server);
        }
    }

    /// Makes the other one the master of the slot.
    fn assigns(&mut self, Move { slot, to, .. }: Move, is_complete: bool) {
        if !self.nodes[to].is_ready() || !self.nodes[to].is_master() {
            return;
        }
        let view = &mut self.cluster.views[to];
        (view.owners[slot], view.importing[slot]) = (to, None);
        if view.epochs.iter().max() != Some(&view.epochs[to]) || view.epochs[to] == 0 {
            self.cluster.raise_epoch(to);
        }
        self.tally.moved_slots += 1;
        self.tally.moved_without_all_keys += u64::from(!is_complete);
        self.tell(format!("slot {slot} is of server {to} now, with all keys: {is_complete}"));
    }

    /// Tells the other masters.
    fn tells_the_others(&mut self, Move { slot, to, .. }: Move) {
        for other in 0..self.nodes.len() {
            let can = self.nodes[other].is_ready() && self.nodes[other].is_master();
            if other == to || !can || self.cluster.views[to].owners[slot] != to || self.dice.one_in(3) {
                continue;
            }
            // As long as it has keys it refuses.
            let is_empty = self.keys_of(other, slot).is_empty();
            let view = &mut self.cluster.views[other];
            if view.owners[slot] != other || is_empty {
                (view.owners[slot], view.migrating[slot]) = (to, None);
            }
        }
    }

    /// The slot is not on its way any more (SETSLOT STABLE). A server that keeps it may have given away some of its keys, but
    /// not its marker: that is deleted first, as docs/fleet.md says. Returns whether both have heard.
    fn puts_right(&mut self, Move { slot, from, to }: Move) -> bool {
        for server in [from, to] {
            if self.nodes[server].is_ready() && self.cluster.views[server].owners[slot] == server {
                for marker in self.keys_of(server, slot).into_iter().filter(|key| key.contains(":epoch:")) {
                    self.nodes[server].machine.writes(Effect::Delete(marker));
                }
                self.replicate(server);
            }
            if self.nodes[server].is_ready() {
                let view = &mut self.cluster.views[server];
                (view.migrating[slot], view.importing[slot]) = (None, None);
            }
        }
        self.nodes[from].is_ready() && self.nodes[to].is_ready()
    }
}
