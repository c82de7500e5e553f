//! What is known of the changes, also from runs that were stopped.

use std::collections::HashMap;
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
                let verdict = with(*number);
                let mut known = self.known.lock().unwrap();
                known.0.insert(key(*number), verdict);
                // If it cannot be kept, it is tried again next time.
                let _ = writeln!(known.1, "{} {}", verdict.name(), key(*number));
            }
        });
        let unnoticed = |number: &u32| matches!(known(*number), Some(Verdict::NotNoticed | Verdict::NotReached));
        numbers.iter().copied().filter(unnoticed).collect()
    }

    /// With how many of them the tests did not end.
    pub fn endless(&self) -> usize {
        self.known.lock().unwrap().0.values().filter(|verdict| **verdict == Verdict::Endless).count()
    }
}
