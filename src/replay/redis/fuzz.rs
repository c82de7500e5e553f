//! Fuzz target for any bytes as a reply of Redis.

use std::time::{Duration, UNIX_EPOCH};

use redis::Value;

use super::about::{self, Expected};
use super::budget::Counted;
use super::script::{self, Number, Verdict, digits};
use super::sentinels::Report;
use super::slots;
use crate::net::Authority;
use crate::replay::FleetVerdict;

const KEY: &str = "saltgate:ab";

/// The first byte chooses the kind of reply; the rest is its encoding, or the text in it.
pub(crate) fn fuzz(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    match kind {
        b't' => verdict(&Value::BulkString(rest.into())),
        b'b' => counts(&Value::BulkString(rest.into())),
        b'i' => info(rest),
        kind => {
            let Ok(value) = redis::parse_redis_value(rest) else { return };
            match kind {
                b'n' => counted(&value),
                b'm' => sentinel(&value),
                b's' => owners(&value),
                _ => verdict(&value),
            }
        }
    }
}

/// A script's reply must repeat key and number, and is read as a whole.
fn verdict(answer: &Value) {
    let number = Number::of(0xff);
    let verdict = Verdict::read(answer, KEY, number);
    let others = [("saltgate:a", number), ("saltgate:abc", number), (KEY, Number::of(0xfe))];
    let is_others = others.iter().any(|(key, number)| Verdict::read(answer, key, *number) != Verdict::OutOfSync);
    assert!(verdict == Verdict::OutOfSync || !is_others, "an answer to two questions: {answer:?}");
    let text = match answer {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).unwrap_or_default(),
        _ => "",
    };
    let with = |word: &str, rest: &str| assert_eq!(text, format!("{word} {KEY} {number}{rest}"));
    match verdict {
        Verdict::Spent => with("SPENT", ""),
        Verdict::Reused(None) => with("REUSED", ""),
        Verdict::Reused(Some(mark)) => with("REUSED", &format!(" {}", mark.text())),
        Verdict::Forgot => with("FORGOT", ""),
        Verdict::Clock => with("CLOCK", ""),
        Verdict::KeyShare => with("SHARE", ""),
        Verdict::Version => with("VERSION", ""),
        Verdict::Floor(at) => with("FLOOR", &format!(" {}", digits(at))),
        Verdict::Attested(at) => with("OK", &format!(" {}", digits(at))),
        Verdict::Raised(at) => with("RAISED", &format!(" {}", digits(at))),
        Verdict::Later(epoch) => with("LATER", &format!(" {}", script::epoch(Some(epoch)))),
        Verdict::OtherWindow(window) => {
            let rest = text.strip_prefix(&format!("WINDOW {KEY} {number} ")).expect("this question's");
            let times: Vec<Duration> =
                rest.split(' ').map(|ms| Duration::from_millis(ms.parse().expect("ms"))).collect();
            assert_eq!(times, [window.past, window.future]);
        }
        Verdict::Full => panic!("no script says so"),
        Verdict::OutOfSync => {
            assert!(["SPENT", "REUSED", "FORGOT"].iter().all(|word| text != format!("{word} {KEY} {number}")));
        }
    }
}

/// The answer about budgets: what allows a deletion is one text, and it is the answer to one question.
fn counts(answer: &Value) {
    let number = Number::of(0xff);
    let said = Counted::read(answer, true, number);
    let others = [(false, number), (true, Number::of(0xfe))];
    let is_others = others.iter().any(|(take, number)| Counted::read(answer, *take, *number) != Counted::OutOfSync);
    assert!(said == Counted::OutOfSync || !is_others, "an answer to two questions: {answer:?}");
    let allowed = Value::BulkString(format!("ALLOWED take {number}").into());
    assert_eq!(matches!(said, Counted::Said(FleetVerdict::Allowed(_))), *answer == allowed);
}

