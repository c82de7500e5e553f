//! Above the floor all that was spent is remembered; at or below it nothing is admitted: whatever
//! happens, in whatever order, against a model that never forgets.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;

use super::{
    Claim, ClaimRefused, Journal, JournalSettings, JournalSync, Memory, MemorySettings, OutOfWindow, Room, SaltId,
    SpentSalts, Unavailable, WhenNew, Window,
};
use crate::clock::{Clock, ManualTime};

const START: u64 = 1_800_000_000;
const MAX: usize = 64;

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn salt(n: u16) -> SaltId {
    // Spread like the keyed hash that it stands for.
    let spread = (u128::from(n) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
    spread.to_be_bytes()
}

fn memory(clock: &Clock, when_new: WhenNew, window: Window) -> Memory {
    Memory::new(
        clock.clone(),
        MemorySettings { room: Room { max_salts: MAX, max_salts_per_key: MAX / 2 }, when_new, window },
    )
}

fn claim(store: &dyn SpentSalts, key: &str, n: u16, date: SystemTime, window: Window) -> Result<(), ClaimRefused> {
    let Ok(place) = store.reserve(key) else { return Err(ClaimRefused::Unknown) };
    match store.claim(place, salt(n), date, window) {
        Claim::Now(answer) => answer,
        Claim::Later(answer) => {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(answer)
        }
    }
}

fn window() -> Window {
    Window { past: seconds(900), future: seconds(900) }
}

fn fresh() -> (Memory, Clock, ManualTime) {
    let (clock, time) = Clock::manual(UNIX_EPOCH + seconds(START));
    (memory(&clock, WhenNew::Accept, window()), clock, time)
}

#[test]
fn of_many_simultaneous_claims_exactly_one_is_ok() {
    let (memory, clock, _) = fresh();
    let (memory, date) = (Arc::new(memory), clock.now());
    // Few enough that the memory has room for all copies at once: nobody must be missing at the barrier.
    for n in 0..40 {
        let barrier = Arc::new(std::sync::Barrier::new(16));
        let threads: Vec<_> = (0..16)
            .map(|_| {
                let (memory, barrier) = (memory.clone(), barrier.clone());
                std::thread::spawn(move || {
                    let place = memory.reserve(&format!("KEY{n}")).unwrap();
                    barrier.wait();
                    matches!(memory.claim(place, salt(n), date, window()), Claim::Now(Ok(())))
                })
            })
            .collect();
        let passed = threads.into_iter().map(|t| t.join().unwrap()).filter(|ok| *ok).count();
        assert_eq!(passed, 1, "salt {n}");
        if n % 20 == 19 {
            assert_eq!(memory.held(), usize::from(n) + 1);
        }
    }
}

#[test]
fn a_full_memory_refuses_and_forgets_nothing() {
    let (memory, clock, _) = fresh();
    for n in 0..MAX as u16 {
        assert_eq!(claim(&memory, ["A", "B", "C"][usize::from(n) % 3], n, clock.now(), window()), Ok(()));
    }
    assert_eq!(memory.reserve("D").err(), Some(Unavailable::Full));
    assert_eq!(memory.held(), MAX);
}

#[test]
fn no_key_holds_more_than_its_share_and_a_place_not_used_is_given_back() {
    let (memory, clock, _) = fresh();
    let places: Vec<_> = (0..MAX / 2).map(|_| memory.reserve("A").unwrap()).collect();
    assert_eq!(memory.reserve("A").err(), Some(Unavailable::KeyShare));
    assert_eq!(claim(&memory, "B", 1, clock.now(), window()), Ok(()), "another key has its own share");
    drop(places);
    assert_eq!(claim(&memory, "A", 2, clock.now(), window()), Ok(()));
    assert_eq!(memory.held(), 2);
}

#[test]
fn a_fence_admits_nothing_that_an_earlier_life_may_have() {
    let (clock, time) = Clock::manual(UNIX_EPOCH + seconds(START));
    let memory = memory(&clock, WhenNew::Fence, window());
    assert_eq!(memory.fenced_until(), Some(clock.now() + window().future));
    let below = Err(ClaimRefused::OutOfWindow(OutOfWindow::BelowFloor));
    assert_eq!(claim(&memory, "A", 1, clock.now() + seconds(899), window()), below);
    time.advance(seconds(901));
    assert_eq!(memory.fenced_until(), None);
    assert_eq!(claim(&memory, "A", 2, clock.now() - seconds(1), window()), below, "signed before the fence fell");
    assert_eq!(claim(&memory, "A", 3, clock.now(), window()), Ok(()));
}

#[test]
fn what_had_its_time_is_forgotten_and_the_floor_says_so() {
    let (memory, clock, time) = fresh();
    let date = clock.now();
    assert_eq!(claim(&memory, "A", 1, date, window()), Ok(()));
    time.advance(seconds(899));
    memory.forget();
    assert_eq!(memory.held(), 1, "it could still be admitted");
    time.advance(seconds(2));
    memory.forget();
    assert_eq!((memory.held(), memory.floor().0), (0, date));
    assert_eq!(memory.heap_bytes(), 0, "the memory is given back");
}

#[test]
fn a_jump_of_the_clock_alone_empties_nothing() {
    let (memory, clock, time) = fresh();
    let date = clock.now();
    assert_eq!(claim(&memory, "A", 1, date, window()), Ok(()));
    time.set_wall(date + seconds(86_400));
    memory.forget();
    assert_eq!(memory.held(), 1, "a jump forward");
    time.set_wall(date);
    assert_eq!(claim(&memory, "A", 1, date, window()), Err(ClaimRefused::Reused), "and back");
}

#[test]
fn what_a_clock_set_back_would_admit_again_is_kept_however_long_it_was_held() {
    let (memory, clock, time) = fresh();
    let date = clock.now();
    assert_eq!(claim(&memory, "A", 1, date, window()), Ok(()));
    time.advance(seconds(901));
    time.set_wall(date);
    memory.forget();
    assert_eq!(
        (memory.held(), memory.floor() < super::Floor(date)),
        (1, true),
        "the floor is not raised into the window"
    );
    assert_eq!(claim(&memory, "A", 1, date, window()), Err(ClaimRefused::Reused));
}

#[test]
fn a_million_salts_in_all_generations_take_at_most_40_bytes_each() {
    let (clock, time) = Clock::manual(UNIX_EPOCH + seconds(START));
    let n: u64 = 1_000_000;
    let settings = MemorySettings {
        room: Room { max_salts: n as usize, max_salts_per_key: n as usize },
        when_new: WhenNew::Accept,
        window: window(),
    };
    let memory = Memory::new(clock.clone(), settings);
    let start = clock.now();
    time.advance(Duration::ZERO);
    for i in 0..n {
        let place = memory.reserve("A").unwrap();
        let id = (u128::from(i) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835).swap_bytes().to_le_bytes();
        // Evenly over the whole window: every generation is filled.
        let date = start - seconds(899) + Duration::from_millis(i * 1798 / 1000);
        assert!(matches!(memory.claim(place, id, date, window()), Claim::Now(Ok(()))));
    }
    let bytes = memory.heap_bytes() as f64 / n as f64;
    assert!(bytes <= 40.0, "{bytes} bytes a salt");
}

#[derive(Clone, Debug)]
enum Step {
    Claim { salt: u16, ahead: i64, window: u8 },
    Forget,
    Pass(u64),
    Jump(i64),
    Restart { further: u64, how: How },
}

/// How a life ends.
#[derive(Clone, Copy, Debug)]
enum How {
    Closed,
    Killed,
    /// The machine restarted, and what was written is there all the same or is not.
    PowerLost {
        kept: bool,
    },
}

/// A store through its lives.
trait Lives {
    fn begin(&mut self, clock: &Clock) -> Box<dyn SpentSalts>;
    fn restart(&mut self, store: Box<dyn SpentSalts>, how: How, clock: &Clock) -> Box<dyn SpentSalts>;
    /// Whether it remembers across lives, rather than being fenced off from them.
    fn survives(&self) -> bool;
}

struct InMemory;

impl Lives for InMemory {
    fn begin(&mut self, clock: &Clock) -> Box<dyn SpentSalts> {
        Box::new(memory(clock, WhenNew::Accept, windows(0)))
    }

    fn restart(&mut self, store: Box<dyn SpentSalts>, _: How, clock: &Clock) -> Box<dyn SpentSalts> {
        drop(store);
        Box::new(memory(clock, WhenNew::Fence, windows(0)))
    }

    fn survives(&self) -> bool {
        false
    }
}

/// A journal on disk; a life that was killed is what its files are at that moment.
struct OnDisk {
    dir: tempfile::TempDir,
    sync: JournalSync,
    life: u32,
    boots: u32,
}

impl OnDisk {
    fn new(sync: JournalSync) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), sync, life: 0, boots: 0 }
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join(self.life.to_string())
    }

    fn open(&self, clock: &Clock, when_new: WhenNew) -> Box<dyn SpentSalts> {
        let settings = JournalSettings {
            path: self.path(),
            room: Room { max_salts: MAX, max_salts_per_key: MAX / 2 },
            sync: self.sync,
            when_new,
            window: windows(0),
            boot_id: format!("boot {}", self.boots),
            discard: false,
        };
        Box::new(Journal::open(clock.clone(), settings).unwrap())
    }
}

