//! A journal against an adversary who owns its disk and damages files, restores older copies and sets the clock,
//! between clean closes, kills and losses of power. No spent salt is ever admitted again: a journal that may lack
//! salts refuses to start, or starts behind the fence.
//!
//! Left out is what cannot be detected: restoring journal and witness together, and files with forged checksums.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::journal::TestControl;
use super::{
    Claim, ClaimRefused, Journal, JournalError, JournalSettings, JournalSync, Mark, Room, SpentSalts, WhenNew, Window,
};
use crate::adversary::{Dice, directory, rounds_and_seed};
use crate::clock::{Clock, ManualTime};
use crate::credential::SaltId;

const RECORD: u64 = 32;
const WINDOW: Window = Window { past: Duration::from_secs(900), future: Duration::from_secs(900) };
const DAYS_400: u64 = 400 * 86_400;

#[test]
fn no_spent_salt_passes_whatever_is_done_to_the_disk() {
    run(true);
}

#[test]
fn no_spent_salt_passes_without_a_record_either() {
    run(false);
}

fn run(record: bool) {
    let (rounds, seed) = rounds_and_seed(300);
    let mut world = World::new(seed, record);
    for round in 0..rounds {
        world.round(round);
    }
    let Tally { refused, fenced, unharmed } = world.tally;
    println!("{rounds} rounds: {refused} refused, {fenced} fenced, {unharmed} went on as if nothing had been");
    assert!(refused > rounds / 20 && fenced > rounds / 20 && unharmed > rounds / 20, "each of them is met");
}

/// A backup of a journal's files.
struct Backup {
    files: Vec<(String, Vec<u8>)>,
    /// A hard link to the file that was its state.
    state: PathBuf,
    witness: (String, Vec<u8>),
}

#[derive(Default)]
struct Tally {
    refused: u64,
    fenced: u64,
    unharmed: u64,
}

struct World {
    dir: tempfile::TempDir,
    dice: Dice,
    clock: Clock,
    time: ManualTime,
    /// Whether the witness is next to a record, and not in the journal.
    record: bool,
    /// The correct time, in seconds since 1970.
    truth: u64,
    boots: u32,
    sync: JournalSync,
    spent: HashMap<u64, SystemTime>,
    salts: u64,
    backups: Vec<Backup>,
    links: u32,
    tally: Tally,
    /// What happened in this test, for the message of a failure.
    story: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Closed,
    Killed,
    PowerLost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    Nothing,
    Bits,
    LastRecord,
    Overwrite,
    CopyOfARecord,
    SwapOfRecords,
    SwapOfFiles,
    Cut,
    RemoveAFile,
    RemoveAll,
    RestoreAll,
    RestoreAllInPlace,
    RestoreAFileInPlace,
    RestoreTheStateItself,
    RemoveTheWitness,
    RestoreTheWitness,
}

const HARMS: [Harm; 16] = [
    Harm::Nothing,
    Harm::Bits,
    Harm::LastRecord,
    Harm::Overwrite,
    Harm::CopyOfARecord,
    Harm::SwapOfRecords,
    Harm::SwapOfFiles,
    Harm::Cut,
    Harm::RemoveAFile,
    Harm::RemoveAll,
    Harm::RestoreAll,
    Harm::RestoreAllInPlace,
    Harm::RestoreAFileInPlace,
    Harm::RestoreTheStateItself,
    Harm::RemoveTheWitness,
    Harm::RestoreTheWitness,
];

fn salt(n: u64) -> SaltId {
    SaltId::from_stored((u128::from(n) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835).to_be_bytes())
}

fn claim(journal: &Journal, n: u64, date: SystemTime) -> Result<(), ClaimRefused> {
    let Ok(reservation) = journal.reserve("KEY") else { return Err(ClaimRefused::Unknown) };
    match journal.claim(reservation, salt(n), date, WINDOW, Mark::default()) {
        Claim::Now(answer) => answer,
        Claim::Later(answer) => tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(answer),
    }
}

