//! `list`.

use std::process::ExitCode;

use super::Source;
use crate::clock::{self, Clock};
use crate::console::say;
use crate::policy::Role;

pub(super) fn run(source: &Source) -> Result<(), ExitCode> {
    let file = source.open()?;
    let now = Clock::system().now();
    for caller in file.directory.callers() {
        let (key, owner) = (&caller.api_key, &caller.owner);
        let role = caller.role.map_or("no role", Role::as_str);
        let state = if caller.is_active(now) {
            "active"
        } else if caller.has_expired(|| now) {
            "expired"
        } else {
            "off"
        };
        let secrets = file.document.secrets(key).unwrap_or_default();
        let places: Vec<String> = secrets.iter().map(crate::key_file::WrittenSecret::place).collect();
        let expires = caller.expires().map(|at| format!(" until {}", clock::rfc3339(at))).unwrap_or_default();
        say!("{key} {}/{} {role} {state}{expires}; secrets: {}", owner.account, owner.member, places.join(", "));
    }
    say!("{} keys; digest {}", file.directory.len(), file.directory.digest());
    Ok(())
}
