//! Runs the tests that reach a change, with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A test program, and what its tests reach.
pub struct Tests {
    program: PathBuf,
    tree: PathBuf,
    /// How long a test takes, and the changes that it reaches.
    known: BTreeMap<String, (Duration, BTreeSet<u32>)>,
}

/// What the tests said of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Noticed,
    /// The tests did not end.
    Endless,
    NotNoticed,
    /// No test runs that code.
    NotReached,
    /// The code does not compile with it.
    NotCompilable,
    /// It cannot be put behind a switch.
    LeftOut,
}

impl Verdict {
    const ALL: [Self; 6] =
        [Self::Noticed, Self::Endless, Self::NotNoticed, Self::NotReached, Self::NotCompilable, Self::LeftOut];

    pub fn name(self) -> &'static str {
        match self {
            Self::Noticed => "noticed",
            Self::Endless => "endless",
            Self::NotNoticed => "not-noticed",
            Self::NotReached => "not-reached",
            Self::NotCompilable => "not-compilable",
            Self::LeftOut => "left-out",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.name() == name)
    }
}

impl Tests {
    /// Runs every test alone, and takes those that pass within half of this time: with hundreds of changes, the few slow ones
    /// would take most of the time.
    pub fn learn(program: &Path, tree: &Path, notes: &Path, jobs: usize, within: Duration) -> Result<Self, String> {
        let listed = Command::new(program).args(["--list", "--format", "terse"]).current_dir(tree).output();
        let listed = listed.map_err(|error| format!("{}: {error}", program.display()))?;
        let names = String::from_utf8_lossy(&listed.stdout).into_owned();
        let names: Vec<&str> = names.lines().filter_map(|line| line.strip_suffix(": test")).collect();
        let known = Mutex::new(BTreeMap::new());
        in_parallel(&names, jobs, |place, name| {
            let notes = notes.with_extension(place.to_string());
            let mut command = command(program, tree, &[name]);
            command.env("MUTATING_NOTES", &notes);
            let started = Instant::now();
            let passed = command.spawn().ok().and_then(|child| ends(child, within / 2));
            let took = started.elapsed();
            let reached = fs::read_to_string(&notes).unwrap_or_default();
            let _ = fs::remove_file(&notes);
            match passed {
                Some(true) => {
                    let reached = reached.lines().filter_map(|line| line.parse().ok()).collect();
                    known.lock().unwrap().insert((*name).to_owned(), (took, reached));
                }
                Some(false) => eprintln!("left out, because it fails without a change: {name}"),
                None => eprintln!("left out, because it takes longer than {} s: {name}", within.as_secs() / 2),
            }
        });
        Ok(Self { program: program.into(), tree: tree.into(), known: known.into_inner().unwrap() })
    }

    /// Runs the tests that reach this change, the quickest first, for about this time.
    pub fn with(&self, change: u32, within: Duration) -> Verdict {
        let mut reaching: Vec<(&Duration, &str)> = self
            .known
            .iter()
            .filter(|(_, (_, reached))| reached.contains(&change))
            .map(|(name, (took, _))| (took, name.as_str()))
            .collect();
        if reaching.is_empty() {
            return Verdict::NotReached;
        }
        reaching.sort_unstable();
        let started = Instant::now();
        for tests in reaching.chunks(12) {
            let names: Vec<&str> = tests.iter().map(|(_, name)| *name).collect();
            let usual: Duration = tests.iter().map(|(took, _)| **took).sum();
            let mut command = command(&self.program, &self.tree, &names);
            command.env("MUTATING_NOW", change.to_string());
            match command.spawn().map(|child| ends(child, usual * 5 + Duration::from_secs(20))) {
                Ok(Some(true)) => {}
                Ok(Some(false)) => return Verdict::Noticed,
                Ok(None) => return Verdict::Endless,
                Err(error) => panic!("{}: {error}", self.program.display()),
            }
            if started.elapsed() > within {
                break;
            }
        }
        Verdict::NotNoticed
    }
}

fn command(program: &Path, tree: &Path, tests: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.arg("--exact").args(tests).args(["--test-threads", "4"]).current_dir(tree);
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Whether it succeeded; nothing if it had to be stopped.
fn ends(mut child: Child, within: Duration) -> Option<bool> {
    let started = Instant::now();
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status.success());
        }
        if started.elapsed() > within {
            // With the gateways that it has started.
            let group = format!("-{}", child.id());
            let _ = Command::new("kill").args(["-9", "--", &group]).status();
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        thread::sleep(Duration::from_millis(3));
    }
}

/// Does this with each of them, several at a time.
pub fn in_parallel<T: Sync>(all: &[T], jobs: usize, work: impl Fn(usize, &T) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|threads| {
        for _ in 0..jobs {
            threads.spawn(|| {
                while let Some((place, item)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|n| Some((n, all.get(n)?)))
                {
                    work(place, item);
                }
            });
        }
    });
}
