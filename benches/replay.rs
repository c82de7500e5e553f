//! What a spent salt costs: nanoseconds for a claim (reservation included), bytes for keeping it.
//!
//! Budgets: below 500 ns, at most 40 bytes, at a million salts in all generations.

#![allow(missing_docs, reason = "criterion's macros write undocumented functions")]

use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime};

use criterion::{Criterion, criterion_group};
use saltgate::clock::Clock;
use saltgate::replay::{Claim, ClaimRefused, Memory, MemorySettings, Room, SaltId, SpentSalts, WhenNew, Window};

const HELD: u64 = 1_000_000;
/// So few that the memory is still about as full at the end.
const ROUND: u64 = 100_000;

/// A salt's fingerprint: any 16 bytes that never come twice.
fn salt(n: u64) -> SaltId {
    (u128::from(n) + 2).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835).to_ne_bytes()
}

/// Dates all over the window, less a margin for the time the benchmark takes.
fn date(now: SystemTime, n: u64) -> SystemTime {
    now - Duration::from_secs(14 * 60) + Duration::from_millis(n % 1000 * 1740)
}

fn claim(memory: &Memory, n: u64, now: SystemTime) -> Result<(), ClaimRefused> {
    let place = memory.reserve("NCSXXXXXXXXXXXXX").expect("there is room");
    match memory.claim(place, salt(n), date(now, n), Window::default()) {
        Claim::Now(answer) => answer,
        Claim::Later(_) => unreachable!("a memory answers at once"),
    }
}

fn filled(now: SystemTime) -> Memory {
    let room = (HELD + ROUND) as usize;
    let settings = MemorySettings {
        room: Room { max_salts: room, max_salts_per_key: room },
        when_new: WhenNew::Accept,
        window: Window::default(),
    };
    let memory = Memory::new(Clock::system(), settings);
    for n in 0..HELD {
        assert_eq!(claim(&memory, n, now), Ok(()));
    }
    memory
}

/// A memory that holds a million salts, and how many were claimed since: filled anew once it has
/// grown by a tenth.
struct Bench {
    memory: Memory,
    now: SystemTime,
    claimed: u64,
}

impl Bench {
    fn new() -> Self {
        let now = Clock::system().now();
        Self { memory: filled(now), now, claimed: 0 }
    }

    /// Times so many claims; filling is not timed.
    #[allow(clippy::disallowed_methods, reason = "a stopwatch")]
    fn timed(&mut self, iterations: u64, mut one: impl FnMut(&Memory, u64, SystemTime)) -> Duration {
        let (mut done, mut took) = (0, Duration::ZERO);
        while done < iterations {
            if self.claimed == ROUND {
                *self = Self::new();
            }
            let round = (ROUND - self.claimed).min(iterations - done);
            let begun = Instant::now();
            for n in self.claimed..self.claimed + round {
                one(&self.memory, n, self.now);
            }
            took += begun.elapsed();
            self.claimed += round;
            done += round;
        }
        took
    }
}

fn claims(c: &mut Criterion) {
    let mut group = c.benchmark_group("replay");
    group.sample_size(20).warm_up_time(Duration::from_millis(20)).measurement_time(Duration::from_millis(200));
    group.bench_function("claim, a million held", |b| {
        let mut bench = Bench::new();
        b.iter_custom(|iterations| {
            bench.timed(iterations, |memory, n, now| assert_eq!(black_box(claim(memory, HELD + n, now)), Ok(())))
        });
    });
    group.bench_function("claim of a spent salt, a million held", |b| {
        let mut bench = Bench::new();
        b.iter_custom(|iterations| {
            bench.timed(iterations, |memory, n, now| {
                assert_eq!(black_box(claim(memory, n * 7 % HELD, now)), Err(ClaimRefused::Reused));
            })
        });
    });
    group.finish();
}

/// What this process occupies, in bytes; 0 where the system does not say.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|statm| statm.split_whitespace().nth(1)?.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}

criterion_group!(benches, claims);

fn main() {
    // First, while nothing else has been allocated and freed.
    let before = resident();
    let memory = filled(Clock::system().now());
    let (grown, allocated, held) = (resident().saturating_sub(before), memory.heap_bytes(), memory.held());
    println!("{held} salts: {:.1} bytes each allocated", allocated as f64 / held as f64);
    println!("{held} salts: {:.1} bytes each resident", grown as f64 / held as f64);
    drop(memory);

    benches();
    Criterion::default().configure_from_args().final_summary();
}
