//! The cost of a spent salt: nanoseconds for a claim (including its reservation), bytes for keeping it.
//!
//! Budgets, at a million salts in all generations: in memory below 500 ns and 40 bytes; in a journal 1500 ns, 40
//! bytes of memory and 32 of disk, and a second to start with four million.

#![allow(missing_docs, reason = "criterion's macros write undocumented functions")]
#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime};

use criterion::{Criterion, criterion_group};
use saltgate::parts::Clock;
use saltgate::parts::SaltId;
use saltgate::parts::{
    Claim, ClaimRefused, Journal, JournalSettings, JournalSync, Mark, Memory, MemorySettings, Room, SpentSalts,
    WhenNew, Window, boot_id,
};

const HELD: u64 = 1_000_000;
/// So few that the store is still about as full at the end.
const ROUND: u64 = 100_000;

/// The id of a salt: any 16 bytes that never repeat.
fn salt(n: u64) -> SaltId {
    SaltId::from_stored((u128::from(n) + 2).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835).to_ne_bytes())
}

/// Dates all over the window, with a margin for the duration of the benchmark.
fn date(now: SystemTime, n: u64) -> SystemTime {
    now - Duration::from_secs(14 * 60) + Duration::from_millis(n % 1000 * 1740)
}

fn claim(store: &dyn SpentSalts, n: u64, now: SystemTime) -> Result<(), ClaimRefused> {
    let Ok(place) = store.reserve("NCSXXXXXXXXXXXXX") else { return Err(ClaimRefused::Unknown) };
    match store.claim(place, salt(n), date(now, n), Window::default(), Mark::default()) {
        Claim::Now(answer) => answer,
        Claim::Later(_) => unreachable!("a store of this process answers at once"),
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

/// A store with a million salts, and how many were claimed since. It is filled again once it has grown by a tenth.
struct Bench<S> {
    fill: fn(SystemTime) -> S,
    store: Option<S>,
    now: SystemTime,
    claimed: u64,
}

impl<S: SpentSalts> Bench<S> {
    fn new(fill: fn(SystemTime) -> S) -> Self {
        let now = Clock::system().now();
        Self { fill, store: Some(fill(now)), now, claimed: 0 }
    }

    /// Times this many claims; filling the store is not timed.
    #[allow(clippy::disallowed_methods, reason = "a stopwatch")]
    fn timed(&mut self, iterations: u64, mut one: impl FnMut(&dyn SpentSalts, u64, SystemTime)) -> Duration {
        let (mut done, mut took) = (0, Duration::ZERO);
        while done < iterations {
            if self.claimed == ROUND {
                // Dropped first, because a journal belongs to one process.
                self.store = None;
                *self = Self::new(self.fill);
            }
            let round = (ROUND - self.claimed).min(iterations - done);
            let Some(store) = &self.store else { return took };
            let begun = Instant::now();
            for n in self.claimed..self.claimed + round {
                one(store, n, self.now);
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
        let mut bench = Bench::new(filled);
        b.iter_custom(|iterations| {
            bench.timed(iterations, |store, n, now| assert_eq!(black_box(claim(store, HELD + n, now)), Ok(())))
        });
    });
    group.bench_function("claim in a journal, a million held", |b| {
        let mut bench = Bench::new(journal);
        b.iter_custom(|iterations| bench.timed(iterations, |store, n, now| until_there_is_room(store, HELD + n, now)));
    });
    group.bench_function("claim of a spent salt, a million held", |b| {
        let mut bench = Bench::new(filled);
        b.iter_custom(|iterations| {
            bench.timed(iterations, |memory, n, now| {
                assert_eq!(black_box(claim(memory, n * 7 % HELD, now)), Err(ClaimRefused::Reused));
            })
        });
    });
    group.finish();
}

fn directory() -> std::path::PathBuf {
    std::env::temp_dir().join(format!("saltgate-bench-{}", std::process::id()))
}

fn open(max: u64) -> Journal {
    let settings = JournalSettings {
        path: directory(),
        room: Room { max_salts: max as usize, max_salts_per_key: max as usize },
        sync: JournalSync::Every(Duration::from_millis(10)),
        when_new: WhenNew::Accept,
        window: Window::default(),
        boot_id: boot_id(),
        discard: false,
        witness_in: None,
    };
    Journal::open(Clock::system(), settings).expect("a journal in the temporary directory")
}

/// A claim that waits until the next segment is ready; the waiting is timed.
fn until_there_is_room(store: &dyn SpentSalts, n: u64, now: SystemTime) {
    while black_box(claim(store, n, now)) != Ok(()) {
        std::thread::yield_now();
    }
}

/// A journal on disk that holds this many salts.
fn journal_of(held: u64, now: SystemTime) -> Journal {
    drop(std::fs::remove_dir_all(directory()));
    let journal = open(held + ROUND);
    for n in 0..held {
        until_there_is_room(&journal, n, now);
    }
    journal
}

fn journal(now: SystemTime) -> Journal {
    journal_of(HELD, now)
}

/// The size of a journal's files in bytes.
fn on_disk() -> u64 {
    use std::os::unix::fs::MetadataExt;
    let files = std::fs::read_dir(directory()).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|file| file.blocks() * 512).sum()
}

#[allow(clippy::disallowed_methods, reason = "a stopwatch")]
fn report_journal() {
    for held in [HELD, 4 * HELD] {
        drop(journal_of(held, Clock::system().now()));
        let before = resident();
        let begun = Instant::now();
        let journal = open(held + ROUND);
        let took = begun.elapsed();
        let grown = resident().saturating_sub(before);
        let each = |bytes: f64| bytes / held as f64;
        assert_eq!(journal.held() as u64, held);
        println!(
            "a journal of {held}: started in {took:?}; each {:.1} bytes of memory ({:.1} resident), {:.1} of disk",
            each(journal.heap_bytes() as f64),
            each(grown as f64),
            each(on_disk() as f64),
        );
    }
    drop(std::fs::remove_dir_all(directory()));
}

/// The resident memory of this process in bytes; 0 if the system does not report it.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|statm| statm.split_whitespace().nth(1)?.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}

criterion_group!(benches, claims);

fn main() {
    // First, before anything else was allocated and freed.
    let before = resident();
    let memory = filled(Clock::system().now());
    let (grown, allocated, held) = (resident().saturating_sub(before), memory.heap_bytes(), memory.held());
    println!("{held} salts: {:.1} bytes each allocated", allocated as f64 / held as f64);
    println!("{held} salts: {:.1} bytes each resident", grown as f64 / held as f64);
    drop(memory);
    report_journal();

    benches();
    drop(std::fs::remove_dir_all(directory()));
    Criterion::default().configure_from_args().final_summary();
}
