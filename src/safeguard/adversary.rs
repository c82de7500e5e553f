//! The freeze state under an adversary who can write to its disk, who between the runs of a gateway damages, removes
//! and restores older copies of its file and of the counts beside the record. A frozen deletion is never permitted: a
//! gateway that cannot trust the state does not start, or starts with everything frozen if `--discard-freeze` is given.
//!
//! Left out is what nothing on the machine can detect: restoring or losing the file and the counts together, and forged
//! checksums.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::{Freeze, Note, Target};
use crate::adversary::{DAMAGES, Damage, Dice, directory, rounds_and_seed};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    Nothing,
    Damage(Damage),
    DamageOfCounts(Damage),
    Remove,
    RemoveAll,
    RemoveTheCounts,
    Restore,
    RestoreTheCounts,
    /// In the format of an earlier build, without a number.
    Bare,
    /// The file of another gateway with the same record directory.
    Anothers,
}

struct World {
    dir: tempfile::TempDir,
    dice: Dice,
    frozen: BTreeSet<Target>,
    backups: Vec<Vec<u8>>,
    counts: Vec<Vec<u8>>,
    story: String,
    refused: u64,
    unharmed: u64,
}

#[test]
fn nothing_frozen_is_permitted_whatever_is_done_to_the_disk() {
    let (rounds, seed) = rounds_and_seed(300);
    let mut world = World {
        dir: directory(),
        dice: Dice(seed),
        frozen: BTreeSet::new(),
        backups: Vec::new(),
        counts: Vec::new(),
        story: String::new(),
        refused: 0,
        unharmed: 0,
    };
    for round in 0..rounds {
        world.round(round);
    }
    let World { refused, unharmed, .. } = world;
    println!("{rounds} rounds: {refused} refused, {unharmed} went on as if nothing had been");
    assert!(refused > rounds / 10 && unharmed > rounds / 20, "each of them is met");
}

fn note() -> Note {
    Note { since: "2026-11-24T00:00:00.000Z".into(), uid: 7, reason: None }
}

impl World {
    fn path(&self) -> PathBuf {
        self.dir.path().join("kept/freeze.json")
    }

    fn counts_path(&self) -> PathBuf {
        self.dir.path().join("record/counts.json")
    }

    fn open_in(&self, kept: &str, discard: Option<Note>) -> Result<Freeze, String> {
        let (kept, record) = (self.dir.path().join(kept), self.dir.path().join("record"));
        Freeze::open(&kept, Some(&record), true, discard).map_err(|error| error.to_string())
    }

    fn round(&mut self, round: u64) {
        let freeze = self.open_in("kept", None).unwrap_or_else(|why| panic!("after {}: {why}", self.story));
        assert_eq!(listed(&freeze), self.frozen, "{}", self.story);
        self.live(&freeze);
        drop(freeze);
        let harm = self.choose();
        self.story = format!("round {round}: {harm:?}");
        let before = self.contents();
        self.harm(harm);
        let done = before != self.contents();
        match self.open_in("kept", None) {
            Ok(freeze) => {
                let there = listed(&freeze);
                // A gateway that never stored a state takes over the file it finds.
                let fits = there == self.frozen || harm == Harm::Anothers && there.is_superset(&self.frozen);
                assert!(fits, "{}: {there:?} instead of {:?}", self.story, self.frozen);
                self.frozen = there;
                self.unharmed += 1;
            }
            Err(why) => {
                self.refused += 1;
                assert!(done, "it is refused without a reason: {}: {why}", self.story);
                assert!(why.contains("freeze.json") || why.contains("counts.json"), "{}: {why}", self.story);
                assert!(why.contains("--discard-freeze"), "{}: {why}", self.story);
                let freeze = self.open_in("kept", Some(note())).unwrap_or_else(|why| panic!("{}: {why}", self.story));
                assert!(freeze.is_frozen("any", "other"), "{}", self.story);
                // After a discard the operator freezes the same targets again, and then unfreezes the rest.
                for target in self.frozen.iter().filter(|target| **target != Target::All) {
                    freeze.freeze(target, note()).unwrap();
                }
                if !self.frozen.contains(&Target::All) {
                    freeze.unfreeze(&Target::All).unwrap();
                }
            }
        }
    }

