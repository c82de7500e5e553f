//! Why a date is unreadable or hours off, and how to write it correctly.
//!
//! 1. The parser ([`Date::reading_ends`]) decides whether a date is readable. This module finds the likely cause: the
//!    idiom that writes such a date.
//! 2. A correction is shown only if the parser reads it.
//! 3. The date is found even in a malformed header: most unreadable dates contain a comma or a space, which breaks
//!    the header.

mod cause;
mod offset;
mod shape;
mod whole;
mod zone;

use crate::credential::{BadDate, Date, PhpDates};

pub(super) use cause::Cause;
pub(super) use offset::{Mislabelled, in_digits, mislabelled};
use shape::Shape;

/// An unreadable date.
#[derive(Debug)]
pub(super) struct Diagnosis {
    /// How many bytes were parsed.
    pub(super) at: usize,
    pub(super) cause: Cause,
    /// The same date in an accepted form, if that is unambiguous.
    pub(super) corrected: Option<String>,
}

/// What is wrong with this date; `None` if it is readable.
pub(super) fn diagnose(text: &str, php: PhpDates) -> Option<Diagnosis> {
    let (bad, at) = Date::reading_ends(text, php)?;
    let (cause, corrected) = find(text, bad, at);
    let corrected = corrected.and_then(|corrected| settled(corrected, php));
    Some(Diagnosis { at, cause, corrected })
}

/// A correction that the parser accepts. Dates with one fault often have another: `2026-11-24 07:38:08,560+09`.
fn settled(mut text: String, php: PhpDates) -> Option<String> {
    for _ in 0..MOST_FAULTS {
        let Some((bad, at)) = Date::reading_ends(&text, php) else { return Some(text) };
        text = find(&text, bad, at).1?;
    }
    None
}

/// How many faults in one date are corrected at most.
const MOST_FAULTS: usize = 5;

/// The value of `date` in a header, well formed or not: the text up to the next parameter with a known name.
pub(super) fn of_header(header: &str) -> Option<&str> {
    const NAMES: [&str; 4] = ["apikey=", "date=", "salt=", "signature="];
    let lower = header.to_ascii_lowercase();
    let begins = |at: usize| at == 0 || matches!(lower.as_bytes()[at - 1], b' ' | b',');
    let start = lower.match_indices("date=").map(|(at, _)| at).find(|at| begins(*at))? + "date=".len();
    let ends = |(at, _): (usize, &str)| {
        let next = lower[at + 1..].trim_start_matches(' ');
        NAMES.iter().any(|name| next.starts_with(name)).then_some(at)
    };
    let end = lower[start..].match_indices(',').find_map(|(at, comma)| ends((start + at, comma)));
    Some(&header[start..end.unwrap_or(header.len())])
}

type Found = (Cause, Option<String>);

fn find(text: &str, bad: BadDate, at: usize) -> Found {
    let shape = Shape::of(text);
    whole::whole(text, &shape).unwrap_or_else(|| match bad {
        BadDate::Form => form(text, &shape, at),
        BadDate::Day => (Cause::NoSuchDay, None),
        BadDate::Time if text.get(11..13) == Some("24") => (Cause::Hour24, None),
        BadDate::Time if text.get(17..19) == Some("60") => (Cause::LeapSecond, None),
        BadDate::Time => (Cause::NoSuchTime, None),
        BadDate::Fraction => zone::fraction(text, at),
        BadDate::Zone | BadDate::Trailing => zone::zone(text, &shape),
        BadDate::PhpSdk => (Cause::PhpSdk, text.strip_suffix(".32400Z").map(|wall| format!("{wall}+09:00"))),
    })
}

