//! A number in a span of time, such as `"100/hour"`.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// At most `limit` in any span of length `span`, written `"100/hour"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// How many.
    pub limit: NonZeroU32,
    /// In how long.
    pub span: Duration,
}

const UNITS: [(&str, u64); 5] = [("second", 1), ("minute", 60), ("hour", 3_600), ("day", 86_400), ("week", 604_800)];

impl Budget {
    /// The highest limit, because every use is stored.
    pub const MAX: u32 = 100_000;

    /// No span is longer.
    pub const LONGEST_SPAN: Duration = Duration::from_secs(604_800);

    /// Parses `"100/hour"`. The span is a second, minute, hour, day or week.
    pub fn parse(text: &str) -> Option<Self> {
        let (limit, unit) = text.split_once('/')?;
        let span = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        let digits = !limit.is_empty() && limit.bytes().all(|b| b.is_ascii_digit());
        let limit = digits.then(|| limit.parse::<u32>().ok()).flatten().filter(|limit| *limit <= Self::MAX)?;
        Some(Self { limit: NonZeroU32::new(limit)?, span: Duration::from_secs(span) })
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, seconds)| *seconds == self.span.as_secs()).map_or("span", |(name, _)| name);
        write!(f, "{}/{unit}", self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_unit_is_longer_than_the_longest_span() {
        assert!(UNITS.iter().all(|(_, seconds)| *seconds <= Budget::LONGEST_SPAN.as_secs()));
    }

    #[test]
    fn a_budget_is_a_number_and_a_span() {
        let hour = Budget::parse("100/hour").unwrap();
        assert_eq!(
            (hour.limit.get(), hour.span, hour.to_string()),
            (100, Duration::from_secs(3600), "100/hour".into())
        );
        for wrong in ["", "100", "/hour", "0/hour", "+1/hour", "100/h", "1.5/day", "100001/day", "100 / hour", "-1/day"]
        {
            assert_eq!(Budget::parse(wrong), None, "{wrong:?}");
        }
    }
}
