//! The deletions of keys and accounts, counted for the fleet (`budget.lua`).
//!
//! 1. One script judges both counts and adds to both or to neither. All gateways use the clock of the server that counts, so
//!    theirs may differ. A gateway knows by its own elapsed time what that clock should show: after a jump nothing is
//!    counted until the watcher has fenced the server.
//! 2. A count is lost as salts are, and is found lost by the same marker. Every loss begins a fence, so a count is complete for
//!    the time since the last fence began, and for nothing before.
//! 3. Of each key and account the newest deletions are kept, as many as its largest budget allows, and the time of the newest
//!    other one. So a larger or longer budget is judged exactly, or refuses for as long as it cannot be.
//! 4. An answer that is not understood, or that does not come, refuses. The deletion may have been counted, and stays so.

use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::{Script, Value};
use tokio::time::timeout;

use super::script::{self, Number, decimal};
use super::server::{Server, Trouble};
use super::shared::{Shared, millis};
use crate::replay::fleet::{FleetCount, FleetDeletion, FleetTaken, FleetVerdict};

pub(super) fn script() -> Script {
    Script::new(include_str!("budget.lua"))
}

/// The word for each of both questions.
pub(super) fn asked(take: bool) -> &'static str {
    if take { "take" } else { "judge" }
}

/// The script's answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// What the counts allow.
    Said(FleetVerdict),
    /// They cannot be used before the watcher has examined the server.
    InDoubt(&'static str),
    /// Not the answer to this question, or not understood.
    OutOfSync,
}

impl Counted {
    /// Reads the answer to the question with this number.
    pub(super) fn read(answer: &Value, take: bool, number: Number) -> Self {
        let Value::BulkString(bytes) = answer else { return Self::OutOfSync };
        std::str::from_utf8(bytes).ok().and_then(|text| Self::parse(text, take, number)).unwrap_or(Self::OutOfSync)
    }

    fn parse(text: &str, take: bool, number: Number) -> Option<Self> {
        let (word, rest) = text.split_once(' ')?;
        let rest = rest.strip_prefix(asked(take))?.strip_prefix(' ')?.strip_prefix(&*number.to_string())?;
        let wait = || decimal(rest.strip_prefix(' ')?).filter(|wait| *wait > 0).map(Duration::from_micros);
        Some(match (word, rest) {
            ("ALLOWED", "") => Self::Said(FleetVerdict::Allowed(number.taken())),
            ("EXCEEDED", _) => Self::Said(FleetVerdict::Exceeded(wait()?)),
            ("LOST", _) => Self::Said(FleetVerdict::Lost(wait()?)),
            ("FORGOT", "") => Self::InDoubt("its data are another history than the one that was examined"),
            ("CLOCK", "") => Self::InDoubt("its clock was set"),
            ("VERSION", "") => Self::InDoubt("its epoch marker is of another version"),
            _ => return None,
        })
    }
}

/// See [`crate::replay::FleetStore::count`].
pub(super) async fn count(
    shared: &Shared,
    script: &Script,
    deletion: &FleetDeletion,
    take: bool,
) -> Result<FleetVerdict, String> {
    let map = shared.map.load_full();
    let server = map.owner(0).ok_or("no server is known")?;
    // Asked before the question is sent: its answer comes, or is given up, within `timeout`.
    if !map.is_in_force(shared.clock.elapsed()) {
        return Err(format!("Redis at {server} may not be the master any more"));
    }
    let epoch = script::epoch(map.epoch(0));
    let counting = ask(shared, script, server, (deletion, take), &epoch);
    let answer = match timeout(shared.settings.timeout, counting).await {
        Ok(answer) => answer,
        Err(_) => Err(Trouble::OutOfReach(format!("no answer within {} ms", shared.settings.timeout.as_millis()))),
    };
    answer.map_err(|trouble| {
        server.disconnect();
        let why = format!("Redis at {server}: {trouble}");
        shared.failed(server, trouble);
        why
    })
}

/// See [`crate::replay::FleetStore::give_back`].
pub(super) async fn give_back(shared: &Shared, deletion: &FleetDeletion, FleetTaken(number): FleetTaken) {
    let map = shared.map.load_full();
    let Some(server) = map.owner(0) else { return };
    let mut ask = redis::pipe();
    for set in sets(shared, deletion) {
        ask.cmd("ZREM").arg(set).arg(Number::of(number).to_string()).ignore();
    }
    let given = async {
        let mut connection = server.connection(shared.settings.timeout).await?;
        ask.query_async::<()>(&mut connection).await.map_err(Trouble::from)
    };
    if !matches!(timeout(shared.settings.timeout, given).await, Ok(Ok(()))) {
        server.disconnect();
    }
}

