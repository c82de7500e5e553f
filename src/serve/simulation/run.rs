//! One run: a fleet, its clients, and everything that happens to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::gateway::{Ended, Gateway, Header};
use super::{Leaves, operator};
use crate::adversary::Dice;
use crate::credential::SaltId;
use crate::replay::Window;
use crate::replay::simulated::{Failure, FleetSettings, Mechanism, RedisWorld, Tally, Topology, wall};

pub(super) const KEYS: usize = 5;
const WINDOW: Window = Window { past: Duration::from_secs(6), future: Duration::from_secs(4) };
const CLOCK_MARGIN: Duration = Duration::from_millis(500);

/// What is turned off, to show that it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TurnedOff {
    Store(Mechanism),
    /// A deletion is sent although the lease has ended.
    Lease,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) topology: Topology,
    pub(super) gateways: usize,
    pub(super) clients: usize,
    pub(super) headers: u64,
    /// Headers that are signed in a second.
    pub(super) rate: u64,
    pub(super) off: Option<TurnedOff>,
    /// What goes wrong with servers.
    pub(super) failures: &'static [Failure],
}

pub(super) struct Outcome {
    pub(super) broken: Option<String>,
    pub(super) story: String,
    pub(super) passed: u64,
    /// Freezes that have returned.
    pub(super) freezes: u64,
    pub(super) ended: BTreeMap<Ended, u64>,
    pub(super) tally: Tally,
    pub(super) gateways_crashed: u64,
    pub(super) lasted: Duration,
    pub(super) silence: Duration,
}

impl Plan {
    pub(super) fn run(self) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(self.goes())
    }

    async fn goes(self) -> Outcome {
        let (mut dice, began) = (Dice(self.seed), Instant::now());
        let off = match self.off {
            Some(TurnedOff::Store(mechanism)) => Some(mechanism),
            _ => None,
        };
        let timeout = Duration::from_millis(dice.pick(&[250, 250, 1000, 8000]));
        let Self { topology, failures, .. } = self;
        let settings = FleetSettings { topology, window: WINDOW, clock_margin: CLOCK_MARGIN, timeout, off, failures };
        let world = RedisWorld::new(settings, self.gateways, dice.roll(u64::MAX));
        let leaves = Arc::new(Leaves::new(dice.roll(u64::MAX), self.off == Some(TurnedOff::Lease)));
        let is_fleet = self.topology != Topology::Cluster;
        // At most 0.02 % fast or slow.
        let mut gateway = |number| Gateway::new(number, &world, is_fleet, 800 + dice.roll(400) as u32);
        let gateways: Vec<Arc<Gateway>> = (0..self.gateways).map(&mut gateway).collect();
        tokio::spawn(world.clone().live());
        tokio::spawn(servers_fail(world.clone(), Dice(dice.roll(u64::MAX))));
        let crashes = Arc::new(std::sync::atomic::AtomicU64::new(0));
        for gateway in &gateways {
            tokio::spawn(fails(
                gateway.clone(),
                self.gateways,
                Dice(dice.roll(u64::MAX)),
                world.clone(),
                crashes.clone(),
            ));
        }
        if is_fleet {
            for key in [None, Some(0), Some(1)] {
                let seed = dice.roll(u64::MAX);
                tokio::spawn(operator::works(key, gateways.clone(), world.clone(), leaves.clone(), seed));
            }
        }
        self.clients_sign(&gateways, &leaves, began, &mut dice).await;
        sleep(WINDOW.past + WINDOW.future).await;
        let found = leaves.found.lock().unwrap();
        Outcome {
            broken: found.broken.clone(),
            story: world.story(),
            freezes: found.freezes,
            passed: found.passed.len() as u64,
            ended: found.ended.clone(),
            tally: world.tally(),
            gateways_crashed: crashes.load(std::sync::atomic::Ordering::Relaxed),
            lasted: began.elapsed(),
            silence: found.silence,
        }
    }

    /// Clients sign headers, and send each to some gateways, at once and later.
    async fn clients_sign(self, gateways: &[Arc<Gateway>], leaves: &Arc<Leaves>, began: Instant, dice: &mut Dice) {
        // How far the clocks of the clients are ahead.
        let clocks: Vec<i64> = (0..self.clients).map(|_| dice.roll(2000) as i64 - 1000).collect();
        let window = u64::try_from((WINDOW.past + WINDOW.future).as_millis()).unwrap();
        for number in 0..self.headers {
            let due = Duration::from_millis(number * 1000 / self.rate);
            sleep((began + due).saturating_duration_since(Instant::now())).await;
            if leaves.found.lock().unwrap().broken.is_some() {
                return;
            }
            let clock = dice.pick(&clocks);
            let ahead = match dice.roll(3) {
                0 => clock,
                // As far ahead as some gateway admits.
                1 => 4000 + 600 - dice.roll(1500) as i64,
                _ => dice.roll(window) as i64 - 6000,
            };
            let spread = (u128::from(number) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
            let date = wall(began.elapsed(), ahead) + Duration::from_nanos(dice.roll(1_000_000));
            let key = dice.below(KEYS);
            let header = Header { number, salt: SaltId::from_stored(spread.to_be_bytes()), date, key };
            for copy in 0..1 + dice.roll(3) {
                let late = match (copy, dice.roll(8)) {
                    (0, _) => dice.roll(5),
                    (_, 0..3) => dice.roll(50),
                    (_, 3..7) => dice.roll(window),
                    _ => dice.roll(10 * window),
                };
                send(header, late, gateways, leaves, dice);
            }
            self.repeat(gateways, leaves, dice);
        }
    }

    /// Sends a header again that has passed, one that may be above the floor that a fence sets.
    fn repeat(self, gateways: &[Arc<Gateway>], leaves: &Arc<Leaves>, dice: &mut Dice) {
        let latest = {
            let found = leaves.found.lock().unwrap();
            let recent = &found.recent;
            let some = if recent.is_empty() { 0 } else { dice.pick(&[1, 8]) };
            (0..some).map(|_| recent[dice.below(recent.len())]).max_by_key(|header| header.date)
        };
        if let Some(header) = latest {
            send(header, dice.roll(200), gateways, leaves, dice);
        }
    }
}

