//! What a journal does with what it finds at the start.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use super::segment::{RECORD, RECORDS};
use super::*;
use crate::clock::ManualTime;
use crate::replay::{Mark, OutOfWindow};

pub(super) const WINDOW: Window = Window { past: Duration::from_secs(900), future: Duration::from_secs(900) };

/// A journal with a record next to it.
pub(super) struct Fixture {
    _dir: tempfile::TempDir,
    pub(super) clock: Clock,
    pub(super) time: ManualTime,
    pub(super) settings: JournalSettings,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("record")).unwrap();
        let (clock, time) = Clock::manual(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let settings = JournalSettings {
            path: dir.path().join("replay"),
            room: Room { max_salts: 1_000_000, max_salts_per_key: 1_000_000 },
            sync: JournalSync::Os,
            when_new: WhenNew::Accept,
            window: WINDOW,
            boot_id: "one".into(),
            discard: false,
            witness_in: Some(dir.path().join("record")),
        };
        Self { _dir: dir, clock, time, settings }
    }

    pub(super) fn open(&self) -> Result<Journal, JournalError> {
        Journal::open(self.clock.clone(), self.settings.clone())
    }

    pub(super) fn refused(&self) -> String {
        self.open().err().expect("it must not open").to_string()
    }
}

/// Ends the journal as a kill would: the files stay as they are.
pub(super) fn kill(journal: Journal) {
    journal.test_control().kill();
}

pub(super) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file() && !path.ends_with("lock"));
    files.sort();
    files
}

pub(super) fn salts(directory: &Path) -> Vec<PathBuf> {
    files(directory).into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "salts")).collect()
}

fn salt(n: u32) -> SaltId {
    SaltId::from_stored((u128::from(n) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835).to_ne_bytes())
}

pub(super) fn spend(journal: &Journal, n: u32, date: SystemTime) -> Result<(), ClaimRefused> {
    let reservation = journal.reserve("KEY").map_err(|_| ClaimRefused::Unknown)?;
    answered(journal.claim(reservation, salt(n), date, WINDOW, Mark::default()))
}

fn answered(claim: Claim<'_>) -> Result<(), ClaimRefused> {
    in_one_poll([claim]).remove(0)
}

/// The results of claims that a worker polls in one event loop iteration.
fn in_one_poll<'j>(claims: impl IntoIterator<Item = Claim<'j>>) -> Vec<Result<(), ClaimRefused>> {
    let mut claims: Vec<_> = claims.into_iter().map(|claim| MaybeDone::of(Box::pin(claim.answer()))).collect();
    let all = std::future::poll_fn(|cx| {
        let waiting = claims.iter_mut().filter_map(|claim| claim.poll(cx).is_pending().then_some(())).count();
        if waiting == 0 { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    });
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(all);
    claims.into_iter().map(|claim| claim.1.unwrap()).collect()
}

struct MaybeDone<'j>(
    std::pin::Pin<Box<dyn Future<Output = Result<(), ClaimRefused>> + 'j>>,
    Option<Result<(), ClaimRefused>>,
);

impl<'j> MaybeDone<'j> {
    fn of(claim: std::pin::Pin<Box<dyn Future<Output = Result<(), ClaimRefused>> + 'j>>) -> Self {
        Self(claim, None)
    }

    fn poll(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        if self.1.is_none() {
            self.1 = Some(std::task::ready!(self.0.as_mut().poll(cx)));
        }
        std::task::Poll::Ready(())
    }
}

#[test]
fn an_empty_journal_is_fenced_or_accepted_as_configured() {
    let mut fixture = Fixture::new();
    fixture.settings.when_new = WhenNew::Fence;
    let journal = fixture.open().unwrap();
    assert_eq!(journal.fenced_until(), Some(fixture.clock.now() + WINDOW.future));
    drop(journal);
    fixture.settings.when_new = WhenNew::Accept;
    let again = fixture.open().unwrap();
    assert!(again.fenced_until().is_some(), "the floor survives a restart");
    drop(again);
    assert!(Fixture::new().open().unwrap().fenced_until().is_none());
}

#[test]
fn after_a_reboot_without_a_close_it_is_fenced_unless_each_salt_was_synced() {
    for (sync, closed, fenced) in [
        (JournalSync::Os, false, true),
        (JournalSync::Every(Duration::from_millis(10)), false, true),
        (JournalSync::Each, false, false),
        (JournalSync::Os, true, false),
    ] {
        let mut fixture = Fixture::new();
        fixture.settings.sync = sync;
        let journal = fixture.open().unwrap();
        let date = fixture.clock.now();
        assert_eq!(spend(&journal, 1, date), Ok(()));
        if closed {
            drop(journal)
        } else {
            kill(journal)
        }
        fixture.settings.boot_id = "two".into();
        let journal = fixture.open().unwrap();
        assert_eq!(journal.fenced_until().is_some(), fenced, "{sync:?}, closed: {closed}");
        assert!(spend(&journal, 1, date).is_err(), "{sync:?}, closed: {closed}");
    }
}

