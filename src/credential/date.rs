use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Whether the dates of the official PHP SDK are read (contract §2).
///
/// It sends Korean wall-clock time with a fraction of exactly `32400`, its offset in seconds,
/// and a `Z`. Read, that means `+09:00`; it is never read literally, for two readings of one text
/// would be two windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhpDates {
    /// They mean `+09:00`.
    Accept,
    /// They are refused.
    Refuse,
}

/// `YYYY-MM-DDTHH:MM[:SS[.d{1,9}]](Z|±HH:MM|±HHMM)`, as it was sent and signed.
#[derive(Clone, Copy, Debug)]
pub struct Date<'h> {
    text: &'h str,
    instant: SystemTime,
    php_sdk: bool,
}

/// What is wrong with a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadDate {
    /// Not of the form at all, or something before, between or after.
    Form,
    /// No `Z`, `±HH:MM` or `±HHMM` at its end.
    Zone,
    /// A field that is out of its range, or a day the month does not have.
    Range,
    /// The PHP SDK's form, where it is not accepted.
    PhpSdk,
}

impl fmt::Display for BadDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "date is not YYYY-MM-DDTHH:MM[:SS[.fraction]] with a zone",
            Self::Zone => "date does not end in Z, +HH:MM or +HHMM",
            Self::Range => "date has a field out of its range, or a day that the month does not have",
            Self::PhpSdk => "date is of the PHP SDK's form (.32400Z), which is switched off (accept_php_sdk_dates)",
        })
    }
}

impl<'h> Date<'h> {
    /// Reads a date, all of it.
    ///
    /// # Errors
    /// If it is not exactly of the grammar.
    pub fn parse(bytes: &'h [u8], php: PhpDates) -> Result<Self, BadDate> {
        let text = std::str::from_utf8(bytes).map_err(|_| BadDate::Form)?;
        let mut rest = Rest(bytes);
        let year = rest.number(4)?;
        rest.mark(b'-')?;
        let month = rest.number(2)?;
        rest.mark(b'-')?;
        let day = rest.number(2)?;
        rest.mark(b'T')?;
        let hour = rest.number(2)?;
        rest.mark(b':')?;
        let minute = rest.number(2)?;
        let mut second = 0;
        let mut fraction: &[u8] = b"";
        if rest.mark(b':').is_ok() {
            second = rest.number(2)?;
            if rest.mark(b'.').is_ok() {
                fraction = rest.fraction()?;
            }
        }
        let (mut nanos, mut offset) = (nanoseconds(fraction), rest.zone()?);
        if !rest.0.is_empty() {
            return Err(BadDate::Form);
        }
        let php_sdk = fraction == b"32400" && bytes.last() == Some(&b'Z');
        if php_sdk {
            if php == PhpDates::Refuse {
                return Err(BadDate::PhpSdk);
            }
            (nanos, offset) = (0, 9 * 3600);
        }
        if !(1..=12).contains(&month)
            || day < 1
            || day > days_in(year, month)
            || hour > 23
            || minute > 59
            || second > 59
        {
            return Err(BadDate::Range);
        }
        let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
        Ok(Self { text, instant: instant(seconds, nanos), php_sdk })
    }

    /// The bytes that were signed.
    pub fn text(&self) -> &'h str {
        self.text
    }

    /// The instant it names, to the nanosecond.
    pub fn instant(&self) -> SystemTime {
        self.instant
    }

    /// Whether it was read as the PHP SDK's form.
    pub fn is_php_sdk(&self) -> bool {
        self.php_sdk
    }
}

/// What is left to read.
struct Rest<'h>(&'h [u8]);

impl<'h> Rest<'h> {
    fn mark(&mut self, mark: u8) -> Result<(), BadDate> {
        self.0 = self.0.strip_prefix(&[mark]).ok_or(BadDate::Form)?;
        Ok(())
    }

    fn number(&mut self, digits: usize) -> Result<i64, BadDate> {
        let (number, rest) = self.0.split_at_checked(digits).ok_or(BadDate::Form)?;
        if !number.iter().all(u8::is_ascii_digit) {
            return Err(BadDate::Form);
        }
        self.0 = rest;
        Ok(number.iter().fold(0, |n, digit| n * 10 + i64::from(digit - b'0')))
    }

    fn fraction(&mut self) -> Result<&'h [u8], BadDate> {
        let digits = self.0.iter().take_while(|b| b.is_ascii_digit()).count();
        if !(1..=9).contains(&digits) {
            return Err(BadDate::Form);
        }
        let (fraction, rest) = self.0.split_at(digits);
        self.0 = rest;
        Ok(fraction)
    }

    /// Seconds east of UTC.
    fn zone(&mut self) -> Result<i64, BadDate> {
        let (&sign, rest) = self.0.split_first().ok_or(BadDate::Zone)?;
        self.0 = rest;
        let east = match sign {
            b'Z' => return Ok(0),
            b'+' => 1,
            b'-' => -1,
            _ => return Err(BadDate::Zone),
        };
        let hours = self.number(2).map_err(|_| BadDate::Zone)?;
        if self.0.first() == Some(&b':') {
            self.mark(b':')?;
        }
        let minutes = self.number(2).map_err(|_| BadDate::Zone)?;
        if hours > 23 || minutes > 59 {
            return Err(BadDate::Range);
        }
        Ok(east * (hours * 3600 + minutes * 60))
    }
}

