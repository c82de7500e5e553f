//! The record under an adversary who can write to its disk: damages, removes, renames and swaps files, restores older
//! copies, removes the file that is being written, and starts gateways with the clock 400 days off.
//!
//! 1. `verify` reports everything that is lost or changed before the last kept head, and names the process.
//! 2. It reports nothing if nothing was done.
//! 3. No gateway changes what another wrote, or removes files that are not old enough.
//! 4. A gateway that starts with a damaged record writes its own chain. If its file is removed while it writes, it
//!    continues in another file, and everything it has confirmed as recorded can be read.
//!
//! Lines after the last kept head can be cut off unnoticed. The adversary has no access to the heads.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::tests::entry;
use super::verify::Finding;
use super::*;
use crate::adversary::{DAMAGES, Damage, Dice, directory, rounds_and_seed};
use crate::clock::ManualTime;

const DAY: u64 = 86_400;
const RETAIN: Duration = Duration::from_secs(90 * DAY);
/// How many instances a record gets before a new one is started, because every round reads all of them.
const MANY: usize = 14;

/// Contents by file name.
type Contents = BTreeMap<String, Vec<u8>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    Nothing,
    Damage(Damage),
    RemoveALine,
    RepeatALine,
    SwapLines,
    RemoveAFile,
    RemoveAProcess,
    RemoveAll,
    SwapFiles,
    Rename,
    CopyAsAnother,
    Compress,
    RestoreAFile,
    RestoreAll,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Theft {
    Remove,
    Rename,
    Replace,
    Truncate,
    RemoveTheDirectory,
}

struct World {
    dir: tempfile::TempDir,
    dice: Dice,
    clock: Clock,
    time: ManualTime,
    /// The right time, in seconds since 1970.
    truth: u64,
    /// For each file, when the run that last wrote to it started.
    lives: BTreeMap<String, u64>,
    /// For each file, when it was last written, by the clock of that run.
    dates: BTreeMap<String, SystemTime>,
    heads: Vec<ChainHead>,
    backups: Vec<Contents>,
    runtime: tokio::runtime::Runtime,
    deletions: u64,
    story: String,
    reported: u64,
    unharmed: u64,
    forgotten: usize,
}

#[test]
fn every_loss_before_a_kept_head_is_reported_whatever_is_done_to_the_disk() {
    let (rounds, seed) = rounds_and_seed(200);
    let mut world = World::new(seed);
    for round in 0..rounds {
        if world.instances().len() > MANY {
            let (seed, tally) = (world.dice.0, (world.reported, world.unharmed, world.forgotten));
            world = World::new(seed);
            (world.reported, world.unharmed, world.forgotten) = tally;
        }
        world.round(round);
    }
    let World { reported, unharmed, forgotten, .. } = world;
    println!("{rounds} rounds: {reported} reported, {unharmed} unharmed; {forgotten} files gone by retention");
    assert!(reported > rounds / 4 && unharmed > rounds / 20, "each of them is met");
}

impl World {
    fn new(seed: u64) -> Self {
        let truth = 1_800_000_000;
        let (clock, time) = Clock::manual(UNIX_EPOCH + Duration::from_secs(truth));
        Self {
            dir: directory(),
            dice: Dice(seed),
            clock,
            time,
            truth,
            lives: BTreeMap::new(),
            dates: BTreeMap::new(),
            heads: Vec::new(),
            backups: Vec::new(),
            runtime: tokio::runtime::Builder::new_current_thread().build().unwrap(),
            deletions: 0,
            story: String::new(),
            reported: 0,
            unharmed: 0,
            forgotten: 0,
        }
    }

    fn round(&mut self, round: u64) {
        self.story = format!("round {round}");
        if self.dice.one_in(20) {
            // No run is longer than the retention.
            self.pass(100 * DAY);
        }
        match self.dice.roll(8) {
            0 => self.life_with_a_theft(),
            1 => self.life_ahead(),
            _ => self.life(),
        }
        if self.heads.is_empty() || self.dice.one_in(2) {
            self.keep_heads();
        }
        if self.dice.one_in(3) {
            self.backups.push(self.contents());
            if self.backups.len() > 4 {
                self.backups.remove(0);
            }
        }
        self.meet_harm();
    }

