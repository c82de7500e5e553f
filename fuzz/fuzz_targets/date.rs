//! Any bytes as a date: what is accepted ends in one place only, and says itself what it means.
#![no_main]

use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;
use saltgate::credential::{BadDate, Date, PhpDates};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let date = match Date::parse(text, PhpDates::Accept) {
        Ok(date) => date,
        Err(bad) => {
            assert_ne!(bad, BadDate::PhpSdk, "accepted ones are not refused as such");
            assert_eq!(Date::parse(text, PhpDates::Refuse).err(), Some(bad), "the switch refuses, and admits nothing");
            return;
        }
    };
    assert_eq!(date.text(), text);

    // Prefix-free: nothing can move from a date into the salt behind it.
    for end in 0..text.len() {
        let shorter = text.get(..end).expect("a date is ASCII");
        assert!(Date::parse(shorter, PhpDates::Accept).is_err(), "{shorter:?} within {text:?}");
    }

    // Day, time, fraction and zone, taken apart where the grammar says, put the same instant together again.
    let (day, rest) = text.split_at("YYYY-MM-DD".len());
    let (clock, zone) = match rest.strip_suffix('Z') {
        Some(clock) => (clock, "+00:00".to_owned()),
        None => {
            let (clock, zone) = rest.split_at(rest.rfind(['+', '-']).expect("a zone"));
            (clock, format!("{}:{}", &zone[..3], &zone[zone.len() - 2..]))
        }
    };
    let (time, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let seconds = if time.len() == "THH:MM".len() { ":00" } else { "" };
    let php = rest.ends_with(".32400Z");
    assert_eq!(date.is_php_sdk(), php);
    assert_eq!(Date::parse(text, PhpDates::Refuse).is_err(), php);
    let (fraction, zone) = if php { ("0", "+09:00") } else { (fraction, zone.as_str()) };
    let canonical = format!("{day}{time}{seconds}.{fraction:0<9}{zone}");
    let again = Date::parse(&canonical, PhpDates::Refuse).expect("the same in full");
    assert_eq!(again.instant(), date.instant(), "{text:?} as {canonical:?}");

    // And the offset is subtracted: local time less the offset is UTC.
    let local = format!("{day}{time}{seconds}.{fraction:0<9}Z");
    let local = Date::parse(&local, PhpDates::Refuse).expect("the same in UTC").instant();
    let number = |digits: &str| digits.parse::<u64>().expect("digits");
    let offset = Duration::from_secs(number(&zone[1..3]) * 3600 + number(&zone[4..]) * 60);
    let (from, to): (SystemTime, SystemTime) =
        if zone.starts_with('-') { (local, date.instant()) } else { (date.instant(), local) };
    assert_eq!(from + offset, to, "{text:?}");
});
