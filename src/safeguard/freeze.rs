//! What is frozen, kept through restarts.
//!
//! 1. A deletion is judged by the state that stands when it is about to be sent, and holds that
//!    state ([`Departure`]) until it can no longer leave. The state and what it says are one value,
//!    so no request can have been judged by one and be counted to another.
//! 2. Freezing puts a new state in its place, writes it down, and returns once nobody holds an
//!    older one: no deletion that was judged before can still leave.
//! 3. Freezing takes effect before it is written, thawing after: whatever fails, what should be
//!    frozen is.
//! 4. A file that is not as it was written stops the start. What is frozen is not guessed.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};
use tokio::sync::watch;

/// What the file is written in.
const FORMAT: u64 = 1;
const FILE: &str = "freeze.json";
const LOCK: &str = "freeze.lock";

/// What can be frozen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Everything.
    All,
    /// All keys of an account.
    Account(String),
    /// One key, by its apiKey.
    Key(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("everything"),
            Self::Account(account) => write!(f, "account {account}"),
            Self::Key(key) => write!(f, "key {key}"),
        }
    }
}

/// Who froze something, when and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// When, as [`crate::clock::rfc3339`] writes it.
    pub since: String,
    /// The user id of whoever asked.
    pub uid: u32,
    /// Why, if they said so.
    pub reason: Option<String>,
}

/// The state of one moment.
#[derive(Debug)]
struct State {
    all: Option<Note>,
    accounts: BTreeMap<String, Note>,
    keys: BTreeMap<String, Note>,
    /// Dropped with the state: whoever waits for its end sees that.
    _held: watch::Sender<()>,
}

/// Leave to send one deletion, by a state that does not forbid it. Held until nothing of it can
/// leave any more.
#[derive(Debug)]
pub struct Departure(#[allow(dead_code, reason = "held, not read")] Arc<State>);

/// See the module.
pub struct Freeze {
    current: ArcSwap<State>,
    /// States that were replaced, as long as somebody may hold them. Whoever changes the state
    /// holds this.
    earlier: Mutex<Vec<Earlier>>,
    directory: Option<PathBuf>,
    _lock: Option<File>,
}

struct Earlier {
    state: Weak<State>,
    ended: watch::Receiver<()>,
}

/// What is frozen cannot be told, or cannot be kept.
#[derive(Debug)]
pub struct FreezeError(String);

impl fmt::Display for FreezeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FreezeError {}

impl State {
    fn new(all: Option<Note>, accounts: BTreeMap<String, Note>, keys: BTreeMap<String, Note>) -> Self {
        Self { all, accounts, keys, _held: watch::Sender::new(()) }
    }

    fn holds_back(&self, account: &str, key: &str) -> bool {
        self.all.is_some() || self.keys.contains_key(key) || self.accounts.contains_key(account)
    }

    fn json(&self) -> Value {
        let note = |note: &Note| json!({ "since": note.since, "uid": note.uid, "reason": note.reason });
        let notes = |notes: &BTreeMap<String, Note>| -> serde_json::Map<_, _> {
            notes.iter().map(|(name, it)| (name.clone(), note(it))).collect()
        };
        json!({
            "format": FORMAT,
            "all": self.all.as_ref().map(note),
            "accounts": notes(&self.accounts),
            "keys": notes(&self.keys),
        })
    }

    /// `None` for anything that [`State::json`] does not write.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(bytes).ok()?;
        let object = value.as_object()?;
        let known = ["format", "all", "accounts", "keys"];
        if object.len() != known.len() || object["format"].as_u64() != Some(FORMAT) {
            return None;
        }
        let notes = |name: &str| -> Option<BTreeMap<String, Note>> {
            value.get(name)?.as_object()?.iter().map(|(name, it)| Some((name.clone(), note(it)?))).collect()
        };
        let all = match value.get("all")? {
            Value::Null => None,
            it => Some(note(it)?),
        };
        Some(Self::new(all, notes("accounts")?, notes("keys")?))
    }
}

fn note(value: &Value) -> Option<Note> {
    let reason = match value.get("reason")? {
        Value::Null => None,
        reason => Some(reason.as_str()?.to_owned()),
    };
    let uid = u32::try_from(value.get("uid")?.as_u64()?).ok()?;
    Some(Note { since: value.get("since")?.as_str()?.to_owned(), uid, reason })
}

impl Freeze {
    /// Nothing is frozen, and nothing is kept.
    pub fn none() -> Self {
        Self::of(State::new(None, BTreeMap::new(), BTreeMap::new()), None, None)
    }

