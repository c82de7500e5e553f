//! Which clause of the contract a header meets or misses, line by line, in English and Korean.
//!
//! Spends nothing, and never says a secret or a right signature. The same words for a
//! configuration at rest (`saltgate explain`) and for a running gateway (`--live`), which knows
//! besides whether the salt is spent.

mod mistakes;
mod skew;
mod words;

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use crate::clock;
use crate::credential::{Credentials, Date, PhpDates, Secret};
use crate::directory::{Caller, Directory};
use crate::refusal::Reason;
use crate::replay::{Floor, OutOfWindow, SaltId, Window};

pub use words::{Words, words};

/// A language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// English.
    English,
    /// Korean.
    Korean,
}

impl Language {
    /// `en` or `ko`.
    pub fn parse(name: &str) -> Option<Self> {
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

/// What a header is judged by.
pub struct Bench<'e> {
    /// Who may call.
    pub directory: &'e Directory,
    /// Where the keys are, in words.
    pub keys: &'e str,
    /// Whether the PHP SDK's dates are read.
    pub php_dates: PhpDates,
    /// How far a date may lie from now.
    pub window: Window,
    /// The time.
    pub now: SystemTime,
    /// The secrets by apiKey, where they are at hand: what people get wrong with them is tried.
    pub secrets: &'e [(String, Vec<Secret>)],
}

/// What only a running gateway knows, of a header that is signed right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    /// Nothing at or below is admitted.
    pub floor: Floor,
    /// What the store says of the salt.
    pub salt: Salt,
    /// Whether the key, the account or everything is frozen.
    pub frozen: bool,
    /// How long until the key and the account may delete again, if their budget is spent.
    pub budget: Option<Duration>,
}

/// What a store of spent salts says of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Salt {
    /// It is not spent.
    Fresh,
    /// It is.
    Spent,
    /// The store does not answer.
    NoAnswer,
    /// The header is not signed right: there is no salt to ask for.
    NotAsked,
}

/// The lines, and what the gate would say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Lines for people.
    pub text: String,
    /// Why it would be refused; [`Reason::Ok`] if it is good as far as a header goes.
    pub reason: Reason,
}

