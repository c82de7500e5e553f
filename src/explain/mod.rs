//! Explains a header: which clauses of the contract it meets or violates, line by line, in English and Korean.
//!
//! It spends nothing, and never shows a secret or a valid signature. The text is the same for a configuration
//! (`saltgate explain`) and for a running gateway (`--live`), which also knows whether the salt is spent.

mod clauses;
mod date;
mod language;
mod live;
mod mistakes;
#[cfg(test)]
mod properties;
mod report;
mod skew;
mod words;

use std::time::SystemTime;

use self::report::{DATE, FORM, NOTHING, Report, SIGNED, WARNING};
use crate::authentication::{self, Rules, Signed};
use crate::clock;
use crate::credential::{Credentials, Secret};
use crate::refusal::Reason;
use crate::replay::Floor;

pub(crate) use self::language::Language;
pub(crate) use self::live::{Live, LiveBudget, Salt};
pub(crate) use self::words::words;

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
        let mut report = Report::new(language);
        // The verdict comes from the same function as the gate's. The lines cover every clause, also those after the
        // first that fails.
        if let Err(unauthentic) = authentication::judge(header.as_bytes(), self.rules, |_| floor, self.now) {
            report.refuse(&unauthentic.refused());
        }
        self.clauses(header, floor, live, &mut report);
        let (reason, text) = report.verdict();
        Explanation { text, reason }
    }

    fn clauses(&self, header: &str, floor: Floor, live: Option<&Live>, report: &mut Report) {
        let credentials = match Credentials::parse(header.as_bytes(), self.rules.php_dates) {
            Ok(credentials) => credentials,
            Err(malformed) => {
                report.no(FORM, &format!("§2: {malformed}"), &format!("§2: 헤더 형식이 맞지 않습니다: {malformed}"));
                if let Some(text) = date::of_header(header) {
                    clauses::unreadable_date(text, self.rules.php_dates, report);
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
        self.key(&credentials, caller, report);
        self.signature(&credentials, caller, report);
        self.freshness(&date, floor, report);
        live::salt(live, report);
        let still_good = report.reason() == Reason::Ok;
        if let Some(caller) = caller {
            clauses::role(caller, report);
        }
        if let Some(live) = live {
            live::safeguards(live, report);
        }
        if still_good {
            report.note(
                WARNING,
                "this header is still good for use by whoever sees it: do not pass it on before it is sent or stale",
                "이 헤더는 아직 유효하므로 보는 사람 누구나 쓸 수 있습니다. 쓰이거나 만료되기 전에는 남에게 전하지 마십시오",
            );
        }
    }
}

#[cfg(test)]
mod tests;
