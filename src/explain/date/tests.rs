//! Tests of the causes and corrections of unreadable dates.

use proptest::prelude::*;

use super::*;

/// What people's programs write, what is wrong with it, where reading ends, and what to write instead.
const IDIOMS: &[(&str, &str, Cause, usize, Option<&str>)] = &[
    ("nothing", "", Cause::Empty, 0, None),
    ("JSON's quotes kept", "\"2026-11-23T22:38:08Z\"", Cause::Quoted, 0, Some("2026-11-23T22:38:08Z")),
    ("encodeURIComponent", "2026-11-23T22%3A38%3A08Z", Cause::PercentEncoded, 13, Some("2026-11-23T22:38:08Z")),
    ("Go: another library's pattern", "YYYY-MM-DDTHH:mm:ssZ", Cause::Pattern, 0, None),
    ("strftime not called", "%Y-%m-%dT%H:%M:%SZ", Cause::Pattern, 0, None),
    ("int(time.time())", "1795473488", Cause::EpochSeconds, 4, Some("2026-11-23T22:38:08.000Z")),
    ("time.time()", "1795473488.5605705", Cause::EpochSeconds, 4, Some("2026-11-23T22:38:08.000Z")),
    ("Date.now()", "1795473488560", Cause::EpochMilliseconds, 4, Some("2026-11-23T22:38:08.000Z")),
    ("microtime", "1795473488560570", Cause::EpochMicroseconds, 4, Some("2026-11-23T22:38:08.000Z")),
    ("time.time_ns()", "1795473488560570510", Cause::EpochNanoseconds, 4, Some("2026-11-23T22:38:08.000Z")),
    ("RFC 1123", "Mon, 23 Nov 2026 22:38:08 GMT", Cause::InWords, 0, None),
    ("asctime", "Mon Nov 23 22:38:08 2026", Cause::InWords, 0, None),
    ("JavaScript's toString", "Tue Nov 24 2026 07:38:08 GMT+0900", Cause::InWords, 0, None),
    (
        "PHP's DATE_ISO8601_EXPANDED",
        "+2026-11-24T07:38:08+09:00",
        Cause::SignedYear,
        0,
        Some("2026-11-24T07:38:08+09:00"),
    ),
    ("ECMAScript's expanded year", "+002026-11-23T22:38:08Z", Cause::SignedYear, 0, Some("2026-11-23T22:38:08Z")),
    ("five digits", "12026-11-23T22:38:08Z", Cause::LongYear, 4, None),
    ("%y", "26-11-23T22:38:08Z", Cause::ShortYear, 0, None),
    ("BASIC_ISO_DATE_TIME", "20261123T223808Z", Cause::Basic, 4, Some("2026-11-23T22:38:08Z")),
    ("basic with an offset", "20261124T073808+0900", Cause::Basic, 4, Some("2026-11-24T07:38:08+0900")),
    ("digits alone", "20261123223808", Cause::Basic, 4, None),
    ("ISO_WEEK_DATE", "2026-W48-1Z", Cause::WeekDate, 5, None),
    ("ISO_ORDINAL_DATE", "2026-327", Cause::OrdinalDate, 7, None),
    ("slashes", "2026/11/23T22:38:08Z", Cause::OtherSeparators, 4, None),
    ("the American order", "11/23/2026 22:38:08", Cause::OtherSeparators, 0, None),
    ("dots", "23.11.2026 22:38:08", Cause::OtherSeparators, 0, None),
    ("no padding of the month", "2026-1-05T22:38:08Z", Cause::Unpadded, 5, None),
    ("no padding of the day", "2026-11-5T22:38:08Z", Cause::Unpadded, 8, None),
    ("no padding of the hour", "2026-11-23T9:38:08Z", Cause::Unpadded, 11, Some("2026-11-23T09:38:08Z")),
    ("no padding of the second", "2026-11-23T22:38:8Z", Cause::Unpadded, 17, None),
    ("a day", "2026-11-23", Cause::NoTime, 10, None),
    ("a day and a zone", "2026-11-23Z", Cause::NoTime, 10, None),
    ("a day of digits", "20261123", Cause::NoTime, 4, None),
    ("date --rfc-3339=seconds", "2026-11-24 07:38:08+09:00", Cause::SpaceForT, 10, Some("2026-11-24T07:38:08+09:00")),
    ("Ruby's Time#to_s", "2026-11-24 07:38:08 +0900", Cause::SpaceForT, 10, Some("2026-11-24T07:38:08+0900")),
    ("a form's plus for the space", "2026-11-24+07:38:08Z", Cause::SpaceForT, 10, Some("2026-11-24T07:38:08Z")),
    ("lower case", "2026-11-23t22:38:08z", Cause::LowerCaseT, 10, Some("2026-11-23T22:38:08Z")),
    ("an underscore", "2026-11-23_22:38:08Z", Cause::NoT, 10, None),
    ("an hour alone", "2026-11-23T22Z", Cause::NoMinutes, 13, None),
    ("basic time", "2026-11-23T223808Z", Cause::Basic, 13, None),
    ("twelve hours", "2026-11-23T10:38:08 PM", Cause::TwelveHours, 19, None),
    ("31 November", "2026-11-31T22:38:08Z", Cause::NoSuchDay, 8, None),
    ("month 13", "2026-13-01T22:38:08Z", Cause::NoSuchDay, 5, None),
    ("hour 24", "2026-11-23T24:00:00Z", Cause::Hour24, 11, None),
    ("a leap second", "2026-12-31T23:59:60Z", Cause::LeapSecond, 17, None),
    ("minute 60", "2026-11-23T22:60:08Z", Cause::NoSuchTime, 14, None),
    ("date -Ins", "2026-11-24T07:38:08,560570510+09:00", Cause::Comma, 19, Some("2026-11-24T07:38:08.560570510+09:00")),
    ("Python's logging", "2026-11-23T22:38:08,560Z", Cause::Comma, 19, Some("2026-11-23T22:38:08.560Z")),
    ("a dot alone", "2026-11-23T22:38:08.Z", Cause::EmptyFraction, 20, Some("2026-11-23T22:38:08Z")),
    (
        "picoseconds",
        "2026-11-23T22:38:08.560570510123Z",
        Cause::LongFraction,
        20,
        Some("2026-11-23T22:38:08.560570510Z"),
    ),
    ("a fraction of a minute", "2026-11-23T22:38.5Z", Cause::FractionOfMinute, 16, None),
    (
        "PHP's Z west of Greenwich",
        "2026-11-23T17:38:08.-18000Z",
        Cause::OffsetAsFraction,
        20,
        Some("2026-11-23T17:38:08-05:00"),
    ),
    ("toISOString without its end", "2026-11-23T22:38:08", Cause::NoZone, 19, None),
    ("minutes without a zone", "2026-11-23T22:38", Cause::NoZone, 16, None),
    ("a small z", "2026-11-23T22:38:08z", Cause::LowerCaseZ, 19, Some("2026-11-23T22:38:08Z")),
    ("Java's X", "2026-11-24T07:38:08+09", Cause::HourOnlyZone, 22, Some("2026-11-24T07:38:08+09:00")),
    (
        "the same with a fraction",
        "2026-11-24T07:38:08.5-03",
        Cause::HourOnlyZone,
        24,
        Some("2026-11-24T07:38:08.5-03:00"),
    ),
    ("Luxon's Z", "2026-11-24T07:38:08+9", Cause::ShortZone, 20, Some("2026-11-24T07:38:08+09:00")),
    ("Luxon's Z in India", "2026-11-24T04:08:08+5:30", Cause::ShortZone, 20, Some("2026-11-24T04:08:08+05:30")),
    ("Java's XXXXX of old Seoul", "2026-11-24T07:38:08+08:27:52", Cause::ZoneWithSeconds, 25, None),
    ("zone hour 24", "2026-11-24T07:38:08+24:00", Cause::ZoneOutOfRange, 22, None),
    ("strftime('%FT%T %z')", "2026-11-24T07:38:08 +0900", Cause::SpaceBeforeZone, 19, Some("2026-11-24T07:38:08+0900")),
    ("a URL decoder", "2026-11-24T07:38:08 09:00", Cause::PlusLost, 19, Some("2026-11-24T07:38:08+09:00")),
    ("%Z of UTC", "2026-11-23T22:38:08UTC", Cause::ZoneName, 19, Some("2026-11-23T22:38:08Z")),
    ("%Z of Seoul", "2026-11-24T07:38:08KST", Cause::ZoneName, 19, None),
    ("Java's z", "2026-11-24T07:38:08GMT+09:00", Cause::ZoneName, 19, Some("2026-11-24T07:38:08+09:00")),
    (
        "ISO_ZONED_DATE_TIME",
        "2026-11-24T07:38:08+09:00[Asia/Seoul]",
        Cause::ZoneInBrackets,
        25,
        Some("2026-11-24T07:38:08+09:00"),
    ),
    ("the same in UTC", "2026-11-23T22:38:08Z[UTC]", Cause::ZoneInBrackets, 20, Some("2026-11-23T22:38:08Z")),
    ("a zone in brackets alone", "2026-11-24T07:38:08[Asia/Seoul]", Cause::ZoneInBrackets, 19, None),
    ("U+2212", "2026-11-23T19:08:08\u{2212}03:30", Cause::TypographicMinus, 19, Some("2026-11-23T19:08:08-03:30")),
    ("a line end", "2026-11-23T22:38:08Z\n", Cause::Trailing, 20, Some("2026-11-23T22:38:08Z")),
    ("two zones", "2026-11-23T22:38:08Z+00:00", Cause::Trailing, 20, None),
    ("anything", "now", Cause::Other, 0, None),
    ("an hour and a zone", "2026-11-24T07+09:00", Cause::NoMinutes, 13, None),
    ("a day and an offset", "2026-11-24+09:00", Cause::NoTime, 10, None),
    ("BASIC_ISO_DATE", "20261124+0900", Cause::NoTime, 4, None),
    ("a time alone", "22:38:08Z", Cause::NoDay, 0, None),
    ("a file's name", "2026-11-23T22-38-08Z", Cause::TimeSeparators, 13, None),
    ("an unquoted T in PostgreSQL", "2026-11-24THH24:38:08+09:00", Cause::Pattern, 11, None),
    ("a colon", "2026-11-24T07:38:08:560+09:00", Cause::ColonBeforeFraction, 19, Some("2026-11-24T07:38:08.560+09:00")),
    ("PHP's Z for the zone", "2026-11-24T07:38:0832400", Cause::OffsetInSeconds, 19, Some("2026-11-24T07:38:08+09:00")),
    ("the same in Nepal", "2026-11-24T04:23:08+20700", Cause::OffsetInSeconds, 24, Some("2026-11-24T04:23:08+05:45")),
    ("no offset in seconds", "2026-11-24T07:38:0832401", Cause::OtherZone, 19, None),
    ("JavaScript's getTimezoneOffset", "2026-11-24T07:38:08-540", Cause::OtherZone, 22, None),
    ("Elixir's inspect", "~U[2026-11-23 22:38:08Z]", Cause::Wrapped, 0, Some("2026-11-23T22:38:08Z")),
    ("Clojure's pr-str", "#inst \"2026-11-23T22:38:08Z\"", Cause::Wrapped, 0, Some("2026-11-23T22:38:08Z")),
    ("Lisp's universal time", "4004462288", Cause::OtherEpoch, 4, None),
    ("Apple's reference date", "817166288.5", Cause::OtherEpoch, 4, None),
    (".NET's ticks", "639311026885605705", Cause::OtherEpoch, 4, None),
    ("a large number in Lua", "1.795473488e+12", Cause::EpochMilliseconds, 0, Some("2026-11-23T22:38:08.000Z")),
    ("PHP's microtime", "0.56057000 1795473488", Cause::EpochSeconds, 0, Some("2026-11-23T22:38:08.000Z")),
    ("PostgreSQL's text", "2026-11-24 07:38:08.5+09", Cause::SpaceForT, 10, Some("2026-11-24T07:38:08.5+09:00")),
    ("Go's String", "2026-11-24 07:38:08.5 +0900 KST", Cause::SpaceForT, 10, Some("2026-11-24T07:38:08.5+0900")),
    ("a locale", "2026년 11월 24일 07:38", Cause::OtherSeparators, 4, None),
    ("RFC 2822 without its day", "23 Nov 2026 22:38:08 GMT", Cause::InWords, 0, None),
    ("Oracle's SYSDATE", "24-NOV-26", Cause::InWords, 0, None),
    ("no date", "Invalid Date", Cause::Other, 0, None),
    ("half a date", "2026-", Cause::Other, 5, None),
];

