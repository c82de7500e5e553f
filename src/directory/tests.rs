//! Who is identified, and until when.

use super::*;
use crate::credential::{PhpDates, Secret, header_value};
use crate::throttle::Slots;

const NOW: &str = "2026-11-24T00:00:00Z";
const SALT: &str = "0123456789abcdef";

fn entry(api_key: &str, secrets: &[&[u8]]) -> KeyEntry {
    KeyEntry {
        api_key: api_key.into(),
        secrets: secrets.iter().map(|s| Secret::new(s).unwrap()).collect(),
        owner: Owner { account: "account-1".into(), member: "member-1".into() },
        role: Some(Role::Member),
        active: true,
        expires: None,
        secret_1_expires: None,
        line: 1,
    }
}

fn signed(api_key: &str, secret: &[u8]) -> String {
    let signature = SigningKey::new(&Secret::new(secret).unwrap()).sign(NOW, SALT);
    header_value(api_key, NOW, SALT, &signature)
}

fn identify(directory: &Directory, header: &str) -> Result<Identified, Unidentified> {
    let credentials = Credentials::parse(header.as_bytes(), PhpDates::Accept).unwrap();
    directory.identify(&credentials, credentials.date().instant())
}

const OLD: &[u8] = b"the old secret, long enough";
const NEW: &[u8] = b"the new secret, long enough";

#[test]
fn both_secrets_of_a_key_are_valid_and_have_their_own_salts() {
    let directory = Directory::new(vec![entry("KEY", &[OLD, NEW])]).unwrap();
    let old = identify(&directory, &signed("KEY", OLD)).ok().unwrap();
    let new = identify(&directory, &signed("KEY", NEW)).ok().unwrap();
    assert_ne!(old.salt_id, new.salt_id);
}

#[test]
fn nobody_is_identified_by_another_keys_secret_or_an_unknown_key() {
    let directory = Directory::new(vec![entry("ONE", &[OLD]), entry("TWO", &[NEW])]).unwrap();
    assert!(matches!(identify(&directory, &signed("ONE", NEW)), Err(Unidentified::Mismatch)));
    assert!(matches!(identify(&directory, &signed("NONE", OLD)), Err(Unidentified::Unknown)));
    assert!(matches!(identify(&directory, &signed("one", OLD)), Err(Unidentified::Unknown)));
}

#[test]
fn every_caller_of_many_is_found_and_nobody_else() {
    let secret = |n: u32| format!("a secret of its own, number {n:06}");
    let entries = (0..5_000).map(|n| entry(&format!("KEY{n}"), &[secret(n).as_bytes()]));
    // An iterator without a size hint.
    let directory = Directory::new(entries.filter(|_| true)).unwrap();
    assert_eq!(directory.len(), 5_000);
    for n in 0..5_000 {
        assert_eq!(&*directory.caller(&format!("KEY{n}")).unwrap().api_key, format!("KEY{n}"));
        assert!(directory.caller(&format!("KEZ{n}")).is_none() && directory.caller("").is_none());
    }
    let header = signed("KEY4999", secret(4_999).as_bytes());
    assert_eq!(&*identify(&directory, &header).ok().unwrap().caller.api_key, "KEY4999");
}

#[test]
fn a_disabled_or_expired_key_is_inactive_whatever_the_signature() {
    let now = Credentials::parse(signed("KEY", OLD).as_bytes(), PhpDates::Accept).unwrap().date().instant();
    let off = KeyEntry { active: false, ..entry("KEY", &[OLD]) };
    let expired = KeyEntry { expires: Some(now), ..entry("KEY", &[OLD]) };
    for entry in [off, expired] {
        let directory = Directory::new(vec![entry]).unwrap();
        assert!(matches!(identify(&directory, &signed("KEY", OLD)), Err(Unidentified::Inactive)));
        assert!(matches!(identify(&directory, &signed("KEY", NEW)), Err(Unidentified::Inactive)));
    }
    let moment = std::time::Duration::from_nanos(1);
    let expiring = KeyEntry { expires: Some(now + moment), ..entry("KEY", &[OLD]) };
    let directory = Directory::new(vec![expiring]).unwrap();
    assert!(identify(&directory, &signed("KEY", OLD)).is_ok(), "until then it is active");
    let caller = directory.caller("KEY").unwrap();
    assert_eq!(caller.expires(), Some(now + moment));
    assert!(!caller.has_expired(|| now) && caller.has_expired(|| now + moment));
    assert!(!caller.is_active(now + moment) && !caller.is_active(now + 2 * moment));
}

#[test]
#[cfg(feature = "postgres")]
fn a_key_that_has_expired_is_still_switched_on() {
    let past = KeyEntry { expires: Some(SystemTime::UNIX_EPOCH), ..entry("PAST", &[OLD]) };
    let off = KeyEntry { active: false, ..entry("OFF", &[NEW]) };
    let directory = Directory::new(vec![past, off]).unwrap();
    let is_on = |key: &str| directory.caller(key).unwrap().is_switched_on();
    assert!(is_on("PAST") && !is_on("OFF"));
}

