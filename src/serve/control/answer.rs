//! The answers of the control socket.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::fleet::{self, Changed};
use super::lines::{self, Lines};
use super::{Peer, Subject, owner};
use crate::clock;
use crate::control::Question;
use crate::directory::KeyHealth;
use crate::explain::{Explainer, Explanation, Language, Live, LiveBudget, Salt, words};
use crate::gate::Generation;
use crate::policy::Mode;
use crate::process::Fleet;
use crate::refusal::Reason;
use crate::replay::Floor;
use crate::safeguard::{BudgetAnswer, BudgetExceeded, NotCounted, Note, Target};
use crate::telemetry::RefusedRequest;

/// How long an end of a freeze waits for the gateways of a fleet.
const UNFREEZE_WAIT: Duration = Duration::from_secs(10);

pub(super) async fn to(question: Question, peer: Peer, subject: &Subject) -> String {
    match question {
        Question::Freeze { target, reason, wait } => freeze(&target, reason, wait, peer, subject).await,
        Question::Unfreeze(target) => match &subject.process.fleet {
            None => unfreeze(&target, peer, subject),
            Some(fleet) => unfreeze_fleet(&target, fleet, peer, subject).await,
        },
        Question::Frozen => Lines::of(subject.process.freeze.list().into_iter().map(|(target, note)| {
            json!({ "frozen": target.to_string(), "since": note.since, "uid": note.uid, "reason": note.reason })
        })),
        Question::Refusals { id, key, since } => {
            let since = match since.map(|since| clock::parse(&since, subject.process.clock.now()).ok_or(since)) {
                None => None,
                Some(Ok(since)) => Some(since),
                Some(Err(since)) => return lines::error(&format!("{since:?} is no time")),
            };
            let wanted = |refused: &RefusedRequest| {
                id.as_ref().is_none_or(|id| *refused.request_id == **id)
                    && key.as_ref().is_none_or(|key| refused.api_key.as_deref() == Some(key))
                    && since.is_none_or(|since| refused.time >= since)
            };
            Lines::of(subject.process.refusals.last().iter().filter(|it| wanted(it)).map(refusal))
        }
        Question::Status => Lines::of([subject.status.status().json_with_keys()]),
        Question::Explain { header } => explain(&header, subject).await,
        Question::KeySet => key_set(subject),
        Question::KeyUses => {
            let Subject { process, current, .. } = subject;
            process.key_uses.collect(&current.load_full().directory);
            Lines::of(process.key_uses.known(process.clock.now(), false).lines())
        }
        Question::Reload => owner::reload(peer, subject).await,
        Question::Drain { wait } => owner::drain(wait, peer, subject).await,
    }
}

fn key_set(subject: &Subject) -> String {
    let current = subject.current.load();
    let refused = subject.process.keys_refused.load(std::sync::atomic::Ordering::Relaxed);
    Lines::of([
        json!({ "key_set": current.key_set, "keys": current.directory.len(), "refused": refused, "gateway": subject.process.key_uses.gateway() }),
    ])
}

async fn freeze(target: &Target, reason: Option<String>, wait: Duration, peer: Peer, subject: &Subject) -> String {
    let process = &subject.process;
    let reason = reason.map(|reason| reason.chars().take(256).collect::<String>());
    let since = clock::rfc3339(process.clock.now());
    let note = Note { since, uid: peer.uid, reason: reason.clone() };
    if let Some(fleet) = &process.fleet {
        tracing::warn!(what = %target, uid = peer.uid, pid = peer.pid, reason, "frozen for the fleet by command");
        return match fleet::change(&process.freeze, &process.clock, fleet, target, Some(note), wait).await {
            Err(why) => lines::error(&format!("{target} may not be frozen: {why}; run the command again")),
            Ok(Changed { is_new, waiting, silent }) => Lines::of([json!({
                "frozen": target.to_string(),
                "new": is_new,
                "known": is_known(target, &subject.current.load()),
                "enforced": subject.current.load().mode == Mode::Enforce,
                "still_leaving": 0,
                "not_said": waiting,
                "silent": silent,
            })]),
        };
    }
    let frozen = process.freeze.freeze(target, note);
    tracing::warn!(what = %target, uid = peer.uid, pid = peer.pid, reason, "frozen by command");
    let left = process.freeze.wait_for_permits(wait).await;
    match frozen {
        Err(error) => {
            tracing::error!(%error, %target, "what is frozen could not be written down");
            lines::error(&format!("{target} is frozen now, but NOT through a restart: {error}"))
        }
        Ok(is_new) => Lines::of([json!({
            "frozen": target.to_string(),
            "new": is_new,
            "known": is_known(target, &subject.current.load()),
            "enforced": subject.current.load().mode == Mode::Enforce,
            "still_leaving": left,
        })]),
    }
}

/// Whether this key or account exists, or is everything.
fn is_known(target: &Target, current: &Generation) -> bool {
    match target {
        Target::All => true,
        Target::Key(key) => current.directory.caller(key).is_some(),
        Target::Account(account) => current.directory.callers().any(|caller| *caller.owner.account == **account),
    }
}