    /// One run of a gateway, with a clock that is right or far behind.
    fn life(&mut self) {
        let behind = self.dice.one_in(6);
        if behind {
            self.time.set_wall(self.right() - Duration::from_secs(400 * DAY));
        }
        // A file written while the clock was behind counts as old as it claims, because nothing shows otherwise.
        let began = self.truth - if behind { 400 * DAY } else { 0 };
        let before = self.contents();
        let record = self.open();
        for _ in 0..self.dice.roll(12) {
            self.step(&record);
        }
        let killed = self.dice.one_in(2).then(|| self.snapshot());
        drop(record);
        if let Some(at) = killed {
            self.put(&at);
        }
        self.date_what_is_new(&before);
        let after = self.contents();
        for name in before.keys().filter(|name| !after.contains_key(*name)) {
            let age = self.truth - self.lives.remove(name).unwrap();
            assert!(age >= RETAIN.as_secs(), "{}: {name} was removed after {} days", self.story, age / DAY);
            self.forgotten += 1;
        }
        for (name, bytes) in &after {
            match before.get(name) {
                Some(was) => assert!(was == bytes, "{}: {name} was changed by another process", self.story),
                None => drop(self.lives.insert(name.clone(), began)),
            }
        }
        self.time.set_wall(self.right());
        if behind {
            // It looks like a forged one; only a head of its own shows that it is not.
            self.keep_heads();
        }
    }

    fn keep_heads(&mut self) {
        self.heads = heads(&self.path(), &mut Unread::default()).unwrap();
    }

    /// The files as a kill would leave them, at one moment while the writer may be running.
    fn snapshot(&self) -> Contents {
        let mut last = self.contents();
        loop {
            let now = self.contents();
            if now == last {
                return now;
            }
            last = now;
        }
    }

    /// A life with the clock 400 days ahead. What it wrote is moved away by whoever sets the clock right: its dates
    /// would look like a record without a gap to the next such clock.
    fn life_ahead(&mut self) {
        self.story += ", 400 days ahead";
        let before = self.contents();
        self.time.set_wall(self.right() + Duration::from_secs(400 * DAY));
        let record = self.open();
        for _ in 0..self.dice.roll(12) {
            self.step(&record);
        }
        drop(record);
        let after = self.contents();
        for (name, bytes) in &before {
            assert!(after.get(name) == Some(bytes), "{}: {name} is gone or changed", self.story);
        }
        self.put(&before);
        self.time.set_wall(self.right());
    }

    /// A run in which the file that is being written is removed. Afterwards the directory is restored.
    fn life_with_a_theft(&mut self) {
        let theft =
            self.dice.pick(&[Theft::Remove, Theft::Rename, Theft::Replace, Theft::Truncate, Theft::RemoveTheDirectory]);
        self.story += &format!(", {theft:?}");
        let before = self.contents();
        let settings = RecordSettings { rotate_size: 4096, ..RecordSettings::default() };
        let record = Record::open_in(&self.path(), settings, self.clock.clone(), |_| {}).unwrap();
        for _ in 0..self.dice.roll(4) {
            assert!(self.delete(&record), "{}", self.story);
        }
        let written = self.contents();
        let file = written.keys().filter(|name| !before.contains_key(*name)).max().unwrap();
        let path = self.path().join(file);
        match theft {
            Theft::Remove => fs::remove_file(&path).unwrap(),
            Theft::Rename => fs::rename(&path, path.with_extension("taken")).unwrap(),
            Theft::Replace => {
                fs::remove_file(&path).unwrap();
                fs::write(&path, &written[file]).unwrap();
            }
            Theft::Truncate => {
                let length = self.dice.below(written[file].len()) as u64;
                fs::File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
            }
            Theft::RemoveTheDirectory => fs::remove_dir_all(self.path()).unwrap(),
        }
        assert!(self.delete(&record), "{}: it goes on", self.story);
        assert!(record.was_begun_anew(), "{}", self.story);
        drop(record);
        let id = format!("\"{}\"", self.deletions);
        let found = self.contents().values().filter(|text| String::from_utf8_lossy(text).contains(&id)).count();
        assert!(found > 0, "{}: the sent deletion is recorded", self.story);
        let report = verify(&self.path(), &[], Retention::Unknown).unwrap();
        // A copy under the same name changes nothing; any other loss is reported, even without a head.
        assert!(theft == Theft::Replace || !report.faults.is_empty(), "{}: {report:?}", self.story);
        self.put(&before);
    }

    fn open(&mut self) -> Record {
        let settings = RecordSettings {
            sync: self.dice.pick(&[Sync::Each, Sync::Each, Sync::Os]),
            rotate_size: self.dice.pick(&[2048, 4096, 64 << 10]),
            retain: self.dice.pick(&[None, Some(RETAIN), Some(RETAIN)]),
            ..RecordSettings::default()
        };
        Record::open_in(&self.path(), settings, self.clock.clone(), |_| {}).unwrap()
    }