fn send(header: Header, late: u64, gateways: &[Arc<Gateway>], leaves: &Arc<Leaves>, dice: &mut Dice) {
    let (gateway, leaves) = (gateways[dice.below(gateways.len())].clone(), leaves.clone());
    tokio::spawn(async move {
        sleep(Duration::from_millis(late)).await;
        gateway.arrives(header, WINDOW, &leaves);
    });
}

async fn servers_fail(world: Arc<RedisWorld>, mut dice: Dice) {
    loop {
        sleep(Duration::from_millis(1000 + dice.roll(15_000))).await;
        let world = world.clone();
        tokio::spawn(async move { world.fails().await });
    }
}

/// A gateway is killed, is stopped, or has its clock set, each about as often as a server fails.
async fn fails(
    gateway: Arc<Gateway>,
    gateways: usize,
    mut dice: Dice,
    world: Arc<RedisWorld>,
    crashes: Arc<std::sync::atomic::AtomicU64>,
) {
    loop {
        sleep(Duration::from_millis(dice.roll(10_000 * gateways as u64))).await;
        let most = 1 << (8 + dice.roll(7));
        let length = Duration::from_millis(dice.roll(most));
        match dice.roll(4) {
            0 => {
                crashes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                world.tell(format!("gateway {} crashes for {length:?}", gateway.number));
                gateway.crash();
                sleep(length).await;
                gateway.start();
            }
            1 | 2 => {
                world.tell(format!("gateway {} is stopped for {length:?}", gateway.number));
                gateway.stopped.until(Instant::now() + length);
            }
            _ => {
                let by = dice.roll(7_200_000) as i64 - 3_600_000;
                let by = if dice.one_in(2) { by / 3600 } else { by };
                world.tell(format!("the clock of gateway {} is set by {by} ms for {length:?}", gateway.number));
                gateway.set_clock(by);
                sleep(2 * length).await;
                gateway.set_clock(0);
            }
        }
    }
}
