//! Counts requests that are not recorded one by one: repeats, and requests that are not authenticated.
//!
//! Anybody can send any number of these, and one line for each would fill the disk. So the counts become one line per
//! minute, whose size does not depend on how many there were.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::{self, Clock};
use crate::plain;

/// How many samples are kept for each reason.
const SAMPLES: usize = 2;
/// How many repeated requests one line lists by id; it gives the number of all.
const REPEATED: usize = 16;

/// The counts since the last line.
#[derive(Default)]
pub(super) struct Counted(Mutex<Tallies>);

#[derive(Default)]
struct Tallies {
    by_reason: BTreeMap<&'static str, Tally>,
    /// How many repeats there were, by what had become of the first request.
    repeats: BTreeMap<&'static str, u64>,
    /// The last repeat of each first request, by the first request's id.
    repeated: BTreeMap<String, Value>,
}

/// What a counted request was a repeat of.
#[derive(Clone, Copy, Debug)]
pub struct RepeatOf<'r> {
    /// The id of the first request.
    pub id: &'r str,
    /// What had become of it.
    pub first: &'static str,
    /// How long before the repeat it arrived, if known.
    pub after: Option<Duration>,
    /// Whether both came from the same address, if known.
    pub same_client: Option<bool>,
}

#[derive(Default)]
struct Tally {
    count: u64,
    samples: Vec<Value>,
}

impl Counted {
    /// Counts one more. `claimed_key` is what the request claims; it is not verified.
    pub(super) fn add(
        &self,
        reason: &'static str,
        id: &str,
        client: Option<IpAddr>,
        claimed_key: Option<&str>,
        repeat: Option<RepeatOf<'_>>,
        clock: &Clock,
    ) {
        let mut tallies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(repeat) = repeat {
            *tallies.repeats.entry(repeat.first).or_default() += 1;
            if tallies.repeated.len() < REPEATED || tallies.repeated.contains_key(repeat.id) {
                let last = json!({
                    "time": clock::rfc3339(clock.now()),
                    "request_id": id,
                    "client": client.map(|client| client.to_string()),
                    "first": repeat.first,
                    "first_seconds_ago": repeat.after.map(|after| after.as_secs_f64()),
                    "same_client": repeat.same_client,
                });
                tallies.repeated.insert(repeat.id.to_owned(), last);
            }
        }
        let tally = tallies.by_reason.entry(reason).or_default();
        tally.count += 1;
        if tally.samples.len() < SAMPLES {
            tally.samples.push(json!({
                "time": clock::rfc3339(clock.now()),
                "request_id": id,
                "client": client.map(|client| client.to_string()),
                // No longer than the header's grammar allows.
                "claimed_api_key": claimed_key.map(|key| key.chars().take(64).collect::<String>()),
            }));
        }
    }

    /// Takes the counts as a line; `None` if nothing was counted. Counting starts again at zero.
    pub(super) fn take(&self, clock: &Clock) -> Option<Vec<u8>> {
        let tallies = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let Tallies { by_reason, repeats, repeated } = tallies;
        if by_reason.is_empty() {
            return None;
        }
        let counts: BTreeMap<_, _> = by_reason.iter().map(|(reason, tally)| (*reason, tally.count)).collect();
        let samples: BTreeMap<_, _> = by_reason.into_iter().map(|(reason, tally)| (reason, tally.samples)).collect();
        let time = clock::rfc3339(clock.now());
        let mut line = json!({ "time": time, "kind": "counted", "counts": counts, "samples": samples });
        if !repeats.is_empty() {
            line["repeats"] = json!(repeats);
            line["repeat_of"] = json!(repeated);
        }
        Some(plain::json_line(&line).into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_unauthenticated_requests_make_one_short_line() {
        let clock = Clock::system();
        let counted = Counted::default();
        assert_eq!(counted.take(&clock), None);
        for n in 0..1_000_000 {
            let reason = if n % 2 == 0 { "unknown_key" } else { "salt_reused" };
            counted.add(reason, "id", Some(IpAddr::from([127, 0, 0, 1])), Some(&"K".repeat(10_000)), None, &clock);
        }
        let line = counted.take(&clock).unwrap();
        assert!(line.len() < 2_000, "{}", line.len());
        let line: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(
            (&line["counts"]["unknown_key"], &line["counts"]["salt_reused"]),
            (&500_000.into(), &500_000.into())
        );
        assert_eq!(counted.take(&clock), None, "counting starts again at zero");
    }

    #[test]
    fn repeats_are_counted_by_the_end_of_the_first_request_and_some_are_listed() {
        let clock = Clock::system();
        let counted = Counted::default();
        for n in 0..100_000 {
            let id = format!("{:032x}", n % 1_000);
            let first = if n % 4 == 0 { "unknown" } else { "deleted" };
            let repeat = RepeatOf { id: &id, first, after: Some(Duration::from_secs(1)), same_client: Some(true) };
            counted.add("salt_reused", &id, None, None, Some(repeat), &clock);
        }
        let line = counted.take(&clock).unwrap();
        assert!(line.len() < 6_000, "{}", line.len());
        let line: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(line["repeats"], json!({ "deleted": 75_000, "unknown": 25_000 }));
        assert_eq!(line["repeat_of"].as_object().unwrap().len(), REPEATED);
        assert_eq!(line["repeat_of"][format!("{:032x}", 1)]["first"], "deleted");
    }
}
