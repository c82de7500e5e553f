//! Fuzzing of the file that stores the freeze state.

use super::FreezeState;
use crate::lookup;
use crate::safeguard::frozen_file;

/// Any bytes as the file: a state that parses covers the whole file, and is written the same again.
pub(crate) fn fuzz(bytes: &[u8]) {
    let Some(there) = frozen_file::frozen(bytes) else { return };
    let Some(state) = FreezeState::parse(&there) else { return };
    assert_eq!(state.json(), there, "nothing is left out");
    assert!(lookup::fuzz::is_unambiguous(bytes), "a value that occurs twice is not left out");
    let again = FreezeState::parse(&state.json()).expect("written text is parsed again");
    assert_eq!(again.json(), there);

    let names = |what: &str| there[what].as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(state.all.is_some(), !there["all"].is_null());
    for key in names("keys") {
        assert!(state.is_frozen("nobody's", &key), "{key:?}");
    }
    for account in names("accounts") {
        assert!(state.is_frozen(&account, "nobody's"), "{account:?}");
    }
    let listed = |what: &str, name: &str| there[what].get(name).is_some();
    let held = listed("accounts", "a") || listed("keys", "k") || there["all"].is_object();
    assert_eq!(state.is_frozen("a", "k"), held);
}
