//! Durations as people write them: `15m`, `1h 30m`, `1.5s`.
//!
//! Stricter than the crate `humantime`, which does the arithmetic: that reads `1 0s` as ten seconds, adds up `1s 1s`,
//! takes `M` for a month although `m` is a minute, and panics if a sum overflows a `Duration`.

use std::time::Duration;

/// Why text is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DurationError {
    /// It is not a sequence of numbers, each directly followed by a unit.
    #[error("is not a duration: a number with a unit right behind it, or several from the largest unit down")]
    Form,
    /// A unit is unknown.
    #[error("has a unit other than ns, us, ms, s, m, h, d, w, months and y")]
    Unit,
    /// A unit is not smaller than the one before it.
    #[error("names its units in another order than from the largest down, each once")]
    Order,
    /// A number has too many digits.
    #[error("is too large a number")]
    TooLarge,
}

/// Every unit with its spellings, the largest first. `M` (month) is left out, because it is easily meant as a minute.
const UNITS: [&[&str]; 10] = [
    &["y", "yr", "year", "years"],
    &["month", "months"],
    &["w", "wk", "wks", "week", "weeks"],
    &["d", "day", "days"],
    &["h", "hr", "hrs", "hour", "hours"],
    &["m", "min", "mins", "minute", "minutes"],
    &["s", "sec", "secs", "second", "seconds"],
    &["ms", "msec", "millis"],
    &["us", "usec", "µs"],
    &["ns", "nsec", "nanos"],
];
/// With at most ten digits, the sum of all units stays far below the limit of a `Duration`.
const MAX_DIGITS: usize = 10;

/// Parses a duration.
///
/// # Errors
/// Why the text is not a duration.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let mut rest = text;
    let mut smallest = None;
    loop {
        let (number, behind) =
            rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len()));
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
            return Err(DurationError::Form);
        }
        if whole.len() > MAX_DIGITS || fraction.len() > MAX_DIGITS {
            return Err(DurationError::TooLarge);
        }
        let (unit, behind) = behind.split_at(behind.find(|c: char| !c.is_alphabetic()).unwrap_or(behind.len()));
        if unit.is_empty() {
            return Err(DurationError::Form);
        }
        let rank = UNITS.iter().position(|names| names.contains(&unit)).ok_or(DurationError::Unit)?;
        if smallest.is_some_and(|smallest| rank <= smallest) {
            return Err(DurationError::Order);
        }
        smallest = Some(rank);
        if behind.is_empty() {
            break;
        }
        rest = behind.strip_prefix(' ').unwrap_or(behind);
    }
    humantime::parse_duration(text).map_err(|_| DurationError::Form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_units() {
        let seconds = Duration::from_secs;
        for (text, duration) in [
            ("15m", seconds(900)),
            ("1h 30m", seconds(5400)),
            ("1h30m", seconds(5400)),
            ("1.5s", Duration::from_millis(1500)),
            ("250ms", Duration::from_millis(250)),
            ("0s", Duration::ZERO),
            ("365d", seconds(365 * 86_400)),
            ("2weeks", seconds(14 * 86_400)),
            ("1y", seconds(31_557_600)),
            ("7µs", Duration::from_micros(7)),
        ] {
            assert_eq!(parse_duration(text), Ok(duration), "{text}");
            let shown = humantime::format_duration(duration).to_string();
            assert_eq!(parse_duration(&shown), Ok(duration), "as it is shown it is read: {shown}");
        }
    }

    #[test]
    fn likely_typing_errors_are_not_durations() {
        use DurationError::{Form, Order, TooLarge, Unit};
        for (text, error) in [
            ("", Form),
            ("10", Form),
            ("s", Form),
            ("-1s", Form),
            ("+1s", Form),
            ("10 s", Form),
            ("1 0s", Form),
            (" 1s", Form),
            ("1s ", Form),
            ("1h  1s", Form),
            (".5s", Form),
            ("1.s", Form),
            ("1.2.3s", Form),
            ("1e3s", Unit),
            ("1S", Unit),
            ("90M", Unit),
            ("1s 1s", Order),
            ("1s 1h", Order),
            ("18446744073709551615s 1000ms", TooLarge),
            ("0.00000000001s", TooLarge),
            ("0.5ns", Form),
        ] {
            assert_eq!(parse_duration(text), Err(error), "{text:?}");
        }
    }
}