    fn step(&mut self, record: &Record) {
        match self.dice.roll(6) {
            0 | 1 => {
                let seconds = 60 + self.dice.roll(15 * DAY);
                self.pass(seconds);
            }
            2 => record.refused(&entry("refused"), "not_creator", Some(401)),
            3 => record.count("unknown_key", "id", None, None, None),
            _ => assert!(self.delete(record), "{}", self.story),
        }
    }

    fn delete(&mut self, record: &Record) -> bool {
        self.deletions += 1;
        let id = self.deletions.to_string();
        self.runtime.block_on(async {
            let Ok(intent) = record.open(entry(&id)).await else { return false };
            let _ = intent.close(Outcome::Deleted(200), "ok").await;
            true
        })
    }

    fn meet_harm(&mut self) {
        let (harm, before) = (self.choose(), self.contents());
        self.story += &format!(", {harm:?}");
        self.harm(harm, &before);
        let harmed = self.contents();
        let retention = Retention::For(RETAIN, self.right());
        let faults = self.faults(retention);
        let there = files::list(&self.path()).unwrap();
        for head in &self.heads {
            if self.is_lost(head, &before, &there) {
                let named = faults.iter().any(|fault| fault.file.contains(&head.instance));
                assert!(named, "{}: what {head} confirms is lost, but only this is reported: {faults:?}", self.story);
            }
        }
        assert!(harmed != before || faults.is_empty(), "{}: {faults:?}", self.story);
        if faults.is_empty() {
            self.unharmed += 1;
        } else {
            self.reported += 1;
        }
        // No reader fails; if a line looks like a newer format, every reader says so.
        let unread = &mut Unread::default();
        let read =
            [heads(&self.path(), unread).err(), unknown(&self.path(), unread).err(), abandoned(&self.path()).err()];
        for error in read.into_iter().flatten() {
            assert!(error.to_string().contains("format"), "{}: {error}", self.story);
        }
        // A gateway that starts here changes none of it.
        let record = Record::open_in(&self.path(), RecordSettings::default(), self.clock.clone(), |_| {}).unwrap();
        assert!(self.delete(&record), "{}", self.story);
        drop(record);
        let after = self.contents();
        assert!(harmed.iter().all(|(name, bytes)| after.get(name) == Some(bytes)), "{}", self.story);
        self.put(&before);
    }

    fn faults(&self, retention: Retention) -> Vec<Finding> {
        let mut faults = verify(&self.path(), &self.heads, retention).unwrap().faults;
        faults.extend(without_head(&self.path(), &self.heads, retention, self.right()).unwrap());
        faults
    }

    /// Whether a reader no longer finds everything up to this head.
    fn is_lost(&self, head: &ChainHead, before: &Contents, there: &[files::Instance]) -> bool {
        let segments = there.iter().find(|instance| instance.id == head.instance).map(|it| &it.segments[..]);
        let read = |number: u64| -> Vec<Vec<u8>> {
            let segment = segments.unwrap_or_default().iter().find(|segment| segment.number == number);
            let lines = segment.and_then(|segment| segment.lines().ok());
            lines.into_iter().flatten().map_while(Result::ok).filter(|line| line.whole).map(|line| line.bytes).collect()
        };
        (1..=head.file).any(|number| {
            let name = files::path(Path::new(""), &head.instance, number).display().to_string();
            // Already removed by retention.
            let Some(bytes) = before.get(&name) else { return false };
            let mut was: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
            was.pop();
            if number == head.file {
                was.truncate(head.line as usize);
            }
            let is = read(number);
            let due = clock::rfc3339(self.right() - RETAIN);
            let time =
                |line: &[u8]| serde_json::from_slice::<Value>(line).unwrap()["time"].as_str().unwrap().to_owned();
            if is.is_empty() && was.last().is_none_or(|last| time(last) <= due) {
                // Retention may have removed it.
                return false;
            }
            is.len() < was.len() || was.iter().zip(&is).any(|(was, is)| was != is)
        })
    }

    fn choose(&mut self) -> Harm {
        let damage = self.dice.pick(&DAMAGES);
        self.dice.pick(&[
            Harm::Nothing,
            Harm::Damage(damage),
            Harm::Damage(damage),
            Harm::RemoveALine,
            Harm::RepeatALine,
            Harm::SwapLines,
            Harm::RemoveAFile,
            Harm::RemoveAProcess,
            Harm::RemoveAll,
            Harm::SwapFiles,
            Harm::Rename,
            Harm::CopyAsAnother,
            Harm::Compress,
            Harm::RestoreAFile,
            Harm::RestoreAll,
        ])
    }