impl Bench<'_> {
    /// What the store knows the salt of this header by, and whose it is, if it is signed right.
    pub fn identify(&self, header: &str) -> Option<(SaltId, std::sync::Arc<Caller>)> {
        let credentials = Credentials::parse(header.as_bytes(), self.php_dates).ok()?;
        let identified = self.directory.identify(&credentials, self.now).ok()?;
        Some((identified.salt_id, identified.caller))
    }

    /// Explains the value of an `Authorization` line.
    pub fn explain(&self, header: &str, live: Option<&Live>, language: Language) -> Explanation {
        let mut sheet = Sheet { language, text: String::new(), reason: Reason::Ok };
        self.judge(header, live, &mut sheet);
        sheet.verdict();
        Explanation { text: sheet.text, reason: sheet.reason }
    }

    fn judge(&self, header: &str, live: Option<&Live>, sheet: &mut Sheet) {
        let credentials = match Credentials::parse(header.as_bytes(), self.php_dates) {
            Ok(credentials) => credentials,
            Err(malformed) => {
                let reason =
                    if malformed.is_other_scheme() { Reason::UnsupportedScheme } else { Reason::MalformedCredentials };
                sheet.no(
                    reason,
                    FORM,
                    &format!("§2: {malformed}"),
                    &format!("§2: 헤더 형식이 맞지 않습니다: {malformed}"),
                );
                if header.is_empty() {
                    sheet.note(
                        NOTHING,
                        "standard input holds no header; give the value of the Authorization line",
                        "표준 입력에 헤더가 없습니다. Authorization 줄의 값을 넣으십시오",
                    );
                }
                return;
            }
        };
        let date = credentials.date();
        sheet.yes(FORM, "§2: the header is well formed", "§2: 헤더 형식이 맞습니다");
        let bytes = format!("{:?}", format!("{}{}", date.text(), credentials.salt()));
        sheet.note(SIGNED, &format!("the bytes {bytes}"), &format!("서명 대상 바이트 {bytes}"));
        let at = clock::rfc3339(date.instant());
        let php = date.is_php_sdk();
        sheet.note(
            DATE,
            &format!("{at}{}", if php { ", the PHP SDK's form: Korean time" } else { "" }),
            &format!("{at}{}", if php { ", PHP SDK 형식: 한국 시각" } else { "" }),
        );
        let caller = self.directory.caller(credentials.api_key()).map(|caller| &**caller);
        self.key(credentials.api_key(), caller, sheet);
        self.signature(&credentials, caller, sheet);
        let floor = live.map_or(Floor(SystemTime::UNIX_EPOCH), |live| live.floor);
        self.freshness(&date, floor, sheet);
        salt(live, sheet);
        let still_good = sheet.reason == Reason::Ok;
        if let Some(caller) = caller {
            role(caller, sheet);
        }
        if let Some(live) = live {
            safeguards(live, sheet);
        }
        if still_good {
            sheet.note(
                WARNING,
                "this header is still good for use by whoever sees it: do not pass it on before it is sent or stale",
                "이 헤더는 아직 유효하므로 보는 사람 누구나 쓸 수 있습니다. 쓰이거나 만료되기 전에는 남에게 전하지 마십시오",
            );
        }
    }

    fn key(&self, api_key: &str, caller: Option<&Caller>, sheet: &mut Sheet) {
        match caller {
            Some(caller) if caller.is_active(self.now) => sheet.yes(
                KEY,
                &format!("§4: {api_key} is known and active"),
                &format!("§4: {api_key} 키는 등록되어 있고 사용 중입니다"),
            ),
            Some(_) => sheet.no(
                Reason::InactiveKey,
                KEY,
                &format!("§4: {api_key} is switched off or has expired"),
                &format!("§4: {api_key} 키는 꺼져 있거나 만료되었습니다"),
            ),
            None => {
                let near = self.directory.callers().find(|c| c.api_key.eq_ignore_ascii_case(api_key));
                let (english, korean) = near.map_or_else(Default::default, |near| {
                    let near = &near.api_key;
                    (
                        format!("; case counts: did you mean {near}?"),
                        format!(". 대소문자를 구별합니다. {near} 아닙니까?"),
                    )
                });
                let keys = self.keys;
                sheet.no(
                    Reason::UnknownKey,
                    KEY,
                    &format!("§4: {api_key} is not in {keys}{english}"),
                    &format!("§4: {api_key} 키가 {keys}에 없습니다{korean}"),
                );
            }
        }
    }

    fn signature(&self, credentials: &Credentials<'_>, caller: Option<&Caller>, sheet: &mut Sheet) {
        let Some(caller) = caller else { return mistakes::look_for(self, credentials, sheet) };
        if caller.signed(credentials).into() {
            return sheet.yes(SIGNATURE, "§2: made with the key's secret", "§2: 이 키의 비밀키로 만든 서명입니다");
        }
        let api_key = &caller.api_key;
        sheet.no(
            Reason::SignatureMismatch,
            SIGNATURE,
            &format!("§2: not made with the secret of {api_key}"),
            &format!("§2: {api_key}의 비밀키로 만든 서명이 아닙니다"),
        );
        mistakes::look_for(self, credentials, sheet);
    }

    fn freshness(&self, date: &Date<'_>, floor: Floor, sheet: &mut Sheet) {
        let english = skew::in_words(date.instant(), self.now, Language::English);
        let korean = skew::in_words(date.instant(), self.now, Language::Korean);
        let Window { past, future } = self.window;
        match self.window.judge(date.instant(), self.now, floor) {
            Ok(()) => sheet.yes(WINDOW, &format!("§3: {english}"), &format!("§3: {korean}")),
            Err(OutOfWindow::Past) => sheet.no(
                Reason::DateSkewed,
                WINDOW,
                &format!("§3: {english}, and may be at most {} behind", skew::span(past, Language::English)),
                &format!("§3: {korean}. {}까지만 늦을 수 있습니다", skew::span(past, Language::Korean)),
            ),
            Err(OutOfWindow::Future) => sheet.no(
                Reason::DateSkewed,
                WINDOW,
                &format!("§3: {english}, and may be at most {} ahead", skew::span(future, Language::English)),
                &format!("§3: {korean}. {}까지만 앞설 수 있습니다", skew::span(future, Language::Korean)),
            ),
            Err(OutOfWindow::BelowFloor) => {
                let at = clock::rfc3339(floor.0);
                let reason = if floor.0 > self.now { Reason::Fenced } else { Reason::BelowFloor };
                sheet.no(
                    reason,
                    WINDOW,
                    &format!("§3: {english}; nothing dated at or before {at} is admitted by this gateway"),
                    &format!("§3: {korean}. 이 게이트웨이는 {at} 이전 날짜를 받지 않습니다"),
                );
            }
        }
    }
}