#[test]
fn a_newer_format_and_an_invalid_state_are_refused() {
    let fixture = Fixture::new();
    drop(fixture.open().unwrap());
    let state = fixture.settings.path.join("state.json");
    let text = fs::read_to_string(&state).unwrap();
    fs::write(&state, text.replace("\"version\":2", "\"version\":7")).unwrap();
    let told = fixture.refused();
    assert!(told.contains("state.json") && told.contains("format 7"), "{told}");
    fs::write(&state, "{}").unwrap();
    assert!(fixture.refused().contains("state.json"));
    fs::remove_file(&state).unwrap();
    assert!(fixture.refused().contains("(state.json) is not"), "salts without a state are no empty journal");
}

#[test]
fn a_journal_that_is_discarded_is_moved_aside_and_starts_behind_the_fence() {
    let mut fixture = Fixture::new();
    drop(fixture.open().unwrap());
    fs::write(&salts(&fixture.settings.path)[0], "damage").unwrap();
    fixture.refused();
    fixture.settings.discard = true;
    let journal = fixture.open().unwrap();
    // The fence also covers everything that the discarded journal may have admitted.
    assert!(journal.fenced_until().unwrap() >= fixture.clock.now() + WINDOW.future);
    let aside = fs::read_dir(&fixture.settings.path).unwrap().map(|entry| entry.unwrap().path()).find(|p| p.is_dir());
    assert_eq!(fs::read(&salts(&aside.unwrap())[0]).unwrap(), b"damage", "nothing is thrown away");
}

#[test]
fn a_second_process_is_refused() {
    let fixture = Fixture::new();
    let _first = fixture.open().unwrap();
    assert!(fixture.refused().contains("another process is using it"));
}

#[test]
fn space_is_freed_as_dates_are_forgotten() {
    let fixture = Fixture::new();
    let journal = fixture.open().unwrap();
    for n in 0..RECORDS * 5 / 2 {
        let date = fixture.clock.now();
        while spend(&journal, n, date) == Err(ClaimRefused::Unknown) {
            std::thread::yield_now(); // the background thread allocates a segment
        }
    }
    assert_eq!(journal.held() as u32, RECORDS * 5 / 2);
    assert!(salts(&fixture.settings.path).len() >= 3);
    fixture.time.advance(Duration::from_secs(1900));
    journal.forget();
    assert_eq!((journal.held(), journal.heap_bytes()), (0, 0));
    let floor = journal.floor();
    drop(journal);
    assert!(salts(&fixture.settings.path).len() <= 2, "the one in use, and the next");
    assert_eq!(fixture.open().unwrap().floor(), floor, "the floor is what stands for them");
}

#[test]
fn concurrent_claims_share_a_sync() {
    let mut fixture = Fixture::new();
    fixture.settings.sync = JournalSync::Each;
    let journal = fixture.open().unwrap();
    let date = fixture.clock.now();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let claims: Vec<_> = (0..200_u32)
        .map(|n| {
            let reservation = journal.reserve("KEY").unwrap();
            journal.claim(reservation, salt(n), date, WINDOW, Mark::default())
        })
        .collect();
    assert!(claims.iter().all(|claim| matches!(claim, Claim::Later(_))), "nothing is answered before it is on disk");
    runtime.block_on(async {
        for claim in claims {
            assert_eq!(claim.answer().await, Ok(()));
        }
    });
}

#[test]
fn without_room_for_the_next_segment_nothing_is_spent_and_it_recovers_by_itself() {
    let fixture = Fixture::new();
    let journal = fixture.open().unwrap();
    // Something in the place of the next file keeps it from being created, as a full disk would.
    let obstacle = fixture.settings.path.join("000000000003.salts");
    fs::create_dir(&obstacle).unwrap();
    let date = fixture.clock.now();
    let spent = (0..).find(|n| journal.reserve("KEY").is_err() || spend(&journal, *n, date).is_err()).unwrap();
    assert_eq!(spent, RECORDS * 2, "all the room there was");
    assert_eq!(journal.reserve("KEY").err(), Some(Unavailable::OutOfReach));
    let waited = |is_so: &dyn Fn() -> bool| {
        let clock = Clock::system();
        let started = clock.elapsed();
        while !is_so() {
            assert!(clock.elapsed() - started < Duration::from_secs(20), "timed out");
            std::thread::yield_now();
        }
    };
    waited(&|| matches!(journal.health(), StoreHealth::Gone(why) if why.contains("no room")));
    fs::remove_dir(&obstacle).unwrap();
    waited(&|| journal.health() == StoreHealth::Ok);
    assert_eq!(spend(&journal, spent, date), Ok(()), "it had spent nothing");
    assert_eq!(spend(&journal, 0, date), Err(ClaimRefused::Reused));
}

