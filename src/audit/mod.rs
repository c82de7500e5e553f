//! The record: what was about to be deleted, and what became of it.
//!
//! 1. A deletion is two lines of JSON: an **intent**, synced to disk before the first byte goes
//!    upstream, and an **outcome** after. A request that spent its salt and was refused is one.
//!    What spent nothing is counted, not written ([`Record::count`]).
//! 2. An [`OpenIntent`] is closed exactly once: by [`OpenIntent::close`], or by being dropped,
//!    which records that the outcome is unknown.
//! 3. If the record cannot be written, nothing is deleted: [`Record::is_ready`] says so before a
//!    salt is spent, [`Record::open`] fails after. The writer tries again by itself.
//! 4. No secret, salt or signature is ever in it: an [`Entry`] has no field for them.
//! 5. Each line carries the hash of the one before, each file goes on from the last one's, and
//!    each process writes a chain of its own under a name of its own ([`verify`] reads them).
//!
//! A line is a JSON object that begins with its number in the chain and the hash (SHA-256, over its
//! bytes without the line end) of the line before; what it tells comes after, in this order of
//! kinds: `header`, first in each file, with the format and who writes; `intent`, `outcome`,
//! `refused`; `rehearsed`; `counted`; `resumed`, after a time in which nothing could be written; `reconciled`;
//! `closed`, the last of a process that ended in order.
//!
//! ```text
//! {"n":7,"prev":"5e1f…","kind":"outcome","outcome":"deleted","request_id":"9c0b…","segment":"CRMSG1…",…}
//! ```

mod book;
mod chain;
mod counted;
mod files;
mod line;
mod query;
mod space;
mod verify;
mod writer;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;

use crate::clock::{self, Clock};
use book::Disk;
use line::Line;
use writer::Writer;

pub use book::OpenError;
pub use chain::{Hash, Head, NotAHead};
pub use files::ReadError;
pub use query::{Filter, abandoned, intents_since, read, unknown};
pub use verify::{Finding, Report, Retention, heads, verify};

/// The most characters of a segment's name that are written.
const MAX_NAME: usize = 256;

/// How durable an intent is before its deletion is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// On the disk: survives power loss. Intents that come together share one sync.
    Each,
    /// With the operating system: survives the process.
    Os,
}

/// How a record is kept (contract §9, `[audit]`).
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How durable an intent is before its deletion is sent.
    pub sync: Sync,
    /// Bytes after which a new file is begun.
    pub rotate_size: u64,
    /// The time after which a new file is begun, if anything was written to the old one.
    pub rotate_age: Duration,
    /// How long after its last line a file is removed; never, if `None`.
    pub retain: Option<Duration>,
    /// Free bytes below which a warning is given.
    pub low_water: u64,
    /// Who writes: a header says so.
    pub writer: &'static str,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sync: Sync::Each,
            rotate_size: 64 << 20,
            rotate_age: Duration::from_secs(86_400),
            retain: None,
            low_water: 256 << 20,
            writer: "serve",
        }
    }
}

/// The record, or the spelled-out choice to keep none.
#[derive(Clone)]
pub struct Record {
    writer: Option<Arc<Writer>>,
    clock: Clock,
}

/// Who wanted what.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The request id, as answered and logged.
    pub request_id: String,
    /// The apiKey.
    pub api_key: String,
    /// The caller's account.
    pub account: String,
    /// The caller.
    pub member: String,
    /// The caller's role, if it is one.
    pub role: Option<&'static str>,
    /// The client's address, if it came from one.
    pub client: Option<String>,
    /// The route's pattern, once it is known.
    pub route: Option<String>,
    /// The segment, once it is known.
    pub segment: Option<String>,
    /// Who created the segment, as looked up.
    pub creator: Option<String>,
    /// What the segment is called, as looked up; written up to its 256th character.
    pub name: Option<String>,
    /// The upstream's status, if it answered the deletion.
    pub upstream_status: Option<u16>,
    /// When the request came, on the elapsed clock.
    pub started: Duration,
}

/// What became of a deletion that was on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The upstream answered that it is done (2xx).
    Deleted(u16),
    /// The upstream answered anything else.
    RefusedByUpstream(u16),
    /// It was sent, and no answer came: it may have happened.
    Unknown,
    /// It was not sent.
    NotSent,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Deleted(_) => "deleted",
            Self::RefusedByUpstream(_) => "refused_by_upstream",
            Self::Unknown => "unknown",
            Self::NotSent => "not_sent",
        }
    }

    fn status(self) -> Option<u16> {
        match self {
            Self::Deleted(status) | Self::RefusedByUpstream(status) => Some(status),
            Self::Unknown | Self::NotSent => None,
        }
    }
}

/// The record could not be written; nothing may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotRecorded;

impl Record {
    /// Begins a chain in `directory`, which is created if it is not there, and starts the thread
    /// that writes it. `on_sync` is told how long each sync took.
    ///
    /// # Errors
    /// If the directory or the file cannot be made, or not be written.
    pub fn open_in(
        directory: &Path,
        settings: Settings,
        clock: Clock,
        on_sync: impl Fn(Duration) + Send + 'static,
    ) -> Result<Self, OpenError> {
        Self::open_on(Disk::real(on_sync), directory, settings, clock)
    }

    fn open_on(disk: Disk, directory: &Path, settings: Settings, clock: Clock) -> Result<Self, OpenError> {
        let writer = Writer::start(directory, settings, clock.clone(), disk)?;
        Ok(Self { writer: Some(Arc::new(writer)), clock })
    }

