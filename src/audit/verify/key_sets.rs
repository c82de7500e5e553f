//! The sets of keys that a chain introduces, and those that its intents name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::Finding;

/// The sets of keys in the lines of one process.
#[derive(Default)]
pub(super) struct KeySets {
    introduced: BTreeSet<u64>,
    /// The first intent that names each.
    named: BTreeMap<u64, (Arc<str>, u64)>,
}

impl KeySets {
    /// Sees a line.
    pub(super) fn see(&mut self, line: &Value, file: &Arc<str>, number: u64) {
        let Some(set) = line["key_set"].as_u64() else { return };
        match line["kind"].as_str() {
            Some("keys") => drop(self.introduced.insert(set)),
            Some("intent") => drop(self.named.entry(set).or_insert_with(|| (file.clone(), number))),
            _ => {}
        }
    }

    /// How many came into force.
    pub(super) fn introduced(&self) -> usize {
        self.introduced.len()
    }

    /// The intents whose keys nothing in the chain tells.
    pub(super) fn unknown(&self) -> impl Iterator<Item = Finding> {
        let unknown = self.named.iter().filter(|(set, _)| !self.introduced.contains(set));
        unknown.map(|(set, (file, line))| {
            let what = format!("was judged by key set {set}, and no line of the chain says which keys that was");
            Finding { file: file.to_string(), line: Some(*line), what }
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_intent_that_names_an_unknown_set_is_found_once() {
        let (mut sets, file) = (KeySets::default(), Arc::from("record-1.jsonl"));
        let lines = [
            json!({ "kind": "intent", "key_set": 1 }),
            json!({ "kind": "keys", "key_set": 1, "part": 1 }),
            json!({ "kind": "keys", "key_set": 1, "part": 2 }),
            json!({ "kind": "intent" }),
            json!({ "kind": "intent", "key_set": 3 }),
            json!({ "kind": "intent", "key_set": 3 }),
            json!({ "kind": "outcome", "key_set": 4 }),
        ];
        for (line, number) in lines.iter().zip(2..) {
            sets.see(line, &file, number);
        }
        assert_eq!(sets.introduced(), 1);
        let found: Vec<_> = sets.unknown().map(|finding| finding.to_string()).collect();
        let what = "was judged by key set 3, and no line of the chain says which keys that was";
        assert_eq!(found, [format!("record-1.jsonl:6: {what}")]);
    }
}
