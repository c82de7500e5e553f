//! What is counted and not written: repeats, and whoever is not authenticated.
//!
//! A stranger can cause as many of these as there are packets; a line each would fill the disk.
//! So they become one line a minute, of a size that does not depend on them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::clock::{self, Clock};

/// Samples that are kept of each reason.
const SAMPLES: usize = 2;

/// Counts since the last line about them.
#[derive(Default)]
pub(super) struct Counted(Mutex<BTreeMap<&'static str, Tally>>);

#[derive(Default)]
struct Tally {
    count: u64,
    samples: Vec<Value>,
}

impl Counted {
    /// One more. `claimed_key` is what the request claims; nothing is proven by it.
    pub(super) fn add(
        &self,
        reason: &'static str,
        id: &str,
        client: Option<IpAddr>,
        claimed_key: Option<&str>,
        clock: &Clock,
    ) {
        let mut tallies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let tally = tallies.entry(reason).or_default();
        tally.count += 1;
        if tally.samples.len() < SAMPLES {
            tally.samples.push(json!({
                "time": clock::rfc3339(clock.now()),
                "request_id": id,
                "client": client.map(|client| client.to_string()),
                // The header's grammar allows no more; a line here allows no more either.
                "claimed_api_key": claimed_key.map(|key| key.chars().take(64).collect::<String>()),
            }));
        }
    }

    /// The line about what was counted, if anything was; counting begins anew.
    pub(super) fn take(&self, clock: &Clock) -> Option<Vec<u8>> {
        let tallies = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if tallies.is_empty() {
            return None;
        }
        let counts: BTreeMap<_, _> = tallies.iter().map(|(reason, tally)| (*reason, tally.count)).collect();
        let samples: BTreeMap<_, _> = tallies.into_iter().map(|(reason, tally)| (reason, tally.samples)).collect();
        let time = clock::rfc3339(clock.now());
        Some(json!({ "time": time, "kind": "counted", "counts": counts, "samples": samples }).to_string().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_strangers_are_one_short_line() {
        let clock = Clock::system();
        let counted = Counted::default();
        assert_eq!(counted.take(&clock), None);
        for n in 0..1_000_000 {
            let reason = if n % 2 == 0 { "unknown_key" } else { "salt_reused" };
            counted.add(reason, "id", Some(IpAddr::from([127, 0, 0, 1])), Some(&"K".repeat(10_000)), &clock);
        }
        let line = counted.take(&clock).unwrap();
        assert!(line.len() < 2_000, "{}", line.len());
        let line: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(
            (&line["counts"]["unknown_key"], &line["counts"]["salt_reused"]),
            (&500_000.into(), &500_000.into())
        );
        assert_eq!(counted.take(&clock), None, "counting began anew");
    }
}
