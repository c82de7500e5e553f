//! Who can reach whom, and how long a message takes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::Value;
use tokio::time::{Instant, sleep, sleep_until};

use super::cluster::Cluster;
use super::failures::Tally;
use super::machine::Scripts;
use super::sentinels::Sentinel;
use super::servers::Server;
use super::{FleetSettings, RedisWorld, Topology};
use crate::adversary::Dice;
use crate::net::Authority;

/// The time at which every simulation begins, in milliseconds since 1970.
pub(super) const START: u64 = 1_800_000_000_000;

/// Everything but the gateways. Servers, Sentinels and gateways are numbered, in this order; [`port`]
/// tells the number of a server or Sentinel.
pub(super) struct State {
    pub(super) settings: FleetSettings,
    pub(super) dice: Dice,
    pub(super) scripts: Scripts,
    pub(super) began: Instant,
    pub(super) nodes: Vec<Server>,
    pub(super) watchers: Vec<Sentinel>,
    pub(super) cluster: Cluster,
    /// `min-replicas-to-write` of all servers is 1.
    pub(super) needs_replicas: bool,
    /// On which side of a partition each is, and when the partition ends.
    sides: Vec<bool>,
    parted_until: Instant,
    pub(super) tally: Tally,
    /// What happened, the last things only.
    pub(super) story: Vec<String>,
}

impl State {
    pub(super) fn new(settings: FleetSettings, gateways: usize, seed: u64) -> Self {
        let mut dice = Dice(seed);
        let (began, scripts) = (Instant::now(), Scripts::new());
        let (masters, replicas, sentinels) = match settings.topology {
            Topology::Alone => (1, 0, 0),
            Topology::Sentinels => (1, 1 + dice.below(2), 3),
            Topology::Cluster => (3, 1, 0),
        };
        let mut nodes: Vec<Server> = (0..masters).map(|_| Server::new(&mut dice, None)).collect();
        for number in 0..masters * replicas {
            nodes.push(Server::new(&mut dice, Some(number % masters)));
        }
        let watchers = (0..sentinels).map(|_| Sentinel::new(began)).collect();
        let cluster = Cluster::new(masters, nodes.len(), began, &mut dice);
        let sides = vec![false; nodes.len() + sentinels + gateways];
        let (tally, story) = (Tally::default(), Vec::new());
        let needs_replicas = replicas > 0 && dice.one_in(3);
        Self {
            settings,
            dice,
            scripts,
            began,
            nodes,
            watchers,
            cluster,
            needs_replicas,
            sides,
            parted_until: began,
            tally,
            story,
        }
    }

    pub(super) fn servers(&self) -> Vec<Authority> {
        (0..self.nodes.len()).map(address).collect()
    }

    pub(super) fn sentinels(&self) -> Vec<Authority> {
        (self.nodes.len()..self.nodes.len() + self.watchers.len()).map(address).collect()
    }

    /// The number of a gateway in the network.
    pub(super) fn gateway(&self, gateway: usize) -> usize {
        self.nodes.len() + self.watchers.len() + gateway
    }

    /// The correct time, in milliseconds since 1970.
    pub(super) fn truth(&self) -> u64 {
        START + u64::try_from(self.began.elapsed().as_millis()).unwrap()
    }

    pub(super) fn tell(&mut self, what: impl Into<String>) {
        if self.story.len() > 400 {
            self.story.drain(..200);
        }
        self.story.push(format!("{:>9.3} s: {}", self.began.elapsed().as_secs_f64(), what.into()));
    }

    pub(super) fn reaches(&self, from: usize, to: usize) -> bool {
        self.sides[from] == self.sides[to] || Instant::now() >= self.parted_until
    }

    /// Parts some from the others.
    pub(super) fn part(&mut self, length: Duration) {
        // Few on one side; often one master and some gateways.
        let (one_in, with_master) = (2 + self.dice.roll(4), self.dice.one_in(2));
        let (master, first) = (self.some_master(), self.gateway(0));
        for number in 0..self.sides.len() {
            let is_apart = self.dice.one_in(one_in);
            self.sides[number] = if with_master && number < first { number == master } else { is_apart };
        }
        self.parted_until = Instant::now() + length;
        let apart: Vec<usize> = (0..self.nodes.len() + self.watchers.len()).filter(|n| self.sides[*n]).collect();
        self.tally.partitions += 1;
        self.tell(format!("a partition for {length:?}: servers and Sentinels {apart:?} with some gateways"));
    }

    /// For how long a message is under way.
    fn delay(&mut self) -> Duration {
        let millis = match self.dice.roll(1000) {
            // Lost, and sent again by TCP.
            0 => 200 + self.dice.roll(2000),
            1..20 => 10 + self.dice.roll(200),
            _ => self.dice.roll(3),
        };
        Duration::from_millis(millis)
    }

    /// The process of a server that takes a new connection.
    pub(super) fn opened(&self, to: usize) -> Option<u64> {
        match self.nodes.get(to) {
            Some(server) => server.is_up.then_some(server.process),
            None => Some(0),
        }
    }

    pub(super) fn stopped_until(&self, to: usize) -> Option<Instant> {
        self.nodes.get(to)?.stopped_until.filter(|until| *until > Instant::now())
    }

    /// The answers of a server or Sentinel; `None` if the connection has ended.
    pub(super) fn answer(&mut self, to: usize, process: u64, request: &[Vec<String>]) -> Option<Vec<Value>> {
        if let Some(sentinel) = to.checked_sub(self.nodes.len()) {
            return Some(request.iter().map(|command| self.sentinel_says(sentinel, command)).collect());
        }
        let server = &self.nodes[to];
        let is_open = server.is_up && server.process == process;
        is_open.then(|| request.iter().map(|command| self.server_says(to, command)).collect())
    }
}

pub(super) fn port(number: usize) -> u16 {
    1 + u16::try_from(number).unwrap()
}

pub(super) fn address(number: usize) -> Authority {
    Authority::new("server", port(number)).unwrap()
}

/// What a wall clock shows this long after the beginning that is ahead by so many milliseconds.
pub(crate) fn wall(after: Duration, ahead: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(START.saturating_add_signed(ahead)) + after
}

impl RedisWorld {
    /// Carries a message. Returns whether it arrives.
    pub(super) async fn carry(&self, from: usize, to: usize) -> bool {
        loop {
            let (reaches, until, delay, is_lost) = {
                let mut state = self.state();
                let (delay, is_lost) = (state.delay(), state.dice.one_in(2));
                (state.reaches(from, to), state.parted_until, delay, is_lost)
            };
            if !reaches {
                if is_lost {
                    return false;
                }
                // TCP sends it again, once the other side can be reached.
                sleep_until(until + delay).await;
                continue;
            }
            sleep(delay).await;
            if self.state().reaches(from, to) {
                return true;
            }
        }
    }
}