fn salt(live: Option<&Live>, sheet: &mut Sheet) {
    match live.map(|live| live.salt) {
        None => sheet.note(
            SALT,
            "§3: only the running gateway knows whether it was spent",
            "§3: 이미 쓰였는지는 실행 중인 게이트웨이만 압니다",
        ),
        Some(Salt::Fresh) => sheet.yes(SALT, "§3: not spent yet", "§3: 아직 쓰이지 않았습니다"),
        Some(Salt::Spent) => sheet.no(
            Reason::SaltReused,
            SALT,
            "§3: spent already: each request needs a salt of its own, and a signature is good once",
            "§3: 이미 쓰였습니다. 요청마다 새 salt가 필요하고 서명은 한 번만 쓸 수 있습니다",
        ),
        Some(Salt::NotAsked) => sheet.note(
            SALT,
            "§3: not looked up: only a right signature says whose salt it is",
            "§3: 확인하지 않았습니다. 올바른 서명이어야 누구의 salt인지 알 수 있습니다",
        ),
        Some(Salt::NoAnswer) => sheet.note(
            SALT,
            "§3: the store of spent salts does not say now whether it was spent",
            "§3: 저장소가 응답하지 않아 이미 쓰였는지 지금은 알 수 없습니다",
        ),
    }
}

fn role(caller: &Caller, sheet: &mut Sheet) {
    let (account, member) = (&caller.owner.account, &caller.owner.member);
    match caller.role {
        Some(role) => sheet.note(
            ROLE,
            &format!("§5: {role} in account {account}, member {member}"),
            &format!("§5: 계정 {account}, 멤버 {member}, 역할 {role}"),
        ),
        None => sheet.no(
            Reason::RoleInsufficient,
            ROLE,
            "§5: the key has no role, and may delete nothing",
            "§5: 키에 역할이 없어 아무것도 삭제할 수 없습니다",
        ),
    }
}