    /// What the directory says is frozen. `keep` if it may change: then the directory is made if
    /// it is not there, and is this process's own.
    ///
    /// # Errors
    /// If what is there cannot be read as it was written, or another process keeps it.
    pub fn open(directory: &Path, keep: bool) -> Result<Self, FreezeError> {
        let path = directory.join(FILE);
        let failed =
            |path: &Path, what: &str, error: io::Error| FreezeError(format!("{}: {what}: {error}", path.display()));
        let lock = if keep {
            std::fs::create_dir_all(directory)
                .map_err(|error| failed(directory, "cannot be made a directory to keep what is frozen", error))?;
            let lock = directory.join(LOCK);
            let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock);
            let file = file.map_err(|error| failed(&lock, "cannot be opened", error))?;
            flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
                FreezeError(format!(
                    "{}: another gateway keeps what is frozen here; give each its own control.state",
                    directory.display()
                ))
            })?;
            Some(file)
        } else {
            None
        };
        let state = match std::fs::read(&path) {
            Ok(bytes) => State::parse(&bytes).ok_or_else(|| {
                FreezeError(format!(
                    "{}: is not what a gateway of this build wrote there, so what is frozen cannot be told; put it \
                     right, or remove it and freeze anew",
                    path.display()
                ))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => State::new(None, BTreeMap::new(), BTreeMap::new()),
            Err(error) => return Err(failed(&path, "what is frozen cannot be read", error)),
        };
        Ok(Self::of(state, keep.then(|| directory.to_owned()), lock))
    }

    fn of(state: State, directory: Option<PathBuf>, lock: Option<File>) -> Self {
        Self { current: ArcSwap::from_pointee(state), earlier: Mutex::default(), directory, _lock: lock }
    }

    /// Whether a deletion of this key is held back now. The judgement that counts is
    /// [`Freeze::depart`].
    pub fn holds_back(&self, account: &str, key: &str) -> bool {
        self.current.load().holds_back(account, key)
    }

    /// Leave to send, unless it is frozen. Nothing may be waited for between this and sending.
    pub fn depart(&self, account: &str, key: &str) -> Option<Departure> {
        let state = self.current.load_full();
        (!state.holds_back(account, key)).then_some(Departure(state))
    }

    /// Leave to send what nothing is refused of: whoever freezes waits for it all the same.
    pub fn depart_regardless(&self) -> Departure {
        Departure(self.current.load_full())
    }

    /// All that is frozen.
    pub fn list(&self) -> Vec<(Target, Note)> {
        let state = self.current.load();
        let all = state.all.iter().map(|note| (Target::All, note.clone()));
        let accounts = state.accounts.iter().map(|(name, note)| (Target::Account(name.clone()), note.clone()));
        let keys = state.keys.iter().map(|(name, note)| (Target::Key(name.clone()), note.clone()));
        all.chain(accounts).chain(keys).collect()
    }

    /// Freezes: at once, then on disk. What is frozen already keeps its first note; returns
    /// whether it was not.
    ///
    /// # Errors
    /// If it could not be written: it is frozen, but not through a restart.
    pub fn freeze(&self, target: &Target, note: Note) -> Result<bool, FreezeError> {
        let mut earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.current.load_full();
        let (mut all, mut accounts, mut keys) = (now.all.clone(), now.accounts.clone(), now.keys.clone());
        let is_new = match target {
            Target::All => all.is_none(),
            Target::Account(name) => !accounts.contains_key(name),
            Target::Key(name) => !keys.contains_key(name),
        };
        match target {
            Target::All => drop(all.get_or_insert(note)),
            Target::Account(name) => drop(accounts.entry(name.clone()).or_insert(note)),
            Target::Key(name) => drop(keys.entry(name.clone()).or_insert(note)),
        }
        drop(now);
        let next = State::new(all, accounts, keys);
        let text = next.json();
        self.replace(next, &mut earlier);
        self.write(&text)?;
        Ok(is_new)
    }

    /// Thaws: on disk, then in effect. Returns whether it was frozen.
    ///
    /// # Errors
    /// If it could not be written: it stays frozen.
    pub fn unfreeze(&self, target: &Target) -> Result<bool, FreezeError> {
        let mut earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.current.load_full();
        let (mut all, mut accounts, mut keys) = (now.all.clone(), now.accounts.clone(), now.keys.clone());
        let was = match target {
            Target::All => all.take().is_some(),
            Target::Account(name) => accounts.remove(name).is_some(),
            Target::Key(name) => keys.remove(name).is_some(),
        };
        drop(now);
        let next = State::new(all, accounts, keys);
        self.write(&next.json())?;
        self.replace(next, &mut earlier);
        Ok(was)
    }

    fn replace(&self, next: State, earlier: &mut Vec<Earlier>) {
        earlier.retain(|earlier| earlier.state.strong_count() > 0);
        let old = self.current.swap(Arc::new(next));
        earlier.push(Earlier { state: Arc::downgrade(&old), ended: old._held.subscribe() });
    }

    /// Waits until no deletion that was judged by an earlier state can leave any more, for so
    /// long. Returns how many still can.
    pub async fn settled(&self, limit: Duration) -> usize {
        let states: Vec<(Weak<State>, watch::Receiver<()>)> = {
            let earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
            earlier.iter().map(|earlier| (earlier.state.clone(), earlier.ended.clone())).collect()
        };
        let all = async {
            for (_, ended) in &states {
                // Nothing is ever sent: it ends with its state.
                while ended.clone().changed().await.is_ok() {}
            }
        };
        drop(tokio::time::timeout(limit, all).await);
        states.iter().map(|(state, _)| state.strong_count()).sum()
    }

    fn write(&self, state: &Value) -> Result<(), FreezeError> {
        let Some(directory) = &self.directory else { return Ok(()) };
        replace_file(directory, FILE, state.to_string().as_bytes())
            .map_err(|error| FreezeError(format!("{}: cannot be written: {error}", directory.join(FILE).display())))
    }
}

