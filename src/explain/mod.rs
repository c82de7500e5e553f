//! Explains a header: which clauses of the contract it meets or violates, line by line, in English and Korean.
//!
//! It spends nothing, and never shows a secret or a valid signature. The text is the same for a configuration
//! (`saltgate explain`) and for a running gateway (`--live`), which also knows whether the salt is spent.

mod date;
mod mistakes;
#[cfg(test)]
mod properties;
mod skew;
mod words;

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use crate::authentication::{self, Rules, Signed};
use crate::clock;
use crate::credential::{Credentials, Date, PhpDates, Secret};
use crate::directory::Caller;
use crate::plain;
use crate::refusal::{Reason, Refusal, RefusedAfterSpend, Remaining};
use crate::repeats::{Became, Repeat};
use crate::replay::{Floor, OutOfWindow, Window};

pub(crate) use words::{Words, words};

/// A language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    /// English.
    English,
    /// Korean.
    Korean,
}

impl Language {
    /// `en` or `ko`.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            "en" => Some(Self::English),
            "ko" => Some(Self::Korean),
            _ => None,
        }
    }

    fn of<'t>(self, english: &'t str, korean: &'t str) -> &'t str {
        match self {
            Self::English => english,
            Self::Korean => korean,
        }
    }
}

/// Explains headers for these keys and rules, as of one moment.
pub(crate) struct Explainer<'e> {
    /// What a header is checked against.
    pub rules: Rules<'e>,
    /// Where the keys are, for the text.
    pub keys: &'e str,
    /// The moment.
    pub now: SystemTime,
    /// The secrets by apiKey, if available: common mistakes are tried with them.
    pub secrets: &'e [(String, Vec<Secret>)],
}

/// What only a running gateway knows about a header with a valid signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Live {
    /// No date at or below this is admitted.
    pub floor: Floor,
    /// Whether the salt is spent.
    pub salt: Salt,
    /// Whether the key, the account or everything is frozen.
    pub frozen: bool,
    /// How long until the key and the account may delete again, if their budget is used up.
    pub budget: Option<Duration>,
}

/// What a store says about a salt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Salt {
    /// It is not spent.
    Fresh,
    /// It is spent; the request that spent it, if that is remembered.
    Spent(Option<Repeat>),
    /// The store does not answer.
    NoAnswer,
    /// The signature is not valid, so there is no salt to look up.
    NotAsked,
}

/// The text of an explanation, and the verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Explanation {
    /// The lines.
    pub text: String,
    /// Why the request would be refused; [`Reason::Ok`] if nothing is wrong with the header.
    pub reason: Reason,
}

