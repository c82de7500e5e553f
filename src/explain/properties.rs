//! For any header, key set, floor and time: the verdict is [`authentication::judge`]'s, and the lines bear it out.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;

use super::report::{DATE, FORM, KEY, Label, SIGNATURE, WINDOW};
use super::{Explainer, Language, Live, LiveBudget, Salt};
use crate::authentication::{self, Rules};
use crate::clock;
use crate::credential::{PhpDates, Secret, SigningKey, header_value};
use crate::directory::{Directory, KeyEntry};
use crate::policy::{Owner, Role};
use crate::refusal::{Reason, Refusal};
use crate::replay::{Floor, Window};

const SECRETS: [&[u8]; 4] =
    [b"a secret of the tests", b"another of the tests", b"a third of the tests", b"a secret of nobody here"];
const NOW: u64 = 1_800_000_000;

fn at(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW.saturating_add_signed(seconds))
}

/// Two keys of one secret and of two, each active or not, and expiring or not; the first of the two may end by itself.
fn directories() -> impl Strategy<Value = Directory> {
    let state = (any::<bool>(), prop::option::of(-5..5_i64));
    (state.clone(), state, prop::option::of(-5..5_i64)).prop_map(|(one, two, ends)| {
        let entry = |api_key: &str, secrets: &[usize], (active, expires): (bool, Option<i64>)| KeyEntry {
            api_key: api_key.into(),
            secrets: secrets.iter().map(|&n| Secret::new(SECRETS[n]).unwrap()).collect(),
            owner: Owner { account: "a".into(), member: "m".into() },
            role: Some(Role::Member),
            active,
            expires: expires.map(at),
            secret_1_expires: ends.filter(|_| secrets.len() > 1).map(at),
            line: 1,
        };
        Directory::new([entry("ONE", &[0], one), entry("TWO", &[1, 2], two)]).unwrap()
    })
}

/// Offsets from now: anywhere, and at the ends of the window.
fn offsets() -> impl Strategy<Value = i64> {
    prop_oneof![-3..3_i64, -902..-897_i64, 897..902_i64, -2000..2000_i64]
}

fn headers() -> impl Strategy<Value = String> {
    let edit = prop_oneof![3 => Just(None), 1 => (any::<prop::sample::Index>(), "[ -~]").prop_map(Some)];
    let claimed = prop_oneof!["ONE", "TWO", "NONE", "one"];
    let signed = (claimed, 0..SECRETS.len(), offsets(), edit).prop_map(|(claimed, secret, seconds, edit)| {
        let (date, salt) = (clock::rfc3339(at(seconds)), "0123456789abcdef");
        let signature = SigningKey::new(&Secret::new(SECRETS[secret]).unwrap()).sign(&date, salt);
        let mut header = header_value(&claimed, &date, salt, &signature);
        if let Some((at, byte)) = edit {
            let at = at.index(header.len());
            header.replace_range(at..=at, &byte);
        }
        header
    });
    prop_oneof![9 => signed, 1 => "\\PC{0,40}"]
}

/// The clause that a reason names.
fn clause(reason: Reason) -> Option<Label> {
    match reason {
        Reason::UnsupportedScheme | Reason::MalformedCredentials => Some(FORM),
        Reason::UnknownKey | Reason::InactiveKey => Some(KEY),
        Reason::SignatureMismatch => Some(SIGNATURE),
        Reason::DateSkewed | Reason::BelowFloor | Reason::Fenced => Some(WINDOW),
        _ => None,
    }
}

proptest! {
    #[test]
    fn the_verdict_equals_the_gates_and_matches_the_first_failed_line(
        directory in directories(), header in headers(), floor in offsets(), accepts in any::<bool>(),
    ) {
        let php_dates = if accepts { PhpDates::Accept } else { PhpDates::Refuse };
        let rules = Rules { directory: &directory, php_dates, window: Window::default() };
        let (now, floor) = (at(0), Floor(at(floor)));
        let judged = authentication::judge(header.as_bytes(), rules, |_| floor, now).map_err(|why| why.refused());
        let reason = judged.as_ref().map_or_else(Refusal::reason, |_| Reason::Ok);

        let explainer = Explainer { rules, keys: "keys.toml", now, secrets: &[] };
        let live = Live { floor, salt: Salt::Fresh, frozen: false, budget: LiveBudget::Left };
        let explained = explainer.explain(&header, Some(&live), Language::English);
        prop_assert_eq!(explained.reason, reason);
        let says_no = |line: &&str| line.get(10..).is_some_and(|rest| rest.starts_with("no "));
        let first = explained.text.lines().find(says_no).and_then(|line| line.split_whitespace().next());
        prop_assert_eq!(first, clause(reason).map(|label| label.0), "{}", explained.text);
        prop_assert!(first != Some(DATE.0), "a date that is not readable is the form's");
        prop_assert_eq!(explainer.signer(&header).is_some(), judged.is_ok() || clause(reason) == Some(WINDOW));
    }
}
