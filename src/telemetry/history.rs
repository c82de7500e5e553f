//! How many requests ended lately, by outcome and reason: samples of the counters, for the status page.

use std::collections::VecDeque;
use std::time::Duration;

use super::outcome::Ended;
use crate::refusal::Reason;

/// How often a sample is kept.
const EVERY: Duration = Duration::from_secs(10);

/// The spans over which [`RequestCounts`] counts; a fourth is since the start.
const SPANS: [Duration; 3] = [Duration::from_secs(60), Duration::from_secs(600), Duration::from_secs(3600)];

/// How many requests ended so, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestCounts {
    /// How they ended.
    pub outcome: Ended,
    /// Why.
    pub reason: Reason,
    /// In the last minute, in the last ten, in the last hour, and since the start.
    pub counts: [u64; 4],
}

/// The counters at one moment, without those at zero, so that an hour of samples is small.
type Sample = Box<[(Ended, Reason, u64)]>;

/// Samples of the last hour, oldest first.
#[derive(Default)]
pub(super) struct History(VecDeque<(Duration, Sample)>);

impl History {
    /// Keeps a sample if it is time for one.
    pub(super) fn sample(&mut self, now: Duration, totals: impl FnOnce() -> Vec<(Ended, Reason, u64)>) {
        if self.0.back().is_some_and(|(at, _)| now < *at + EVERY) {
            return;
        }
        self.0.push_back((now, totals().into()));
        // The newest sample that is older than the longest span stays: the span is counted from it.
        while self.0.get(1).is_some_and(|(at, _)| *at + SPANS[2] <= now) {
            self.0.pop_front();
        }
    }

    /// What was counted in each span. `totals` are the counters now.
    pub(super) fn lately(&self, now: Duration, totals: Vec<(Ended, Reason, u64)>) -> Vec<RequestCounts> {
        let bases = SPANS.map(|span| self.0.iter().rev().find(|(at, _)| *at + span <= now).map(|(_, sample)| sample));
        let before = |base: Option<&Sample>, outcome, reason| {
            let found = base?.iter().find(|(ended, why, _)| (*ended, *why) == (outcome, reason))?;
            Some(found.2)
        };
        let counted = |(outcome, reason, total): (Ended, Reason, u64)| {
            let [minute, ten, hour] =
                bases.map(|base| total.saturating_sub(before(base, outcome, reason).unwrap_or(0)));
            RequestCounts { outcome, reason, counts: [minute, ten, hour, total] }
        };
        totals.into_iter().map(counted).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_span_is_counted_by_itself_and_an_hour_of_samples_is_kept() {
        let mut history = History::default();
        let total = |seconds: u64| vec![(Ended::Forwarded, Reason::Ok, seconds)];
        let counts =
            |history: &History, seconds| history.lately(Duration::from_secs(seconds), total(seconds))[0].counts;
        assert_eq!(counts(&history, 5), [5; 4], "a process that is younger than a span has all in it");
        // One request a second.
        for seconds in 0..=7200 {
            history.sample(Duration::from_secs(seconds), || total(seconds));
        }
        assert_eq!(counts(&history, 7200), [60, 600, 3600, 7200]);
        assert!(history.0.len() <= 362, "{}", history.0.len());
        let new = history.lately(Duration::from_secs(7200), vec![(Ended::Refused, Reason::Frozen, 3)]);
        assert_eq!(new[0].counts, [3; 4], "it never happened before");
    }
}
