//! The audit record: which deletions were attempted, and their outcomes.
//!
//! 1. A deletion is two lines of JSON: an **intent**, synced to disk before the first byte is sent upstream, and an
//!    **outcome**. A request that spent its salt and was refused is one line. A request that spent no salt is only
//!    counted ([`Record::count`]).
//! 2. An [`OpenIntent`] is closed exactly once: by [`OpenIntent::close`], or by drop, which records that the outcome is
//!    unknown.
//! 3. If the record cannot be written, nothing is deleted: [`Record::is_ready`] is false, so that no salt is spent, and
//!    [`Record::open`] fails. The writer retries in the background.
//! 4. No line is longer than readers accept: an intent that is too long is refused, and other lines are shortened.
//! 5. It never contains a secret, salt or signature: an [`RecordEntry`] has no field for them.
//! 6. Each line contains the hash of the line before it, also across files. Each process writes its own chain, under
//!    its own name ([`verify()`] checks them).
//!
//! A line is a JSON object that begins with its number in the chain and the hash of the line before it (SHA-256 of its
//! bytes without the line end). The kinds of lines are `header`, the first of each file, with the format, the writer,
//! and `begun_anew` if the chain had to continue there because the previous file was removed or replaced; `intent`,
//! `outcome`, `refused`, `rehearsed`, `counted`; `keys`, a set of keys that comes into force; `resumed`, after a time in which nothing could be written;
//! `reconciled`; and `closed`, the last of a process that ended normally.
//!
//! ```text
//! {"n":7,"prev":"5e1f…","kind":"outcome","outcome":"deleted","request_id":"9c0b…","segment":"CRMSG1…",…}
//! ```

mod about;
#[cfg(test)]
mod adversary;
mod chain;
mod chain_writer;
mod counted;
mod directories;
mod files;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod key_set;
mod line;
mod log_file;
mod open;
mod query;
mod queued;
mod reconcile;
mod settings;
#[cfg(feature = "postgres")]
mod shipped_files;
mod space;
#[cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "only PostgreSQL gets copies"))]
mod tail;
mod verify;
mod writer;
mod writer_state;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;

use crate::clock::{self, Clock};
use crate::plain;
use chain_writer::Disk;
use line::Line;
use queued::LineKind;
use writer::Writer;

pub(crate) use chain::{ChainHead, NotAHead};
pub(crate) use chain_writer::RecordOpenError;
pub(crate) use counted::RepeatOf;
pub use directories::Directories;
pub(crate) use files::ReadError;
pub use files::Unread;
#[cfg(feature = "postgres")]
pub(crate) use files::file_of;
pub(crate) use key_set::KeySet;
pub(crate) use open::Audit;
pub use query::unknown;
pub(crate) use query::{EndedRequest, Filter, abandoned, ended_since, intents_since, read};
pub(crate) use reconcile::{Reconciled, SegmentState, reconcile};
pub(crate) use settings::{RecordSettings, Sync};
#[cfg(feature = "postgres")]
pub(crate) use shipped_files::ShippedFiles;
pub(crate) use tail::FileName;
#[cfg(feature = "postgres")]
pub(crate) use tail::{PlacedLine, Tail};
pub(crate) use verify::{Report, verify_beside, without_head};
pub use verify::{Retention, heads, verify};

/// How many bytes an outcome may be longer than its intent.
const OUTCOME: usize = 1024;
/// The most characters of each text in a line that has to be shortened.
const MAX_TEXT: usize = 256;
/// The most characters of a segment's name that are written.
const MAX_NAME: usize = 256;

/// The record, or the explicit choice to keep none.
#[derive(Clone)]
pub struct Record {
    writer: Option<Arc<Writer>>,
    clock: Clock,
}

/// Who requested what.
#[derive(Clone, Debug)]
pub struct RecordEntry {
    /// The request id, as answered and logged.
    pub request_id: String,
    /// The apiKey.
    pub api_key: String,
    /// The caller's account.
    pub account: String,
    /// The caller's member id.
    pub member: String,
    /// The caller's role, if it has a valid one.
    pub role: Option<&'static str>,
    /// The client's address, if there is one.
    pub client: Option<String>,
    /// The route's pattern, once it is known.
    pub route: Option<String>,
    /// The segment, once it is known.
    pub segment: Option<String>,
    /// Who created the segment, as looked up.
    pub creator: Option<String>,
    /// The segment's name, as looked up; at most 256 characters are written.
    pub name: Option<String>,
    /// A hash of the request's content, by which a repeat is recognized after a restart.
    pub print: Option<String>,
    /// The number of the set of keys by which it was judged ([`KeySet`]), once its salt is spent.
    pub key_set: Option<u64>,
    /// The status of the upstream's answer to the deletion, if it answered.
    pub upstream_status: Option<u16>,
    /// When the request arrived, on the elapsed clock.
    pub started: Duration,
}