#[test]
fn each_idiom_has_a_cause_a_position_and_a_correction() {
    for (name, text, cause, at, corrected) in IDIOMS {
        let diagnosis = diagnose(text, PhpDates::Accept).unwrap_or_else(|| panic!("{name}: {text:?} is readable"));
        let found = (diagnosis.cause, diagnosis.at, diagnosis.corrected.as_deref());
        assert_eq!(found, (*cause, *at, *corrected), "{name}: {text:?}");
    }
}

#[test]
fn the_php_date_is_explained_if_it_is_not_accepted() {
    let text = "2026-11-24T07:38:08.32400Z";
    assert!(diagnose(text, PhpDates::Accept).is_none());
    let diagnosis = diagnose(text, PhpDates::Refuse).unwrap();
    assert_eq!((diagnosis.cause, diagnosis.at), (Cause::PhpSdk, 20));
    assert_eq!(diagnosis.corrected.as_deref(), Some("2026-11-24T07:38:08+09:00"));
}

#[test]
fn the_date_of_a_header_is_found_even_if_it_breaks_the_header() {
    let around = |date: &str| format!("HMAC-SHA256 apiKey=K, date={date}, salt=0123456789ab, signature=00");
    for (_, date, ..) in IDIOMS {
        assert_eq!(of_header(&around(date)), Some(*date));
    }
    let rows = [
        ("last", "HMAC-SHA256 salt=s, Date=Mon, 23 Nov 2026 22:38:08 GMT", Some("Mon, 23 Nov 2026 22:38:08 GMT")),
        ("no spaces", "HMAC-SHA256 apiKey=K,date=x,y,Salt=s", Some("x,y")),
        ("none", "HMAC-SHA256 apiKey=K, update=x", None),
        ("behind a name that ends alike", "HMAC-SHA256 update=x, date=y", Some("y")),
        ("another scheme", "Bearer abc", None),
    ];
    for (name, header, date) in rows {
        assert_eq!(of_header(header), date, "{name}");
    }
}

proptest! {
    #[test]
    fn every_refused_date_has_a_cause_and_only_valid_corrections(
        text in "[0-9TtZz:+. ,\\[\\]a-zA-Z\u{2212}é/-]{0,40}|2026-11-23[T ]22:38(:08)?([.,][0-9]{0,12})?[ +Z0-9:\\[a-zé-]{0,12}",
    ) {
        let readable = Date::parse(&text, PhpDates::Accept).is_ok();
        match diagnose(&text, PhpDates::Accept) {
            None => prop_assert!(readable),
            Some(diagnosis) => {
                prop_assert!(!readable && text.is_char_boundary(diagnosis.at));
                if let Some(corrected) = &diagnosis.corrected {
                    prop_assert!(Date::parse(corrected, PhpDates::Accept).is_ok());
                }
            }
        }
        let header = format!("HMAC-SHA256 apiKey=K, date={text}, salt=s");
        prop_assert!(of_header(&header).is_some());
    }
}