#[test]
fn after_a_clock_years_ahead_the_journal_recovers_behind_the_fence() {
    let fixture = Fixture::new();
    let right = fixture.clock.now();
    let year = Duration::from_secs(365 * 86_400);
    fixture.time.set_wall(right + year);
    let journal = fixture.open().unwrap();
    assert_eq!(spend(&journal, 1, fixture.clock.now()), Ok(()));
    fixture.time.advance(Duration::from_secs(1900));
    journal.forget();
    assert_eq!(spend(&journal, 2, fixture.clock.now()), Ok(()));
    fixture.time.set_wall(right);
    assert!(spend(&journal, 3, right).is_err(), "the floor is a year ahead");
    let reset = || Journal::reset_clock(&fixture.clock, &fixture.settings.path, WINDOW, "one");
    assert!(reset().err().unwrap().to_string().contains("another process"), "not while it is in use");
    drop(journal);
    assert!(matches!(reset().unwrap(), Reset::Done { to, .. } if to == right + WINDOW.future));
    assert!(matches!(reset().unwrap(), Reset::NotNeeded { .. }));
    let journal = fixture.open().unwrap();
    assert_eq!(journal.fenced_until(), Some(right + WINDOW.future));
    fixture.time.advance(WINDOW.future + Duration::from_secs(1));
    assert_eq!(spend(&journal, 3, fixture.clock.now()), Ok(()));
    fixture.time.set_wall(right + year + Duration::from_secs(1900));
    assert_eq!(spend(&journal, 2, fixture.clock.now()), Err(ClaimRefused::Reused), "what is remembered stays so");
}

#[test]
fn after_a_failed_sync_nothing_is_admitted_and_the_next_start_is_fenced() {
    let mut fixture = Fixture::new();
    fixture.settings.sync = JournalSync::Each;
    let journal = fixture.open().unwrap();
    let date = fixture.clock.now();
    assert_eq!(spend(&journal, 1, date), Ok(()));
    let reserved = journal.reserve("KEY").unwrap();
    journal.shared.fail_next_sync();
    assert_eq!(spend(&journal, 2, date), Err(ClaimRefused::Unknown));
    // A claim that was reserved before the sync failed.
    assert_eq!(answered(journal.claim(reserved, salt(3), date, WINDOW, Mark::default())), Err(ClaimRefused::Unknown));
    // The background thread tries again, and must not take it for repaired.
    fixture.time.advance(Duration::from_secs(1));
    journal.test_control().finish_work();
    assert_eq!(journal.reserve("KEY").err(), Some(Unavailable::OutOfReach));
    assert!(matches!(journal.health(), StoreHealth::Gone(why) if why.contains("until a restart")));
    drop(journal);
    assert!(fixture.open().unwrap().fenced_until().is_some(), "what failed to sync may be gone under the same kernel");
}

#[test]
fn a_kernel_without_a_boot_id_never_counts_as_the_same() {
    let mut fixture = Fixture::new();
    fixture.settings.boot_id = String::new();
    let journal = fixture.open().unwrap();
    assert_eq!(spend(&journal, 1, fixture.clock.now()), Ok(()));
    kill(journal);
    assert!(fixture.open().unwrap().fenced_until().is_some());
}

#[test]
fn after_an_interrupted_first_start_the_next_is_a_first_start() {
    for length in [0, RECORD, (RECORDS as usize + 1) * RECORD] {
        let fixture = Fixture::new();
        drop(fixture.open().unwrap());
        let first = &salts(&fixture.settings.path)[0].clone();
        let bytes = fs::read(first).unwrap();
        files(&fixture.settings.path).iter().for_each(|file| fs::remove_file(file).unwrap());
        fs::write(first, &bytes[..length]).unwrap();
        assert!(fixture.open().is_ok(), "{length} bytes");
    }
}