async fn ask(
    shared: &Shared,
    script: &Script,
    server: &Server,
    (deletion, take): (&FleetDeletion, bool),
    epoch: &str,
) -> Result<FleetVerdict, Trouble> {
    let mut connection = server.connection(shared.settings.timeout).await?;
    let number = shared.numbers.next();
    let mut question = script.key(shared.keys.epoch_marker(0));
    for set in sets(shared, deletion) {
        question.key(set);
    }
    let should_show = server.should_show(shared.clock.elapsed()).ok_or_else(unexamined)?;
    question
        .arg(asked(take))
        .arg(number.to_string())
        .arg(epoch)
        .arg(should_show)
        .arg(millis(shared.settings.clock_margin));
    question.arg(u8::from(deletion.accepts_lost)).arg(millis(deletion.kept_for));
    for count in [&deletion.key, &deletion.account] {
        let (limit, span) = count.as_ref().and_then(|count| count.limit).unwrap_or_default();
        question.arg(limit).arg(u64::try_from(span.as_micros()).unwrap_or(u64::MAX));
        question.arg(count.as_ref().map_or(0, |count| count.kept));
    }
    let answer: Result<Value, redis::RedisError> = question.invoke_async(&mut connection).await;
    match answer {
        Ok(answer) => match Counted::read(&answer, take, number) {
            Counted::Said(verdict) => {
                server.answered(shared.clock.elapsed());
                Ok(verdict)
            }
            Counted::InDoubt(why) => {
                server.in_doubt.store(true, Ordering::Release);
                Err(Trouble::OutOfReach(why.into()))
            }
            Counted::OutOfSync => Err(Trouble::OutOfSync),
        },
        Err(error) => {
            if error.code() == Some("OOM") {
                shared.out_of_memory.store(true, Ordering::Relaxed);
            }
            Err(error.into())
        }
    }
}

fn unexamined() -> Trouble {
    Trouble::OutOfReach("its clock is not known yet".into())
}

/// The keys of both counts; one that is not counted has a name that no key and no account has.
fn sets(shared: &Shared, deletion: &FleetDeletion) -> [String; 2] {
    let name = |count: &Option<FleetCount>| count.as_ref().map_or("", |count| &*count.name).to_owned();
    [("key", &deletion.key), ("account", &deletion.account)].map(|(kind, count)| shared.keys.budget(kind, &name(count)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_completely_and_only_for_its_own_question() {
        let number = Number::of(0xff);
        let read = |take: bool, text: &str| Counted::read(&Value::BulkString(text.as_bytes().into()), take, number);
        let said = |verdict| Counted::Said(verdict);
        let micro = Duration::from_micros(1);
        assert_eq!(read(true, "ALLOWED take 00000000000000ff"), said(FleetVerdict::Allowed(FleetTaken(0xff))));
        assert_eq!(read(false, "ALLOWED judge 00000000000000ff"), said(FleetVerdict::Allowed(FleetTaken(0xff))));
        assert_eq!(read(true, "EXCEEDED take 00000000000000ff 1"), said(FleetVerdict::Exceeded(micro)));
        assert_eq!(read(true, "LOST take 00000000000000ff 1"), said(FleetVerdict::Lost(micro)));
        for word in ["FORGOT", "CLOCK", "VERSION"] {
            let read = read(true, &format!("{word} take 00000000000000ff"));
            assert!(matches!(read, Counted::InDoubt(_)), "{read:?}");
        }
        for odd in [
            "",
            "ALLOWED",
            "ALLOWED take",
            "ALLOWED judge 00000000000000ff",
            "ALLOWED take 00000000000000fe",
            "ALLOWED take 00000000000000FF",
            "ALLOWED take 00000000000000ff ",
            "ALLOWED take 00000000000000ff 1",
            "ALLOWED  take 00000000000000ff",
            "allowed take 00000000000000ff",
            "SPENT take 00000000000000ff",
            "EXCEEDED take 00000000000000ff",
            "EXCEEDED take 00000000000000ff 0",
            "EXCEEDED take 00000000000000ff -1",
            "EXCEEDED take 00000000000000ff 1.5",
            "EXCEEDED take 00000000000000ff 99999999999999999999",
            "LOST take 00000000000000ff",
            "FORGOT take 00000000000000ff 1",
            "PONG",
        ] {
            assert_eq!(read(true, odd), Counted::OutOfSync, "{odd:?}");
        }
        let allowed = "ALLOWED take 00000000000000ff".to_owned();
        for other in [Value::SimpleString(allowed), Value::Nil, Value::Int(1), Value::Okay, Value::Array(vec![])] {
            assert_eq!(Counted::read(&other, true, number), Counted::OutOfSync, "{other:?}");
        }
    }

    /// Every text that differs from an answer in one byte refuses, or waits for another time.
    #[test]
    fn an_answer_with_one_wrong_byte_allows_nothing() {
        let number = Number::of(0x0123_4567_89ab_cdef);
        let right = format!("ALLOWED take {number}");
        for place in 0..right.len() {
            for byte in 0..=u8::MAX {
                let mut wrong = right.clone().into_bytes();
                if std::mem::replace(&mut wrong[place], byte) == byte {
                    continue;
                }
                assert_eq!(Counted::read(&Value::BulkString(wrong), true, number), Counted::OutOfSync);
            }
            let short = Value::BulkString(right.as_bytes()[..place].into());
            assert_eq!(Counted::read(&short, true, number), Counted::OutOfSync);
        }
    }
}
