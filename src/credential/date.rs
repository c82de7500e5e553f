//! The date of a header (contract §2).
//!
//! 1. The grammar is `YYYY-MM-DDTHH:MM[:SS[.d{1,9}]](Z|±HH:MM|±HHMM)`, upper-case `T` and `Z`, every field in range: no
//!    `:60`, no `24:00`, real calendar days, offsets up to 23:59.
//! 2. It is prefix-free: a date ends with its zone, the zone's first byte determines its length, and nothing may
//!    follow. The MAC covers `date‖salt` without a delimiter, so a form that could end in two places (a bare `+09`,
//!    no zone, a suffix `[Asia/Seoul]`) would let a spent header pass as a new one. General ISO 8601 parsers accept
//!    such forms, so this one is written by hand.
//! 3. A text has one meaning. `.32400Z` comes from the official PHP SDK, which writes Korean wall-clock time with the
//!    offset in seconds in place of a fraction. It means `+09:00` or is refused, but never 0.324 seconds in UTC.

use std::time::{Duration, SystemTime};

use super::calendar::{days_in_month, days_since_epoch};

/// A date as received, and the instant that it means.
#[derive(Clone, Copy, Debug)]
pub struct Date<'h> {
    text: &'h str,
    /// Seconds since 1970-01-01T00:00:00Z, rounded down.
    seconds: i64,
    nanoseconds: u32,
    php_sdk: bool,
}

/// How to read a fraction of `32400` before `Z` (`accept_php_sdk_dates`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhpDates {
    /// As the PHP SDK means it: Korean wall-clock time, `+09:00`.
    Accept,
    /// It is not a date.
    Refuse,
}

/// Why a text is not a date: the first violation of the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDate {
    /// It does not begin with `YYYY-MM-DDTHH:MM`, or a second `:` is not followed by two digits.
    #[error("expected YYYY-MM-DDTHH:MM, then perhaps :SS and a fraction, then a zone")]
    Form,
    /// There is no such day.
    #[error("expected a day that is in the calendar")]
    Day,
    /// There is no such time of day.
    #[error("expected a time from 00:00:00 to 23:59:59")]
    Time,
    /// The fraction is empty or has more than nine digits.
    #[error("expected one to nine digits after the seconds' dot")]
    Fraction,
    /// The zone is missing, out of range, or neither `Z` nor `±HH:MM` nor `±HHMM`.
    #[error("expected the zone as Z, ±HH:MM or ±HHMM, up to 23:59")]
    Zone,
    /// Something follows the zone.
    #[error("expected nothing behind the zone")]
    Trailing,
    /// It is a PHP SDK date, and those are not accepted.
    #[error("expected no fraction of 32400 before Z: it is how the PHP SDK writes +09:00, which is off")]
    PhpSdk,
}

impl<'h> Date<'h> {
    /// Parses a complete text as a date.
    ///
    /// # Errors
    /// If it does not follow the grammar above byte by byte.
    pub fn parse(text: &'h str, php: PhpDates) -> Result<Self, BadDate> {
        Self::read(text, php).map_err(|(bad, _)| bad)
    }

    /// The byte offset at which parsing failed, and why; `None` if the text is a date. For `explain`.
    pub fn reading_ends(text: &str, php: PhpDates) -> Option<(BadDate, usize)> {
        Date::read(text, php).err()
    }

    fn read(text: &'h str, php: PhpDates) -> Result<Self, (BadDate, usize)> {
        let mut rest = Rest(text.as_bytes());
        let ended = |bad, rest: &Rest<'_>| (bad, text.len() - rest.0.len());
        let (year, month, day) = rest.day().ok_or_else(|| ended(BadDate::Form, &rest))?;
        let (hour, minute) = rest.time().ok_or_else(|| ended(BadDate::Form, &rest))?;
        let (second, fraction) = rest.seconds().map_err(|bad| ended(bad, &rest))?;
        if !(1..=days_in_month(year, month)).contains(&day) {
            let month_is_wrong = !(1..=12).contains(&month);
            return Err((BadDate::Day, if month_is_wrong { MONTH_AT } else { DAY_AT }));
        }
        if hour > 23 || minute > 59 || second > 59 {
            let at = if hour > 23 {
                HOUR_AT
            } else if minute > 59 {
                MINUTE_AT
            } else {
                SECOND_AT
            };
            return Err((BadDate::Time, at));
        }
        let php_sdk = fraction == PHP_FRACTION && rest.0.first() == Some(&b'Z');
        let zone = rest.zone().ok_or_else(|| ended(BadDate::Zone, &rest))?;
        if !rest.0.is_empty() {
            return Err(ended(BadDate::Trailing, &rest));
        }
        if php_sdk && php == PhpDates::Refuse {
            return Err((BadDate::PhpSdk, FRACTION_AT));
        }
        let (nanoseconds, offset) = if php_sdk { (0, KOREA) } else { (nanoseconds(fraction), zone) };
        let wall = days_since_epoch(year, month, day) * 86_400 + i64::from(hour * 3600 + minute * 60 + second);
        Ok(Self { text, seconds: wall - offset, nanoseconds, php_sdk })
    }

