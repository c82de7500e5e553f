//! The runs: many seeds with everything in force, and a few for each protection that is turned off, which must be broken.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::run::{Outcome, Plan, TurnedOff};
use crate::replay::simulated::{FAILURES, FAILURES_OF_A_CLUSTER, Failure, Mechanism, Tally, Topology};

/// The seed of the run in `make test`.
const SEED: u64 = 1;
const HEADERS: u64 = 100_000;
/// The errors by which a server says that it did not run a claim, but for READONLY, which few claims meet.
const REFUSALS: [&str; 7] = ["ASK", "CLUSTERDOWN", "LOADING", "MOVED", "NOREPLICAS", "OOM", "TRYAGAIN"];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The plan of a seed: a large fleet now and then, and many small ones, to which more happens.
fn plan(seed: u64) -> Plan {
    let topology = [Topology::Sentinels, Topology::Cluster, Topology::Alone][(seed % 3) as usize];
    let gateways = 3 + (seed % 8) as usize;
    let failures: &[Failure] = if topology == Topology::Cluster { &FAILURES_OF_A_CLUSTER } else { &FAILURES };
    let small = Plan { seed, topology, gateways, clients: 500, headers: 4000, rate: 60, off: None, failures };
    if seed % 50 == 3 { Plan { gateways: 200, clients: 10_000, headers: 10_000, rate: 400, ..small } } else { small }
}

#[test]
fn no_header_passes_a_fleet_twice_and_none_is_sent_after_a_freeze_has_returned() {
    let seed = number("SALTGATE_SIMULATION_SEED").unwrap_or(SEED);
    let headers = number("SALTGATE_SIMULATION_HEADERS").unwrap_or(HEADERS);
    println!("SALTGATE_SIMULATION_SEED={seed} SALTGATE_SIMULATION_HEADERS={headers}");
    let (begun, next, sums) = (AtomicU64::new(0), AtomicU64::new(0), Mutex::new(Sums::default()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while begun.load(Ordering::Relaxed) < headers {
                    let plan = plan(seed.wrapping_add(next.fetch_add(1, Ordering::Relaxed)));
                    begun.fetch_add(plan.headers, Ordering::Relaxed);
                    let outcome = plan.run();
                    holds(plan, &outcome);
                    sums.lock().unwrap().add(plan, &outcome);
                }
            });
        }
    });
    let sums = sums.into_inner().unwrap();
    sums.print();
    if headers < HEADERS {
        return;
    }
    assert!(sums.passed > sums.headers / 3, "most of it is not refused");
    let Tally { failovers, crashes, lost_writes, filled, moved_slots, moved_without_all_keys, claims_refused, .. } =
        &sums.tally;
    for error in REFUSALS {
        assert!(claims_refused.contains_key(error), "no claim was refused by {error}");
    }
    assert!(*failovers > 20 && *crashes > 20 && *lost_writes > 20, "enough happens");
    assert!(*moved_slots > 10 && *filled > 5, "enough happens");
    if headers >= 10 * HEADERS {
        assert!(claims_refused.contains_key("READONLY") && *moved_without_all_keys > 0, "what is rare happens, too");
    }
}

fn holds(plan: Plan, outcome: &Outcome) {
    if let Some(broken) = &outcome.broken {
        let seed = plan.seed;
        panic!("{}\n{plan:?}: {broken}\nSALTGATE_SIMULATION_SEED={seed} SALTGATE_SIMULATION_HEADERS=1", outcome.story);
    }
}

#[derive(Default)]
struct Sums {
    headers: u64,
    passed: u64,
    freezes: u64,
    ended: BTreeMap<super::gateway::Ended, u64>,
    tally: Tally,
    gateways_crashed: u64,
    lasted: Duration,
    silence: Duration,
}

impl Sums {
    fn add(&mut self, plan: Plan, outcome: &Outcome) {
        self.headers += plan.headers;
        self.passed += outcome.passed;
        self.freezes += outcome.freezes;
        for (ended, count) in &outcome.ended {
            *self.ended.entry(*ended).or_default() += count;
        }
        self.tally += outcome.tally.clone();
        self.gateways_crashed += outcome.gateways_crashed;
        self.lasted += outcome.lasted;
        self.silence += outcome.silence;
    }

    fn print(&self) {
        println!("{} headers, {} passed, none twice; requests: {:?}", self.headers, self.passed, self.ended);
        println!("{:?}, {} crashes of gateways, {} freezes", self.tally, self.gateways_crashed, self.freezes);
        let share = self.silence.as_secs_f64() / self.lasted.as_secs_f64() * 100.0;
        println!("in {:.0?} of simulated time nothing passed for {share:.0} %", self.lasted);
    }
}