impl Explainer<'_> {
    /// The signer of this header, if its signature is valid.
    pub(crate) fn signer(&self, header: &str) -> Option<Signed> {
        authentication::signer(header.as_bytes(), self.rules, self.now).ok()
    }

    /// Explains the value of an `Authorization` field.
    pub(crate) fn explain(&self, header: &str, live: Option<&Live>, language: Language) -> Explanation {
        let floor = live.map_or(Floor(SystemTime::UNIX_EPOCH), |live| live.floor);
        let mut report = Report { language, text: String::new(), refused: None };
        // The verdict comes from the same function as the gate's. The lines cover every clause, also those after the
        // first that fails.
        if let Err(unauthentic) = authentication::judge(header.as_bytes(), self.rules, |_| floor, self.now) {
            report.refuse(&unauthentic.refused());
        }
        self.clauses(header, floor, live, &mut report);
        report.verdict();
        Explanation { reason: report.reason(), text: report.text }
    }

    fn clauses(&self, header: &str, floor: Floor, live: Option<&Live>, report: &mut Report) {
        let credentials = match Credentials::parse(header.as_bytes(), self.rules.php_dates) {
            Ok(credentials) => credentials,
            Err(malformed) => {
                report.no(FORM, &format!("§2: {malformed}"), &format!("§2: 헤더 형식이 맞지 않습니다: {malformed}"));
                if let Some(text) = date::of_header(header) {
                    unreadable_date(text, self.rules.php_dates, report);
                }
                if header.is_empty() {
                    report.note(
                        NOTHING,
                        "standard input has no header; give the value of the Authorization field",
                        "표준 입력에 헤더가 없습니다. Authorization 줄의 값을 넣으십시오",
                    );
                }
                return;
            }
        };
        let date = credentials.date();
        report.yes(FORM, "§2: the header is well formed", "§2: 헤더 형식이 맞습니다");
        let bytes = format!("{:?}", format!("{}{}", date.text(), credentials.salt()));
        report.note(SIGNED, &format!("the bytes {bytes}"), &format!("서명 대상 바이트 {bytes}"));
        let (text, at) = (date.text(), clock::rfc3339(date.instant()));
        let php = date.is_php_sdk();
        report.note(
            DATE,
            &format!("{text} is {at} in UTC{}", if php { ": the PHP SDK's form, Korean time" } else { "" }),
            &format!("{text}은(는) UTC로 {at}입니다{}", if php { ": PHP SDK 형식, 한국 시각" } else { "" }),
        );
        let caller = self.rules.directory.caller(credentials.api_key()).map(|caller| &**caller);
        self.key(credentials.api_key(), caller, report);
        self.signature(&credentials, caller, report);
        self.freshness(&date, floor, report);
        salt(live, report);
        let still_good = report.refused.is_none();
        if let Some(caller) = caller {
            role(caller, report);
        }
        if let Some(live) = live {
            safeguards(live, report);
        }
        if still_good {
            report.note(
                WARNING,
                "this header is still good for use by whoever sees it: do not pass it on before it is sent or stale",
                "이 헤더는 아직 유효하므로 보는 사람 누구나 쓸 수 있습니다. 쓰이거나 만료되기 전에는 남에게 전하지 마십시오",
            );
        }
    }

    fn key(&self, api_key: &str, caller: Option<&Caller>, report: &mut Report) {
        match caller {
            Some(caller) if caller.is_active(self.now) => report.yes(
                KEY,
                &format!("§4: {api_key} is known and active"),
                &format!("§4: {api_key} 키는 등록되어 있고 사용 중입니다"),
            ),
            Some(_) => report.no(
                KEY,
                &format!("§4: {api_key} is switched off or has expired"),
                &format!("§4: {api_key} 키는 꺼져 있거나 만료되었습니다"),
            ),
            None => {
                let near = self.rules.directory.callers().find(|c| c.api_key.eq_ignore_ascii_case(api_key));
                let (english, korean) = near.map_or_else(Default::default, |near| {
                    let near = &near.api_key;
                    (
                        format!("; case counts: did you mean {near}?"),
                        format!(". 대소문자를 구별합니다. {near} 아닙니까?"),
                    )
                });
                let keys = self.keys;
                report.no(
                    KEY,
                    &format!("§4: {api_key} is not in {keys}{english}"),
                    &format!("§4: {api_key} 키가 {keys}에 없습니다{korean}"),
                );
            }
        }
    }

    fn signature(&self, credentials: &Credentials<'_>, caller: Option<&Caller>, report: &mut Report) {
        let Some(caller) = caller else { return mistakes::look_for(self, credentials, report) };
        if caller.signed(credentials).into() {
            return report.yes(SIGNATURE, "§2: made with the key's secret", "§2: 이 키의 비밀키로 만든 서명입니다");
        }
        let api_key = &caller.api_key;
        report.no(
            SIGNATURE,
            &format!("§2: not made with the secret of {api_key}"),
            &format!("§2: {api_key}의 비밀키로 만든 서명이 아닙니다"),
        );
        mistakes::look_for(self, credentials, report);
    }

    fn freshness(&self, date: &Date<'_>, floor: Floor, report: &mut Report) {
        let english = skew::in_words(date, self.now, Language::English);
        let korean = skew::in_words(date, self.now, Language::Korean);
        let Window { past, future } = self.rules.window;
        match self.rules.window.judge(date.instant(), self.now, floor) {
            Ok(()) => report.yes(WINDOW, &format!("§3: {english}"), &format!("§3: {korean}")),
            Err(OutOfWindow::Past) => report.no(
                WINDOW,
                &format!("§3: {english}, and may be at most {} behind", skew::span(past, Language::English)),
                &format!("§3: {korean}. {}까지만 늦을 수 있습니다", skew::span(past, Language::Korean)),
            ),
            Err(OutOfWindow::Future) => report.no(
                WINDOW,
                &format!("§3: {english}, and may be at most {} ahead", skew::span(future, Language::English)),
                &format!("§3: {korean}. {}까지만 앞설 수 있습니다", skew::span(future, Language::Korean)),
            ),
            Err(OutOfWindow::BelowFloor) => {
                let at = clock::rfc3339(floor.0);
                report.no(
                    WINDOW,
                    &format!("§3: {english}; nothing dated at or before {at} is admitted by this gateway"),
                    &format!("§3: {korean}. 이 게이트웨이는 {at} 이전 날짜를 받지 않습니다"),
                );
            }
        }
    }
}

