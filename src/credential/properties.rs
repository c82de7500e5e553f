//! Property tests: what must hold for every header.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;

const SECRET: &[u8] = b"THROWAWAYSECRET0123456789ABCDEFG";

fn is_date(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| Date::parse(text, PhpDates::Accept).is_ok())
}

fn is_salt(bytes: &[u8]) -> bool {
    (12..=64).contains(&bytes.len())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Valid dates, including those of the PHP SDK.
fn dates() -> impl Strategy<Value = String> {
    let day =
        (0..=9999_u32, 1..=12_u32, 1..=28_u32).prop_map(|(year, month, day)| format!("{year:04}-{month:02}-{day:02}"));
    let seconds = prop_oneof![
        Just(String::new()),
        "[0-5][0-9]".prop_map(|seconds| format!(":{seconds}")),
        "[0-5][0-9]\\.[0-9]{1,9}".prop_map(|seconds| format!(":{seconds}")),
        Just(":07.32400".to_owned()),
    ];
    (day, "([01][0-9]|2[0-3]):[0-5][0-9]", seconds, "Z|[+-]([01][0-9]|2[0-3]):?[0-5][0-9]")
        .prop_map(|(day, time, seconds, zone)| format!("{day}T{time}{seconds}{zone}"))
}

/// Valid dates and near misses: a byte changed, added or removed, or the end moved.
fn nearly_dates() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![3 => "[0-9]", 3 => "[TZ:.+-]", 1 => "[ -~]"].prop_map(|text: String| text.into_bytes()[0]);
    (dates(), any::<prop::sample::Index>(), byte, 0..5_u8, "[0-9A-Za-z:.+-]{0,8}").prop_map(
        |(date, at, byte, how, tail)| {
            let mut bytes = date.into_bytes();
            let at = at.index(bytes.len());
            match how {
                0 => {}
                1 => bytes[at] = byte,
                2 => bytes.insert(at, byte),
                3 => bytes.truncate(at),
                _ => bytes.extend_from_slice(tail.as_bytes()),
            }
            bytes
        },
    )
}