#[test]
fn an_interrupted_discard_does_not_look_like_a_first_start() {
    let mut fixture = Fixture::new();
    drop(fixture.open().unwrap());
    // An obstacle to the new state stops the start after the old files were moved.
    let obstacle = fixture.settings.path.join("state.json.new");
    fs::create_dir(&obstacle).unwrap();
    fixture.settings.discard = true;
    fixture.refused();
    fs::remove_dir(&obstacle).unwrap();
    fixture.time.advance(Duration::from_secs(1));
    fixture.settings.discard = false;
    assert!(fixture.refused().contains("--discard-replay-journal"));
    fixture.settings.discard = true;
    assert!(fixture.open().unwrap().fenced_until().is_some());
}

#[test]
fn a_journal_in_use_elsewhere_is_not_discarded() {
    let mut fixture = Fixture::new();
    drop(fixture.open().unwrap());
    let before = files(&fixture.settings.path);
    let beating = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let heart = {
        let (beating, lock) = (beating.clone(), fixture.settings.path.join("lock"));
        std::thread::spawn(move || {
            let mut beats = 1000_u64;
            while beating.load(std::sync::atomic::Ordering::Relaxed) {
                beats += 1;
                use std::os::unix::fs::FileExt;
                let file = fs::OpenOptions::new().write(true).open(&lock).unwrap();
                file.write_all_at(&beats.to_le_bytes(), 0).unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
        })
    };
    fixture.settings.discard = true;
    assert!(fixture.refused().contains("another process"));
    assert_eq!(files(&fixture.settings.path), before);
    beating.store(false, std::sync::atomic::Ordering::Relaxed);
    heart.join().unwrap();
}

#[test]
fn full_segments_are_not_kept_open() {
    let fixture = Fixture::new();
    let journal = fixture.open().unwrap();
    let date = fixture.clock.now();
    for n in 0..RECORDS * 5 / 2 {
        while spend(&journal, n, date) == Err(ClaimRefused::Unknown) {
            std::thread::yield_now(); // the background thread allocates a segment
        }
    }
    let open = fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
    let ours = open.filter(|path| path.starts_with(&fixture.settings.path) && !path.ends_with("lock")).count();
    assert!(ours <= 3, "{ours}: the one in use, the next, and perhaps one being made");
    kill(journal);
    drop(fixture.open().unwrap());
}

#[test]
fn forgotten_segments_are_removed_once_that_is_possible() {
    let fixture = Fixture::new();
    let journal = fixture.open().unwrap();
    let date = fixture.clock.now();
    for n in 0..RECORDS * 3 / 2 {
        while spend(&journal, n, date) == Err(ClaimRefused::Unknown) {
            std::thread::yield_now(); // the background thread allocates a segment
        }
    }
    let obstacle = fixture.settings.path.join("state.json.new");
    while fs::create_dir(&obstacle).is_err() {
        std::thread::yield_now(); // a state is being written
    }
    fixture.time.advance(Duration::from_secs(1900));
    journal.forget();
    journal.test_control().finish_work();
    assert!(salts(&fixture.settings.path)[0].ends_with("000000000001.salts"), "the new floor cannot be noted yet");
    fs::remove_dir(&obstacle).unwrap();
    fixture.time.advance(Duration::from_secs(5));
    journal.test_control().finish_work();
    assert!(!salts(&fixture.settings.path)[0].ends_with("000000000001.salts"), "it is there still");
}

#[test]
fn salts_spent_under_a_clock_years_ahead_do_not_keep_others_from_being_forgotten() {
    let fixture = Fixture::new();
    let right = fixture.clock.now();
    fixture.time.set_wall(right + Duration::from_secs(365 * 86_400));
    let journal = fixture.open().unwrap();
    let dates = (0..20).map(|n| fixture.clock.now() - Duration::from_secs(800) + Duration::from_secs(80 * n));
    dates.enumerate().for_each(|(n, date)| assert_eq!(spend(&journal, n as u32, date), Ok(())));
    drop(journal);
    fixture.time.set_wall(right);
    let journal = fixture.open().unwrap();
    for n in 0..100 {
        fixture.time.advance(Duration::from_secs(100));
        journal.forget();
        assert_eq!(spend(&journal, 100 + n, fixture.clock.now()), Ok(()));
    }
    assert!(journal.held() < 50, "{}", journal.held());
}

#[test]
fn records_that_could_not_be_written_are_written_once_that_is_possible() {
    let fixture = Fixture::new();
    let journal = fixture.open().unwrap();
    let date = fixture.clock.now();
    let ways: Vec<_> = (0..3).map(|_| journal.reserve("KEY").unwrap()).collect();
    journal.shared.log.fail_writes(true);
    for (n, way) in ways.into_iter().enumerate() {
        assert_eq!(
            answered(journal.claim(way, salt(n as u32), date, WINDOW, Mark::default())),
            Err(ClaimRefused::Unknown)
        );
    }
    assert_eq!(journal.reserve("KEY").err(), Some(Unavailable::OutOfReach));
    journal.shared.log.fail_writes(false);
    let is_mended = (0..10).any(|_| {
        fixture.time.advance(Duration::from_secs(1));
        journal.test_control().finish_work();
        journal.reserve("KEY").is_ok()
    });
    assert!(is_mended);
    kill(journal);
    let journal = fixture.open().unwrap();
    (0..3).for_each(|n| assert_eq!(spend(&journal, n, date), Err(ClaimRefused::Reused), "{n}"));
}

/// Makes these claims before any of them is answered.
fn claims(journal: &Journal, salts: std::ops::Range<u32>, date: SystemTime) -> Vec<Claim<'_>> {
    let reservations: Vec<_> = salts.clone().map(|_| journal.reserve("KEY").unwrap()).collect();
    reservations
        .into_iter()
        .zip(salts)
        .map(|(reservation, n)| journal.claim(reservation, salt(n), date, WINDOW, Mark::default()))
        .collect()
}