/// Copies a journal but for its lock; false if it changed meanwhile.
fn snapshot(from: &Path, to: &Path) -> bool {
    let state = || std::fs::read(from.join("state.json")).unwrap();
    let before = state();
    drop(std::fs::remove_dir_all(to));
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let file = entry.unwrap();
        if file.file_name() != "lock" && std::fs::copy(file.path(), to.join(file.file_name())).is_err() {
            return false;
        }
    }
    state() == before
}

impl Lives for OnDisk {
    fn begin(&mut self, clock: &Clock) -> Box<dyn SpentSalts> {
        self.open(clock, WhenNew::Accept)
    }

    fn restart(&mut self, store: Box<dyn SpentSalts>, how: How, clock: &Clock) -> Box<dyn SpentSalts> {
        match how {
            How::Closed => drop(store),
            How::Killed | How::PowerLost { .. } => {
                let old = self.path();
                self.life += 1;
                // The keeper may be at work: what counts is one moment, as a kill is.
                while !snapshot(&old, &self.path()) {}
                drop(store);
                std::fs::remove_dir_all(old).unwrap();
            }
        }
        if let How::PowerLost { kept } = how {
            self.boots += 1;
            if !kept && self.sync != JournalSync::Each {
                for entry in std::fs::read_dir(self.path()).unwrap() {
                    let path = entry.unwrap().path();
                    if path.extension().is_some_and(|ext| ext == "salts") {
                        let length = std::fs::metadata(&path).unwrap().len() as usize;
                        std::fs::write(&path, vec![0; length]).unwrap();
                    }
                }
            }
        }
        self.open(clock, WhenNew::Fence)
    }

