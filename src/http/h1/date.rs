//! The `Date` of answers, formatted once a second.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

/// The length of a date: `Sun, 06 Nov 1994 08:49:37 GMT`.
const LENGTH: usize = 29;

thread_local! {
    /// The last date of this thread, and its second since 1970.
    static LAST: Cell<(u64, [u8; LENGTH])> = const { Cell::new((u64::MAX, [0; LENGTH])) };
}

/// The date of an answer that is sent at `now`.
pub(super) fn date(now: SystemTime) -> [u8; LENGTH] {
    let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (last, text) = LAST.get();
    if last == second { text } else { write(second) }
}

#[cold]
fn write(second: u64) -> [u8; LENGTH] {
    // Years of more than four digits cannot be written; no real clock reaches them.
    let at = UNIX_EPOCH + std::time::Duration::from_secs(second.min(253_402_300_799));
    let written = httpdate::fmt_http_date(at);
    let mut text = [b' '; LENGTH];
    text.iter_mut().zip(written.bytes()).for_each(|(to, byte)| *to = byte);
    LAST.set((second, text));
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_date_changes_with_each_second() {
        let at = |seconds| date(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(784_111_777), *b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(at(784_111_778), *b"Sun, 06 Nov 1994 08:49:38 GMT");
        assert_eq!(at(784_111_777), *b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(at(u64::MAX / 4).len(), LENGTH);
    }
}