fn unfreeze(target: &Target, peer: Peer, subject: &Subject) -> String {
    match subject.process.freeze.unfreeze(target) {
        Err(error) => lines::error(&format!("{target} stays frozen: {error}")),
        Ok(was) => {
            if was {
                tracing::warn!(what = %target, uid = peer.uid, pid = peer.pid, "freeze lifted by command");
            }
            let rest: Vec<String> =
                subject.process.freeze.list().iter().map(|(target, _)| target.to_string()).collect();
            Lines::of([json!({ "thawed": target.to_string(), "was_frozen": was, "still_frozen": rest })])
        }
    }
}

async fn unfreeze_fleet(target: &Target, fleet: &Fleet, peer: Peer, subject: &Subject) -> String {
    let process = &subject.process;
    match fleet::change(&process.freeze, &process.clock, fleet, target, None, UNFREEZE_WAIT).await {
        Err(why) => lines::error(&format!("{target} may still be frozen: {why}; run the command again")),
        Ok(Changed { is_new: was, waiting, .. }) => {
            if was {
                tracing::warn!(what = %target, uid = peer.uid, pid = peer.pid, "freeze of the fleet lifted by command");
            }
            let rest: Vec<String> =
                subject.process.freeze.list().iter().map(|(target, _)| target.to_string()).collect();
            let told = json!({
                "thawed": target.to_string(), "was_frozen": was, "still_frozen": rest, "not_said": waiting
            });
            Lines::of([told])
        }
    }
}

fn refusal(refused: &RefusedRequest) -> Value {
    let mut line = json!({
        "time": clock::rfc3339(refused.time),
        "request_id": refused.request_id,
        "reason": refused.reason.as_str(),
        "api_key": refused.api_key,
        "skew_seconds": refused.skew_seconds,
        "client": refused.client.to_string(),
        "method": refused.method.as_str(),
        "path": refused.path,
    });
    if let Some(repeat) = &refused.repeat {
        line["repeat_of"] = repeat.of.as_str().into();
        line["first"] = repeat.first.as_str().into();
        line["first_seconds_ago"] = repeat.after.map(|after| after.as_secs_f64()).into();
        line["same_client"] = repeat.same_client.into();
    }
    line
}

/// Nothing is judged without keys.
fn unavailable(why: &str) -> String {
    let reason = Reason::KeysUnavailable;
    let sentences = words(reason);
    Lines::of([json!({
        "reason": reason.as_str(),
        "en": format!("Every request gets 503: {}.\nThe directory says: {why}\n", sentences.english),
        "ko": format!("모든 요청이 503을 받습니다: {}.\n디렉터리: {why}\n", sentences.korean),
        "to_customer": { "en": sentences.to_customer_english, "ko": sentences.to_customer_korean },
    })])
}

async fn explain(header: &str, subject: &Subject) -> String {
    let Subject { process, current, keys_file, .. } = subject;
    let current = current.load_full();
    if let KeyHealth::Gone(why) = current.keys.health(process.clock.elapsed()) {
        return unavailable(&why);
    }
    let keys = keys_file.display().to_string();
    let explainer = Explainer { rules: current.rules(), keys: &keys, now: process.clock.now(), secrets: &[] };
    let live = match explainer.signer(header) {
        None => {
            Live { floor: Floor(std::time::UNIX_EPOCH), salt: Salt::NotAsked, frozen: false, budget: LiveBudget::Left }
        }
        Some(signed) => {
            let (salt, caller) = (signed.salt(), signed.caller());
            let (key, account) = (&*caller.api_key, &*caller.owner.account);
            let judged = match process.budget_usage.judge(key, account, current.budgets, process.clock.elapsed()) {
                BudgetAnswer::Now(judged) => judged,
                BudgetAnswer::Later(judged) => judged.await,
            };
            Live {
                floor: process.salts.floor_of(salt),
                salt: match process.salts.look_up(salt).known().await {
                    Some(true) => Salt::Spent(process.repeats.known(salt).map(|first| {
                        // A repeat has no client here.
                        first.repeat(None, process.clock.elapsed())
                    })),
                    Some(false) => Salt::Fresh,
                    None => Salt::NoAnswer,
                },
                frozen: process.freeze.is_frozen(account, key),
                budget: match judged {
                    Ok(()) => LiveBudget::Left,
                    Err(NotCounted::Exceeded(BudgetExceeded(left))) => LiveBudget::Spent(left),
                    Err(NotCounted::Lost(left)) => LiveBudget::Lost(left),
                    Err(NotCounted::Unknown(_)) => LiveBudget::NoAnswer,
                },
            }
        }
    };
    let told = |language| -> Explanation { explainer.explain(header, Some(&live), language) };
    let (english, korean) = (told(Language::English), told(Language::Korean));
    let sentences = words(english.reason);
    Lines::of([json!({
        "reason": english.reason.as_str(),
        "en": english.text,
        "ko": korean.text,
        "to_customer": { "en": sentences.to_customer_english, "ko": sentences.to_customer_korean },
    })])
}