/// The cause, for a text that does not begin like a date and a time.
fn form(text: &str, shape: &Shape, at: usize) -> Found {
    if at == "2026-11-23".len() {
        return match text.as_bytes().get(at) {
            None => (Cause::NoTime, None),
            // Form encoding writes a space as a plus; after a day alone, the plus belongs to a zone.
            Some(b'+') if !shape.has_at(at, "+dd:dd:dd") => (Cause::NoTime, None),
            Some(b' ' | b'+') => (Cause::SpaceForT, Some(with_t(text))),
            Some(b't') => (Cause::LowerCaseT, Some(with_t(text))),
            Some(b'Z' | b'-') => (Cause::NoTime, None),
            Some(_) => (Cause::NoT, None),
        };
    }
    if ["ddddddddTdd", "dddddddd dddd", "dddddddddddddd"].iter().any(|begin| shape.begins(begin)) {
        return (Cause::Basic, extended(text));
    }
    if ["dddddddd+", "dddddddd-", "ddddddddZ"].iter().any(|begin| shape.begins(begin)) {
        return (Cause::NoTime, None);
    }
    if shape.begins("dddd-Wdd") || shape.begins("ddddWdd") {
        return (Cause::WeekDate, None);
    }
    if shape.begins("dddd-ddd") && !shape.begins("dddd-dddd") {
        return (Cause::OrdinalDate, None);
    }
    if shape.begins("dd:dd") || shape.begins("Tdd:dd") || shape.begins("d:dd") {
        return (Cause::NoDay, None);
    }
    // A non-ASCII byte (`?`): 2026年, and typographic dashes.
    if ["dddd/", "dd/", "d/", "dddd.", "dd.", "d.", "dddd?"].iter().any(|begin| shape.begins(begin)) {
        return (Cause::OtherSeparators, None);
    }
    if shape.begins("ddddd") {
        return (Cause::LongYear, None);
    }
    if shape.begins("dd-") {
        return (Cause::ShortYear, None);
    }
    if shape.begins("dddd-d-") || shape.begins("dddd-dd-d") && at < 10 {
        return (Cause::Unpadded, None);
    }
    if at >= "2026-11-23T".len() { time(text, shape) } else { (Cause::Other, None) }
}

/// The cause, for a text after `T` that is not a time.
fn time(text: &str, shape: &Shape) -> Found {
    if shape.has_at(11, "d:") {
        let (day, time) = text.split_at("2026-11-23T".len());
        return (Cause::Unpadded, Some(format!("{day}0{time}")));
    }
    if shape.has_at(11, "dd:d:") || shape.has_at(11, "dd:dd:d") {
        return (Cause::Unpadded, None);
    }
    if shape.has_at(11, "dddd") {
        return (Cause::Basic, None);
    }
    if text.as_bytes().get(11).is_some_and(u8::is_ascii_alphabetic) {
        return (Cause::Pattern, None);
    }
    let other = ["dd-dd", "dd.dd", "dd dd", "ddhdd"].iter().any(|begin| shape.has_at(11, begin));
    (if other { Cause::TimeSeparators } else { Cause::NoMinutes }, None)
}

/// The date with `T` after its day, and without a space before its zone.
fn with_t(text: &str) -> String {
    let (day, rest) = text.split_at("2026-11-23".len());
    format!("{day}T{}", rest[1..].trim_start().replacen(" +", "+", 1).replacen(" -", "-", 1).replacen(" Z", "Z", 1))
}

/// `20261123T223808…`, or the same with a space or nothing for its `T`, with separators.
fn extended(text: &str) -> Option<String> {
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (year, month, day) = (text.get(..4)?, text.get(4..6)?, text.get(6..8)?);
    let time = text.get(8..)?;
    let time = time.strip_prefix(['T', ' ']).unwrap_or(time);
    if time.get(2..3) == Some(":") {
        return Some(format!("{year}-{month}-{day}T{time}"));
    }
    let (hour, minute, rest) = (time.get(..2)?, time.get(2..4)?, time.get(4..)?);
    let seconds = rest.get(..2).filter(|seconds| digits(seconds));
    let (seconds, rest) = seconds.map_or((String::new(), rest), |seconds| (format!(":{seconds}"), &rest[2..]));
    Some(format!("{year}-{month}-{day}T{hour}:{minute}{seconds}{rest}"))
}

#[cfg(test)]
mod idioms;
#[cfg(test)]
mod tests;
