//! The lines about the keys in force. Each intent names the set of keys by which it was judged, so the chain tells who
//! was let through by which keys.

use serde_json::{Map, Value, json};

use super::Record;
use super::queued::LineKind;
use crate::clock;
use crate::plain;

/// The most apiKeys that one line names, so that no line is longer than readers accept.
const MAX_NAMES: usize = 2_000;

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
    /// Records a set of keys before it is put in force. Does not wait. Many names take several lines.
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
            drop(writer.write(LineKind::Other, plain::json_line(&line).into_bytes()));
        }
    }
}