impl World {
    fn new(seed: u64, record: bool) -> Self {
        let truth = 1_800_000_000;
        let (clock, time) = Clock::manual(UNIX_EPOCH + Duration::from_secs(truth));
        let dir = directory();
        fs::create_dir(dir.path().join("record")).unwrap();
        Self {
            dir,
            dice: Dice(seed),
            clock,
            time,
            record,
            truth,
            boots: 0,
            sync: JournalSync::Os,
            spent: HashMap::new(),
            salts: 0,
            backups: Vec::new(),
            links: 0,
            tally: Tally::default(),
            story: String::new(),
        }
    }

    fn journal(&self) -> PathBuf {
        self.dir.path().join("journal")
    }

    fn open(&self, discard: bool) -> Result<Journal, JournalError> {
        let settings = JournalSettings {
            path: self.journal(),
            room: Room { max_salts: 1_000_000, max_salts_per_key: 1_000_000 },
            sync: self.sync,
            when_new: if self.spent.is_empty() { WhenNew::Accept } else { WhenNew::Fence },
            window: WINDOW,
            boot_id: format!("boot {}", self.boots),
            discard,
            witness_in: self.record.then(|| self.witnesses()),
        };
        Journal::open(self.clock.clone(), settings)
    }

    fn round(&mut self, round: u64) {
        let tick = Duration::from_millis(5);
        self.sync = self.dice.pick(&[JournalSync::Os, JournalSync::Every(tick), JournalSync::Each]);
        let floor = |journal: &Journal| journal.floor().0;
        let journal = self.open(false).unwrap_or_else(|error| panic!("what was mended opens: {error}"));
        self.live(&journal);
        let harm = match self.dice.pick(&HARMS) {
            // The witness is restored with the journal that it is in.
            Harm::RestoreAllInPlace if !self.record => Harm::RestoreAll,
            harm => harm,
        };
        let ended = self.dice.pick(&[Ended::Closed, Ended::Closed, Ended::Killed, Ended::Killed, Ended::PowerLost]);
        self.story = format!("round {round}: {harm:?} after {ended:?} with {:?}", self.sync);
        let before = floor(&journal);
        self.end(journal, ended, harm);
        let mut done = self.harm(harm);
        // After a clean close the state alone shows what was there, unless the state was restored too.
        let knows = ended == Ended::Closed && !matches!(harm, Harm::RestoreAllInPlace | Harm::RestoreTheStateItself);
        let both = knows && self.journal().exists() && self.dice.one_in(3);
        if both {
            self.story += " and RestoreTheWitness";
            done |= self.harm(Harm::RestoreTheWitness);
        }
        // If everything that knows the reach is gone or older, only the clock is left.
        let unknown = both || !self.record && matches!(harm, Harm::RemoveAll | Harm::RestoreAll);
        if unknown {
            self.set_right();
            self.forget_what_only_a_wrong_clock_admits();
        } else if self.dice.one_in(6) {
            self.set_clock();
        }
        match self.open(false) {
            Ok(journal) => {
                self.holds(&journal);
                let fenced = floor(&journal) > before;
                self.clear_away();
                if fenced {
                    self.tally.fenced += 1;
                } else {
                    self.tally.unharmed += 1;
                }
                let lost_power = ended == Ended::PowerLost && self.sync != JournalSync::Each;
                assert!(done || lost_power || !fenced, "it is fenced without a reason: {}", self.story);
                drop(journal);
            }
            Err(error) => {
                self.tally.refused += 1;
                let told = error.to_string();
                assert!(done, "it is refused without a reason: {}: {told}", self.story);
                assert!(told.contains(&*self.journal().to_string_lossy()), "{}: {told}", self.story);
                assert!(told.contains("--discard-replay-journal") || told.contains("format"), "{}: {told}", self.story);
                // An operator corrects the clock before discarding.
                self.set_right();
                let journal = self.open(true).unwrap_or_else(|error| panic!("{}: {error}", self.story));
                assert!(journal.fenced_until().is_some(), "{}", self.story);
                self.forget_what_only_a_wrong_clock_admits();
                self.holds(&journal);
                drop(journal);
                self.clear_away();
            }
        }
        self.mend_clock();
        // By the correct time, these dates left the window long ago.
        let old = UNIX_EPOCH + Duration::from_secs(self.truth) - 20 * WINDOW.past;
        self.spent.retain(|_, date| *date > old);
    }