/// Three parts of `INFO`, divided by NULs: a server that is found fit says everything that makes it so.
fn info(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut parts = text.split('\0');
    let [server, memory, replication] = [(); 3].map(|()| parts.next().unwrap_or_default());
    let address = Authority::new("redis", 6379).expect("an address");
    for (expected, mode) in
        [(Expected::Alone, "standalone"), (Expected::InCluster, "cluster"), (Expected::Seed, "cluster")]
    {
        let Ok(about) = about::judged(server, memory, replication, &address, expected) else { continue };
        let says = |info: &str, line: &str| {
            let name = line.split_inclusive(':').next().unwrap_or_default();
            info.lines().filter(|said| said.starts_with(name)).eq([line])
        };
        assert!(says(server, &format!("redis_mode:{mode}")));
        assert!(says(memory, "maxmemory_policy:noeviction"));
        assert!(says(replication, "role:master") || expected == Expected::Seed && says(replication, "role:slave"));
        assert!(says(server, &format!("run_id:{}", about.run)));
        assert!(says(replication, &format!("master_replid:{}", about.history)));
        assert!([&about.run, &about.history].iter().all(|id| id.len() == 40));
        let number = |name: &str| {
            let line = memory.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
            line.parse::<u64>().expect("a number")
        };
        assert_eq!((about.used, about.most), (number("used_memory:"), number("maxmemory:")));
    }
}

/// The answers of a Sentinel: what is understood names one epoch, twice.
fn sentinel(value: &Value) {
    let Some([id, before, address, after]) = value.as_sequence() else { return };
    let Some(report) = Report::read(id, before, address, after) else { return };
    for fields in [before, after] {
        let fields = fields.as_sequence().expect("names and values");
        let is_epoch = |pair: &&[Value]| pair[0] == Value::BulkString(b"config-epoch".into());
        let told: Vec<&[Value]> = fields.chunks(2).filter(is_epoch).collect();
        let [[_, Value::BulkString(digits)]] = told[..] else { panic!("{fields:?}") };
        assert_eq!(std::str::from_utf8(digits).expect("digits").parse(), Ok(report.epoch()));
    }
}

fn counted(value: &Value) {
    if let Some([Value::Array(time), Value::Int(keys)]) = value.as_sequence() {
        let Some(counted) = about::counted(&Value::Array(time.clone()), &Value::Int(*keys)) else { return };
        assert_eq!(i64::try_from(counted.keys).ok(), Some(*keys));
        let at = UNIX_EPOCH + Duration::from_millis(u64::try_from(counted.time).expect("not before 1970"));
        let [Value::BulkString(seconds), Value::BulkString(micros)] = &time[..] else { panic!("{time:?}") };
        let number = |text: &[u8]| std::str::from_utf8(text).expect("digits").parse::<u64>().expect("a number");
        let told = UNIX_EPOCH + Duration::from_secs(number(seconds)) + Duration::from_micros(number(micros));
        let cut = told.duration_since(at).expect("no later than it was told");
        assert!(cut < Duration::from_millis(1));
    }
}

/// Fuzz target for the slot map: every listed slot exists, and none has two owners.
fn owners(value: &Value) {
    let asked = Authority::new("redis", 6379).expect("an address");
    // Every server that is named has an epoch.
    let ids = value.as_sequence().into_iter().flatten().filter_map(|range| {
        let [_, _, master, ..] = range.as_sequence()? else { return None };
        redis::from_redis_value_ref::<String>(master.as_sequence()?.get(2)?).ok()
    });
    let lines: std::collections::BTreeSet<String> =
        ids.map(|id| format!("{id} a:1@2 master - 0 0 1 connected")).collect();
    let nodes: Vec<String> = lines.into_iter().collect();
    let Some(owners) = slots::owners(value, &nodes.join("\n"), &asked) else { return };
    let mut taken = vec![false; usize::from(slots::SLOTS)];
    for slot in owners.values().flat_map(|owned| &owned.slots) {
        let taken = taken.get_mut(usize::from(*slot)).expect("a slot");
        assert!(!std::mem::replace(taken, true), "slot {slot} has two owners");
    }
    let ranges = value.as_sequence().expect("ranges");
    let slots: i64 = ranges
        .iter()
        .map(|range| match range.as_sequence() {
            Some([Value::Int(first), Value::Int(last), ..]) => last - first + 1,
            _ => panic!("{range:?}"),
        })
        .sum();
    assert_eq!(owners.values().map(|owned| owned.slots.len()).sum::<usize>(), usize::try_from(slots).expect("some"));
}