impl RecordEntry {
    /// A copy with texts that are short enough for a line.
    fn cut(&self) -> Self {
        let short = |text: &String| text.chars().take(MAX_TEXT).collect::<String>();
        let maybe = |text: &Option<String>| text.as_ref().map(short);
        Self {
            request_id: short(&self.request_id),
            api_key: short(&self.api_key),
            account: short(&self.account),
            member: short(&self.member),
            role: self.role,
            client: maybe(&self.client),
            route: maybe(&self.route),
            segment: maybe(&self.segment),
            creator: maybe(&self.creator),
            name: maybe(&self.name),
            print: maybe(&self.print),
            ..*self
        }
    }
}

/// The outcome of a recorded deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The upstream confirmed it (2xx).
    Deleted(u16),
    /// The upstream answered with another status.
    RefusedByUpstream(u16),
    /// It was sent and got no answer, so it may have happened.
    Unknown,
    /// As `Unknown`, but an answer with this status had started.
    UnknownAfter(u16),
    /// It was not sent.
    NotSent,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Deleted(_) => "deleted",
            Self::RefusedByUpstream(_) => "refused_by_upstream",
            Self::Unknown | Self::UnknownAfter(_) => "unknown",
            Self::NotSent => "not_sent",
        }
    }

    fn status(self) -> Option<u16> {
        match self {
            Self::Deleted(status) | Self::RefusedByUpstream(status) | Self::UnknownAfter(status) => Some(status),
            Self::Unknown | Self::NotSent => None,
        }
    }
}

/// The record could not be written; nothing may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotRecorded;

impl Record {
    /// Starts a chain in `directory`, which is created if needed, and the thread that writes it. `on_sync` gets the
    /// duration of each sync.
    ///
    /// # Errors
    /// If the directory or the file cannot be created or written.
    pub fn open_in(
        directory: &Path,
        settings: RecordSettings,
        clock: Clock,
        on_sync: impl Fn(Duration) + Send + 'static,
    ) -> Result<Self, RecordOpenError> {
        Self::open_on(Disk::real(on_sync), directory, settings, clock)
    }

    fn open_on(disk: Disk, directory: &Path, settings: RecordSettings, clock: Clock) -> Result<Self, RecordOpenError> {
        let writer = Writer::start(directory, settings, clock.clone(), disk)?;
        Ok(Self { writer: Some(Arc::new(writer)), clock })
    }

    /// No record at all (`danger_no_record`).
    pub fn none(clock: Clock) -> Self {
        Self { writer: None, clock }
    }

    /// Whether an intent can probably be written now: the last write succeeded.
    pub fn is_ready(&self) -> bool {
        self.writer.as_ref().is_none_or(|writer| writer.is_healthy())
    }

    /// Where is noted which files were copied elsewhere. It does not keep the record open.
    #[cfg(feature = "postgres")]
    pub(crate) fn shipped_files(&self) -> ShippedFiles {
        ShippedFiles(self.writer.as_ref().map(|writer| Arc::downgrade(writer.state())).unwrap_or_default())
    }

