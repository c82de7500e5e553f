//! What follows the seconds: a fraction, a zone, and common mistakes in them.

use super::shape::Shape;
use super::{Cause, Found};

/// The cause, for the text after the dot of the seconds.
pub(super) fn fraction(text: &str, at: usize) -> Found {
    let rest = &text[at..];
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 && rest.starts_with('-') {
        let wall = &text[..at - 1];
        return (Cause::OffsetAsFraction, in_seconds(rest).map(|offset| format!("{wall}{offset}")));
    }
    if digits == 0 {
        return (Cause::EmptyFraction, Some(format!("{}{rest}", text[..at].trim_end_matches('.'))));
    }
    (Cause::LongFraction, Some(format!("{}{}{}", &text[..at], &rest[..9], &rest[digits..])))
}

/// The cause, for the text in place of the zone.
pub(super) fn zone(text: &str, shape: &Shape) -> Found {
    let at = shape.zone_at();
    let (wall, zone) = text.split_at(at);
    let of = |cause, corrected: &str| (cause, Some(format!("{wall}{corrected}")));
    let digits = shape.from(at);
    match zone.as_bytes() {
        [] => (Cause::NoZone, None),
        b"z" => of(Cause::LowerCaseZ, "Z"),
        [b',' | b'.', ..] if !shape.has_seconds() => (Cause::FractionOfMinute, None),
        [b',', ..] => (Cause::Comma, Some(dot(text, at))),
        [b':', b'0'..=b'9', ..] => (Cause::ColonBeforeFraction, Some(dot(text, at))),
        [b' ', ..] if digits.begins(" dd:dd") || digits.is(" dddd") => {
            of(Cause::PlusLost, &format!("+{}", zone.trim_start()))
        }
        [b' ', b'+' | b'-' | b'Z', ..] => of(Cause::SpaceBeforeZone, zone.trim_start()),
        [b' ', b'a' | b'A' | b'p' | b'P', b'm' | b'M', ..] => (Cause::TwelveHours, None),
        [b'+' | b'-', ..] if zone.contains('[') || zone.contains('(') => {
            of(Cause::ZoneInBrackets, zone.split(['[', '(']).next().unwrap_or_default().trim_end())
        }
        [b'Z', b'[', ..] | [b'[', ..] | [b'(', ..] => {
            of(Cause::ZoneInBrackets, if zone.starts_with('Z') { "Z" } else { "" })
        }
        [b'+' | b'-', ..] if digits.is_sign_and("dd") => of(Cause::HourOnlyZone, &format!("{zone}:00")),
        [sign @ (b'+' | b'-'), hour, rest @ ..] if digits.is_sign_and("d") || digits.is_sign_and("d:dd") => {
            let (sign, hour) = (char::from(*sign), char::from(*hour));
            let minutes = if rest.is_empty() { ":00" } else { std::str::from_utf8(rest).unwrap_or_default() };
            of(Cause::ShortZone, &format!("{sign}0{hour}{minutes}"))
        }
        [b'+' | b'-', ..] if digits.is_sign_and("dd:dd:dd") => whole_minutes(Cause::ZoneWithSeconds, wall, zone, 6),
        [b'+' | b'-', ..] if digits.is_sign_and("dddddd") => whole_minutes(Cause::ZoneWithSeconds, wall, zone, 5),
        [b'+' | b'-', ..] if digits.is_sign_and("dd:dd") || digits.is_sign_and("dddd") => (Cause::ZoneOutOfRange, None),
        _ if zone.starts_with('\u{2212}') => of(Cause::TypographicMinus, &zone.replacen('\u{2212}', "-", 1)),
        _ => in_seconds(zone).map_or_else(|| named_zone(wall, zone), |offset| of(Cause::OffsetInSeconds, &offset)),
    }
}

/// An offset without its seconds, if they are zero.
fn whole_minutes(cause: Cause, wall: &str, zone: &str, end: usize) -> Found {
    let (offset, seconds) = zone.split_at(end);
    (cause, (seconds.trim_start_matches(':') == "00").then(|| format!("{wall}{offset}")))
}

/// An offset in seconds (`32400`, `+32400Z`, `-18000`) in the form of a date.
fn in_seconds(zone: &str) -> Option<String> {
    let digits = zone.strip_suffix('Z').unwrap_or(zone);
    let digits = digits.strip_prefix(['+', '-']).unwrap_or(digits);
    if digits.len() < 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds = digits.parse::<i64>().ok().filter(|s| super::offset::is_an_offset(*s))?;
    Some(super::in_digits(if zone.starts_with('-') { -seconds } else { seconds }))
}

fn named_zone(wall: &str, zone: &str) -> Found {
    let name = zone.trim_start();
    if let Some(offset) = ["UTC", "GMT"].iter().find_map(|utc| name.strip_prefix(utc)) {
        let offset = if offset.is_empty() { "Z" } else { offset };
        return (Cause::ZoneName, Some(format!("{wall}{offset}")));
    }
    if zone.starts_with('Z') || zone.starts_with(['+', '-']) && zone.as_bytes().get(1).is_some_and(u8::is_ascii_digit) {
        return trailing(wall, zone);
    }
    if name.starts_with(|first: char| first.is_ascii_alphabetic()) {
        return (Cause::ZoneName, (name == "Etc/UTC").then(|| format!("{wall}Z")));
    }
    (Cause::OtherZone, None)
}

/// A valid zone followed by its name (`+0900 KST`) or white space.
fn trailing(wall: &str, zone: &str) -> Found {
    let end = zone.find(|c: char| c.is_ascii_whitespace()).unwrap_or(zone.len());
    let (offset, rest) = zone.split_at(end);
    let name = rest.trim();
    if !rest.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'/' | b'_' | b'-')) {
        return (Cause::Trailing, Some(format!("{wall}{offset}")));
    }
    if rest.is_empty() && zone.starts_with(['+', '-']) && zone.len() < 6 {
        return (Cause::OtherZone, None);
    }
    (Cause::Trailing, None)
}

/// Writes a dot before the fraction, and at most nine digits after it.
fn dot(text: &str, at: usize) -> String {
    let (seconds, fraction) = (&text[..at], &text[at + 1..]);
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
    format!("{seconds}.{}{}", &fraction[..digits.min(9)], &fraction[digits..])
}
