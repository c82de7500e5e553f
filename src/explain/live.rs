//! What only the running gateway knows: whether the salt is spent, the freeze and the budget.

use std::time::Duration;

use super::language::Language;
use super::report::{BUDGET, FREEZE, NOTHING, Report, SALT};
use super::skew;
use crate::refusal::RefusedAfterSpend;
use crate::repeats::{Became, Repeat};
use crate::replay::Floor;

/// What only a running gateway knows about a header with a valid signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Live {
    /// No date at or below this is admitted.
    pub floor: Floor,
    /// Whether the salt is spent.
    pub salt: Salt,
    /// Whether the key, the account or everything is frozen.
    pub frozen: bool,
    /// What is left of the budgets of the key and the account.
    pub budget: LiveBudget,
}

/// What is left of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LiveBudget {
    /// At least one deletion, or there is no budget.
    Left,
    /// None for so long.
    Spent(Duration),
    /// The fleet's store lost counts; none for so long.
    Lost(Duration),
    /// The fleet's store does not answer.
    NoAnswer,
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

pub(super) fn salt(live: Option<&Live>, report: &mut Report) {
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

pub(super) fn safeguards(live: &Live, report: &mut Report) {
    if live.frozen {
        report.refuse(&RefusedAfterSpend::Frozen);
        report.no(
            FREEZE,
            "§1: the key, its account or everything is frozen",
            "§1: 이 키, 계정 또는 전체 삭제가 동결되어 있습니다",
        );
    }
    let until = |left: Duration| [Language::English, Language::Korean].map(|language| skew::span(left, language));
    match live.budget {
        LiveBudget::Left => {}
        LiveBudget::Spent(left) => {
            let [english, korean] = until(left);
            report.refuse(&RefusedAfterSpend::BudgetSpent(left));
            report.no(
                BUDGET,
                &format!("§1: the deletion budget is spent; the next in {english}"),
                &format!("§1: 삭제 한도를 다 썼습니다. {korean} 뒤에 다시 할 수 있습니다"),
            );
        }
        LiveBudget::Lost(left) => {
            let [english, korean] = until(left);
            report.refuse(&RefusedAfterSpend::BudgetSpent(left));
            report.no(
                BUDGET,
                &format!("§1: Redis lost which deletions were made, so the budget is closed; the next in {english}"),
                &format!("§1: Redis가 삭제 기록을 잃어 한도를 알 수 없습니다. {korean} 뒤에 다시 할 수 있습니다"),
            );
        }
        LiveBudget::NoAnswer => report.note(
            BUDGET,
            "§1: Redis does not say now how much of the fleet's budget is left",
            "§1: Redis가 응답하지 않아 남은 삭제 한도를 지금은 알 수 없습니다",
        ),
    }
}
