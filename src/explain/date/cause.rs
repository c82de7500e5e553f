//! One sentence for each cause, in English and Korean.

/// What makes a date unreadable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::explain) enum Cause {
    /// There is nothing.
    Empty,
    /// It is in quotes.
    Quoted,
    /// It is percent-encoded as for a URL.
    PercentEncoded,
    /// It is a format pattern that was not filled in.
    Pattern,
    /// `~U[2026-11-23 22:38:08Z]`.
    Wrapped,
    /// `1795473488`.
    EpochSeconds,
    /// `1795473488000`.
    EpochMilliseconds,
    /// `1795473488000000`.
    EpochMicroseconds,
    /// `1795473488000000000`.
    EpochNanoseconds,
    /// `4004462288`, `639311134885605705`.
    OtherEpoch,
    /// `Mon, 23 Nov 2026 22:38:08 GMT`.
    InWords,
    /// `+2026-…`.
    SignedYear,
    /// `12026-…`.
    LongYear,
    /// `26-…`.
    ShortYear,
    /// `20261123T223808`.
    Basic,
    /// `2026-W48-1`.
    WeekDate,
    /// `2026-327`.
    OrdinalDate,
    /// `2026/11/23`.
    OtherSeparators,
    /// `2026-1-5`.
    Unpadded,
    /// A day alone.
    NoTime,
    /// `22:38:08`.
    NoDay,
    /// A space between day and time.
    SpaceForT,
    /// A small `t`.
    LowerCaseT,
    /// `22-38-08`.
    TimeSeparators,
    /// Something else between day and time.
    NoT,
    /// An hour alone.
    NoMinutes,
    /// `10:38 PM`.
    TwelveHours,
    /// A day that the calendar does not have.
    NoSuchDay,
    /// 24:00.
    Hour24,
    /// 23:59:60.
    LeapSecond,
    /// Out of range otherwise.
    NoSuchTime,
    /// A comma before the fraction.
    Comma,
    /// A colon before the fraction.
    ColonBeforeFraction,
    /// A dot, and no digits.
    EmptyFraction,
    /// More than nine digits.
    LongFraction,
    /// A fraction of a minute.
    FractionOfMinute,
    /// An offset west of UTC in seconds, where a fraction belongs.
    OffsetAsFraction,
    /// `32400`, where a zone belongs.
    OffsetInSeconds,
    /// The PHP SDK's form, which is not accepted.
    PhpSdk,
    /// No zone.
    NoZone,
    /// A small `z`.
    LowerCaseZ,
    /// `+09`.
    HourOnlyZone,
    /// `+9`.
    ShortZone,
    /// `+09:00:00`.
    ZoneWithSeconds,
    /// `+24:00`.
    ZoneOutOfRange,
    /// ` +09:00`.
    SpaceBeforeZone,
    /// ` 09:00`: a URL decoder took the plus for a space.
    PlusLost,
    /// `UTC`, `KST`, `Asia/Seoul`.
    ZoneName,
    /// `[Asia/Seoul]`.
    ZoneInBrackets,
    /// U+2212 for the minus.
    TypographicMinus,
    /// Anything else where the zone belongs.
    OtherZone,
    /// Something follows the zone.
    Trailing,
    /// Anything else.
    Other,
}

