//! Fuzz target for a file of keys.

use std::path::Path;

use super::{as_one_document, one_by_one};
use crate::config::source::Source;
use crate::credential::Secret;
use crate::directory::KeyEntry;
use crate::policy::Identifier;

/// A path without a file, so that a relative path names no file.
const FILE: &str = "/nowhere/keys.toml";
const OF_THE_ENVIRONMENT: &str = "a-secret-of-the-environment";

/// Any bytes as a file of keys: keys that are read one by one equal those of the whole document, each has a valid
/// form, and no message reveals a secret.
pub(crate) fn fuzz(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // A secret may be in any file, and some files never end.
    let lower = text.to_ascii_lowercase();
    if ["/", "\\u002f", "\\u0000002f", "\\x2f"].iter().any(|slash| lower.contains(slash)) {
        return;
    }
    let environment = |name: &str| (name == "SECRET").then(|| OF_THE_ENVIRONMENT.to_owned());
    let source = || Source::new(Path::new(FILE), text, &environment);
    let (keys, faults, warnings) = as_one_document(source(), false);
    assert!(!keys.is_empty() || !faults.is_empty(), "a file without keys is a fault");

    let lines = text.split('\n').count();
    // The value of an environment variable is shown unless it is used in a secret.
    let shows_values = text.contains("${");
    for said in faults.iter().chain(&warnings).map(ToString::to_string) {
        assert!(!said.contains(char::is_control), "{said:?}");
        let rest = said.strip_prefix(FILE).expect("a place");
        if let Some((line, _)) = rest.strip_prefix(':').and_then(|rest| rest.split_once(':')) {
            if let Ok(line) = line.parse::<usize>() {
                assert!((1..=lines).contains(&line), "{said:?}");
            }
        }
        assert!(shows_values || !said.contains(OF_THE_ENVIRONMENT), "{said:?}");
    }
    for key in &keys {
        form(key, lines);
        assert!(shows_values || !format!("{key:?}").contains(OF_THE_ENVIRONMENT), "{key:?}");
    }
    if let Some(singly) = one_by_one(source()) {
        assert!(faults.is_empty() && warnings.is_empty(), "there is something to say: {faults:?} {warnings:?}");
        assert!(singly.iter().map(told).eq(keys.iter().map(told)), "{singly:?}\n{keys:?}");
    }
}

fn form(key: &KeyEntry, lines: usize) {
    assert!((1..=64).contains(&key.api_key.len()) && key.api_key.bytes().all(|b| b.is_ascii_alphanumeric()));
    assert!(Identifier::is_one(&key.owner.account) && Identifier::is_one(&key.owner.member));
    let secrets: Vec<&[u8]> = key.secrets.iter().map(Secret::expose).collect();
    assert!((1..=2).contains(&secrets.len()));
    assert!(secrets.iter().all(|secret| (Secret::MIN..=Secret::MAX).contains(&secret.len())));
    assert!((1..=lines).contains(&key.line));
}

fn told(key: &KeyEntry) -> String {
    let secrets: Vec<&[u8]> = key.secrets.iter().map(Secret::expose).collect();
    format!("{key:?} {secrets:?}")
}
