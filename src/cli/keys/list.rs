//! `list`.

use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;
use serde_json::{Value, json};

use super::Source;
use super::file::Opened;
use super::last_use::{self, Use};
use super::up_to::UpTo;
use crate::clock;
use crate::console::say;
use crate::directory::Caller;
use crate::key_use::GatewayUses;
use crate::plain;
use crate::policy::Role;
use crate::seal::SecretSlot;

#[derive(Args)]
pub(in crate::cli) struct List {
    /// Print each key as one line of JSON, and what is known of all in the last one
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: Source,
}

pub(super) fn run(arguments: &List) -> Result<(), ExitCode> {
    let file = arguments.source.open()?;
    let (gateways, now) = file.uses(UpTo::Kept)?;
    let (many, digest) = (file.directory.len(), file.directory.digest());
    for caller in file.directory.callers() {
        let secrets = secrets(&file, &gateways, caller);
        if arguments.json {
            say!("{}", plain::json_line(&described(caller, &secrets, now)));
        } else {
            say!("{}", line(caller, &secrets, now));
        }
    }
    if arguments.json {
        let gateways: Vec<Value> = gateways.iter().map(last_use::gateway).collect();
        say!("{}", plain::json_line(&json!({ "keys": many, "digest": digest, "gateways": gateways })));
    } else {
        say!("{many} {}; digest {digest}", if many == 1 { "key" } else { "keys" });
    }
    Ok(())
}

/// Where a secret is, when it ends, and when it was last used.
struct Listed {
    place: String,
    ends: Option<SystemTime>,
    used: Use,
}

fn secrets(file: &Opened, gateways: &[GatewayUses], caller: &Caller) -> Vec<Listed> {
    let written = file.document.secrets(&caller.api_key).unwrap_or_default();
    let listed = written.iter().zip(SecretSlot::BOTH).map(|(secret, slot)| Listed {
        place: secret.place(file.document.here()),
        ends: caller.secret_expires(slot),
        used: Use::of(file, gateways, &caller.api_key, slot),
    });
    listed.collect()
}

fn state(caller: &Caller, now: SystemTime) -> &'static str {
    if caller.is_active(now) {
        "active"
    } else if caller.has_expired(|| now) {
        "expired"
    } else {
        "off"
    }
}

fn line(caller: &Caller, secrets: &[Listed], now: SystemTime) -> String {
    let (key, owner, state) = (&caller.api_key, &caller.owner, state(caller, now));
    let role = caller.role.map_or("no role", Role::as_str);
    let expires = caller.expires().map(|at| format!(" until {}", clock::rfc3339(at))).unwrap_or_default();
    let secrets = secrets.iter().map(|Listed { place, ends, used }| {
        let ends = ends.map(|at| format!(" until {}", clock::rfc3339(at))).unwrap_or_default();
        format!("{place}{ends}{}", used.text())
    });
    let secrets: Vec<String> = secrets.collect();
    format!("{key} {}/{} {role} {state}{expires}; secrets: {}", owner.account, owner.member, secrets.join(", "))
}

fn described(caller: &Caller, secrets: &[Listed], now: SystemTime) -> Value {
    let secrets = secrets.iter().map(|Listed { place, ends, used }| {
        let mut secret = json!({ "place": place, "ends": ends.map(clock::rfc3339) });
        used.describe(&mut secret);
        secret
    });
    json!({
        "api_key": caller.api_key,
        "account": caller.owner.account,
        "member": caller.owner.member,
        "role": caller.role.map(Role::as_str),
        "state": state(caller, now),
        "expires": caller.expires().map(clock::rfc3339),
        "secrets": secrets.collect::<Vec<_>>(),
    })
}