fn nanoseconds(fraction: &[u8]) -> u32 {
    (0..9).fold(0, |n, place| n * 10 + fraction.get(place).map_or(0, |digit| u32::from(digit - b'0')))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days of the proleptic Gregorian calendar, counted in years that begin in March, so that the
/// leap day is the last of its year.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

fn instant(seconds: i64, nanos: u32) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let base = if seconds < 0 { UNIX_EPOCH - whole } else { UNIX_EPOCH + whole };
    base + Duration::from_nanos(nanos.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Result<SystemTime, BadDate> {
        Date::parse(text.as_bytes(), PhpDates::Accept).map(|date| date.instant())
    }

    #[test]
    fn the_same_instant_in_every_form() {
        let rows = [
            "2026-11-23T22:38:00Z",
            "2026-11-23T22:38Z",
            "2026-11-23T22:38:00.0Z",
            "2026-11-23T22:38:00.000000000Z",
            "2026-11-24T07:38:00+09:00",
            "2026-11-24T07:38:00+0900",
            "2026-11-24T07:38+09:00",
            "2026-11-23T19:08:00.000-0330",
            "2026-11-24T07:38:00.32400Z",
        ];
        for text in rows {
            assert_eq!(at(text), Ok(UNIX_EPOCH + Duration::from_secs(1_795_473_480)), "{text}");
        }
    }

    #[test]
    fn what_is_no_date() {
        let rows = [
            "",
            "Z",
            "2026-11-23",
            "2026-11-23T22",
            "2026-11-23T22:38",
            "2026-11-23T22:38:00",
            "2026-11-23T22:38:00+09",
            "2026-11-23T22:38:00+9:00",
            "2026-11-23T22:38:00+090",
            "2026-11-23T22:38:00+09:0",
            "2026-11-23T22:38:00.Z",
            "2026-11-23T22:38:00.1234567890Z",
            "2026-11-23T22:38.5Z",
            "2026-11-23t22:38:00Z",
            "2026-11-23T22:38:00z",
            "2026-11-23 22:38:00Z",
            "2026-11-23T24:00:00Z",
            "2026-11-23T22:60:00Z",
            "2026-11-23T22:38:60Z",
            "2026-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2026-04-31T00:00:00Z",
            "2026-00-10T00:00:00Z",
            "2026-13-10T00:00:00Z",
            "2026-11-00T00:00:00Z",
            "2026-11-23T22:38:00+24:00",
            "2026-11-23T22:38:00+09:60",
            "2026-11-23T22:38:00Z ",
            "2026-11-23T22:38:00ZZ",
            "2026-11-23T22:38:00+09:00[Asia/Seoul]",
            "+2026-11-23T22:38:00Z",
            "2026-W48-1T00:00:00Z",
            "20261123T223800Z",
            "2026-11-23T22:38:00,5Z",
            "２０２６-11-23T22:38:00Z",
        ];
        for text in rows {
            assert!(at(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_php_sdks_form_has_one_reading_or_none() {
        let text = b"2026-11-24T07:38:07.32400Z";
        assert!(Date::parse(text, PhpDates::Accept).unwrap().is_php_sdk());
        assert_eq!(Date::parse(text, PhpDates::Refuse).unwrap_err(), BadDate::PhpSdk);
        let literal = at("2026-11-24T07:38:07.324000Z").unwrap();
        assert_eq!(at("2026-11-24T07:38:07.324Z").unwrap(), literal);
        assert_eq!(at("2026-11-24T07:38:07.32400+00:00").unwrap(), literal, "only before a Z");
    }

    #[test]
    fn days_agree_with_counting_them_one_by_one() {
        let mut days = days_since_1970(0, 1, 1);
        assert_eq!(days_since_1970(1970, 1, 1), 0);
        for year in 0..=2800 {
            for month in 1..=12 {
                for day in 1..=days_in(year, month) {
                    assert_eq!(days_since_1970(year, month, day), days, "{year}-{month}-{day}");
                    days += 1;
                }
            }
        }
    }

    fn dates() -> impl Strategy<Value = String> {
        let zone = prop_oneof![Just("Z".to_owned()), "[+-](0[0-9]|1[0-9]|2[0-3]):?[0-5][0-9]"];
        let time = "([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\\.[0-9]{1,9})?)?";
        ("[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])", time, zone).prop_map(|(d, t, z)| format!("{d}T{t}{z}"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn no_date_is_the_beginning_of_another(date in dates(), salt in "[0-9A-Za-z_:.+-]{12,64}") {
            prop_assert!(at(&date).is_ok(), "{}", date);
            let signed = format!("{date}{salt}");
            let readings = (1..=signed.len()).filter(|end| at(&signed[..*end]).is_ok()).count();
            prop_assert_eq!(readings, 1, "one reading of {}", signed);
        }

        #[test]
        fn any_bytes_are_a_date_or_not_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Date::parse(&bytes, PhpDates::Accept);
        }

        #[test]
        fn a_changed_byte_never_leaves_the_instant_text_pair_ambiguous(date in dates(), at_byte in 0_usize..16, to in any::<u8>()) {
            let mut bytes = date.clone().into_bytes();
            bytes[at_byte] = to;
            if let Ok(changed) = Date::parse(&bytes, PhpDates::Accept) {
                prop_assert_eq!(changed.text().as_bytes(), &bytes[..], "the text is what was sent");
            }
        }
    }
}
