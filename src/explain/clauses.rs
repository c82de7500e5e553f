//! The clauses that the configuration decides: the key, the signature, the window and the role.

use super::language::Language;
use super::report::{DATE, KEY, NOTHING, ROLE, Report, SIGNATURE, WINDOW};
use super::{Explainer, date, mistakes, skew};
use crate::clock;
use crate::credential::{Credentials, Date, PhpDates};
use crate::directory::Caller;
use crate::plain;
use crate::refusal::RefusedAfterSpend;
use crate::replay::{Floor, OutOfWindow, Window};

impl Explainer<'_> {
    pub(super) fn key(&self, credentials: &Credentials<'_>, caller: Option<&Caller>, report: &mut Report) {
        let api_key = credentials.api_key();
        let ended = caller.and_then(|caller| caller.signed_by_ended(credentials, self.now)).map(clock::rfc3339);
        match caller {
            Some(caller) if caller.is_active(self.now) && ended.is_some() => {
                let at = ended.unwrap_or_default();
                report.no(
                    KEY,
                    &format!("§4: {api_key} is active, but its first secret, which made this signature, ended at {at}"),
                    &format!("§4: {api_key} 키는 사용 중이지만, 이 서명을 만든 첫 번째 비밀키는 {at}에 만료되었습니다"),
                );
            }
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

    pub(super) fn signature(&self, credentials: &Credentials<'_>, caller: Option<&Caller>, report: &mut Report) {
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

    pub(super) fn freshness(&self, date: &Date<'_>, floor: Floor, report: &mut Report) {
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

pub(super) fn role(caller: &Caller, report: &mut Report) {
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

/// Quotes the date, marks the byte where parsing failed, names the cause, and shows a corrected date.
pub(super) fn unreadable_date(text: &str, php_dates: PhpDates, report: &mut Report) {
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