    /// The text as received, which the MAC covers.
    pub fn text(&self) -> &'h str {
        self.text
    }

    /// The instant that it means, to the nanosecond.
    ///
    /// 1970 if the platform's clock cannot represent it: no window ever reaches there.
    pub fn instant(&self) -> SystemTime {
        let whole = Duration::from_secs(self.seconds.unsigned_abs());
        let whole = if self.seconds < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(whole)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(whole)
        };
        whole
            .and_then(|instant| instant.checked_add(Duration::from_nanos(u64::from(self.nanoseconds))))
            .unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Whether it was read as a PHP SDK date, for explanations and metrics.
    pub fn is_php_sdk(&self) -> bool {
        self.php_sdk
    }
}

/// The offsets of the fields in `YYYY-MM-DDTHH:MM:SS.`.
const MONTH_AT: usize = 5;
const DAY_AT: usize = 8;
const HOUR_AT: usize = 11;
const MINUTE_AT: usize = 14;
const SECOND_AT: usize = 17;
const FRACTION_AT: usize = 20;

/// What the PHP SDK sends in place of a fraction: Korea's offset in seconds.
const PHP_FRACTION: &[u8] = b"32400";
/// The same as a number.
const KOREA: i64 = 9 * 3600;

/// Converts a fraction of at most nine digits to nanoseconds.
fn nanoseconds(fraction: &[u8]) -> u32 {
    (0..9).fold(0, |value, place| value * 10 + fraction.get(place).map_or(0, |digit| u32::from(digit - b'0')))
}

/// The part of a text that has not been parsed yet.
struct Rest<'h>(&'h [u8]);

impl<'h> Rest<'h> {
    fn day(&mut self) -> Option<(u32, u32, u32)> {
        let year = self.digits(4)?;
        self.skip(b'-')?;
        let month = self.digits(2)?;
        self.skip(b'-')?;
        Some((year, month, self.digits(2)?))
    }

    fn time(&mut self) -> Option<(u32, u32)> {
        self.skip(b'T')?;
        let hour = self.digits(2)?;
        self.skip(b':')?;
        Some((hour, self.digits(2)?))
    }

