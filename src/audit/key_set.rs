//! The lines about the keys in force. Each intent names the set of keys by which it was judged, so the chain tells who
//! was let through by which keys.

use std::thread;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::Record;
use super::queued::{Line, LineKind};
use crate::clock;
use crate::plain;

/// The most apiKeys that one line names, so that no line is longer than readers accept.
const MAX_NAMES: usize = 2_000;
/// The pause between two looks whether a line is written, and how many there are for all lines of a set: beyond, a slow disk
/// would keep a revocation from coming into force.
const PAUSE: Duration = Duration::from_millis(1);
const MAX_PAUSES: u32 = 500;

/// A set of keys that comes into force, and how it differs from the one before. There is no field for a secret.
pub(crate) struct KeySet<'k> {
    /// Its number: 1 for the one of the start, and one more for each change.
    pub version: u64,
    /// A digest of all that the keys say.
    pub digest: &'k str,
    /// What put it in force: `start`, `reload`, `watch`, `postgres` or `snapshot`.
    pub by: &'static str,
    /// How many keys there are.
    pub keys: usize,
    /// The apiKeys that were not there before.
    pub added: &'k [String],
    /// Those that are no longer there.
    pub removed: &'k [String],
    /// Those that changed, with the names of the changed fields.
    pub changed: &'k [(String, Vec<&'static str>)],
}

impl Record {
    /// Records a set of keys before it is put in force. Many names take several lines, each of which is written before the next
    /// is begun: an intent then waits for one of them at most, and not for millions of bytes.
    pub(crate) fn key_set(&self, set: &KeySet<'_>) {
        let Some(writer) = &self.writer else { return };
        let names = |list: &[String], what: &'static str| -> Vec<(&'static str, String, Vec<&'static str>)> {
            list.iter().map(|name| (what, name.clone(), Vec::new())).collect()
        };
        let mut all = names(set.added, "added");
        all.extend(names(set.removed, "removed"));
        all.extend(set.changed.iter().map(|(name, fields)| ("changed", name.clone(), fields.clone())));
        let parts = all.len().div_ceil(MAX_NAMES).max(1);
        let mut chunks = all.chunks(MAX_NAMES);
        let mut pauses = MAX_PAUSES;
        for part in 1..=parts {
            let (mut added, mut removed, mut changed) = (Vec::new(), Vec::new(), Map::new());
            for (what, name, fields) in chunks.next().unwrap_or_default() {
                match *what {
                    "added" => added.push(name.as_str()),
                    "removed" => removed.push(name.as_str()),
                    _ => drop(changed.insert(name.clone(), json!(fields))),
                }
            }
            let line = json!({
                "time": clock::rfc3339(self.clock.now()),
                "kind": "keys",
                "key_set": set.version,
                "digest": set.digest,
                "by": set.by,
                "keys": set.keys,
                "added": added,
                "removed": removed,
                "changed": Value::Object(changed),
                "part": part,
                "parts": parts,
            });
            let body = plain::json_line(&line).into_bytes();
            if parts == 1 {
                drop(writer.write(LineKind::Other, body));
                return;
            }
            let (durable, mut written) = oneshot::channel();
            writer.hand_over(Line { body, durable: Some(durable), kind: LineKind::Other });
            while pauses > 0 && written.try_recv() == Err(TryRecvError::Empty) {
                pauses -= 1;
                // A caller may be in a runtime or not, so this is the one way to wait.
                thread::sleep(PAUSE);
            }
        }
    }
}
