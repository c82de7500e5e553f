//! How far a date is from now, in words, and what may have gone wrong.

use std::time::{Duration, SystemTime};

use super::Language;
use super::date::{Mislabelled, in_digits, mislabelled};
use crate::credential::Date;

/// How far a date is from now, and what may have gone wrong, in one sentence.
pub(super) fn in_words(date: &Date<'_>, now: SystemTime, language: Language) -> String {
    let (skew, ahead) = match date.instant().duration_since(now) {
        Ok(ahead) => (ahead, true),
        Err(behind) => (behind.duration(), false),
    };
    let minutes = (skew.as_secs() + 30) / 60;
    let (english, korean) = match mislabelled(date, now) {
        Some(mislabelled) => label(mislabelled),
        None if minutes >= 50 && minutes % 60 <= 3 && minutes < 15 * 60 => {
            (" (a time zone mistaken?)".into(), " (시간대를 잘못 썼습니까?)".into())
        }
        None if minutes > 15 => {
            (" (a clock that is wrong, or an old header)".into(), " (시계가 틀렸거나 오래된 헤더입니다)".into())
        }
        None => Default::default(),
    };
    match language {
        Language::English => format!("{} {}{english}", span(skew, language), if ahead { "ahead" } else { "behind" }),
        Language::Korean => format!("{} {}{korean}", span(skew, language), if ahead { "앞섭니다" } else { "늦습니다" }),
    }
}

fn label(mislabelled: Mislabelled) -> (String, String) {
    match mislabelled {
        Mislabelled::LocalAsUtc(offset) => {
            let zone = in_digits(offset);
            (
                format!(" (local time of {zone} labelled as UTC: write {zone}, or convert to UTC)"),
                format!(" ({zone} 현지 시각에 UTC 표시를 붙였습니다. {zone}을 쓰거나 UTC로 바꾸십시오)"),
            )
        }
        Mislabelled::UtcAsLocal(offset) => {
            let zone = in_digits(offset);
            (
                format!(" (UTC labelled as {zone}: write Z, or convert to local time)"),
                format!(" (UTC 시각에 {zone} 표시를 붙였습니다. Z를 쓰거나 현지 시각으로 바꾸십시오)"),
            )
        }
        Mislabelled::UtcTwice(offset) => {
            let zone = in_digits(offset);
            (
                format!(
                    " (UTC taken for local time of {zone} and converted to UTC again; Python: now(timezone.utc), not \
                     utcnow())"
                ),
                format!(
                    " (UTC 시각을 {zone} 현지 시각으로 보고 다시 UTC로 바꾸었습니다. Python: utcnow()가 아니라 \
                     now(timezone.utc))"
                ),
            )
        }
        Mislabelled::LocalTwice(offset) => {
            let zone = in_digits(offset);
            (
                format!(" (the offset {zone} was added twice: add no hours to a local time)"),
                format!(" (시간대 차이 {zone}을 두 번 더했습니다. 현지 시각에는 더하지 마십시오)"),
            )
        }
        Mislabelled::MeanTime(offset) => {
            let zone = in_digits(offset);
            (
                format!(
                    " (no zone is {zone} from UTC: it is a city's time of before there were zones; Python: ZoneInfo, \
                     or pytz with localize())"
                ),
                format!(
                    " (UTC에서 {zone}인 시간대는 없습니다. 표준시 이전의 지방시입니다. Python: ZoneInfo, 또는 pytz의 \
                     localize())"
                ),
            )
        }
        Mislabelled::OffsetAsFraction(offset) => {
            let zone = in_digits(offset);
            (
                format!(" (the fraction {offset} is the offset {zone} in seconds: write {zone} for Z; PHP: P, not Z)"),
                format!(
                    " (소수 {offset}은 초 단위 시간대 차이 {zone}입니다. Z 대신 {zone}을 쓰십시오. PHP: Z가 아니라 P)"
                ),
            )
        }
    }
}