    fn survives(&self) -> bool {
        true
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let how =
        prop_oneof![Just(How::Closed), Just(How::Killed), any::<bool>().prop_map(|kept| How::PowerLost { kept }),];
    let step = prop_oneof![
        8 => (0..40_u16, -1200..1200_i64, 0..4_u8).prop_map(|(salt, ahead, window)| Step::Claim { salt, ahead, window }),
        2 => Just(Step::Forget),
        2 => (1..1500_u64).prop_map(Step::Pass),
        1 => (-5000..5000_i64).prop_map(Step::Jump),
        1 => (0..2000_u64, how).prop_map(|(further, how)| Step::Restart { further, how }),
    ];
    proptest::collection::vec(step, 1..200)
}

fn windows(n: u8) -> Window {
    [(900, 900), (60, 60), (1800, 300), (5, 1200)].map(|(p, f)| Window { past: seconds(p), future: seconds(f) })
        [usize::from(n)]
}

fn shifted(at: SystemTime, by: i64) -> SystemTime {
    if by < 0 { at - seconds(by.unsigned_abs()) } else { at + seconds(by.unsigned_abs()) }
}

/// Drives a store with these steps, against a model that never forgets.
fn hold(steps: Vec<Step>, lives: &mut dyn Lives) -> Result<(), TestCaseError> {
    let (clock, time) = Clock::manual(UNIX_EPOCH + seconds(START));
    let mut store = lives.begin(&clock);
    // A salt has one date: it was signed once.
    let mut dates: HashMap<u16, SystemTime> = HashMap::new();
    let mut spent: HashMap<u16, SystemTime> = HashMap::new();
    // How far ahead any life so far may have admitted: what a fence must cover.
    let mut reach = clock.now();
    for step in steps {
        let floor = store.floor();
        // What was forgotten last may not be on disk when a life is killed, nor removed from it.
        let may_fall = matches!(step, Step::Restart { how: How::Killed | How::PowerLost { .. }, .. })
            || !lives.survives() && matches!(step, Step::Restart { .. });
        match step {
            Step::Claim { salt, ahead, window } => {
                let window = windows(window);
                let date = *dates.entry(salt).or_insert_with(|| shifted(clock.now(), ahead));
                reach = reach.max(clock.now() + window.future);
                match claim(&*store, "KEY", salt, date, window) {
                    Ok(()) => {
                        prop_assert!(date > floor.0, "admitted at or below the floor");
                        prop_assert!(date > clock.now() - window.past && date < clock.now() + window.future);
                        prop_assert!(spent.insert(salt, date).is_none(), "salt {} was spent twice", salt);
                    }
                    Err(ClaimRefused::Reused) => prop_assert!(spent.contains_key(&salt)),
                    Err(_) => {}
                }
            }
            Step::Forget => store.forget(),
            Step::Pass(s) => time.advance(seconds(s)),
            Step::Jump(by) => time.set_wall(shifted(clock.now(), by)),
            Step::Restart { further, how } => {
                // A fence covers a life whose clock and window reached no further than its own.
                if !lives.survives() || matches!(how, How::PowerLost { .. }) {
                    let earliest = reach - windows(0).future;
                    time.set_wall(clock.now().max(earliest) + seconds(further));
                }
                store = lives.restart(store, how, &clock);
            }
        }
        prop_assert!(may_fall || store.floor() >= floor, "the floor fell");
        // Whatever is above the floor and was spent is remembered: asked with a window so wide
        // that nothing but memory and floor can refuse.
        let wide = Window { past: seconds(1_000_000), future: seconds(1_000_000) };
        for (n, date) in &spent {
            let again = claim(&*store, "PROBE", *n, *date, wide);
            prop_assert!(again.is_err(), "salt {} could be spent again", n);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn the_theorem(steps in steps()) {
        hold(steps, &mut InMemory)?;
    }
}

proptest! {
    // Each life of a journal syncs to a real disk.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_theorem_holds_on_disk(steps in steps(), each in any::<bool>()) {
        let sync = if each { JournalSync::Each } else { JournalSync::Every(Duration::from_millis(10)) };
        hold(steps, &mut OnDisk::new(sync))?;
    }
}
