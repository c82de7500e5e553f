//! Which fault becomes the verdict, and what the lines say.

use std::time::Duration;

use super::*;
use crate::credential::{PhpDates, SigningKey, header_value};
use crate::directory::{Directory, KeyEntry};
use crate::policy::{Owner, Role};
use crate::repeats::{Became, Repeat};
use crate::replay::Window;

#[test]
fn faults_of_the_header_come_before_the_state_of_the_gateway() {
    let secret = || Secret::new(b"a secret of the tests").unwrap();
    let owner = Owner { account: "a".into(), member: "m".into() };
    let (role, active) = (Some(Role::Member), true);
    let entry = KeyEntry {
        api_key: "K".into(),
        secrets: vec![secret()],
        owner,
        role,
        active,
        expires: None,
        secret_1_expires: None,
        line: 1,
    };
    let directory = Directory::new(vec![entry]).unwrap();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let rules = Rules { directory: &directory, php_dates: PhpDates::Accept, window: Window::default() };
    let explainer = Explainer { rules, keys: "keys.toml", now, secrets: &[] };
    let (date, salt) = (clock::rfc3339(now - Duration::from_secs(60)), "0123456789abcdef");
    let header = header_value("K", &date, salt, &SigningKey::new(&secret()).sign(&date, salt));
    let good =
        Live { floor: Floor(SystemTime::UNIX_EPOCH), salt: Salt::Fresh, frozen: false, budget: LiveBudget::Left };
    let floor =
        |seconds_ago: i64| Floor(now - Duration::from_secs(100) + Duration::from_secs((100 - seconds_ago) as u64));
    let first =
        Repeat { of: "00ff".into(), first: Became::Deleted, after: Some(Duration::from_secs(120)), same_client: None };
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
            Live { budget: LiveBudget::Spent(Duration::from_secs(120)), ..good.clone() },
            Reason::BudgetSpent,
            "the next in 2 minutes",
            true,
        ),
        (
            "counts lost",
            Live { budget: LiveBudget::Lost(Duration::from_secs(120)), ..good.clone() },
            Reason::BudgetSpent,
            "the next in 2 minutes",
            true,
        ),
        (
            "counts unknown",
            Live { budget: LiveBudget::NoAnswer, ..good.clone() },
            Reason::Ok,
            "does not say now how much",
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