/// A span, rounded.
pub(super) fn span(span: Duration, language: Language) -> String {
    let (n, english, korean) = match span.as_secs() + u64::from(span.subsec_millis() >= 500) {
        s @ ..90 => (s, "second", "초"),
        s @ 90..5400 => ((s + 30) / 60, "minute", "분"),
        s @ 5400..172_800 => ((s + 1800) / 3600, "hour", "시간"),
        s => ((s + 43_200) / 86_400, "day", "일"),
    };
    match language {
        Language::English => format!("{n} {english}{}", if n == 1 { "" } else { "s" }),
        Language::Korean => format!("{n}{korean}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skew_is_described_in_words() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        // (what the client wrote, its date at 2027-01-15T08:00:00Z, the sentence)
        let rows = [
            ("the time", "2027-01-15T08:00:00Z", "0 seconds ahead", "0초 앞섭니다"),
            ("a second ago", "2027-01-15T07:59:59Z", "1 second behind", "1초 늦습니다"),
            (
                "Korean time as UTC",
                "2027-01-15T17:00:02Z",
                "9 hours ahead (local time of +09:00 labelled as UTC: write +09:00, or convert to UTC)",
                "9시간 앞섭니다 (+09:00 현지 시각에 UTC 표시를 붙였습니다. +09:00을 쓰거나 UTC로 바꾸십시오)",
            ),
            (
                "the same with +0000, as jq 1.6 writes it",
                "2027-01-15T17:00:02+0000",
                "9 hours ahead (local time of +09:00 labelled as UTC: write +09:00, or convert to UTC)",
                "9시간 앞섭니다 (+09:00 현지 시각에 UTC 표시를 붙였습니다. +09:00을 쓰거나 UTC로 바꾸십시오)",
            ),
            (
                "UTC as Korean time",
                "2027-01-15T08:00:00+0900",
                "9 hours behind (UTC labelled as +09:00: write Z, or convert to local time)",
                "9시간 늦습니다 (UTC 시각에 +09:00 표시를 붙였습니다. Z를 쓰거나 현지 시각으로 바꾸십시오)",
            ),
            (
                "New York's time as UTC",
                "2027-01-15T03:00:00Z",
                "5 hours behind (local time of -05:00 labelled as UTC: write -05:00, or convert to UTC)",
                "5시간 늦습니다 (-05:00 현지 시각에 UTC 표시를 붙였습니다. -05:00을 쓰거나 UTC로 바꾸십시오)",
            ),
            (
                "India's offset as a fraction",
                "2027-01-15T13:30:00.19800Z",
                "6 hours ahead (the fraction 19800 is the offset +05:30 in seconds: write +05:30 for Z; PHP: P, not Z)",
                "6시간 앞섭니다 (소수 19800은 초 단위 시간대 차이 +05:30입니다. Z 대신 +05:30을 쓰십시오. PHP: Z가 아니라 P)",
            ),
            (
                "UTC converted to UTC: utcnow().astimezone(utc) in Seoul",
                "2027-01-14T23:00:00.5+00:00",
                "9 hours behind (UTC taken for local time of +09:00 and converted to UTC again; Python: \
                 now(timezone.utc), not utcnow())",
                "9시간 늦습니다 (UTC 시각을 +09:00 현지 시각으로 보고 다시 UTC로 바꾸었습니다. Python: utcnow()가 \
                 아니라 now(timezone.utc))",
            ),
            (
                "nine hours added to Korean time",
                "2027-01-16T02:00:00+09:00",
                "9 hours ahead (the offset +09:00 was added twice: add no hours to a local time)",
                "9시간 앞섭니다 (시간대 차이 +09:00을 두 번 더했습니다. 현지 시각에는 더하지 마십시오)",
            ),
            (
                "Nepal's offset as a fraction, an hour ago",
                "2027-01-15T12:45:00.20700Z",
                "5 hours ahead (the fraction 20700 is the offset +05:45 in seconds: write +05:45 for Z; PHP: P, not Z)",
                "5시간 앞섭니다 (소수 20700은 초 단위 시간대 차이 +05:45입니다. Z 대신 +05:45을 쓰십시오. PHP: Z가 아니라 P)",
            ),
            (
                "Seoul's mean time, as pytz gives it to a constructor",
                "2027-01-15T17:00:00+08:28",
                "32 minutes ahead (no zone is +08:28 from UTC: it is a city's time of before there were zones; Python: \
                 ZoneInfo, or pytz with localize())",
                "32분 앞섭니다 (UTC에서 +08:28인 시간대는 없습니다. 표준시 이전의 지방시입니다. Python: ZoneInfo, 또는 \
                 pytz의 localize())",
            ),
            (
                "milliseconds that look like an offset, in an old header",
                "2027-01-15T07:40:00.900Z",
                "20 minutes behind (a clock that is wrong, or an old header)",
                "20분 늦습니다 (시계가 틀렸거나 오래된 헤더입니다)",
            ),
            (
                "half an hour off, which is no zone of a labelled date",
                "2027-01-15T17:30:00+09:00",
                "30 minutes ahead (a clock that is wrong, or an old header)",
                "30분 앞섭니다 (시계가 틀렸거나 오래된 헤더입니다)",
            ),
            (
                "an old header",
                "2027-01-15T07:40:00Z",
                "20 minutes behind (a clock that is wrong, or an old header)",
                "20분 늦습니다 (시계가 틀렸거나 오래된 헤더입니다)",
            ),
        ];
        for (name, text, english, korean) in rows {
            let date = Date::parse(text, crate::credential::PhpDates::Accept).unwrap();
            assert_eq!(in_words(&date, now, Language::English), english, "{name}");
            assert_eq!(in_words(&date, now, Language::Korean), korean, "{name}");
        }
    }
}