    fn harm(&mut self, harm: Harm, before: &Contents) {
        let names: Vec<&String> = before.keys().collect();
        if names.is_empty() {
            return;
        }
        let one = names[self.dice.below(names.len())].clone();
        let other = names[self.dice.below(names.len())].clone();
        let mut now = before.clone();
        match harm {
            Harm::Nothing => {}
            Harm::Damage(how) => how.to(now.get_mut(&one).unwrap(), &mut self.dice),
            Harm::RemoveALine | Harm::RepeatALine | Harm::SwapLines => {
                let mut lines: Vec<Vec<u8>> =
                    before[&one].split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
                if lines.is_empty() {
                    return;
                }
                let (at, with) = (self.dice.below(lines.len()), self.dice.below(lines.len()));
                match harm {
                    Harm::RemoveALine => drop(lines.remove(at)),
                    Harm::RepeatALine => lines.insert(with, lines[at].clone()),
                    _ => lines.swap(at, with),
                }
                now.insert(one, lines.concat());
            }
            Harm::RemoveAFile => drop(now.remove(&one)),
            Harm::RemoveAProcess => now.retain(|name, _| instance_of(name) != instance_of(&one)),
            Harm::RemoveAll => now.clear(),
            Harm::SwapFiles => {
                now.insert(one.clone(), before[&other].clone());
                now.insert(other, before[&one].clone());
            }
            Harm::Rename | Harm::CopyAsAnother => {
                let to = match self.dice.roll(4) {
                    0 => one.replace(instance_of(&one), "0123456789abcdef"),
                    1 => one.replace(".jsonl", ".jsonl.old"),
                    2 => one.replace("-0000", "-"),
                    _ => one.replace("-00000", "-10000"),
                };
                if harm == Harm::Rename {
                    now.remove(&one);
                }
                now.insert(to, before[&one].clone());
            }
            Harm::Compress => {
                use std::io::Write;
                let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                gz.write_all(&before[&one]).unwrap();
                let mut gz = gz.finish().unwrap();
                if self.dice.one_in(2) {
                    self.dice.pick(&DAMAGES).to(&mut gz, &mut self.dice);
                }
                if self.dice.one_in(2) {
                    now.remove(&one);
                }
                now.insert(format!("{one}.gz"), gz);
            }
            Harm::RestoreAFile | Harm::RestoreAll => {
                let old = self.dice.below(self.backups.len());
                let Some(backup) = self.backups.get(old) else { return };
                if harm == Harm::RestoreAll {
                    now.clone_from(backup);
                } else if let Some((name, bytes)) = backup.iter().nth(self.dice.below(backup.len())) {
                    now.insert(name.clone(), bytes.clone());
                }
            }
        }
        self.put(&now);
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("record")
    }

    fn right(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.truth)
    }

    fn pass(&mut self, seconds: u64) {
        self.truth += seconds;
        self.time.advance(Duration::from_secs(seconds));
    }

    fn instances(&self) -> BTreeSet<String> {
        self.contents().keys().map(|name| instance_of(name).to_owned()).collect()
    }

    fn contents(&self) -> Contents {
        let Ok(all) = fs::read_dir(self.path()) else { return Contents::new() };
        // A file may be removed while the directory is being read.
        let named =
            |path: PathBuf| Some((path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).ok()?));
        all.filter_map(|entry| named(entry.unwrap().path())).collect()
    }

    /// Makes the directory contain exactly these files. Files that are right are not touched.
    fn put(&self, contents: &Contents) {
        fs::create_dir_all(self.path()).unwrap();
        let there = self.contents();
        for name in there.keys().filter(|name| !contents.contains_key(*name)) {
            fs::remove_file(self.path().join(name)).unwrap();
        }
        for (name, bytes) in contents.iter().filter(|(name, bytes)| there.get(*name) != Some(bytes)) {
            let path = self.path().join(name);
            drop(fs::remove_file(&path));
            fs::write(&path, bytes).unwrap();
            self.date(name);
        }
    }

    /// Sets the modification times to the clock of the test.
    fn date_what_is_new(&mut self, before: &Contents) {
        for name in self.contents().into_keys().filter(|name| !before.contains_key(name)) {
            self.dates.insert(name.clone(), self.clock.now());
            self.date(&name);
        }
    }

    fn date(&self, name: &str) {
        let date = self.dates.get(name).copied().unwrap_or_else(|| self.clock.now());
        fs::File::open(self.path().join(name)).unwrap().set_modified(date).unwrap();
    }
}

/// The instance in the name of a file.
fn instance_of(name: &str) -> &str {
    name.get(7..23).unwrap_or(name)
}