#[test]
fn the_first_of_two_secrets_ends_by_itself() {
    let now = Credentials::parse(signed("KEY", OLD).as_bytes(), PhpDates::Accept).unwrap().date().instant();
    let later = now + std::time::Duration::from_nanos(1);
    for (expires, accepted) in [(later, true), (now, false)] {
        let entry = KeyEntry { secret_1_expires: Some(expires), ..entry("KEY", &[OLD, NEW]) };
        let directory = Directory::new(vec![entry]).unwrap();
        let old = identify(&directory, &signed("KEY", OLD));
        assert!(if accepted { old.is_ok() } else { matches!(old, Err(Unidentified::Inactive)) });
        assert!(identify(&directory, &signed("KEY", NEW)).is_ok(), "the second goes on");
        assert!(matches!(
            identify(&directory, &signed("KEY", b"another secret of theirs")),
            Err(Unidentified::Mismatch)
        ));
        let caller = directory.caller("KEY").unwrap();
        assert_eq!(caller.has_ended(SecretSlot::First, || now), !accepted);
        assert!(!caller.has_ended(SecretSlot::Second, || now));
    }
}

#[test]
fn the_decoy_for_a_second_secret_signs_for_nobody() {
    let directory = Directory::new(vec![entry("KEY", &[OLD])]).unwrap();
    let header = header_value("KEY", NOW, SALT, &directory.decoy.sign(NOW, SALT));
    assert!(matches!(identify(&directory, &header), Err(Unidentified::Mismatch)));
    // The only caller stands in for every unknown apiKey, and its own signature does not make one known.
    let (stands_in, known) = directory.callers.find("NONE");
    assert!(&*stands_in.api_key == "KEY" && !bool::from(known));
    assert!(matches!(identify(&directory, &signed("NONE", OLD)), Err(Unidentified::Unknown)));
    let none = Directory::new(vec![]).unwrap();
    assert!(matches!(
        identify(&none, &signed("", OLD).replace("apiKey=,", "apiKey=NONE,")),
        Err(Unidentified::Unknown)
    ));
}

#[test]
fn requests_in_flight_still_count_after_a_reload() {
    let slots = Slots::new(9, 1);
    let before = Directory::new(vec![entry("KEY", &[OLD])]).unwrap();
    let after = Directory::new(vec![entry("NEW", &[OLD]), entry("KEY", &[NEW])]).unwrap();
    after.inherit(&before);
    let in_flight = |directory: &Directory, key: &str| directory.caller(key).unwrap().usage().in_flight().clone();
    let held = slots.take(&in_flight(&after, "KEY")).unwrap();
    assert!(slots.take(&in_flight(&before, "KEY")).is_err(), "one key, whichever snapshot a request began with");
    assert!(slots.take(&in_flight(&after, "NEW")).is_ok(), "and no other");
    drop(held);
    assert!(slots.take(&in_flight(&before, "KEY")).is_ok());
}

#[test]
fn entries_of_a_database_that_clash_are_disabled_and_no_others() {
    let padded = [OLD, b"\0"].concat();
    const THIRD: &[u8] = b"the third secret, long enough";
    let entries = [
        entry("ONE", &[OLD]),
        entry("TWO", &[NEW]),
        entry("SAME", &[b"a secret of its own, the first"]),
        entry("SAME", &[b"a secret of its own, the second"]),
        entry("THREE", &[THIRD, &padded]),
    ];
    let (directory, clashes) = Directory::without_clashes(entries).unwrap();
    let same_secret = KeyClash::SameSecret("ONE".into(), "THREE".into());
    assert_eq!(clashes, [KeyClash::SameApiKey("SAME".into()), same_secret]);
    for (api_key, secret) in [
        ("ONE", OLD),
        ("THREE", THIRD),
        ("SAME", b"a secret of its own, the first".as_slice()),
        ("SAME", b"a secret of its own, the second"),
    ] {
        assert!(identify(&directory, &signed(api_key, secret)).is_err(), "{api_key}");
    }
    assert!(identify(&directory, &signed("TWO", NEW)).is_ok());
}

#[test]
fn secrets_with_equal_signatures_clash_even_if_they_differ() {
    let padded = [OLD, b"\0"].concat();
    assert_eq!(Directory::new(vec![entry("ONE", &[OLD]), entry("TWO", &[&padded])]).err(), Some(Clash::Secret(0, 1)));
    assert_eq!(Directory::new(vec![entry("ONE", &[OLD, OLD])]).err(), Some(Clash::Secret(0, 0)));
    assert_eq!(Directory::new(vec![entry("ONE", &[OLD]), entry("ONE", &[NEW])]).err(), Some(Clash::ApiKey(0, 1)));
}