    /// The seconds, if present, and the digits of their fraction, if present. Without seconds there is no fraction.
    fn seconds(&mut self) -> Result<(u32, &'h [u8]), BadDate> {
        if self.skip(b':').is_none() {
            return Ok((0, b""));
        }
        let second = self.digits(2).ok_or(BadDate::Form)?;
        if self.skip(b'.').is_none() {
            return Ok((second, b""));
        }
        let length = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..=9).contains(&length) {
            return Err(BadDate::Fraction);
        }
        let (fraction, rest) = self.0.split_at(length);
        self.0 = rest;
        Ok((second, fraction))
    }

    /// The offset from UTC in seconds.
    fn zone(&mut self) -> Option<i64> {
        if self.skip(b'Z').is_some() {
            return Some(0);
        }
        let sign = if self.skip(b'+').is_some() { 1 } else { self.skip(b'-').map(|()| -1)? };
        let hours = self.digits(2).filter(|hours| *hours <= 23)?;
        // With or without the colon, exactly two digits follow, so both forms have one end.
        let _ = self.skip(b':');
        let minutes = self.digits(2).filter(|minutes| *minutes <= 59)?;
        Some(sign * i64::from(hours * 3600 + minutes * 60))
    }

    fn digits(&mut self, count: usize) -> Option<u32> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        self.0 = rest;
        Some(digits.iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0')))
    }

    fn skip(&mut self, byte: u8) -> Option<()> {
        self.0 = self.0.strip_prefix(&[byte])?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::BadDate::{Day, Form, Fraction, PhpSdk, Time, Trailing, Zone};
    use super::PhpDates::{Accept, Refuse};
    use super::*;

    #[test]
    fn valid_dates_have_the_expected_meaning() {
        // (text, seconds since 1970, nanoseconds)
        let cases = [
            ("1970-01-01T00:00Z", 0, 0),
            ("2026-11-23T22:38:08Z", 1_795_473_488, 0),
            ("2026-11-24T07:38:08.560570510+09:00", 1_795_473_488, 560_570_510),
            ("2026-11-23T19:08:08.5-0330", 1_795_473_488, 500_000_000),
            ("2026-11-24T07:38:08.32400Z", 1_795_473_488, 0),
            ("2026-11-24T07:38:08.324Z", 1_795_505_888, 324_000_000),
            ("2026-11-24T07:38:08.3240Z", 1_795_505_888, 324_000_000),
            ("2026-11-24T07:38:08.324000Z", 1_795_505_888, 324_000_000),
            ("2026-11-24T07:38:08.32400+09:00", 1_795_473_488, 324_000_000),
            ("2026-11-23T22:38:08-00:00", 1_795_473_488, 0),
            ("1969-12-31T23:59:59.999999999Z", -1, 999_999_999),
            ("0000-01-01T00:00:00+23:59", -62_167_305_540, 0),
            ("9999-12-31T23:59:59.000000001-2359", 253_402_387_139, 1),
        ];
        for (text, seconds, nanoseconds) in cases {
            let date = Date::parse(text, Accept).expect(text);
            assert_eq!((date.seconds, date.nanoseconds, date.text()), (seconds, nanoseconds, text), "{text}");
        }
    }

    #[test]
    fn dates_before_1970_are_exact_to_the_nanosecond() {
        let instant = Date::parse("1969-12-31T23:59:59.999999999Z", Accept).unwrap().instant();
        assert_eq!(SystemTime::UNIX_EPOCH.duration_since(instant).unwrap(), Duration::from_nanos(1));
    }

    #[test]
    fn only_the_exact_php_form_is_a_php_date() {
        let php = "2026-11-24T07:38:08.32400Z";
        assert!(Date::parse(php, Accept).unwrap().is_php_sdk());
        assert_eq!(Date::parse(php, Refuse).unwrap_err(), PhpSdk);
        for other in ["2026-11-24T07:38:08.3240Z", "2026-11-24T07:38:08.324000Z", "2026-11-24T07:38:08.32400+0000"] {
            assert!(!Date::parse(other, Refuse).expect(other).is_php_sdk());
        }
    }

    #[test]
    fn invalid_dates_are_rejected() {
        let cases = [
            ("empty", "", Form),
            ("a day alone", "2026-11-23", Form),
            ("lower-case t", "2026-11-23t22:38Z", Form),
            ("a space for the T", "2026-11-23 22:38Z", Form),
            ("an hour alone", "2026-11-23T22Z", Form),
            ("a basic date", "20261123T223808Z", Form),
            ("five digits of year", "12026-11-23T22:38Z", Form),
            ("a signed year", "+2026-11-23T22:38Z", Form),
            ("another script's digits", "２026-11-23T22:38Z", Form),
            ("half a second field", "2026-11-23T22:38:0Z", Form),
            ("month 0", "2026-00-10T22:38Z", Day),
            ("month 13", "2026-13-10T22:38Z", Day),
            ("day 0", "2026-11-00T22:38Z", Day),
            ("31 November", "2026-11-31T22:38Z", Day),
            ("29 February of a common year", "2026-02-29T22:38Z", Day),
            ("24:00", "2026-11-23T24:00Z", Time),
            ("minute 60", "2026-11-23T22:60Z", Time),
            ("a leap second", "2026-12-31T23:59:60Z", Time),
            ("a dot without digits", "2026-11-23T22:38:08.Z", Fraction),
            ("ten digits", "2026-11-23T22:38:08.0123456789Z", Fraction),
            ("a comma for the dot", "2026-11-23T22:38:08,5Z", Zone),
            ("a fraction of a minute", "2026-11-23T22:38.5Z", Zone),
            ("no zone", "2026-11-23T22:38:08", Zone),
            ("lower-case z", "2026-11-23T22:38:08z", Zone),
            ("an hour for a zone", "2026-11-23T22:38:08+09", Zone),
            ("an hour and a colon", "2026-11-23T22:38:08+09:", Zone),
            ("half the minutes", "2026-11-23T22:38:08+09:0", Zone),
            ("zone hour 24", "2026-11-23T22:38:08+24:00", Zone),
            ("zone minute 60", "2026-11-23T22:38:08+0960", Zone),
            ("a typographic minus", "2026-11-23T22:38:08−09:00", Zone),
            ("seconds in the zone", "2026-11-23T22:38:08+09:00:00", Trailing),
            ("a region", "2026-11-23T22:38:08+09:00[Asia/Seoul]", Trailing),
            ("two zones", "2026-11-23T22:38:08ZZ", Trailing),
            ("a line end", "2026-11-23T22:38:08Z\n", Trailing),
        ];
        for (name, text, bad) in cases {
            assert_eq!(Date::parse(text, Accept).map(|_| ()), Err(bad), "{name}");
        }
    }
}
