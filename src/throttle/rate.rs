use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// So many per so long, such as `100/hour`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many, at least one.
    pub count: u32,
    /// In how long.
    pub per: Duration,
}

const UNITS: [(&str, u64); 4] = [("second", 1), ("minute", 60), ("hour", 3600), ("day", 86_400)];

/// What is no rate.
#[derive(Debug, PartialEq, Eq)]
pub struct NoRate;

impl FromStr for Rate {
    type Err = NoRate;

    /// `N/second`, `N/minute`, `N/hour` or `N/day`, with `N` from 1 to 1 000 000.
    fn from_str(text: &str) -> Result<Self, NoRate> {
        let (count, unit) = text.split_once('/').ok_or(NoRate)?;
        if !count.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NoRate);
        }
        let count = count.parse().ok().filter(|count| (1..=1_000_000).contains(count)).ok_or(NoRate)?;
        let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(NoRate)?;
        Ok(Self { count, per: Duration::from_secs(*seconds) })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, seconds)| self.per == Duration::from_secs(*seconds)) {
            Some((name, _)) => write!(f, "{}/{name}", self.count),
            None => write!(f, "{} in {:?}", self.count, self.per),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_reads_as_it_is_written() {
        for text in ["1/second", "60/minute", "100/hour", "1000000/day"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        for text in ["", "1", "/hour", "0/hour", "+1/hour", "-1/hour", "1.5/hour", "1/week", "1 /hour", "1000001/day"] {
            assert_eq!(text.parse::<Rate>(), Err(NoRate), "{text}");
        }
    }
}
