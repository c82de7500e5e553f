//! Reads settings that are numbers, durations, sizes, budgets or booleans.

use std::time::Duration;

use toml::de::DeValue;

use super::fault::Setting;
use super::outline::Shape;
use super::section::{Misread, Section};
use super::source::Source;
use super::texts::quoted;
use crate::clock::{DurationError, parse_duration};
use crate::policy::Budget;

/// The least value of most durations.
pub(super) const MILLISECOND: Duration = Duration::from_millis(1);

/// The form of a budget.
const BUDGET: &str = "a number and a span such as \"100/hour\": second, minute, hour, day or week";

impl<'s> Section<'s> {
    /// A boolean.
    pub(super) fn flag(&mut self, name: &'static str, default: bool) -> bool {
        let read = |_: &Source<'s>, _, _: &str, value| match value {
            DeValue::Boolean(flag) => Ok((flag, flag.to_string())),
            _ => Err(Misread::OtherKind),
        };
        self.setting(name, || Shape::Flag, Some((default, default.to_string())), "true or false", read)
            .unwrap_or(default)
    }

    /// A whole number of at least 1, and at most ten million: more connections or requests than a process can have.
    pub(super) fn count(&mut self, name: &'static str, default: usize) -> usize {
        self.count_up_to(name, default, 10_000_000)
    }

    /// A whole number of at least 1, and at most `most`.
    pub(super) fn count_up_to(&mut self, name: &'static str, default: usize, most: usize) -> usize {
        let read = |_: &Source<'s>, _, _: &str, value| match (&value, integer(&value)) {
            (_, Some(n)) => match usize::try_from(n) {
                Ok(n) if (1..=most).contains(&n) => Ok((n, n.to_string())),
                _ => Err(Misread::Wrong(format!("is {n}"))),
            },
            (DeValue::Integer(n), None) => Err(Misread::Wrong(format!("is {n}"))),
            _ => Err(Misread::OtherKind),
        };
        let expected = format!("a whole number from 1 to {most}");
        self.setting(name, || Shape::Number(1, most), Some((default, default.to_string())), &expected, read)
            .unwrap_or(default)
    }

    /// A budget, such as "100/hour".
    pub(super) fn budget(&mut self, name: &'static str, default: Budget) -> Budget {
        let read = |_: &Source<'s>, _, _: &str, value| {
            let DeValue::String(text) = value else { return Err(Misread::OtherKind) };
            match Budget::parse(&text) {
                Some(budget) => Ok((budget, quoted(&budget.to_string()))),
                None => Err(Misread::Wrong(format!("{} is not a budget", quoted(&text)))),
            }
        };
        let written = Some((default, quoted(&default.to_string())));
        self.setting(name, || Shape::Budget, written, BUDGET, read).unwrap_or(default)
    }

    /// A duration of at least `least`, at most a day.
    pub(super) fn duration(&mut self, name: &'static str, default: Duration, least: Duration) -> Duration {
        let show = |d: Duration| quoted(&humantime::format_duration(d).to_string());
        let read = |_: &Source<'s>, _, _: &str, value| {
            let DeValue::String(text) = value else { return Err(Misread::OtherKind) };
            match parse_duration(&text) {
                Ok(d) if d > Duration::from_secs(86_400) => {
                    Err(Misread::Wrong(format!("{} is over a day", quoted(&text))))
                }
                Ok(d) if d < least => Err(Misread::Wrong(format!("{} is too short", quoted(&text)))),
                Ok(d) => Ok((d, show(d))),
                Err(error) => Err(Misread::Wrong(not_a_duration(&text, error))),
            }
        };
        self.setting(
            name,
            || Shape::Duration,
            Some((default, show(default))),
            "a duration such as \"15m\" or \"250ms\"",
            read,
        )
        .unwrap_or(default)
    }

    /// A duration of at least `least`, at most a day, or one of some words.
    pub(super) fn duration_or_word<T: Copy>(
        &mut self,
        name: &'static str,
        default: Duration,
        least: Duration,
        words: &[(&str, T)],
    ) -> Result<Duration, T> {
        let shape = || Shape::Either(vec![Shape::Duration, Shape::word(words.iter().map(|(word, _)| *word))]);
        self.note(name, shape, Some(&quoted(&humantime::format_duration(default).to_string())));
        let word = self.table.get(name).and_then(|value| value.get_ref().as_str());
        if let Some((word, value)) = words.iter().find(|(known, _)| Some(*known) == word) {
            let shown = humantime::format_duration(default).to_string();
            self.take(name);
            let setting = Setting { key: self.key(name), value: quoted(word), default: Some(quoted(&shown)) };
            self.source.record(setting);
            return Err(*value);
        }
        let faults = self.source.fault_count();
        let duration = self.duration(name, default, least);
        let words: Vec<String> = words.iter().map(|(word, _)| quoted(word)).collect();
        self.source.add_to_faults_since(faults, &format!(", or {}", words.join(" or ")));
        Ok(duration)
    }

    /// An optional duration, which may be longer than a day.
    pub(super) fn optional_duration(
        &mut self,
        name: &'static str,
        least: Duration,
        most: Duration,
    ) -> Option<Duration> {
        if !self.has(name) {
            self.known.push(name);
            return None;
        }
        let read = |_: &Source<'s>, _, _: &str, value| {
            let DeValue::String(text) = value else { return Err(Misread::OtherKind) };
            match parse_duration(&text) {
                Ok(d) if d > most => Err(Misread::Wrong(format!("{} is too long", quoted(&text)))),
                Ok(d) if d < least => Err(Misread::Wrong(format!("{} is too short", quoted(&text)))),
                // A year counts as the number of days that were written.
                Ok(d) => Ok((d, quoted(&text))),
                Err(error) => Err(Misread::Wrong(not_a_duration(&text, error))),
            }
        };
        self.setting(name, || Shape::Duration, None, "a duration such as \"365d\"", read)
    }

    /// A size of at most 1 GiB, in bytes.
    pub(super) fn size(&mut self, name: &'static str, default: usize) -> usize {
        usize::try_from(self.size_up_to(name, default as u64, (1 << 30, "1 GiB"))).unwrap_or(default)
    }

    /// A size in bytes of at most `most`, which is given as a number and as text.
    pub(super) fn size_up_to(&mut self, name: &'static str, default: u64, most: (u64, &str)) -> u64 {
        let read = |_: &Source<'s>, _, _: &str, value| {
            let bytes = match &value {
                DeValue::String(text) => size(text),
                _ => integer(&value).and_then(|n| u64::try_from(n).ok()),
            };
            match (bytes, &value) {
                (Some(bytes), _) if (1..=most.0).contains(&bytes) => Ok((bytes, show_size(bytes))),
                (Some(_), _) => Err(Misread::Wrong(format!("is not between 1 byte and {}", most.1))),
                (None, DeValue::String(text)) => Err(Misread::Wrong(format!("is {}", quoted(text)))),
                (None, _) => Err(Misread::OtherKind),
            }
        };
        self.setting(name, || Shape::Size, Some((default, show_size(default))), "a size such as \"64KiB\"", read)
            .unwrap_or(default)
    }
}

pub(super) fn integer(value: &DeValue<'_>) -> Option<i64> {
    match value {
        DeValue::Integer(n) => i64::from_str_radix(n.as_str(), n.radix()).ok(),
        _ => None,
    }
}

fn not_a_duration(text: &str, error: DurationError) -> String {
    format!("{} {error}", quoted(text))
}

fn size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit = match &text[digits..] {
        "B" | "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    text[..digits].parse::<u64>().ok()?.checked_mul(unit)
}

fn show_size(bytes: u64) -> String {
    match bytes {
        b if b % (1 << 20) == 0 => format!("\"{}MiB\"", b >> 20),
        b if b % (1 << 10) == 0 => format!("\"{}KiB\"", b >> 10),
        b => format!("\"{b}B\""),
    }
}
