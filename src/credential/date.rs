//! The date of a header (contract §2).
//!
//! 1. The grammar is `YYYY-MM-DDTHH:MM[:SS[.d{1,9}]](Z|±HH:MM|±HHMM)`, upper-case `T` and `Z`, every field in range: no
//!    `:60`, no `24:00`, real calendar days, offsets up to 23:59.
//! 2. It is prefix-free: a date ends with its zone, whose first byte says how long it is, and nothing may follow. The MAC
//!    covers `date‖salt` without a delimiter, so a form that lets a date end in two places (a bare `+09`, no zone at all,
//!    `[Asia/Seoul]` behind it) would let a spent header pass as a new one. A general ISO 8601 parser accepts such forms;
//!    hence this one, by hand, over bytes.
//! 3. One text has one reading. `.32400Z` is the official PHP SDK's Korean wall clock, its offset in seconds where a
//!    fraction belongs: it means `+09:00`, or is refused, and is never 0.324 seconds past in UTC.

use std::fmt;
use std::time::{Duration, SystemTime};

use super::calendar::{days_in_month, days_since_epoch};

/// A date as it was received, and the instant it means.
#[derive(Clone, Copy, Debug)]
pub struct Date<'h> {
    text: &'h str,
    /// Seconds since 1970-01-01T00:00:00Z, rounded down.
    seconds: i64,
    nanoseconds: u32,
    php_sdk: bool,
}

/// Whether a fraction of `32400` before `Z` is read as the PHP SDK means it (`accept_php_sdk_dates`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhpDates {
    /// It is Korean wall-clock time, `+09:00`.
    Accept,
    /// It is no date.
    Refuse,
}

/// Why a text is no date: the first clause of the grammar it misses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadDate {
    /// It does not begin with `YYYY-MM-DDTHH:MM`, or what follows a second `:` is not two digits.
    Form,
    /// There is no such day.
    Day,
    /// There is no such time of day.
    Time,
    /// The fraction is empty or has more than nine digits.
    Fraction,
    /// The zone is neither `Z` nor `±HH:MM` nor `±HHMM`, or is missing, or out of range.
    Zone,
    /// There is something behind the zone.
    Trailing,
    /// It is a PHP SDK date, and those are switched off.
    PhpSdk,
}

impl<'h> Date<'h> {
    /// Reads a whole text as a date.
    ///
    /// # Errors
    /// If it is not, byte for byte, of the grammar above.
    pub fn parse(text: &'h str, php: PhpDates) -> Result<Self, BadDate> {
        let mut rest = Rest(text.as_bytes());
        let (year, month, day) = rest.day().ok_or(BadDate::Form)?;
        let (hour, minute) = rest.time().ok_or(BadDate::Form)?;
        let (second, fraction) = rest.seconds()?;
        if !(1..=days_in_month(year, month)).contains(&day) {
            return Err(BadDate::Day);
        }
        if hour > 23 || minute > 59 || second > 59 {
            return Err(BadDate::Time);
        }
        let php_sdk = fraction == PHP_FRACTION && rest.0.first() == Some(&b'Z');
        let zone = rest.zone().ok_or(BadDate::Zone)?;
        if !rest.0.is_empty() {
            return Err(BadDate::Trailing);
        }
        if php_sdk && php == PhpDates::Refuse {
            return Err(BadDate::PhpSdk);
        }
        let (nanoseconds, offset) = if php_sdk { (0, KOREA) } else { (nanoseconds(fraction), zone) };
        let wall = days_since_epoch(year, month, day) * 86_400 + i64::from(hour * 3600 + minute * 60 + second);
        Ok(Self { text, seconds: wall - offset, nanoseconds, php_sdk })
    }

    /// The text as it was received, which is what the MAC covers.
    pub fn text(&self) -> &'h str {
        self.text
    }

    /// The instant it means, to the nanosecond.
    ///
    /// Where the platform's clock cannot hold it, 1970: no window ever reaches there.
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

    /// Whether it was read as the PHP SDK means it, for whoever explains or counts.
    pub fn is_php_sdk(&self) -> bool {
        self.php_sdk
    }
}

/// What the PHP SDK sends where a fraction belongs: the seconds of Korea's offset.
const PHP_FRACTION: &[u8] = b"32400";
/// The same as an offset.
const KOREA: i64 = 9 * 3600;

/// A fraction of at most nine digits, as nanoseconds.
fn nanoseconds(fraction: &[u8]) -> u32 {
    (0..9).fold(0, |value, place| value * 10 + fraction.get(place).map_or(0, |digit| u32::from(digit - b'0')))
}

/// What of a text has not been read yet.
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

    /// The seconds, if there are any, and their fraction's digits, if it has any. No seconds, no fraction.
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
        // With the colon or without it, two digits follow: both forms end where they must.
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

impl fmt::Display for BadDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "expected YYYY-MM-DDTHH:MM, then perhaps :SS and a fraction, then a zone",
            Self::Day => "expected a day that is in the calendar",
            Self::Time => "expected a time from 00:00:00 to 23:59:59",
            Self::Fraction => "expected one to nine digits after the seconds' dot",
            Self::Zone => "expected the zone as Z, ±HH:MM or ±HHMM, up to 23:59",
            Self::Trailing => "expected nothing behind the zone",
            Self::PhpSdk => "expected no fraction of 32400 before Z: it is how the PHP SDK writes +09:00, which is off",
        })
    }
}

impl std::error::Error for BadDate {}

#[cfg(test)]
mod tests {
    use super::BadDate::{Day, Form, Fraction, PhpSdk, Time, Trailing, Zone};
    use super::PhpDates::{Accept, Refuse};
    use super::*;

    #[test]
    fn what_it_means() {
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
    fn before_1970_to_the_nanosecond() {
        let instant = Date::parse("1969-12-31T23:59:59.999999999Z", Accept).unwrap().instant();
        assert_eq!(SystemTime::UNIX_EPOCH.duration_since(instant).unwrap(), Duration::from_nanos(1));
    }

    #[test]
    fn only_the_php_form_is_the_php_form() {
        let php = "2026-11-24T07:38:08.32400Z";
        assert!(Date::parse(php, Accept).unwrap().is_php_sdk());
        assert_eq!(Date::parse(php, Refuse).unwrap_err(), PhpSdk);
        for other in ["2026-11-24T07:38:08.3240Z", "2026-11-24T07:38:08.324000Z", "2026-11-24T07:38:08.32400+0000"] {
            assert!(!Date::parse(other, Refuse).expect(other).is_php_sdk());
        }
    }

    #[test]
    fn what_is_no_date() {
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
