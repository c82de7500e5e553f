//! Causes that are found from the whole text: it is not a date with a time, or is one in another notation.

use std::time::{Duration, UNIX_EPOCH};

use super::shape::Shape;
use super::{Cause, Found};
use crate::clock;

pub(super) fn whole(text: &str, shape: &Shape) -> Option<Found> {
    if text.is_empty() {
        return Some((Cause::Empty, None));
    }
    let plain = text.trim_matches(['"', '\'']);
    if plain.len() < text.len() && !plain.contains(['"', '\'']) {
        return Some((Cause::Quoted, Some(plain.to_owned())));
    }
    if ["%3A", "%3a", "%2B", "%2b"].iter().any(|escape| text.contains(escape)) {
        let plain = text.replace("%3A", ":").replace("%3a", ":").replace("%2B", "+").replace("%2b", "+");
        return Some((Cause::PercentEncoded, Some(plain)));
    }
    let pattern = ["yyyy", "YYYY", "%", "{{", "${", "$(", "2006-01-02"];
    let has_digit = text.bytes().any(|byte| byte.is_ascii_digit());
    if pattern.iter().any(|pattern| text.starts_with(pattern)) && (!has_digit || text.starts_with("2006")) {
        return Some((Cause::Pattern, None));
    }
    epoch(text, shape)
        .or_else(|| signed_year(text))
        .or_else(|| wrapped(text, shape))
        .or_else(|| in_words(text).then_some((Cause::InWords, None)))
}

/// Seconds, milliseconds, microseconds or nanoseconds since 1970, as languages print them.
fn epoch(text: &str, shape: &Shape) -> Option<Found> {
    // PHP's microtime(): the fraction, then the seconds.
    if shape.is("d.dddddddd dddddddddd") {
        return epoch(&text[11..], &Shape::of(&text[11..]));
    }
    // .NET's JSON.
    if let Some(inside) = text.strip_prefix("/Date(") {
        let digits = &inside[..inside.bytes().take_while(u8::is_ascii_digit).count()];
        return epoch(digits, &Shape::of(digits));
    }
    // GNU date's own notation, and Haskell's.
    let text = text.strip_prefix('@').unwrap_or(text);
    let text = text.strip_suffix('s').unwrap_or(text);
    // Lua, R, Julia and PHP write a large number as 1.795473488e+12.
    if let Some((mantissa, _)) = text.split_once(['e', 'E'])
        && mantissa.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        && let Ok(number) = text.parse::<f64>()
        && (1e8..1e19).contains(&number)
    {
        let digits = format!("{number:.0}");
        return epoch(&digits, &Shape::of(&digits));
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (cause, per_second) = match whole.len() {
        8 if fraction.is_empty() => return Some((Cause::NoTime, None)),
        14 if whole.starts_with("20") => return Some((Cause::Basic, None)),
        9..=10 => (Cause::EpochSeconds, 1),
        12..=13 => (Cause::EpochMilliseconds, 1_000),
        15..=16 => (Cause::EpochMicroseconds, 1_000_000),
        18..=19 => (Cause::EpochNanoseconds, 1_000_000_000),
        _ => return None,
    };
    let seconds = whole.parse::<u64>().ok()? / per_second;
    if !THIS_AGE.contains(&seconds) {
        return Some((Cause::OtherEpoch, None));
    }
    Some((cause, Some(clock::rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)))))
}

/// 2020 to 2070. Seconds outside this range were not counted from 1970.
const THIS_AGE: std::ops::Range<u64> = 1_577_836_800..3_155_760_000;

fn signed_year(text: &str) -> Option<Found> {
    let unsigned = text.strip_prefix(['+', '-'])?;
    let years = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    if years == 0 {
        return None;
    }
    let corrected = unsigned.get(years.saturating_sub(4)..).map(str::to_owned);
    Some((Cause::SignedYear, corrected.filter(|_| text.starts_with('+'))))
}

/// `~U[2026-11-23 22:38:08Z]`, `ISODate("2026-11-23T22:38:08Z")`: a value as a debugger shows it.
fn wrapped(text: &str, shape: &Shape) -> Option<Found> {
    let at = shape.find("dddd-dd-dd")?;
    if at == 0 || !text[..at].ends_with(['[', '(', '<', '{', '"', '\'', '#', ' ', ':']) {
        return None;
    }
    let inside = text[at..].split(['"', '\'', ']', ')', '>', '}']).next().unwrap_or_default();
    Some((Cause::Wrapped, Some(inside.to_owned())))
}

/// Names of days or months, wherever a format puts them.
fn in_words(text: &str) -> bool {
    const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    // Only there, because names of zones such as Europe/Mariehamn contain these letters, too.
    let begin: String = text.chars().take(11).collect::<String>().to_ascii_lowercase();
    let has_digit = text.bytes().any(|byte| byte.is_ascii_digit());
    has_digit && (DAYS.iter().any(|day| begin.starts_with(day)) || MONTHS.iter().any(|month| begin.contains(month)))
}