/// A master is stopped, and a replica elected. When the master goes on, its successor crashes. A gateway that asks the old one
/// first must not believe it: `cluster_map` has tests of the rules by which it does not.
#[test]
fn a_clusters_master_that_goes_on_does_not_know_its_successor_and_is_not_believed() {
    for seed in 0..2 {
        let plan = Plan { seed, gateways: 4, failures: &[Failure::Relapse], ..plan(1) };
        holds(plan, &plan.run());
    }
}

/// Runs seeds from this one on, until a run is broken in this way.
fn is_needed(off: TurnedOff, topology: Topology, from: u64, fault: &str) {
    is_needed_against(&FAILURES, off, topology, from, fault);
}

/// The same, where only these things go wrong with servers.
fn is_needed_against(failures: &'static [Failure], off: TurnedOff, topology: Topology, from: u64, fault: &str) {
    for seed in from..from + 30 {
        let plan =
            Plan { seed, topology, gateways: 4, clients: 500, headers: 6000, rate: 60, off: Some(off), failures };
        let outcome = plan.run();
        if let Some(broken) = outcome.broken.filter(|broken| broken.contains(fault)) {
            println!("without {off:?}, seed {seed}: {broken}");
            return;
        }
    }
    panic!("nothing is broken without {off:?}");
}

#[test]
fn without_the_fence_a_header_passes_twice() {
    is_needed(TurnedOff::Store(Mechanism::Fence), Topology::Alone, 0, "passed gateway");
}

#[test]
fn without_the_floor_a_header_passes_twice() {
    is_needed(TurnedOff::Store(Mechanism::Floor), Topology::Alone, 1, "passed gateway");
}

#[test]
fn without_the_history_in_the_claim_a_header_passes_twice() {
    is_needed(TurnedOff::Store(Mechanism::History), Topology::Alone, 1, "passed gateway");
}

#[test]
fn without_the_epoch_in_the_claim_a_header_passes_twice() {
    is_needed(TurnedOff::Store(Mechanism::Epoch), Topology::Sentinels, 2, "passed gateway");
}

#[test]
fn without_the_comparison_of_clocks_a_header_passes_twice() {
    is_needed(TurnedOff::Store(Mechanism::Clock), Topology::Alone, 0, "passed gateway");
}

#[test]
fn if_a_gateway_with_a_wrong_clock_sets_the_fence_a_header_passes_twice() {
    let losses = &[Failure::Flush, Failure::Restart];
    is_needed_against(losses, TurnedOff::Store(Mechanism::ClockOfFence), Topology::Alone, 9, "passed gateway");
}

#[test]
fn without_the_lease_a_deletion_is_sent_after_a_freeze_has_returned() {
    is_needed(TurnedOff::Lease, Topology::Alone, 8, "was sent by");
}

#[test]
fn if_a_slot_that_has_moved_is_not_fenced_a_header_passes_twice() {
    let off = TurnedOff::Store(Mechanism::Fence);
    is_needed_against(&[Failure::Reshard], off, Topology::Cluster, 0, "passed gateway");
}

#[test]
fn if_the_refusal_of_a_claim_is_taken_for_a_spent_salt_a_header_passes_twice() {
    let moves: &[Failure] = &[Failure::Reshard];
    let fails: &[Failure] = &[Failure::Crash, Failure::Planned];
    for (error, topology, failures, seed) in [
        ("ASK", Topology::Cluster, moves, 0),
        ("TRYAGAIN", Topology::Cluster, moves, 0),
        ("MOVED", Topology::Cluster, moves, 0),
        ("NOREPLICAS", Topology::Sentinels, fails, 5),
        ("READONLY", Topology::Sentinels, fails, 0),
        ("LOADING", Topology::Alone, fails, 4),
        ("CLUSTERDOWN", Topology::Cluster, fails, 2),
        ("OOM", Topology::Alone, &[Failure::Full], 0),
    ] {
        is_needed_against(failures, TurnedOff::Store(Mechanism::Refusal(error)), topology, seed, "passed gateway");
    }
}

/// A master that was replaced is given a slot: it raises its epoch without a vote and wins against its successor, with the
/// history that was attested before.
#[test]
fn a_master_that_was_replaced_and_is_given_a_slot_is_fenced() {
    for seed in 0..3 {
        let plan = Plan { seed, gateways: 4, failures: &[Failure::PausedReshard], ..plan(1) };
        holds(plan, &plan.run());
    }
    let off = TurnedOff::Store(Mechanism::Epoch);
    is_needed_against(&[Failure::PausedReshard], off, Topology::Cluster, 2, "passed gateway");
}