    /// Spends, replays, forgets, lets time pass, and sometimes takes a backup.
    fn live(&mut self, journal: &Journal) {
        for _ in 0..self.dice.roll(25) {
            match self.dice.roll(10) {
                0 => {
                    let seconds = 1 + self.dice.roll(700);
                    self.truth += seconds;
                    self.time.advance(Duration::from_secs(seconds));
                }
                1 => journal.forget(),
                2 => self.replay(journal),
                3 if self.dice.one_in(3) => self.back_up(journal),
                // Enough to reach the next segment often.
                4 if self.dice.one_in(8) => (0..150).for_each(|_| self.spend(journal)),
                _ => self.spend(journal),
            }
        }
    }

    fn spend(&mut self, journal: &Journal) {
        self.salts += 1;
        let date = self.clock.now() - Duration::from_secs(890) + Duration::from_secs(self.dice.roll(1780));
        if claim(journal, self.salts, date).is_ok() {
            self.spent.insert(self.salts, date);
        }
    }

    fn replay(&mut self, journal: &Journal) {
        let known: Vec<u64> = self.spent.keys().copied().collect();
        if !known.is_empty() {
            let n = self.dice.pick(&known);
            assert!(claim(journal, n, self.spent[&n]).is_err(), "salt {n} was spent twice: {}", self.story);
        }
    }

    /// Checks that every spent salt above the floor is remembered.
    fn holds(&self, journal: &Journal) {
        let floor = journal.floor().0;
        for (n, date) in &self.spent {
            let remembered = matches!(journal.look_up(salt(*n)), super::LookUp::Now(Some(true)));
            assert!(*date <= floor || remembered, "salt {n} could be spent again: {}", self.story);
        }
    }

    fn end(&mut self, journal: Journal, ended: Ended, harm: Harm) {
        let control: TestControl = journal.test_control();
        if ended != Ended::Closed {
            // The witness is one tick of the background thread behind, and a backup may be younger than that.
            if harm != Harm::Nothing {
                control.settle();
            }
            control.kill();
        }
        drop(journal);
        // Without a heartbeat in the file, the next start need not watch for one.
        drop(fs::remove_file(self.journal().join("lock")));
        self.boots += u32::from(ended == Ended::PowerLost);
    }

    fn back_up(&mut self, journal: &Journal) {
        if self.dice.one_in(2) {
            journal.test_control().settle();
        }
        self.links += 1;
        let state = self.dir.path().join(format!("link {}", self.links));
        // The state must not be replaced during the backup.
        let Ok(()) = fs::hard_link(self.journal().join("state.json"), &state) else { return };
        let mut files = Vec::new();
        for path in self.files() {
            let Ok(bytes) = fs::read(&path) else { return };
            files.push((path.file_name().unwrap().to_str().unwrap().to_owned(), bytes));
        }
        let Some(witness) = self.witness() else { return };
        let name = witness.file_name().unwrap().to_str().unwrap().to_owned();
        let witness = (name, fs::read(witness).unwrap());
        let backup = Backup { files, state, witness };
        if self.backups.len() < 6 {
            self.backups.push(backup);
        } else {
            let slot = self.dice.roll(6) as usize;
            drop(fs::remove_file(&self.backups[slot].state));
            self.backups[slot] = backup;
        }
    }

    /// The paths of the state and the segments, in order.
    fn files(&self) -> Vec<PathBuf> {
        let all = fs::read_dir(self.journal()).unwrap().map(|entry| entry.unwrap().path());
        let is_one = |path: &PathBuf| path.is_file() && !path.ends_with("lock") && !is_witness(path);
        let mut files: Vec<PathBuf> = all.filter(is_one).collect();
        files.sort();
        files
    }

    fn segments(&self) -> Vec<PathBuf> {
        self.files().into_iter().filter(|path| path.extension().is_some_and(|it| it == "salts")).collect()
    }

    /// The directory of the witness.
    fn witnesses(&self) -> PathBuf {
        if self.record { self.dir.path().join("record") } else { self.journal() }
    }

