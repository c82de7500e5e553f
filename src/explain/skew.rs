use std::time::{Duration, SystemTime};

use super::Language;

/// How far a date is from now, and what that looks like.
pub(super) fn in_words(date: SystemTime, now: SystemTime, language: Language) -> String {
    let (skew, ahead) = match date.duration_since(now) {
        Ok(ahead) => (ahead, true),
        Err(behind) => (behind.duration(), false),
    };
    let minutes = (skew.as_secs() + 30) / 60;
    let (english, korean) = match (minutes, ahead) {
        (535..=545, true) => (" (Korean time labelled Z?)", " (한국 시각에 Z를 붙였습니까?)"),
        (535..=545, false) => (" (UTC labelled +09:00?)", " (UTC에 +09:00을 붙였습니까?)"),
        (m, _) if m >= 50 && m % 60 <= 3 && m < 15 * 60 => (" (a time zone mistaken?)", " (시간대를 잘못 썼습니까?)"),
        (m, _) if m > 15 => (" (a clock that is wrong, or an old header)", " (시계가 틀렸거나 오래된 헤더입니다)"),
        _ => ("", ""),
    };
    match language {
        Language::English => format!("{} {}{english}", span(skew, language), if ahead { "ahead" } else { "behind" }),
        Language::Korean => format!("{} {}{korean}", span(skew, language), if ahead { "앞섭니다" } else { "늦습니다" }),
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
    fn a_skew_is_told_in_words() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let rows = [
            (now, "0 seconds ahead", "0초 앞섭니다"),
            (now - Duration::from_secs(1), "1 second behind", "1초 늦습니다"),
            (
                now + Duration::from_secs(9 * 3600 + 2),
                "9 hours ahead (Korean time labelled Z?)",
                "9시간 앞섭니다 (한국 시각에 Z를 붙였습니까?)",
            ),
            (
                now - Duration::from_secs(9 * 3600),
                "9 hours behind (UTC labelled +09:00?)",
                "9시간 늦습니다 (UTC에 +09:00을 붙였습니까?)",
            ),
            (
                now - Duration::from_secs(20 * 60),
                "20 minutes behind (a clock that is wrong, or an old header)",
                "20분 늦습니다 (시계가 틀렸거나 오래된 헤더입니다)",
            ),
        ];
        for (date, english, korean) in rows {
            assert_eq!(in_words(date, now, Language::English), english);
            assert_eq!(in_words(date, now, Language::Korean), korean);
        }
    }
}