#[test]
fn claims_of_one_iteration_share_a_write_that_comes_before_their_answers() {
    let fixture = Fixture::new();
    let journal = fixture.open().unwrap();
    let date = fixture.clock.now();
    let writes = || journal.shared.log.writes.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(in_one_poll(claims(&journal, 0..30, date)), [Ok(()); 30]);
    assert_eq!((writes(), journal.shared.log.appended()), (1, 30));
    // Two writes if the batch crosses the end of a segment.
    drop(in_one_poll(claims(&journal, 1000..1000 + RECORDS - 40, date)));
    let before = writes();
    let last = in_one_poll(claims(&journal, 900_000..900_020, date));
    assert!(last.iter().all(Result::is_ok));
    assert_eq!(writes() - before, 2);
    kill(journal);
    let journal = fixture.open().unwrap();
    for n in [0, 29, 1000, 900_000, 900_019] {
        assert_eq!(spend(&journal, n, date), Err(ClaimRefused::Reused), "{n}");
    }
}

#[test]
fn a_batch_that_could_not_be_written_is_unknown_and_its_neighbours_are_not() {
    let fixture = Fixture::new();
    let journal = fixture.open().unwrap();
    let date = fixture.clock.now();
    assert_eq!(in_one_poll(claims(&journal, 0..3, date)), [Ok(()); 3]);
    let (missed, missed_too) = (claims(&journal, 3..6, date), journal.reserve("KEY").unwrap());
    journal.shared.log.fail_writes(true);
    assert_eq!(in_one_poll(missed), [Err(ClaimRefused::Unknown); 3]);
    assert_eq!(answered(journal.claim(missed_too, salt(6), date, WINDOW, Mark::default())), Err(ClaimRefused::Unknown));
    journal.shared.log.fail_writes(false);
    fixture.time.advance(Duration::from_secs(1));
    journal.shared.log.mend();
    assert_eq!(in_one_poll(claims(&journal, 7..10, date)), [Ok(()); 3]);
    kill(journal);
    let journal = fixture.open().unwrap();
    (0..10).for_each(|n| assert_eq!(spend(&journal, n, date), Err(ClaimRefused::Reused), "{n}"));
}

#[test]
fn claims_that_nobody_waited_for_are_written_at_a_clean_end() {
    let fixture = Fixture::new();
    let journal = fixture.open().unwrap();
    let date = fixture.clock.now();
    drop(claims(&journal, 0..3, date));
    drop(journal);
    let journal = fixture.open().unwrap();
    (0..3).for_each(|n| assert_eq!(spend(&journal, n, date), Err(ClaimRefused::Reused), "{n}"));
}

#[test]
fn a_claim_directly_after_a_clock_jump_is_covered_by_the_next_fence() {
    let mut fixture = Fixture::new();
    let journal = fixture.open().unwrap();
    let right = fixture.clock.now();
    let hour = Duration::from_secs(3600);
    fixture.time.set_wall(right + hour);
    let date = right + hour;
    assert_eq!(spend(&journal, 1, date), Ok(()));
    kill(journal);
    fixture.settings.boot_id = "two".into();
    fixture.time.set_wall(right);
    let journal = fixture.open().unwrap();
    fixture.time.advance(hour);
    assert_eq!(spend(&journal, 1, date), Err(ClaimRefused::OutOfWindow(OutOfWindow::BelowFloor)));
}
