//! Finds out which wrong time zone explains a readable date that is hours off.

use std::time::{Duration, SystemTime};

use crate::credential::Date;

/// Why a date may be off by its zone. Offsets are seconds east of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::explain) enum Mislabelled {
    /// The wall clock of a zone, labelled as UTC.
    LocalAsUtc(i64),
    /// UTC, labelled as a zone.
    UtcAsLocal(i64),
    /// UTC taken for the wall clock of a zone, and converted to UTC again.
    UtcTwice(i64),
    /// The wall clock of a zone, labelled with this zone, but with the offset added again.
    LocalTwice(i64),
    /// An offset that no zone has today, but that a city had before time zones existed.
    MeanTime(i64),
    /// The wall clock of a zone, with the offset in seconds in place of a fraction.
    OffsetAsFraction(i64),
}

/// Offsets that a zone can have: multiples of a quarter of an hour, up to 14 hours.
const QUARTER: i64 = 900;
const FARTHEST: i64 = 14 * 3600;
/// How closely a difference must match an offset.
const TOLERANCE: i64 = 150;
/// A date that is this far off is not just old.
const FAR: i64 = 15 * 60;

/// Which wrong label explains how far the date is off; `None` if no zone does.
pub(in crate::explain) fn mislabelled(date: &Date<'_>, now: SystemTime) -> Option<Mislabelled> {
    let ahead = match date.instant().duration_since(now) {
        Ok(ahead) => seconds(ahead),
        Err(behind) => -seconds(behind.duration()),
    };
    if date.is_php_sdk() {
        return None;
    }
    let labelled = labelled(date.text())?;
    if labelled == 0
        && let Some(offset) = as_fraction(date.text(), ahead)
    {
        return Some(Mislabelled::OffsetAsFraction(offset));
    }
    if labelled % QUARTER != 0 && ahead.abs() > TOLERANCE {
        return Some(Mislabelled::MeanTime(labelled));
    }
    let quarters = (ahead + ahead.signum() * QUARTER / 2) / QUARTER;
    let offset = quarters * QUARTER;
    if !is_an_offset(offset) || (ahead - offset).abs() > TOLERANCE {
        return None;
    }
    if labelled == 0 {
        let twice = offset < 0 && !lies_west(offset);
        return Some(if twice { Mislabelled::UtcTwice(-offset) } else { Mislabelled::LocalAsUtc(offset) });
    }
    if labelled == -offset {
        return Some(Mislabelled::UtcAsLocal(labelled));
    }
    (labelled == offset).then_some(Mislabelled::LocalTwice(labelled))
}

/// Whether a zone can differ from UTC by this many seconds.
pub(in crate::explain) fn is_an_offset(seconds: i64) -> bool {
    seconds != 0 && seconds % QUARTER == 0 && seconds.abs() <= FARTHEST
}

/// Whether this offset west of UTC is a likely one. Nine hours west is Alaska; a date nine hours behind comes far
/// more often from a Korean or Japanese program that converted UTC to UTC.
fn lies_west(offset: i64) -> bool {
    let hours = -offset / 3600;
    offset % 3600 == 0 && ((1..=8).contains(&hours) || hours == 10) || [-9000, -12_600].contains(&offset)
}

/// An offset in place of the fraction. It must explain how far the date is off: exactly, or, for an old header,
/// better than the date as written. Three digits are milliseconds.
fn as_fraction(text: &str, ahead: i64) -> Option<i64> {
    let offset = fraction(text).filter(|offset| is_an_offset(*offset))?;
    let left = (ahead - offset).abs();
    let better = ahead.abs() > FAR && left < ahead.abs() && offset >= 3600;
    (left <= TOLERANCE || better).then_some(offset)
}

fn seconds(span: Duration) -> i64 {
    i64::try_from(span.as_secs()).unwrap_or(i64::MAX)
}

/// The offset in the text of a date, in seconds.
fn labelled(text: &str) -> Option<i64> {
    if text.ends_with('Z') {
        return Some(0);
    }
    let at = text.rfind(['+', '-'])?;
    let digits: String = text[at + 1..].chars().filter(char::is_ascii_digit).collect();
    let (hours, minutes) = (digits.get(..2)?.parse::<i64>().ok()?, digits.get(2..4)?.parse::<i64>().ok()?);
    let offset = hours * 3600 + minutes * 60;
    Some(if text[at..].starts_with('-') { -offset } else { offset })
}

/// The fraction as an integer, if its digits form one.
fn fraction(text: &str) -> Option<i64> {
    let (_, behind) = text.split_once('.')?;
    let digits = &behind[..behind.bytes().take_while(u8::is_ascii_digit).count()];
    if digits.starts_with('0') { None } else { digits.parse().ok() }
}

/// An offset as a date writes it.
pub(in crate::explain) fn in_digits(offset: i64) -> String {
    let (sign, offset) = if offset < 0 { ('-', -offset) } else { ('+', offset) };
    format!("{sign}{:02}:{:02}", offset / 3600, offset / 60 % 60)
}