/// Quotes the date, marks the byte where parsing failed, names the cause, and shows a corrected date.
fn unreadable_date(text: &str, php_dates: PhpDates, report: &mut Report) {
    let Some(date::Diagnosis { at, cause, corrected }) = date::diagnose(text, php_dates) else { return };
    let (english, korean) = cause.sentence();
    report.no(DATE, &format!("§2: {english}"), &format!("§2: {korean}"));
    // Escapes must not move the mark.
    let read = plain::within_quotes(&text[..at]).to_string();
    let rest = plain::within_quotes(&text[at..]);
    let quoted = format!("\"{read}{rest}\"");
    report.note(NOTHING, &quoted, &quoted);
    let mark = format!("{:>1$}", "^", read.chars().count() + 2);
    report.note(NOTHING, &format!("{mark} read up to byte {at}"), &format!("{mark} {at}번째 바이트까지 읽었습니다"));
    if let Some(corrected) = corrected {
        report.note(NOTHING, &format!("write {corrected}"), &format!("{corrected}로 쓰십시오"));
    }
}

fn salt(live: Option<&Live>, report: &mut Report) {
    match live.map(|live| &live.salt) {
        None => report.note(
            SALT,
            "§3: only the running gateway knows whether it was spent",
            "§3: 이미 쓰였는지는 실행 중인 게이트웨이만 압니다",
        ),
        Some(Salt::Fresh) => report.yes(SALT, "§3: not spent yet", "§3: 아직 쓰이지 않았습니다"),
        Some(Salt::Spent(first)) => {
            report.refuse(&RefusedAfterSpend::SaltReused);
            report.no(
                SALT,
                "§3: spent already: each request needs a salt of its own, and a signature is good once",
                "§3: 이미 쓰였습니다. 요청마다 새 salt가 필요하고 서명은 한 번만 쓸 수 있습니다",
            );
            if let Some(first) = first {
                spent_by(first, report);
            }
        }
        Some(Salt::NotAsked) => report.note(
            SALT,
            "§3: not looked up: only a right signature says whose salt it is",
            "§3: 확인하지 않았습니다. 올바른 서명이어야 누구의 salt인지 알 수 있습니다",
        ),
        Some(Salt::NoAnswer) => report.note(
            SALT,
            "§3: the store of spent salts does not say now whether it was spent",
            "§3: 저장소가 응답하지 않아 이미 쓰였는지 지금은 알 수 없습니다",
        ),
    }
}

/// Which request spent the salt, and how it ended.
fn spent_by(Repeat { of, first, after, .. }: &Repeat, report: &mut Report) {
    let (english, korean) = match first {
        Became::UnderWay => ("is still under way", "아직 처리 중입니다"),
        Became::Deleted => ("was carried out", "처리되었습니다"),
        Became::RefusedByUpstream => ("was refused by the service", "서비스가 거부했습니다"),
        Became::Refused => ("was refused by this gateway", "이 게이트웨이가 거부했습니다"),
        Became::NotSent => ("failed before it was sent to the service", "서비스로 보내기 전에 실패했습니다"),
        Became::Rehearsed => ("was a dry run", "삭제 확인 요청이었습니다"),
        Became::Elsewhere => (
            "was another gateway's, or came before this one was started",
            "다른 게이트웨이가 받았거나 이 게이트웨이가 시작되기 전의 요청입니다",
        ),
        Became::Unknown => {
            ("may have been carried out: its answer was lost", "응답을 받지 못해 처리되었을 수 있습니다")
        }
    };
    let ago = |language| after.map(|after| skew::span(after, language));
    let (ago_english, ago_korean) = (ago(Language::English), ago(Language::Korean));
    report.note(
        NOTHING,
        &format!("request {of}{} {english}", ago_english.map_or_else(String::new, |ago| format!(", {ago} ago,"))),
        &format!("{}요청 {of}: {korean}", ago_korean.map_or_else(String::new, |ago| format!("{ago} 전의 "))),
    );
}

