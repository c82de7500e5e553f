//! The verdict of `explain` about a header is the gate's.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use saltgate::parts::{Clock, parse};
use saltgate::parts::{Question, ask};

use crate::harness::{Files, Gate, PATIENCE, Upstream, api_key, salt, secret, service, signed_at};
use crate::http::delete;

const MINUTE: Duration = Duration::from_secs(60);

/// A header of a key that is active, has no role or is switched off. Its values and bytes are changed sometimes,
/// and its date lies anywhere, mostly near an end of the window.
fn headers(now: SystemTime) -> impl Strategy<Value = String> {
    let roles = prop_oneof![4 => Just("OWNER"), 1 => Just(""), 1 => Just("OFF")];
    let claimed =
        prop_oneof![4 => Just(None), 1 => prop_oneof!["NCSOWNER", "NCSMEMBER", "NCSowner", "NOBODY"].prop_map(Some)];
    let seconds = prop_oneof![3 => -30..30_i64, 2 => -902..-897_i64, 2 => 897..902_i64, 3 => -2400..2400_i64];
    let edits = prop_oneof![4 => Just(None), 1 => (any::<prop::sample::Index>(), "[ -~]").prop_map(Some)];
    let ours = (roles, claimed, seconds, edits).prop_map(move |(role, claimed, seconds, edit)| {
        let by = Duration::from_secs(seconds.unsigned_abs());
        let at = if seconds < 0 { now - by } else { now + by };
        let mut header = signed_at(role, at, &salt());
        if let Some(claimed) = claimed {
            header = header.replace(&api_key(role), &claimed);
        }
        if let Some((at, byte)) = edit {
            let at = at.index(header.len());
            header.replace_range(at..=at, &byte);
        }
        // White space around a field's value does not belong to it.
        header.trim().to_owned()
    });
    prop_oneof![9 => ours, 1 => Just("Bearer of another client".to_owned())]
}

#[test]
fn the_gate_and_explain_give_one_reason_for_any_header() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let start = parse("2026-11-24T00:00:00Z", SystemTime::UNIX_EPOCH).unwrap();
    let mut runner = TestRunner::deterministic();
    let mut seen = std::collections::BTreeSet::new();
    for when_new in ["accept", "fence"] {
        let more = format!("[control]\nsocket = \"c.sock\"\n[replay.memory]\nwhen_new = \"{when_new}\"\n");
        let files = Files::new(upstream.address, &more);
        let keys = files.dir.path().join("keys.toml");
        let off = format!(
            "[[key]]\napi_key = \"{}\"\nsecret = \"{}\"\naccount = \"a\"\nmember = \"m\"\nactive = false\n",
            api_key("OFF"),
            secret("OFF")
        );
        std::fs::write(&keys, std::fs::read_to_string(&keys).unwrap() + &off).unwrap();
        let (clock, time) = Clock::manual(start);
        let gate = Gate::from_files(files, clock.clone());
        let asked = |question: &Question, what: &str| {
            let mut found = None;
            let line = |line: serde_json::Value| found = line[what].as_str().map(str::to_owned);
            ask(&gate.files.dir.path().join("c.sock"), question, PATIENCE, line).unwrap();
            found
        };
        // The fence lasts for a window; after that the floor is an old date.
        for _ in 0..3 {
            for _ in 0..40 {
                let header = headers(clock.now()).new_tree(&mut runner).unwrap().current();
                // The second time it is a repeat, if the first request spent its salt.
                for _ in 0..2 {
                    let explained = asked(&Question::Explain { header: header.clone() }, "reason").unwrap();
                    let answer = delete(gate.address(), &header);
                    let id = Some(answer.field("x-request-id").unwrap().to_owned());
                    let refused = asked(&Question::Refusals { id, key: None, since: None }, "reason");
                    assert_eq!(refused.as_deref().unwrap_or("ok"), explained, "{header}: {answer:?}");
                    let text = asked(&Question::Explain { header: header.clone() }, "en").unwrap();
                    if explained != "ok" && explained != "role_insufficient" {
                        assert!(text.contains(&format!("verdict: {} ({explained})", answer.status)), "{text}");
                    }
                    seen.insert(explained);
                }
            }
            time.advance(10 * MINUTE);
        }
    }
    let all = "below_floor date_skewed fenced inactive_key malformed_credentials ok role_insufficient salt_reused \
               signature_mismatch unknown_key unsupported_scheme";
    assert_eq!(seen.into_iter().collect::<Vec<_>>().join(" "), all, "every reason that a header has");
}