impl Cause {
    /// What is wrong and what to write, in English and Korean.
    pub(in crate::explain) fn sentence(self) -> (&'static str, &'static str) {
        match self {
            Self::Empty => ("the date is empty", "날짜가 비어 있습니다"),
            Self::Quoted => (
                "the date is in quotes: values are written without them",
                "날짜에 따옴표가 있습니다. 따옴표 없이 쓰십시오",
            ),
            Self::PercentEncoded => (
                "the date is percent-encoded as for a URL: a header takes `:` and `+` as they are",
                "날짜가 URL처럼 퍼센트 인코딩되어 있습니다. 헤더에는 `:`와 `+`를 그대로 쓰십시오",
            ),
            Self::Pattern => (
                "this is a pattern that the formatter did not fill in: its letters belong to another library",
                "포매터가 채우지 않은 패턴입니다. 다른 라이브러리의 패턴 문자를 썼습니다",
            ),
            Self::Wrapped => (
                "this is how a debugger shows a date (inspect, repr): write the date alone",
                "디버거가 보여 주는 형식입니다(inspect, repr). 날짜만 쓰십시오",
            ),
            Self::EpochSeconds => (
                "this is a number of seconds since 1970: write it as a date with a zone",
                "1970년부터의 초입니다. 시간대가 있는 날짜로 쓰십시오",
            ),
            Self::EpochMilliseconds => (
                "this is a number of milliseconds since 1970: write it as a date with a zone",
                "1970년부터의 밀리초입니다. 시간대가 있는 날짜로 쓰십시오",
            ),
            Self::EpochMicroseconds => (
                "this is a number of microseconds since 1970: write it as a date with a zone",
                "1970년부터의 마이크로초입니다. 시간대가 있는 날짜로 쓰십시오",
            ),
            Self::EpochNanoseconds => (
                "this is a number of nanoseconds since 1970: write it as a date with a zone",
                "1970년부터의 나노초입니다. 시간대가 있는 날짜로 쓰십시오",
            ),
            Self::OtherEpoch => (
                "this is a number, and not of seconds since 1970 (Common Lisp and NTP count from 1900, Apple from 2001, \
                 .NET's ticks from the year 1): write it as a date with a zone",
                "숫자이며 1970년부터 센 것이 아닙니다(Common Lisp와 NTP는 1900년, Apple은 2001년, .NET의 ticks는 1년부터). \
                 시간대가 있는 날짜로 쓰십시오",
            ),
            Self::InWords => (
                "names of days and months are not read (RFC 1123, RFC 2822, ctime): use the language's ISO 8601 form",
                "요일과 월의 이름은 읽지 않습니다(RFC 1123, RFC 2822, ctime). ISO 8601 형식을 쓰십시오",
            ),
            Self::SignedYear => (
                "the year has a sign: write four digits without one (PHP: DATE_RFC3339, not DATE_ISO8601_EXPANDED)",
                "연도에 부호가 있습니다. 부호 없이 네 자리로 쓰십시오 (PHP: DATE_ISO8601_EXPANDED가 아니라 DATE_RFC3339)",
            ),
            Self::LongYear => ("the year has more than four digits", "연도가 네 자리를 넘습니다"),
            Self::ShortYear => ("the year has two digits: write four", "연도가 두 자리입니다. 네 자리로 쓰십시오"),
            Self::Basic => (
                "this is ISO 8601's basic form: write it with `-` and `:`",
                "ISO 8601의 기본형입니다. `-`와 `:`를 넣어 쓰십시오",
            ),
            Self::WeekDate => ("this names a week: write month and day", "주 번호로 쓴 날짜입니다. 월과 일로 쓰십시오"),
            Self::OrdinalDate => {
                ("this names a day of the year: write month and day", "연중 일수로 쓴 날짜입니다. 월과 일로 쓰십시오")
            }
            Self::OtherSeparators => (
                "year, month and day are written in this order and with `-` between them",
                "연-월-일 순서로 `-`를 넣어 쓰십시오",
            ),
            Self::Unpadded => (
                "a number has one digit where two belong: pad it with a zero",
                "두 자리여야 할 숫자가 한 자리입니다. 앞에 0을 붙이십시오",
            ),
            Self::NoTime => ("there is a day and no time", "날짜만 있고 시각이 없습니다"),
            Self::NoDay => ("there is a time and no day", "시각만 있고 날짜가 없습니다"),
            Self::SpaceForT => (
                "a space stands between day and time: write `T` (Python: isoformat(); date: -Iseconds; arrow: isoformat())",
                "날짜와 시각 사이에 공백이 있습니다. `T`를 쓰십시오 (Python: isoformat(), date: -Iseconds, arrow: isoformat())",
            ),
            Self::LowerCaseT => {
                ("a small `t` stands between day and time: write `T`", "날짜와 시각 사이의 `t`는 대문자 `T`로 쓰십시오")
            }
            Self::TimeSeparators => {
                ("hours, minutes and seconds are written with `:` between them", "시, 분, 초 사이에는 `:`를 쓰십시오")
            }
            Self::NoT => ("`T` must stand between day and time", "날짜와 시각 사이에는 `T`를 쓰십시오"),
            Self::NoMinutes => ("there is an hour and no minutes", "시만 있고 분이 없습니다"),
            Self::TwelveHours => (
                "the clock of the date has twelve hours: write 00 to 23",
                "12시간제 시각입니다. 00부터 23까지로 쓰십시오",
            ),
            Self::NoSuchDay => ("the calendar has no such day", "달력에 없는 날짜입니다"),
            Self::Hour24 => (
                "the hours go from 00 to 23: midnight is 00:00 of the next day",
                "시는 00부터 23까지입니다. 자정은 다음 날 00:00입니다",
            ),
            Self::LeapSecond => (
                "the seconds go from 00 to 59: a leap second is not read",
                "초는 00부터 59까지입니다. 윤초는 읽지 않습니다",
            ),
            Self::NoSuchTime => {
                ("the time must lie between 00:00:00 and 23:59:59", "시각은 00:00:00부터 23:59:59까지입니다")
            }
            Self::Comma => (
                "a comma stands before the fraction: write a dot (date: -Iseconds, not -Ins)",
                "소수점 자리에 쉼표가 있습니다. 점을 쓰십시오 (date: -Ins가 아니라 -Iseconds)",
            ),
            Self::ColonBeforeFraction => {
                ("a colon stands before the fraction: write a dot", "소수점 자리에 콜론이 있습니다. 점을 쓰십시오")
            }
            Self::EmptyFraction => {
                ("the dot behind the seconds has no digits behind it", "초 뒤의 점 다음에 숫자가 없습니다")
            }
            Self::LongFraction => ("the fraction has more than nine digits", "소수 부분이 아홉 자리를 넘습니다"),
            Self::FractionOfMinute => {
                ("the minutes have a fraction: write seconds", "분에 소수가 있습니다. 초로 쓰십시오")
            }
            Self::OffsetAsFraction => (
                "an offset in seconds stands where a fraction belongs (PHP: the letter is P, not Z)",
                "소수 자리에 초 단위 시간대 차이가 있습니다 (PHP: Z가 아니라 P)",
            ),
            Self::OffsetInSeconds => (
                "the zone is an offset in seconds: write hours and minutes, such as +09:00 (PHP: the letter is P, not Z)",
                "시간대가 초 단위입니다. +09:00처럼 시와 분으로 쓰십시오 (PHP: Z가 아니라 P)",
            ),
            Self::PhpSdk => (
                "this is the PHP SDK's form, which accept_php_sdk_dates = false refuses: write +09:00",
                "PHP SDK의 형식이며 accept_php_sdk_dates = false로 거부됩니다. +09:00으로 쓰십시오",
            ),
            Self::NoZone => (
                "there is no zone: add Z if this is UTC, or the offset, such as +09:00 (Python: now(timezone.utc); Java: \
                 Instant, not LocalDateTime; Dart: toUtc(); C#: DateTimeOffset)",
                "시간대가 없습니다. UTC라면 Z를, 아니면 +09:00 같은 차이를 붙이십시오 (Python: now(timezone.utc), Java: \
                 LocalDateTime이 아니라 Instant, Dart: toUtc(), C#: DateTimeOffset)",
            ),
            Self::LowerCaseZ => ("the zone is a small `z`: write `Z`", "시간대의 `z`는 대문자 `Z`로 쓰십시오"),
            Self::HourOnlyZone => (
                "the zone has hours and no minutes: Java and date-fns XXX (not X), Go Z07:00 (not Z07), PostgreSQL \
                 TZH:TZM (not OF), Luxon ZZ (not Z), C# zzz (not zz)",
                "시간대에 시만 있고 분이 없습니다. Java와 date-fns XXX(X 아님), Go Z07:00(Z07 아님), PostgreSQL \
                 TZH:TZM(OF 아님), Luxon ZZ(Z 아님), C# zzz(zz 아님)",
            ),
            Self::ShortZone => (
                "the hours of the zone have one digit: write two, and minutes (Luxon: ZZ, not Z; C#: zzz, not z)",
                "시간대의 시가 한 자리입니다. 두 자리와 분을 쓰십시오 (Luxon: Z가 아니라 ZZ, C#: z가 아니라 zzz)",
            ),
            Self::ZoneWithSeconds => {
                ("the zone has seconds: write hours and minutes", "시간대에 초가 있습니다. 시와 분만 쓰십시오")
            }
            Self::ZoneOutOfRange => ("the zone must lie within 23:59 of UTC", "시간대는 UTC에서 23:59 안이어야 합니다"),
            Self::SpaceBeforeZone => ("a space stands before the zone: write none", "시간대 앞의 공백을 없애십시오"),
            Self::PlusLost => (
                "a space stands where the plus of the zone belongs: something decoded it as if from a URL",
                "시간대의 더하기표 자리에 공백이 있습니다. URL처럼 디코딩되었습니다",
            ),
            Self::ZoneName => (
                "the zone is a name: write Z for UTC, or the offset, such as +09:00",
                "시간대가 이름입니다. UTC는 Z로, 아니면 +09:00 같은 차이로 쓰십시오",
            ),
            Self::ZoneInBrackets => (
                "a zone's name stands in brackets behind the offset: leave it out (Java: ISO_OFFSET_DATE_TIME, not \
                 ISO_DATE_TIME)",
                "시간대 이름이 괄호 안에 있습니다. 빼고 쓰십시오 (Java: ISO_DATE_TIME이 아니라 ISO_OFFSET_DATE_TIME)",
            ),
            Self::TypographicMinus => (
                "the minus of the zone is a typographic one: write -",
                "시간대의 빼기표가 다른 문자입니다. -로 쓰십시오",
            ),
            Self::OtherZone => (
                "no zone stands behind the time: write Z for UTC, or the offset, such as +09:00",
                "시각 뒤에 시간대가 아닌 것이 있습니다. UTC는 Z로, 아니면 +09:00 같은 차이로 쓰십시오",
            ),
            Self::Trailing => ("something stands behind the zone", "시간대 뒤에 다른 것이 있습니다"),
            Self::Other => (
                "a date is written 2026-11-23T22:38:08Z or 2026-11-24T07:38:08+09:00",
                "날짜는 2026-11-23T22:38:08Z 또는 2026-11-24T07:38:08+09:00처럼 쓰십시오",
            ),
        }
    }
}