/// A second, independent parser for a date without a zone, which counts days year by year and month by month.
fn reference_seconds(text: &str) -> i64 {
    let number = |from: usize, to: usize| text[from..to].parse::<i64>().unwrap();
    let leap = |year: i64| i64::from(year % 4 == 0 && year % 100 != 0 || year % 400 == 0);
    let (year, month) = (number(0, 4), number(5, 7));
    let years: i64 = if year >= 1970 {
        (1970..year).map(|y| 365 + leap(y)).sum()
    } else {
        -(year..1970).map(|y| 365 + leap(y)).sum::<i64>()
    };
    let lengths = [31, 28 + leap(year), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let days = years + lengths[..month as usize - 1].iter().sum::<i64>() + number(8, 10) - 1;
    let seconds = if text[16..].starts_with(':') { number(17, 19) } else { 0 };
    days * 86_400 + number(11, 13) * 3600 + number(14, 16) * 60 + seconds
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_date_is_a_prefix_of_another(bytes in nearly_dates()) {
        if is_date(&bytes) {
            for end in 0..bytes.len() {
                prop_assert!(!is_date(&bytes[..end]), "{:?} within {:?}", &bytes[..end], bytes);
            }
        }
    }

    #[test]
    fn a_signed_text_splits_in_only_one_way(date in nearly_dates(), salt in "[0-9TZ_-]{0,20}|[0-9A-Za-z_-]{0,80}|[ -~]{0,40}") {
        let text = [date.as_slice(), salt.as_bytes()].concat();
        let splits = (0..=text.len()).filter(|at| is_date(&text[..*at]) && is_salt(&text[*at..])).count();
        prop_assert!(splits <= 1, "{splits} ways to split {:?}", String::from_utf8_lossy(&text));
        if is_date(&date) && is_salt(salt.as_bytes()) {
            prop_assert_eq!(splits, 1);
        }
    }

    #[test]
    fn valid_dates_are_parsed_as_by_the_reference(text in dates()) {
        let date = Date::parse(&text, PhpDates::Accept).unwrap();
        let (wall, zone) = match text.rfind(['+', '-']).filter(|at| *at > 10) {
            Some(at) => text.split_at(at),
            None => (text.strip_suffix('Z').unwrap(), "+0000"),
        };
        let php = text.ends_with(".32400Z");
        let zone = if php { "+0900".to_owned() } else { zone.replace(':', "") };
        let minutes = zone[1..3].parse::<i64>().unwrap() * 60 + zone[3..].parse::<i64>().unwrap();
        let offset = if zone.starts_with('-') { -minutes } else { minutes } * 60;
        let nanoseconds = match wall.split_once('.') {
            Some((_, fraction)) if !php => format!("{fraction:0<9}").parse::<i128>().unwrap(),
            _ => 0,
        };
        let expected = i128::from(reference_seconds(wall) - offset) * 1_000_000_000 + nanoseconds;
        let since = |result: Duration| i128::try_from(result.as_nanos()).unwrap();
        let instant = match date.instant().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => since(after),
            Err(before) => -since(before.duration()),
        };
        prop_assert_eq!(instant, expected);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), date in "\\PC{0,40}") {
        let _ = Credentials::parse(&bytes, PhpDates::Accept).map(|_| ());
        let _ = Credentials::parse(&[b"HMAC-SHA256 ", bytes.as_slice()].concat(), PhpDates::Refuse).map(|_| ());
        let _ = Date::parse(&date, PhpDates::Accept).map(|date| date.instant());
        let _ = Signature::parse(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_change_invalidates_the_signature(text in dates(), salt in "[0-9A-Za-z_-]{12,64}") {
        let key = SigningKey::new(&Secret::new(SECRET).unwrap());
        let signed = key.sign(&text, &salt);
        let accepted = |date: &[u8], salt: &[u8], signature: &[u8]| {
            let value = [b"HMAC-SHA256 apiKey=K, date=", date, b", salt=", salt, b", signature=", signature].concat();
            Credentials::parse(&value, PhpDates::Accept)
                .is_ok_and(|parsed| key.verify(&parsed.date(), parsed.salt(), parsed.signature()).into())
        };
        let (date, salt, signed) = (text.as_bytes(), salt.as_bytes(), signed.as_bytes());
        prop_assert!(accepted(date, salt, signed));
        for bit in 0..256 {
            let mut bytes = *Signature::parse(signed).unwrap().bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!accepted(date, salt, signature::to_hex(&bytes).as_bytes()), "bit {bit} of the signature");
        }
        for replacement in b' '..=b'~' {
            for at in (0..date.len()).filter(|at| date[*at] != replacement) {
                let mut changed = date.to_vec();
                changed[at] = replacement;
                prop_assert!(!accepted(&changed, salt, signed), "byte {at} of the date");
            }
            for at in (0..salt.len()).filter(|at| salt[*at] != replacement) {
                let mut changed = salt.to_vec();
                changed[at] = replacement;
                prop_assert!(!accepted(date, &changed, signed), "byte {at} of the salt");
            }
        }
    }

    #[test]
    fn no_byte_can_move_between_date_and_salt(text in dates(), salt in "[0-9A-Za-z_-]{12,64}") {
        let key = SigningKey::new(&Secret::new(SECRET).unwrap());
        let signed = key.sign(&text, &salt);
        let both = format!("{text}{salt}");
        for at in (0..=both.len()).filter(|at| *at != text.len()) {
            let (date, salt) = both.split_at(at);
            let value = header_value("K", date, salt, &signed);
            prop_assert!(Credentials::parse(value.as_bytes(), PhpDates::Accept).is_err(), "{value}");
        }
    }
}