fn safeguards(live: &Live, sheet: &mut Sheet) {
    if live.frozen {
        sheet.no(
            Reason::Frozen,
            FREEZE,
            "§1: the key, its account or everything is frozen",
            "§1: 이 키, 계정 또는 전체 삭제가 동결되어 있습니다",
        );
    }
    if let Some(left) = live.budget {
        sheet.no(
            Reason::BudgetSpent,
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

/// The lines so far, and the first thing that is wrong.
struct Sheet {
    language: Language,
    text: String,
    reason: Reason,
}

impl Sheet {
    fn yes(&mut self, label: Label, english: &str, korean: &str) {
        self.line(label, self.language.of("yes", "예"), english, korean);
    }

    fn no(&mut self, reason: Reason, label: Label, english: &str, korean: &str) {
        if self.reason == Reason::Ok {
            self.reason = reason;
        }
        self.line(label, self.language.of("no", "아니오"), english, korean);
    }

    fn note(&mut self, label: Label, english: &str, korean: &str) {
        self.line(label, "", english, korean);
    }

    fn line(&mut self, label: Label, mark: &str, english: &str, korean: &str) {
        let (label, text) = (self.language.of(label.0, label.1), self.language.of(english, korean));
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{label:<9} {mark:<4} {text}");
    }

    fn verdict(&mut self) {
        let Words { english, korean, to_customer_english, to_customer_korean } = words(self.reason);
        let good = self.reason == Reason::Ok;
        let reason = self.reason.as_str();
        let (english, korean) = if good {
            ("verdict: good, as far as a header goes".to_owned(), "판정: 헤더만 보면 통과합니다".to_owned())
        } else {
            let status = status(self.reason);
            (format!("verdict: {status} ({reason}): {english}"), format!("판정: {status} ({reason}): {korean}"))
        };
        let _ = writeln!(self.text, "{}", self.language.of(&english, &korean));
        let label = self.language.of("to the customer", "고객에게 보낼 말");
        let _ = writeln!(self.text, "{label}: {}", self.language.of(to_customer_english, to_customer_korean));
    }
}

/// The status of the answer, for what a header can be refused for.
fn status(reason: Reason) -> u16 {
    match reason {
        Reason::Frozen => 423,
        Reason::BudgetSpent => 429,
        Reason::Fenced => 503,
        _ => 401,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::{SigningKey, header_value};
    use crate::directory::Entry;
    use crate::policy::{Owner, Role};

    #[test]
    fn what_a_running_gateway_knows_decides_after_what_the_header_says() {
        let secret = || Secret::new(b"a secret of the tests").unwrap();
        let owner = Owner { account: "a".into(), member: "m".into() };
        let (role, active) = (Some(Role::Member), true);
        let entry = Entry { api_key: "K".into(), secrets: vec![secret()], owner, role, active, expires: None };
        let directory = Directory::new(vec![entry]).unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let (php_dates, window) = (PhpDates::Accept, Window::default());
        let bench = Bench { directory: &directory, keys: "keys.toml", php_dates, window, now, secrets: &[] };
        let (date, salt) = (clock::rfc3339(now - Duration::from_secs(60)), "0123456789abcdef");
        let header = header_value("K", &date, salt, &SigningKey::new(&secret()).sign(&date, salt));
        let good = Live { floor: Floor(SystemTime::UNIX_EPOCH), salt: Salt::Fresh, frozen: false, budget: None };
        let floor =
            |seconds_ago: i64| Floor(now - Duration::from_secs(100) + Duration::from_secs((100 - seconds_ago) as u64));
        let rows = [
            ("good", good, Reason::Ok, "not spent yet", true),
            ("spent", Live { salt: Salt::Spent, ..good }, Reason::SaltReused, "spent already", false),
            ("no answer", Live { salt: Salt::NoAnswer, ..good }, Reason::Ok, "does not say", true),
            (
                "below the floor",
                Live { floor: floor(30), ..good },
                Reason::BelowFloor,
                "admitted by this gateway",
                false,
            ),
            ("fenced", Live { floor: floor(-30), ..good }, Reason::Fenced, "verdict: 503", false),
            ("frozen", Live { frozen: true, ..good }, Reason::Frozen, "verdict: 423", true),
            (
                "over budget",
                Live { budget: Some(Duration::from_secs(120)), ..good },
                Reason::BudgetSpent,
                "the next in 2 minutes",
                true,
            ),
            (
                "spent and frozen",
                Live { salt: Salt::Spent, frozen: true, ..good },
                Reason::SaltReused,
                "verdict: 401",
                false,
            ),
        ];
        for (name, live, reason, says, still_good) in rows {
            let english = bench.explain(&header, Some(&live), Language::English);
            let korean = bench.explain(&header, Some(&live), Language::Korean);
            assert_eq!((english.reason, korean.reason), (reason, reason), "{name}");
            assert!(english.text.contains(says), "{name}: {}", english.text);
            assert_eq!(english.text.contains("still good for use"), still_good, "{name}");
            assert_eq!(english.text.lines().count(), korean.text.lines().count(), "{name}");
            assert!(english.text.is_ascii() || english.text.replace('§', "").is_ascii(), "{name}");
        }
        let swapped = header_value("K", &date, salt, &SigningKey::new(&secret()).sign(salt, &date));
        let told = bench.explain(&swapped, None, Language::English);
        assert_eq!(told.reason, Reason::SignatureMismatch);
        assert!(told.text.contains("salt and date were swapped"), "{}", told.text);
    }
}