fn role(caller: &Caller, report: &mut Report) {
    let (account, member) = (&caller.owner.account, &caller.owner.member);
    match caller.role {
        Some(role) => report.note(
            ROLE,
            &format!("§5: {role} in account {account}, member {member}"),
            &format!("§5: 계정 {account}, 멤버 {member}, 역할 {role}"),
        ),
        None => {
            report.refuse(&RefusedAfterSpend::RoleInsufficient);
            report.no(
                ROLE,
                "§5: the key has no role and may delete nothing",
                "§5: 키에 역할이 없어 아무것도 삭제할 수 없습니다",
            );
        }
    }
}

fn safeguards(live: &Live, report: &mut Report) {
    if live.frozen {
        report.refuse(&RefusedAfterSpend::Frozen);
        report.no(
            FREEZE,
            "§1: the key, its account or everything is frozen",
            "§1: 이 키, 계정 또는 전체 삭제가 동결되어 있습니다",
        );
    }
    if let Some(left) = live.budget {
        report.refuse(&RefusedAfterSpend::BudgetSpent(left));
        report.no(
            BUDGET,
            &format!("§1: the deletion budget is spent; the next in {}", skew::span(left, Language::English)),
            &format!("§1: 삭제 한도를 다 썼습니다. {} 뒤에 다시 할 수 있습니다", skew::span(left, Language::Korean)),
        );
    }
}

type Label = (&'static str, &'static str);
const FORM: Label = ("form", "형식");
const SIGNED: Label = ("signed", "서명문");
const DATE: Label = ("date", "날짜");
const KEY: Label = ("key", "키");
const SIGNATURE: Label = ("signature", "서명");
const WINDOW: Label = ("window", "기간");
const SALT: Label = ("salt", "salt");
const ROLE: Label = ("role", "역할");
const FREEZE: Label = ("freeze", "동결");
const BUDGET: Label = ("budget", "한도");
const WARNING: Label = ("warning", "주의");
const NOTHING: Label = ("", "");

/// The lines so far, and the first refusal.
struct Report {
    language: Language,
    text: String,
    /// The reason, and the status of the answer.
    refused: Option<(Reason, u16)>,
}

impl Report {
    fn yes(&mut self, label: Label, english: &str, korean: &str) {
        self.line(label, self.language.of("yes", "예"), english, korean);
    }

    /// Keeps the first refusal as the verdict. The gates check in the same order and stop at the first refusal.
    fn refuse(&mut self, refusal: &impl Refusal) {
        // The status does not depend on how long the header stays valid.
        let status = refusal.answer(Remaining::Unknown).status;
        self.refused.get_or_insert((refusal.reason(), status));
    }

    fn reason(&self) -> Reason {
        self.refused.map_or(Reason::Ok, |(reason, _)| reason)
    }

    fn no(&mut self, label: Label, english: &str, korean: &str) {
        self.line(label, self.language.of("no", "아니오"), english, korean);
    }

    fn note(&mut self, label: Label, english: &str, korean: &str) {
        self.line(label, "", english, korean);
    }

    fn line(&mut self, label: Label, mark: &str, english: &str, korean: &str) {
        let (label, text) = (self.language.of(label.0, label.1), self.language.of(english, korean));
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{label:<9} {mark:<4} {}", plain::line(text));
    }

