//! The record: what was about to be deleted, and what became of it.
//!
//! 1. A deletion is two lines of JSON: an **intent**, synced to disk before the first byte goes
//!    upstream, and an **outcome** after. A request that spent its salt and was refused is one.
//! 2. An [`OpenIntent`] is closed exactly once: by [`OpenIntent::close`], or by being dropped,
//!    which records that the outcome is unknown.
//! 3. If the record cannot be written, nothing is deleted: [`Record::is_ready`] says so before a
//!    salt is spent, [`Record::open`] fails after. The writer tries again by itself.
//! 4. No secret, salt or signature is ever in it: an [`Entry`] has no field for them.
//!
//! Each process writes a file of its own in the directory, so that two never share one.

mod writer;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;

use crate::clock::{self, Clock};
use writer::Writer;

pub use writer::OpenError;

/// How durable an intent is before its deletion is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// On the disk: survives power loss. Intents that come together share one sync.
    Each,
    /// With the operating system: survives the process.
    Os,
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
    /// The client's address.
    pub client: IpAddr,
    /// The route's pattern, once it is known.
    pub route: Option<String>,
    /// The segment, once it is known.
    pub segment: Option<String>,
    /// Who created the segment, as looked up.
    pub creator: Option<String>,
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
    /// Opens a new file in `directory`, which is created if it is not there, and starts the
    /// thread that writes it. `on_sync` is told how long each sync took.
    ///
    /// # Errors
    /// If the directory or the file cannot be made, or not be written.
    pub fn open_in(
        directory: &Path,
        sync: Sync,
        clock: Clock,
        on_sync: impl Fn(Duration) + Send + 'static,
    ) -> Result<Self, OpenError> {
        let writer = Writer::start(directory, sync, clock.clone(), Box::new(on_sync))?;
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

    /// Puts an intent on record and waits until it is as durable as [`Sync`] says.
    ///
    /// # Errors
    /// If it could not be written: nothing may be sent.
    pub async fn open(&self, entry: Entry) -> Result<OpenIntent, NotRecorded> {
        if let Some(writer) = &self.writer {
            writer.write_durably(self.line("intent", &entry, json!({ "decision": "forward" }))).await?;
        }
        Ok(OpenIntent { entry: Some(entry), record: self.clone(), since: self.clock.elapsed() })
    }

    /// Puts a request on record that spent its salt and was refused. Not waited for.
    pub fn refused(&self, entry: &Entry, reason: &'static str) {
        drop(self.write("refused", entry, json!({ "decision": "refuse", "reason": reason })));
    }

    fn write(&self, kind: &str, entry: &Entry, more: serde_json::Value) -> Option<oneshot::Receiver<()>> {
        let writer = self.writer.as_ref()?;
        Some(writer.write(self.line(kind, entry, more)))
    }

    fn line(&self, kind: &str, entry: &Entry, more: serde_json::Value) -> Vec<u8> {
        let mut line = json!({
            "time": clock::rfc3339(self.clock.now()),
            "kind": kind,
            "request_id": entry.request_id,
            "api_key": entry.api_key,
            "account": entry.account,
            "member": entry.member,
            "role": entry.role,
            "client": entry.client.to_string(),
            "route": entry.route,
            "segment": entry.segment,
            "creator": entry.creator,
        });
        if let (Some(line), serde_json::Value::Object(more)) = (line.as_object_mut(), more) {
            line.extend(more);
        }
        let mut bytes = line.to_string().into_bytes();
        bytes.push(b'\n');
        bytes
    }
}

/// An intent on record whose outcome is not: the licence to send one deletion.
///
/// Dropped without [`OpenIntent::close`], it records that the outcome is unknown.
#[must_use = "an intent without an outcome is recorded as unknown"]
pub struct OpenIntent {
    entry: Option<Entry>,
    record: Record,
    since: Duration,
}

/// Proof that the outcome of an intent is on record.
#[derive(Debug)]
pub struct ClosedIntent(());

impl OpenIntent {
    /// Records the outcome, and waits until it is written. If it cannot be now, the writer keeps
    /// it: the deletion is over, and its caller has to be answered.
    pub async fn close(mut self, outcome: Outcome) -> ClosedIntent {
        if let Some(written) = self.conclude(outcome) {
            drop(written.await);
        }
        ClosedIntent(())
    }

    fn conclude(&mut self, outcome: Outcome) -> Option<oneshot::Receiver<()>> {
        let entry = self.entry.take()?;
        let took = self.record.clock.elapsed().saturating_sub(self.since);
        let more = json!({
            "outcome": outcome.as_str(),
            "upstream_status": outcome.status(),
            "duration_seconds": took.as_secs_f64(),
        });
        self.record.write("outcome", &entry, more)
    }
}

impl Drop for OpenIntent {
    fn drop(&mut self) {
        drop(self.conclude(Outcome::Unknown));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str) -> Entry {
        Entry {
            request_id: id.into(),
            api_key: "KEY".into(),
            account: "account-1".into(),
            member: "member-1".into(),
            role: Some("MEMBER"),
            client: IpAddr::from([127, 0, 0, 1]),
            route: Some("/s/{id}".into()),
            segment: Some("S\n1".into()),
            creator: None,
        }
    }

    fn lines(directory: &Path) -> Vec<serde_json::Value> {
        let files = std::fs::read_dir(directory).unwrap();
        let text: String = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[tokio::test]
    async fn an_intent_is_on_disk_when_open_returns_and_an_outcome_when_the_record_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record::open_in(dir.path(), Sync::Each, Clock::system(), |_| {}).unwrap();
        let first = record.open(entry("1")).await.unwrap();
        assert_eq!(lines(dir.path()).len(), 1, "the intent is there before anything is sent");
        let second = record.open(entry("2")).await.unwrap();
        first.close(Outcome::Deleted(200)).await;
        drop(second);
        record.refused(&entry("3"), "not_creator");
        drop(record);
        let lines = lines(dir.path());
        let told = |id: &str| -> Vec<String> {
            let of = lines.iter().filter(|line| line["request_id"] == id);
            of.map(|l| format!("{} {}", l["kind"].as_str().unwrap(), l["outcome"].as_str().unwrap_or("-"))).collect()
        };
        assert_eq!(told("1"), ["intent -", "outcome deleted"]);
        assert_eq!(told("2"), ["intent -", "outcome unknown"], "a dropped intent is an unknown outcome");
        assert_eq!(told("3"), ["refused -"]);
    }

    #[test]
    fn a_file_in_place_of_the_directory_is_told_as_such() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Record::open_in(file.path(), Sync::Each, Clock::system(), |_| {}).err().unwrap();
        assert!(error.to_string().contains("directory"), "{error}");
    }
}
