//! Text of the page: escaped, and numbers as people read them.

use std::fmt;
use std::time::Duration;

use crate::plain;

/// Text that others may have chosen, for HTML: nothing in it is markup, and nothing is hidden.
pub(super) struct Text<'t>(pub(super) &'t str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = plain::line(self.0).to_string();
        let mut rest = shown.as_str();
        while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
            f.write_str(&rest[..at])?;
            f.write_str(match rest.as_bytes()[at] {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                _ => "&#39;",
            })?;
            rest = &rest[at + 1..];
        }
        f.write_str(rest)
    }
}

/// A number of bytes in the largest unit that leaves a whole part.
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (number as f64, "B");
    for larger in UNITS {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, larger);
    }
    if unit == "B" { format!("{number} B") } else { format!("{value:.1} {unit}") }
}

/// A duration in its two largest units.
pub(crate) fn span(span: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let seconds = span.as_secs();
    let Some(at) = UNITS.iter().position(|(unit, _)| seconds >= *unit) else { return "0 s".to_owned() };
    let (unit, name) = UNITS[at];
    let first = format!("{} {name}", seconds / unit);
    match UNITS.get(at + 1) {
        Some((smaller, name)) if seconds % unit >= *smaller => format!("{first} {} {name}", seconds % unit / smaller),
        _ => first,
    }
}

/// A share in percent; a room of nothing is full.
pub(super) fn percent(taken: u64, room: u64) -> u64 {
    if room == 0 { 100 } else { (u128::from(taken) * 100 / u128::from(room)).min(100) as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_no_markup_and_hides_nothing() {
        let shown = Text("<b a=\"1\" c='2'>&\u{202e}\u{1b}[2J 세그먼트").to_string();
        assert_eq!(shown, "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;\\u{202e}\\u{1b}[2J 세그먼트");
    }

    #[test]
    fn numbers_are_written_as_people_read_them() {
        let of = [0, 1023, 1024, 1536, 5 << 30].map(bytes);
        assert_eq!(of, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 GiB"]);
        let of = [0, 59, 60, 61, 3_600, 3_661, 90_061].map(|seconds| span(Duration::from_secs(seconds)));
        assert_eq!(of, ["0 s", "59 s", "1 min", "1 min 1 s", "1 h", "1 h 1 min", "1 d 1 h"]);
        assert_eq!([percent(0, 0), percent(1, 3), percent(9, 3), percent(u64::MAX, u64::MAX)], [100, 33, 100, 100]);
    }
}