    /// Whether there is less free space than `audit.low_water`. Everything still works.
    pub fn is_low(&self) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.is_low())
    }

    /// Whether a file was removed, replaced or truncated since the start while it was being written. The chain
    /// continues in another file, but lines of the lost one may be missing.
    pub fn was_begun_anew(&self) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.was_begun_anew())
    }

    /// Records an intent, and waits until it is as durable as [`Sync`] says.
    ///
    /// # Errors
    /// If it could not be written, or it or its outcome would be too long for readers: then nothing may be sent.
    pub async fn open(&self, entry: impl Into<Box<RecordEntry>>) -> Result<OpenIntent, NotRecorded> {
        let entry = entry.into();
        if let Some(writer) = &self.writer {
            let line = self.line("intent", &entry).text("decision", "forward").end();
            if !chain::fits(&line, OUTCOME) {
                tracing::error!(
                    bytes = line.len(),
                    "an intent is too long for a line of the record: its deletion is refused"
                );
                return Err(NotRecorded);
            }
            writer.write_durably(LineKind::Intent, line).await?;
        }
        Ok(OpenIntent { entry: Some(entry), record: self.clone() })
    }

    /// An intent without a record; only if none is kept (`danger_no_record`).
    pub fn open_on_none(&self) -> Option<OpenIntent> {
        self.writer.is_none().then(|| OpenIntent { entry: None, record: self.clone() })
    }

    /// Records a request that spent its salt and was refused, with the status of the answer if there was one. Does not
    /// wait.
    pub fn refused(&self, entry: &RecordEntry, reason: &'static str, status: Option<u16>) {
        drop(self.write("refused", entry, |line| {
            let line = line.text("decision", "refuse").text("reason", reason);
            status.into_iter().fold(line, |line, status| line.status("status", Some(status)))
        }));
    }

    /// Records a dry run, which spent its salt; `reason` is what the deletion would get. Does not wait.
    pub fn rehearsed(&self, entry: &RecordEntry, reason: &'static str) {
        drop(self.write("rehearsed", entry, |line| line.text("decision", "rehearse").text("reason", reason)));
    }

    /// Counts a request that spent no salt. About once a minute the counts become one line with a few samples.
    /// `claimed_key` is what the request claims; it is not verified. `repeat` is set for a repeated request.
    pub fn count(
        &self,
        reason: &'static str,
        id: &str,
        client: Option<IpAddr>,
        claimed_key: Option<&str>,
        repeat: Option<RepeatOf<'_>>,
    ) {
        if let Some(writer) = &self.writer {
            writer.counted().add(reason, id, client, claimed_key, repeat, &self.clock);
        }
    }

    /// Records the outcome of an intent that was unknown before.
    ///
    /// # Errors
    /// If it could not be written; the outcome stays unknown.
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
        let line = plain::json_line(&line).into_bytes();
        if !chain::fits(&line, 0) {
            return Err(NotRecorded);
        }
        writer.write_durably(LineKind::Answered, line).await
    }

    /// Writes the line of a request that has ended; `more` adds members to it.
    fn write(&self, kind: &str, entry: &RecordEntry, more: impl Fn(Line) -> Line) -> Option<oneshot::Receiver<()>> {
        let writer = self.writer.as_ref()?;
        let took = self.clock.elapsed().saturating_sub(entry.started);
        let line = |entry: &RecordEntry| {
            let line = more(self.line(kind, entry)).seconds("duration_seconds", took);
            line.status("upstream_status", entry.upstream_status)
        };
        let of = if kind == "outcome" { LineKind::Outcome } else { LineKind::Other };
        let whole = line(entry).end();
        if chain::fits(&whole, 0) {
            return Some(writer.write(of, whole));
        }
        let cut = line(&entry.cut()).text("cut", "texts are written up to their 256th character").end();
        Some(writer.write(of, cut))
    }

    fn line(&self, kind: &str, entry: &RecordEntry) -> Line {
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
        let line = entry.key_set.into_iter().fold(line, |line, set| line.number("key_set", set));
        let line = entry.print.iter().fold(line, |line, print| line.text("print", print));
        match &entry.name {
            Some(name) => line.text("name", &name.chars().take(MAX_NAME).collect::<String>()),
            None => line,
        }
    }
}

/// A recorded intent without an outcome, which permits sending one deletion.
///
/// If it is dropped without [`OpenIntent::close`], the outcome is recorded as unknown.
#[must_use = "an intent without an outcome is recorded as unknown"]
pub struct OpenIntent {
    /// Boxed to keep the future that sends the deletion small.
    entry: Option<Box<RecordEntry>>,
    record: Record,
}

/// Proof that the outcome of an intent is on record.
#[derive(Debug)]
pub struct ClosedIntent(());

impl OpenIntent {
    /// Whether it is on record; it is not if none is kept.
    pub fn is_recorded(&self) -> bool {
        self.entry.is_some()
    }

    /// Records the outcome, and waits until it is written. If it cannot be now, the writer keeps
    /// it: the deletion is over, and its caller has to be answered. `reason` is the log's.
    pub async fn close(mut self, outcome: Outcome, reason: &'static str) -> ClosedIntent {
        if let Some(written) = self.conclude(outcome, reason) {
            drop(written.await);
        }
        ClosedIntent(())
    }

    fn conclude(&mut self, outcome: Outcome, reason: &'static str) -> Option<oneshot::Receiver<()>> {
        let entry = RecordEntry { upstream_status: outcome.status(), ..*self.entry.take()? };
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
