//! Fuzz targets for any bytes as a header and as a date.

use std::time::{Duration, SystemTime};

use super::{BadDate, Credentials, Date, MalformedHeader, PhpDates, header_value};

/// An accepted header follows the contract's grammar, and means the same when it is written again.
pub(crate) fn header(bytes: &[u8]) {
    let parsed = match Credentials::parse(bytes, PhpDates::Accept) {
        Ok(parsed) => parsed,
        Err(malformed) => {
            assert!(!malformed.to_string().is_empty());
            assert_eq!(malformed.is_other_scheme(), malformed == MalformedHeader::Scheme);
            assert_eq!(Credentials::parse(bytes, PhpDates::Refuse).err(), Some(malformed), "the switch admits nothing");
            return;
        }
    };

    assert!(bytes.len() <= 512);
    let text = std::str::from_utf8(bytes).expect("visible ASCII");
    assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    assert!(!text.contains("  "));
    assert!(text[..12].eq_ignore_ascii_case("HMAC-SHA256 "));
    assert_eq!(text.matches(',').count(), 3);
    assert_eq!(text.matches('=').count(), 4);
    assert!((1..=64).contains(&parsed.api_key().len()));
    assert!((12..=64).contains(&parsed.salt().len()));

    // A signature cannot be read back, so it is taken from the input: the 64 bytes after its name.
    let at = text.to_ascii_lowercase().find("signature=").expect("there is one") + "signature=".len();
    let signature = &text[at..at + 64];
    assert!(signature.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));

    // Nothing was dropped or invented: written again, the header has the same length, apart from spaces after commas.
    let again = header_value(parsed.api_key(), parsed.date().text(), parsed.salt(), signature);
    let without_spaces = |text: &str| text.bytes().filter(|byte| *byte != b' ').count();
    assert_eq!(without_spaces(&again), without_spaces(text));
    let reparsed = Credentials::parse(again.as_bytes(), PhpDates::Accept).expect("accepted bytes stay accepted");
    assert_eq!(reparsed.api_key(), parsed.api_key());
    assert_eq!(reparsed.date().text(), parsed.date().text());
    assert_eq!(reparsed.date().instant(), parsed.date().instant());
    assert_eq!(reparsed.salt(), parsed.salt());

    // No byte can move from one value to another: the header without any one byte of its punctuation is refused.
    for (at, _) in text.match_indices([',', '=']) {
        let less = [&bytes[..at], &bytes[at + 1..]].concat();
        assert!(Credentials::parse(&less, PhpDates::Accept).is_err(), "{text:?} less byte {at}");
    }
}

/// An accepted date is no prefix of another one, and its text alone determines what it means.
pub(crate) fn date(bytes: &[u8]) {
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

    // Prefix-free: no byte can move between a date and the salt after it.
    for end in 0..text.len() {
        let shorter = text.get(..end).expect("a date is ASCII");
        assert!(Date::parse(shorter, PhpDates::Accept).is_err(), "{shorter:?} within {text:?}");
    }

    // Day, time, fraction and zone, split by the grammar, give the same instant when put together.
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

    // The offset is subtracted: UTC is local time minus the offset.
    let local = format!("{day}{time}{seconds}.{fraction:0<9}Z");
    let local = Date::parse(&local, PhpDates::Refuse).expect("the same in UTC").instant();
    let number = |digits: &str| digits.parse::<u64>().expect("digits");
    let offset = Duration::from_secs(number(&zone[1..3]) * 3600 + number(&zone[4..]) * 60);
    let (from, to): (SystemTime, SystemTime) =
        if zone.starts_with('-') { (local, date.instant()) } else { (date.instant(), local) };
    assert_eq!(from + offset, to, "{text:?}");
}
