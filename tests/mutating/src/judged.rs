//! What is known of the changes, also from runs that were stopped.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;

use crate::mutant::Mutant;
use crate::trial::{Verdict, in_parallel};

/// A change is known by its name without a place, and by its number among those of one name.
pub struct Judged {
    known: Mutex<(HashMap<String, Verdict>, File)>,
    keys: Vec<String>,
}

impl Judged {
    pub fn open(path: &Path, mutants: &[Mutant]) -> Result<Self, String> {
        let failed = |error| format!("{}: {error}", path.display());
        let text = fs::read_to_string(path).unwrap_or_default();
        let known = text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter_map(|(verdict, key)| Some((key.to_owned(), Verdict::named(verdict)?)));
        let file = OpenOptions::new().append(true).create(true).open(path).map_err(failed)?;
        let mut of_name: HashMap<String, usize> = HashMap::new();
        let keys = mutants.iter().map(|mutant| {
            let name = mutant.without_place();
            let number = of_name.entry(name.clone()).or_default();
            *number += 1;
            format!("{number} {name}")
        });
        Ok(Self { keys: keys.collect(), known: Mutex::new((known.collect(), file)) })
    }

    /// Tries those of these changes of which nothing is known. Returns those that no test noticed.
    pub fn all(&self, numbers: &[u32], tests: &str, jobs: usize, with: impl Fn(u32) -> Verdict + Sync) -> Vec<u32> {
        let key = |number: u32| format!("{tests} {}", self.keys[number as usize - 1]);
        let known = |number: u32| self.known.lock().unwrap().0.get(&key(number)).copied();
        in_parallel(numbers, jobs, |_, number| {
            // A test may have been added since.
            if !matches!(known(*number), Some(Verdict::Noticed | Verdict::Endless)) {
                self.keep(key(*number), with(*number));
            }
        });
        let unnoticed = |number: &u32| matches!(known(*number), Some(Verdict::NotNoticed | Verdict::NotReached));
        numbers.iter().copied().filter(unnoticed).collect()
    }

    /// The changes that had this verdict when they were built, in this run or an earlier one.
    pub fn built(&self, verdict: Verdict) -> BTreeSet<u32> {
        let known = &self.known.lock().unwrap().0;
        let had = |key: &String| known.get(&format!("build {key}")) == Some(&verdict);
        (1..).zip(&self.keys).filter(|(_, key)| had(key)).map(|(number, _)| number).collect()
    }

    /// Keeps what building a change said.
    pub fn keep_built(&self, number: u32, verdict: Verdict) {
        self.keep(format!("build {}", self.keys[number as usize - 1]), verdict);
    }

    fn keep(&self, key: String, verdict: Verdict) {
        let mut known = self.known.lock().unwrap();
        // If it cannot be kept, it is tried again next time.
        let _ = writeln!(known.1, "{} {key}", verdict.name());
        known.0.insert(key, verdict);
    }

    /// With how many of them the tests did not end.
    pub fn endless(&self) -> usize {
        self.known.lock().unwrap().0.values().filter(|verdict| **verdict == Verdict::Endless).count()
    }
}