/// The whole file or the old one, whatever happens meanwhile.
fn replace_file(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let (path, temporary) = (directory.join(name), directory.join(format!("{name}.new")));
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, &path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note() -> Note {
        Note { since: "2026-11-24T00:00:00.000Z".into(), uid: 7, reason: Some("a leak".into()) }
    }

    fn key(name: &str) -> Target {
        Target::Key(name.into())
    }

    #[test]
    fn what_is_frozen_is_held_back_and_nothing_else() {
        let freeze = Freeze::none();
        let passes = |account: &str, key: &str| freeze.depart(account, key).is_some();
        assert!(passes("a", "K"));
        assert!(freeze.freeze(&key("K"), note()).unwrap());
        assert!(!freeze.freeze(&key("K"), note()).unwrap(), "it is already");
        assert!(!passes("a", "K") && passes("a", "k") && passes("a", "L"));
        freeze.freeze(&Target::Account("a".into()), note()).unwrap();
        assert!(!passes("a", "L") && passes("b", "L"));
        freeze.freeze(&Target::All, note()).unwrap();
        assert!(!passes("b", "L"));
        for target in [Target::All, Target::Account("a".into())] {
            assert!(freeze.unfreeze(&target).unwrap());
        }
        assert!(!passes("a", "K") && passes("a", "L"), "each is thawed by itself");
    }

    #[test]
    fn what_is_frozen_stays_so_and_a_file_in_doubt_stops_the_start() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Freeze::open(directory.path(), true);
        let freeze = open().unwrap();
        assert!(open().err().unwrap().to_string().contains("another gateway"));
        freeze.freeze(&key("K"), note()).unwrap();
        freeze.freeze(&Target::All, note()).unwrap();
        freeze.unfreeze(&Target::All).unwrap();
        drop(freeze);
        let freeze = open().unwrap();
        assert_eq!(freeze.list(), [(key("K"), note())]);
        drop(freeze);
        let path = directory.path().join(FILE);
        let written = std::fs::read(&path).unwrap();
        for end in 0..written.len() {
            std::fs::write(&path, &written[..end]).unwrap();
            assert!(open().is_err(), "cut to {end} bytes");
        }
        for (what, with) in [("\"format\":1", "\"format\":2"), ("\"keys\"", "\"kyes\""), ("\"uid\":7", "\"uid\":\"7\"")]
        {
            let changed = String::from_utf8(written.clone()).unwrap().replace(what, with);
            std::fs::write(&path, changed).unwrap();
            assert!(open().is_err(), "{with}");
        }
        std::fs::write(&path, &written).unwrap();
        assert!(open().is_ok());
    }

    #[test]
    fn what_cannot_be_written_is_frozen_all_the_same_and_stays_frozen() {
        let directory = tempfile::tempdir().unwrap();
        let kept = directory.path().join("state");
        let freeze = Freeze::open(&kept, true).unwrap();
        freeze.freeze(&key("K"), note()).unwrap();
        std::fs::remove_dir_all(&kept).unwrap();
        assert!(freeze.freeze(&key("L"), note()).is_err());
        assert!(freeze.unfreeze(&key("K")).is_err());
        assert!(freeze.holds_back("a", "K") && freeze.holds_back("a", "L"));
    }

    #[tokio::test]
    async fn freezing_waits_for_all_that_was_judged_before_and_for_nothing_after() {
        let freeze = Freeze::none();
        let (before, another) = (freeze.depart("a", "K").unwrap(), freeze.depart("b", "L").unwrap());
        freeze.freeze(&key("K"), note()).unwrap();
        let after = freeze.depart("b", "L").unwrap();
        assert_eq!(freeze.settled(Duration::from_millis(5)).await, 2);
        drop(another);
        // A second freeze waits for the first one's as well.
        freeze.freeze(&key("M"), note()).unwrap();
        assert_eq!(freeze.settled(Duration::from_millis(5)).await, 2);
        drop(after);
        let waiting = freeze.settled(Duration::from_secs(60));
        let (left, ()) = tokio::join!(waiting, async { drop(before) });
        assert_eq!(left, 0);
    }
}