    fn live(&mut self, freeze: &Freeze) {
        for _ in 0..self.dice.roll(8) {
            let target = match self.dice.roll(7) {
                0 => Target::All,
                n @ 1..=3 => Target::Account(format!("account-{n}")),
                n => Target::Key(format!("KEY{n}")),
            };
            match self.dice.roll(5) {
                0 => self.back_up(),
                1 | 2 => {
                    assert_eq!(freeze.unfreeze(&target).unwrap(), self.frozen.remove(&target));
                }
                _ => {
                    assert_eq!(freeze.freeze(&target, note()).unwrap(), self.frozen.insert(target));
                }
            }
        }
    }

    fn back_up(&mut self) {
        let (Ok(file), Ok(counts)) = (fs::read(self.path()), fs::read(self.counts_path())) else { return };
        self.backups.push(file);
        self.counts.push(counts);
        if self.backups.len() > 6 {
            let old = self.dice.below(6);
            self.backups.remove(old);
            self.counts.remove(old);
        }
    }

    fn choose(&mut self) -> Harm {
        let damage = self.dice.pick(&DAMAGES);
        self.dice.pick(&[
            Harm::Nothing,
            Harm::Damage(damage),
            Harm::DamageOfCounts(damage),
            Harm::Remove,
            Harm::RemoveAll,
            Harm::RemoveTheCounts,
            Harm::Restore,
            Harm::Restore,
            Harm::RestoreTheCounts,
            Harm::Bare,
            Harm::Anothers,
        ])
    }

    fn harm(&mut self, harm: Harm) {
        let damage = |path: PathBuf, damage: Damage, dice: &mut Dice| {
            let Ok(mut bytes) = fs::read(&path) else { return };
            damage.to(&mut bytes, dice);
            fs::write(path, bytes).unwrap();
        };
        match harm {
            Harm::Nothing => {}
            Harm::Damage(how) => damage(self.path(), how, &mut self.dice),
            Harm::DamageOfCounts(how) => damage(self.counts_path(), how, &mut self.dice),
            Harm::Remove => drop(fs::remove_file(self.path())),
            Harm::RemoveAll => fs::remove_dir_all(self.dir.path().join("kept")).unwrap(),
            // If nothing was ever frozen, there is no file whose number could be missing.
            Harm::RemoveTheCounts => drop(fs::remove_file(self.counts_path())),
            Harm::Restore => {
                let old = self.dice.below(self.backups.len());
                if let Some(bytes) = self.backups.get(old) {
                    fs::write(self.path(), bytes).unwrap();
                }
            }
            Harm::RestoreTheCounts => {
                let old = self.dice.below(self.counts.len());
                if let Some(bytes) = self.counts.get(old) {
                    fs::write(self.counts_path(), bytes).unwrap();
                }
            }
            Harm::Bare => {
                let bare = r#"{"format":1,"all":null,"accounts":{},"keys":{}}"#;
                if self.path().exists() {
                    fs::write(self.path(), bare).unwrap();
                }
            }
            Harm::Anothers => {
                let Ok(other) = self.open_in("another", None) else { return };
                other.freeze(&Target::Key("OTHER".into()), note()).unwrap();
                drop(other);
                fs::copy(self.dir.path().join("another/freeze.json"), self.path()).unwrap();
            }
        }
    }

    fn contents(&self) -> [Option<Vec<u8>>; 2] {
        [self.path(), self.counts_path()].map(|path| fs::read(path).ok())
    }
}

fn listed(freeze: &Freeze) -> BTreeSet<Target> {
    freeze.list().into_iter().map(|(target, _)| target).collect()
}