    fn witness(&self) -> Option<PathBuf> {
        let all = fs::read_dir(self.witnesses()).ok()?.map(|entry| entry.unwrap().path());
        // The witness that was written last belongs to the present journal.
        all.filter(|path| is_witness(path)).max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap())
    }

    /// Deletes discarded files, and the witnesses of earlier journals.
    fn clear_away(&self) {
        let all = |dir: PathBuf| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        all(self.journal()).filter(|path| path.is_dir()).for_each(|aside| fs::remove_dir_all(aside).unwrap());
        let witness = self.witness();
        let others = all(self.witnesses()).filter(|path| is_witness(path) && Some(path) != witness.as_ref());
        others.for_each(|path| fs::remove_file(path).unwrap());
    }

    /// Does the harm. Returns whether it can be detected.
    fn harm(&mut self, harm: Harm) -> bool {
        let before = self.contents();
        match harm {
            Harm::Nothing => {}
            Harm::Bits => {
                let files: Vec<PathBuf> = self.files().into_iter().chain(self.witness()).collect();
                let file = files[self.dice.roll(files.len() as u64) as usize].clone();
                for _ in 0..=self.dice.roll(3) {
                    let at = self.somewhere(&file);
                    let bit = self.dice.roll(8);
                    change(&file, at, 1, |bytes| bytes[0] ^= 1 << bit);
                }
            }
            Harm::LastRecord => {
                let Some((file, slot)) = self.last_record() else { return false };
                let kind = self.dice.roll(3);
                let (byte, bit) = (self.dice.roll(RECORD) as usize, self.dice.roll(8));
                change(&file, slot, RECORD, |bytes| match kind {
                    0 => bytes[byte] ^= 1 << bit,
                    1 => bytes.fill(0),
                    _ => bytes[byte..].fill(0),
                });
            }
            Harm::Overwrite => {
                let files = self.files();
                let file = files[self.dice.roll(files.len() as u64) as usize].clone();
                let (at, length) = (self.somewhere(&file), 1 + self.dice.roll(200));
                let with = self.dice.pick(&[0, 0, 0xff, 0x41]);
                change(&file, at, length, |bytes| bytes.fill(with));
            }
            Harm::CopyOfARecord | Harm::SwapOfRecords => {
                let segments = self.segments();
                let [one, other] = [(); 2].map(|()| {
                    let file = segments[self.dice.roll(segments.len() as u64) as usize].clone();
                    let slot = self.somewhere(&file) / RECORD * RECORD;
                    (file, slot)
                });
                let read = |(file, slot): &(PathBuf, u64)| {
                    fs::read(file).unwrap()[*slot as usize..(*slot + RECORD) as usize].to_vec()
                };
                let (first, second) = (read(&one), read(&other));
                change(&other.0, other.1, RECORD, |bytes| bytes.copy_from_slice(&first));
                if harm == Harm::SwapOfRecords {
                    change(&one.0, one.1, RECORD, |bytes| bytes.copy_from_slice(&second));
                }
            }
            Harm::SwapOfFiles => {
                let files = self.files();
                let [one, other] = [(); 2].map(|()| files[self.dice.roll(files.len() as u64) as usize].clone());
                let (first, second) = (fs::read(&one).unwrap(), fs::read(&other).unwrap());
                fs::write(&one, second).unwrap();
                fs::write(&other, first).unwrap();
            }
            Harm::Cut => {
                let files = self.files();
                let file = files[self.dice.roll(files.len() as u64) as usize].clone();
                let length = self.dice.roll(fs::metadata(&file).unwrap().len() + 100);
                fs::File::options().write(true).open(file).unwrap().set_len(length).unwrap();
            }
            Harm::RemoveAFile => {
                let files = self.files();
                fs::remove_file(&files[self.dice.roll(files.len() as u64) as usize]).unwrap();
            }
            Harm::RemoveAll => fs::remove_dir_all(self.journal()).unwrap(),
            Harm::RestoreAll => {
                let Some(backup) = self.backup() else { return false };
                fs::remove_dir_all(self.journal()).unwrap();
                fs::create_dir(self.journal()).unwrap();
                write(&self.journal(), &self.backups[backup].files);
                if let (false, (name, bytes)) = (self.record, &self.backups[backup].witness) {
                    fs::write(self.journal().join(name), bytes).unwrap();
                }
                // These are new files, whatever is in them.
                return true;
            }
            Harm::RestoreAllInPlace => {
                let Some(backup) = self.backup() else { return false };
                write(&self.journal(), &self.backups[backup].files);
            }
            Harm::RestoreAFileInPlace => {
                let Some(backup) = self.backup() else { return false };
                let files = &self.backups[backup].files;
                let one = self.dice.roll(files.len() as u64) as usize;
                write(&self.journal(), &files[one..=one]);
            }
            Harm::RestoreTheStateItself => {
                let Some(backup) = self.backup() else { return false };
                let kept = self.dir.path().join("kept");
                drop(fs::remove_file(&kept));
                fs::hard_link(&self.backups[backup].state, &kept).unwrap();
                fs::rename(&kept, self.journal().join("state.json")).unwrap();
            }
            Harm::RemoveTheWitness => self.witness().iter().for_each(|path| fs::remove_file(path).unwrap()),
            Harm::RestoreTheWitness => {
                let (Some(backup), Some(path)) = (self.backup(), self.witness()) else { return false };
                fs::write(path, &self.backups[backup].witness.1).unwrap();
            }
        }
        before != self.contents()
    }

    fn contents(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let files = if self.journal().exists() { self.files() } else { Vec::new() };
        files.into_iter().chain(self.witness()).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }

    fn backup(&mut self) -> Option<usize> {
        let backups = self.backups.len() as u64;
        (backups > 0).then(|| self.dice.roll(backups) as usize)
    }

    /// A random byte of a file; in a segment mostly one that is in use.
    fn somewhere(&mut self, file: &Path) -> u64 {
        let length = fs::metadata(file).unwrap().len();
        let matters = if self.dice.one_in(4) { length } else { length.min(RECORD * 60) };
        self.dice.roll(matters)
    }

    /// The last record of the last segment that has any.
    fn last_record(&self) -> Option<(PathBuf, u64)> {
        self.segments().into_iter().rev().find_map(|file| {
            let bytes = fs::read(&file).unwrap();
            let is_record = |slot: &usize| bytes[slot * 32..slot * 32 + 28].iter().any(|byte| *byte != 0xff);
            let slots = (1..bytes.len() / 32).take_while(is_record).count() as u64;
            (slots > 0).then_some((file, slots * RECORD))
        })
    }

    /// Sets the clock wrong by 400 days.
    fn set_clock(&mut self) {
        let off = Duration::from_secs(DAYS_400);
        let right = UNIX_EPOCH + Duration::from_secs(self.truth);
        let wall = if self.dice.one_in(2) { right + off } else { right - off };
        self.story += &format!(", the clock at {}", if wall > right { "+400 days" } else { "-400 days" });
        self.time.set_wall(wall);
    }

    fn set_right(&self) {
        self.time.set_wall(UNIX_EPOCH + Duration::from_secs(self.truth));
    }

    /// Sometimes corrects the clock. If a wrong clock raised the floor, lowers it as an operator would.
    fn mend_clock(&mut self) {
        if self.dice.one_in(2) {
            return;
        }
        self.set_right();
        let boot = format!("boot {}", self.boots);
        match Journal::reset_clock(&self.clock, &self.journal(), WINDOW, &boot) {
            Ok(super::Reset::Done { .. }) => self.forget_what_only_a_wrong_clock_admits(),
            Ok(super::Reset::NotNeeded { .. }) => {}
            Err(error) => panic!("{}: {error}", self.story),
        }
    }

    /// Salts spent under a clock that was ahead are beyond every fence of a correct one.
    fn forget_what_only_a_wrong_clock_admits(&mut self) {
        let newest = UNIX_EPOCH + Duration::from_secs(self.truth) + WINDOW.future;
        self.spent.retain(|_, date| *date <= newest);
    }
}

fn is_witness(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "witness")
}

fn write(directory: &Path, files: &[(String, Vec<u8>)]) {
    files.iter().for_each(|(name, bytes)| fs::write(directory.join(name), bytes).unwrap());
}

fn change(file: &Path, at: u64, length: u64, change: impl FnOnce(&mut [u8])) {
    let file = fs::File::options().read(true).write(true).open(file).unwrap();
    let length = length.min(file.metadata().unwrap().len().saturating_sub(at));
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, at).unwrap();
    if !bytes.is_empty() {
        change(&mut bytes);
    }
    file.write_all_at(&bytes, at).unwrap();
}