    /// No record at all (`danger_no_record`).
    pub fn none(clock: Clock) -> Self {
        Self { writer: None, clock }
    }

    /// Whether an intent could be written now, as far as is known.
    pub fn is_ready(&self) -> bool {
        self.writer.as_ref().is_none_or(|writer| writer.is_healthy())
    }

    /// Whether there is less free space than there should be. Everything works still.
    pub fn is_low(&self) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.is_low())
    }

    /// Puts an intent on record and waits until it is as durable as [`Sync`] says.
    ///
    /// # Errors
    /// If it could not be written: nothing may be sent.
    pub async fn open(&self, entry: impl Into<Box<Entry>>) -> Result<OpenIntent, NotRecorded> {
        let entry = entry.into();
        if let Some(writer) = &self.writer {
            writer.write_durably(self.line("intent", &entry).text("decision", "forward").end()).await?;
        }
        Ok(OpenIntent { entry: Some(entry), record: self.clone() })
    }

    /// The intent that is on no record, where none is kept (`danger_no_record`), and only there.
    pub fn open_on_none(&self) -> Option<OpenIntent> {
        self.writer.is_none().then(|| OpenIntent { entry: None, record: self.clone() })
    }

    /// Puts a request on record that spent its salt and was refused. Not waited for.
    pub fn refused(&self, entry: &Entry, reason: &'static str) {
        drop(self.write("refused", entry, |line| line.text("decision", "refuse").text("reason", reason)));
    }

    /// Puts a request on record that spent its salt to be told what a deletion would meet, which is
    /// `reason`. Not waited for.
    pub fn rehearsed(&self, entry: &Entry, reason: &'static str) {
        drop(self.write("rehearsed", entry, |line| line.text("decision", "rehearse").text("reason", reason)));
    }

    /// Counts a request that spent nothing: about once a minute the counts become one line, with
    /// a few samples. `claimed_key` is what the request claims; nothing is proven by it.
    pub fn count(&self, reason: &'static str, id: &str, client: Option<IpAddr>, claimed_key: Option<&str>) {
        if let Some(writer) = &self.writer {
            writer.counted().add(reason, id, client, claimed_key, &self.clock);
        }
    }

    /// Puts on record what was learned later of an intent whose outcome was unknown.
    ///
    /// # Errors
    /// If it could not be written: the outcome stays unknown.
    pub async fn reconciled(&self, intent: &serde_json::Value, outcome: &str) -> Result<(), NotRecorded> {
        let Some(writer) = &self.writer else { return Err(NotRecorded) };
        let mut line = json!({
            "time": clock::rfc3339(self.clock.now()),
            "kind": "reconciled",
            "outcome": outcome,
            "intent_time": intent["time"],
        });
        for field in ["request_id", "api_key", "account", "member", "role", "route", "segment", "creator", "name"] {
            line[field] = intent[field].clone();
        }
        writer.write_durably(line.to_string().into_bytes()).await
    }

    /// Writes what is said of a request once it has ended, with `more` of it.
    fn write(&self, kind: &str, entry: &Entry, more: impl FnOnce(Line) -> Line) -> Option<oneshot::Receiver<()>> {
        let writer = self.writer.as_ref()?;
        let took = self.clock.elapsed().saturating_sub(entry.started);
        let line = more(self.line(kind, entry))
            .seconds("duration_seconds", took)
            .status("upstream_status", entry.upstream_status);
        Some(writer.write(line.end()))
    }

    fn line(&self, kind: &str, entry: &Entry) -> Line {
        let line = Line::new(&clock::rfc3339(self.clock.now()), kind)
            .text("request_id", &entry.request_id)
            .text("api_key", &entry.api_key)
            .text("account", &entry.account)
            .text("member", &entry.member)
            .maybe("role", entry.role)
            .maybe("client", entry.client.as_deref())
            .maybe("route", entry.route.as_deref())
            .maybe("segment", entry.segment.as_deref())
            .maybe("creator", entry.creator.as_deref());
        match &entry.name {
            Some(name) => line.text("name", &name.chars().take(MAX_NAME).collect::<String>()),
            None => line,
        }
    }
}

/// An intent on record whose outcome is not: the licence to send one deletion.
///
/// Dropped without [`OpenIntent::close`], it records that the outcome is unknown.
#[must_use = "an intent without an outcome is recorded as unknown"]
pub struct OpenIntent {
    /// In a box: what sends a deletion carries it about.
    entry: Option<Box<Entry>>,
    record: Record,
}

/// Proof that the outcome of an intent is on record.
#[derive(Debug)]
pub struct ClosedIntent(());

impl OpenIntent {
    /// Records the outcome, and waits until it is written. If it cannot be now, the writer keeps
    /// it: the deletion is over, and its caller has to be answered. `reason` is the log's.
    pub async fn close(mut self, outcome: Outcome, reason: &'static str) -> ClosedIntent {
        if let Some(written) = self.conclude(outcome, reason) {
            drop(written.await);
        }
        ClosedIntent(())
    }

    fn conclude(&mut self, outcome: Outcome, reason: &'static str) -> Option<oneshot::Receiver<()>> {
        let entry = Entry { upstream_status: outcome.status(), ..*self.entry.take()? };
        let outcome = outcome.as_str();
        let more = |line: Line| line.text("decision", "forward").text("outcome", outcome).text("reason", reason);
        self.record.write("outcome", &entry, more)
    }
}

impl Drop for OpenIntent {
    fn drop(&mut self) {
        drop(self.conclude(Outcome::Unknown, "outcome_unknown"));
    }
}

#[cfg(test)]
mod tests;
