//! The check of the fuzz target that reads a file of keys.

use std::path::Path;

use super::{as_one_document, one_by_one};
use crate::config::source::Source;
use crate::credential::Secret;
use crate::directory::KeyEntry;
use crate::policy::Identifier;

/// Where no file is, so that a relative path names none.
const FILE: &str = "/nowhere/keys.toml";
const OF_THE_ENVIRONMENT: &str = "a-secret-of-the-environment";

/// Any bytes as a file of keys: read one by one they are those of the whole document, each has the form it must have,
/// and nothing that is said of them gives a secret away.
pub(crate) fn fuzz(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // A secret may be in any file, and there are files without an end.
    let lower = text.to_ascii_lowercase();
    if ["/", "\\u002f", "\\u0000002f", "\\x2f"].iter().any(|slash| lower.contains(slash)) {
        return;
    }
    let environment = |name: &str| (name == "SECRET").then(|| OF_THE_ENVIRONMENT.to_owned());
    let source = || Source::new(Path::new(FILE), text, &environment);
    let (keys, faults, warnings) = as_one_document(source(), false);
    assert!(!keys.is_empty() || !faults.is_empty(), "a file without keys is a fault");

    let lines = text.split('\n').count();
    // Where somebody puts an environment's value elsewhere than into a secret, it is shown.
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