    fn verdict(&mut self) {
        let Words { english, korean, to_customer_english, to_customer_korean } = words(self.reason());
        let (english, korean) = match self.refused {
            None => ("verdict: good, as far as a header goes".to_owned(), "판정: 헤더만 보면 통과합니다".to_owned()),
            Some((reason, status)) => {
                let reason = reason.as_str();
                (format!("verdict: {status} ({reason}): {english}"), format!("판정: {status} ({reason}): {korean}"))
            }
        };
        let _ = writeln!(self.text, "{}", self.language.of(&english, &korean));
        let label = self.language.of("to the customer", "고객에게 보낼 말");
        let _ = writeln!(self.text, "{label}: {}", self.language.of(to_customer_english, to_customer_korean));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::{SigningKey, header_value};
    use crate::directory::{Directory, KeyEntry};
    use crate::policy::{Owner, Role};

    #[test]
    fn faults_of_the_header_come_before_the_state_of_the_gateway() {
        let secret = || Secret::new(b"a secret of the tests").unwrap();
        let owner = Owner { account: "a".into(), member: "m".into() };
        let (role, active) = (Some(Role::Member), true);
        let entry =
            KeyEntry { api_key: "K".into(), secrets: vec![secret()], owner, role, active, expires: None, line: 1 };
        let directory = Directory::new(vec![entry]).unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let rules = Rules { directory: &directory, php_dates: PhpDates::Accept, window: Window::default() };
        let explainer = Explainer { rules, keys: "keys.toml", now, secrets: &[] };
        let (date, salt) = (clock::rfc3339(now - Duration::from_secs(60)), "0123456789abcdef");
        let header = header_value("K", &date, salt, &SigningKey::new(&secret()).sign(&date, salt));
        let good = Live { floor: Floor(SystemTime::UNIX_EPOCH), salt: Salt::Fresh, frozen: false, budget: None };
        let floor =
            |seconds_ago: i64| Floor(now - Duration::from_secs(100) + Duration::from_secs((100 - seconds_ago) as u64));
        let first = Repeat {
            of: "00ff".into(),
            first: Became::Deleted,
            after: Some(Duration::from_secs(120)),
            same_client: None,
        };
        let rows = [
            ("good", good.clone(), Reason::Ok, "not spent yet", true),
            ("spent", Live { salt: Salt::Spent(None), ..good.clone() }, Reason::SaltReused, "spent already", false),
            (
                "spent by a known one",
                Live { salt: Salt::Spent(Some(first)), ..good.clone() },
                Reason::SaltReused,
                "request 00ff, 2 minutes ago, was carried out",
                false,
            ),
            ("no answer", Live { salt: Salt::NoAnswer, ..good.clone() }, Reason::Ok, "does not say", true),
            (
                "below the floor",
                Live { floor: floor(30), ..good.clone() },
                Reason::BelowFloor,
                "admitted by this gateway",
                false,
            ),
            ("fenced", Live { floor: floor(-30), ..good.clone() }, Reason::Fenced, "verdict: 503", false),
            ("frozen", Live { frozen: true, ..good.clone() }, Reason::Frozen, "verdict: 423", true),
            (
                "over budget",
                Live { budget: Some(Duration::from_secs(120)), ..good.clone() },
                Reason::BudgetSpent,
                "the next in 2 minutes",
                true,
            ),
            (
                "spent and frozen",
                Live { salt: Salt::Spent(None), frozen: true, ..good },
                Reason::SaltReused,
                "verdict: 401",
                false,
            ),
        ];
        for (name, live, reason, says, still_good) in rows {
            let english = explainer.explain(&header, Some(&live), Language::English);
            let korean = explainer.explain(&header, Some(&live), Language::Korean);
            assert_eq!((english.reason, korean.reason), (reason, reason), "{name}");
            assert!(english.text.contains(says), "{name}: {}", english.text);
            assert_eq!(english.text.contains("still good for use"), still_good, "{name}");
            assert_eq!(english.text.lines().count(), korean.text.lines().count(), "{name}");
            assert!(english.text.is_ascii() || english.text.replace('§', "").is_ascii(), "{name}");
        }
        let swapped = header_value("K", &date, salt, &SigningKey::new(&secret()).sign(salt, &date));
        let told = explainer.explain(&swapped, None, Language::English);
        assert_eq!(told.reason, Reason::SignatureMismatch);
        assert!(told.text.contains("salt and date were swapped"), "{}", told.text);
    }
}
