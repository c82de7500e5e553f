//! Property tests of the stores against a model that never forgets: whatever happens, in any order, every spent salt
//! above the floor is remembered, and nothing at or below the floor is admitted.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;

use super::journal::TestControl;
use super::{
    Claim, ClaimRefused, Journal, JournalSettings, JournalSync, Mark, Memory, MemorySettings, OutOfWindow, Room,
    SpentSalts, Unavailable, WhenNew, Window,
};
use crate::clock::{Clock, ManualTime};
use crate::credential::SaltId;

const START: u64 = 1_800_000_000;
const MAX: usize = 64;

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn salt(n: u16) -> SaltId {
    // Spread over the shards like a keyed hash.
    let spread = (u128::from(n) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
    SaltId::from_stored(spread.to_be_bytes())
}

fn memory(clock: &Clock, when_new: WhenNew, window: Window) -> Memory {
    Memory::new(
        clock.clone(),
        MemorySettings { room: Room { max_salts: MAX, max_salts_per_key: MAX / 2 }, when_new, window },
    )
}

fn claim(store: &dyn SpentSalts, key: &str, n: u16, date: SystemTime, window: Window) -> Result<(), ClaimRefused> {
    let Ok(reservation) = store.reserve(key) else { return Err(ClaimRefused::Unknown) };
    match store.claim(reservation, salt(n), date, window, Mark::default()) {
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
    // Few enough that all threads get a reservation at once: each must arrive at the barrier.
    for n in 0..40 {
        let barrier = Arc::new(std::sync::Barrier::new(16));
        let threads: Vec<_> = (0..16)
            .map(|_| {
                let (memory, barrier) = (memory.clone(), barrier.clone());
                std::thread::spawn(move || {
                    let reservation = memory.reserve(&format!("KEY{n}")).unwrap();
                    barrier.wait();
                    matches!(memory.claim(reservation, salt(n), date, window(), Mark::default()), Claim::Now(Ok(())))
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
fn no_key_exceeds_its_share_and_unused_reservations_are_released() {
    let (memory, clock, _) = fresh();
    let reservations: Vec<_> = (0..MAX / 2).map(|_| memory.reserve("A").unwrap()).collect();
    assert_eq!(memory.reserve("A").err(), Some(Unavailable::KeyShare));
    assert_eq!(claim(&memory, "B", 1, clock.now(), window()), Ok(()), "another key has its own share");
    drop(reservations);
    assert_eq!(claim(&memory, "A", 2, clock.now(), window()), Ok(()));
    assert_eq!(memory.held(), 2);
}

#[test]
fn a_fence_admits_nothing_that_an_earlier_run_may_have_admitted() {
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
fn expired_salts_are_forgotten_and_the_floor_rises() {
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
fn salts_that_a_clock_set_back_would_admit_again_are_kept() {
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
fn a_million_salts_in_all_generations_take_at_most_17_bytes_each() {
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
        let reservation = memory.reserve("A").unwrap();
        let id = (u128::from(i) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835).swap_bytes().to_le_bytes();
        // Spread evenly over the window, so that every generation is filled.
        let date = start - seconds(899) + Duration::from_millis(i * 1798 / 1000);
        assert!(matches!(
            memory.claim(reservation, SaltId::from_stored(id), date, window(), Mark::default()),
            Claim::Now(Ok(()))
        ));
    }
    let bytes = memory.heap_bytes() as f64 / n as f64;
    assert!(bytes <= 17.0, "{bytes} bytes a salt");
}

#[derive(Clone, Debug)]
enum Step {
    Claim { salt: u16, ahead: i64, window: u8 },
    Forget,
    Pass(u64),
    Jump(i64),
    Restart { further: u64, how: How },
}

/// How a run ends.
#[derive(Clone, Copy, Debug)]
enum How {
    Closed,
    Killed,
    /// The machine restarted, and unsynced records are still there or not.
    PowerLost {
        kept: bool,
    },
}

/// A store that is started and ended several times.
trait Lives {
    fn begin(&mut self, clock: &Clock) -> Box<dyn SpentSalts>;
    fn restart(&mut self, store: Box<dyn SpentSalts>, how: How, clock: &Clock) -> Box<dyn SpentSalts>;
    /// Whether it remembers salts of earlier runs, instead of being fenced off from them.
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

/// A journal on disk.
struct OnDisk {
    dir: tempfile::TempDir,
    sync: JournalSync,
    control: Option<TestControl>,
    boots: u32,
}

impl OnDisk {
    fn new(sync: JournalSync) -> Self {
        // On a memory file system if there is one, so that syncs are fast.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        Self { dir, sync, control: None, boots: 0 }
    }

    fn open(&mut self, clock: &Clock, when_new: WhenNew) -> Box<dyn SpentSalts> {
        let settings = JournalSettings {
            path: self.dir.path().join("journal"),
            room: Room { max_salts: MAX, max_salts_per_key: MAX / 2 },
            sync: self.sync,
            when_new,
            window: windows(0),
            boot_id: format!("boot {}", self.boots),
            discard: false,
            witness_in: Some(self.dir.path().into()),
        };
        let journal = Journal::open(clock.clone(), settings).unwrap();
        self.control = Some(journal.test_control());
        Box::new(journal)
    }
}

impl Lives for OnDisk {
    fn begin(&mut self, clock: &Clock) -> Box<dyn SpentSalts> {
        self.open(clock, WhenNew::Accept)
    }

    fn restart(&mut self, store: Box<dyn SpentSalts>, how: How, clock: &Clock) -> Box<dyn SpentSalts> {
        match how {
            How::Closed => {}
            How::Killed | How::PowerLost { .. } => self.control.iter().for_each(TestControl::kill),
        }
        drop(store);
        if let How::PowerLost { kept } = how {
            self.boots += 1;
            if !kept && self.sync != JournalSync::Each {
                for entry in std::fs::read_dir(self.dir.path().join("journal")).unwrap() {
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

/// Runs these steps on a store and on a model that never forgets, and compares them.
fn hold(steps: Vec<Step>, lives: &mut dyn Lives) -> Result<(), TestCaseError> {
    let (clock, time) = Clock::manual(UNIX_EPOCH + seconds(START));
    let mut store = lives.begin(&clock);
    // A salt is signed once, so it has one date.
    let mut dates: HashMap<u16, SystemTime> = HashMap::new();
    let mut spent: HashMap<u16, SystemTime> = HashMap::new();
    // The latest date that any run so far may have admitted, which a fence must cover.
    let mut reach = clock.now();
    for step in steps {
        let floor = store.floor();
        // After a kill, the floor that was raised last may not be on disk.
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
                // A fence covers earlier runs whose clock and window reached no further than its own.
                if !lives.survives() || matches!(how, How::PowerLost { .. }) {
                    let earliest = reach - windows(0).future;
                    time.set_wall(clock.now().max(earliest) + seconds(further));
                }
                store = lives.restart(store, how, &clock);
            }
        }
        prop_assert!(may_fall || store.floor() >= floor, "the floor fell");
        // Every spent salt above the floor is remembered. The window is so wide that only the store and the floor can
        // refuse.
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
    // Each run of a journal opens, writes and closes files, so there are fewer cases.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_theorem_holds_on_disk(steps in steps(), each in any::<bool>()) {
        let sync = if each { JournalSync::Each } else { JournalSync::Every(Duration::from_millis(10)) };
        hold(steps, &mut OnDisk::new(sync))?;
    }
}
