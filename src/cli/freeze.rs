//! `saltgate freeze` and `saltgate unfreeze`: ask the running gateway to freeze deletions, to list what is frozen, or
//! to lift a freeze.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::{EX_USAGE, Socket, fail};
use crate::console::{complain, say};
use crate::control::Question;
use crate::plain;
use crate::safeguard::Target;

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Scope {
    /// Everything
    All,
    /// All keys of an account
    Account,
    /// One key
    Key,
}

#[derive(Args)]
pub(super) struct Freeze {
    /// What to freeze
    #[arg(required_unless_present = "list")]
    scope: Option<Scope>,
    /// The account or the apiKey
    name: Option<String>,
    /// List what is frozen, and freeze nothing
    #[arg(long, conflicts_with_all = ["scope", "reason"])]
    list: bool,
    /// The reason, shown in lists and in the log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// How many seconds to wait for deletions that were already permitted
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(..=600))]
    wait: u64,
    #[command(flatten)]
    socket: Socket,
}

#[derive(Args)]
pub(super) struct Unfreeze {
    /// What to unfreeze: each target is unfrozen separately
    scope: Scope,
    /// The account or the apiKey
    name: Option<String>,
    #[command(flatten)]
    socket: Socket,
}

fn target(scope: Scope, name: Option<&str>) -> Result<Target, ExitCode> {
    match (scope, name) {
        (Scope::All, None) => Ok(Target::All),
        (Scope::Account, Some(name)) => Ok(Target::Account(name.to_owned())),
        (Scope::Key, Some(name)) => Ok(Target::Key(name.to_owned())),
        (Scope::All, Some(_)) => Err("`all` takes no name"),
        (Scope::Account, None) => Err("`account` needs the id of the account"),
        (Scope::Key, None) => Err("`key` needs an apiKey"),
    }
    .map_err(|what| {
        complain!("saltgate: {what}");
        ExitCode::from(EX_USAGE)
    })
}

pub(super) fn freeze(arguments: &Freeze) -> ExitCode {
    let Some(scope) = arguments.scope else { return list(&arguments.socket) };
    let target = match target(scope, arguments.name.as_deref()) {
        Ok(target) => target,
        Err(code) => return code,
    };
    let wait = Duration::from_secs(arguments.wait);
    let question = Question::Freeze { target: target.clone(), reason: arguments.reason.clone(), wait };
    let (mut left, mut enforced, mut fleet) = (0, true, FleetAnswer::default());
    let asked = arguments.socket.ask(&question, wait, |answer| {
        let frozen = if answer["new"] == true { "is frozen" } else { "was already frozen" };
        say!("{target} {frozen}");
        if answer["known"] == false {
            complain!(
                "warning: the gateway knows no such {}; check the spelling, upper and lower case differ",
                match target {
                    Target::Account(_) => "account",
                    Target::All | Target::Key(_) => "key",
                }
            );
        }
        enforced = answer["enforced"] == true;
        fleet = FleetAnswer::read(&answer);
        left = answer["still_leaving"].as_u64().unwrap_or(u64::MAX);
    });
    match asked {
        Err(code) => code,
        Ok(()) if !enforced => fail(
            "this gateway only observes (mode = \"observe\"), so deletions are still forwarded. The freeze is stored, and \
             takes effect once the mode is enforce",
        ),
        Ok(()) if fleet.is_one => {
            fleet.tell(&format!("was frozen for the fleet; run the command again to wait: {target}"))
        }
        Ok(()) if left == 0 => {
            say!("no deletion that was permitted before is still in progress");
            ExitCode::SUCCESS
        }
        Ok(()) => fail(format!(
            "{left} deletions that were permitted before the freeze have no answer yet: they were sent, or are about to be. \
             No other deletion will be sent. Run the command again to wait for them"
        )),
    }
}

/// What an answer says of the other gateways.
#[derive(Default)]
struct FleetAnswer {
    /// Whether there is a fleet.
    is_one: bool,
    not_said: Vec<String>,
    silent: Vec<String>,
}

impl FleetAnswer {
    fn read(answer: &Value) -> Self {
        let names = |name: &str| -> Vec<String> {
            let names = answer[name].as_array().into_iter().flatten().filter_map(Value::as_str);
            names.map(|name| plain::line(name).to_string()).collect()
        };
        Self { is_one: answer["not_said"].is_array(), not_said: names("not_said"), silent: names("silent") }
    }

    fn tell(&self, what: &str) -> ExitCode {
        for name in &self.silent {
            say!(
                "{name} has not been heard of for longer than its lease: it sends nothing until it has read what is frozen"
            );
        }
        if self.not_said.is_empty() {
            say!("no gateway of the fleet has a deletion in progress that was permitted before");
            return ExitCode::SUCCESS;
        }
        fail(format!(
            "these gateways have not said that no earlier deletion is in progress: {}. {what}",
            self.not_said.join(", ")
        ))
    }
}

fn list(socket: &Socket) -> ExitCode {
    let mut none = true;
    let asked = socket.ask(&Question::Frozen, Duration::ZERO, |line| {
        none = false;
        let reason = line["reason"].as_str().map(|reason| format!(": {}", plain::line(reason))).unwrap_or_default();
        let (what, since) = (line["frozen"].as_str().unwrap_or("?"), line["since"].as_str().unwrap_or("?"));
        say!("{what}  since {since} by uid {}{reason}", line["uid"]);
    });
    match asked {
        Err(code) => code,
        Ok(()) => {
            if none {
                say!("nothing is frozen");
            }
            ExitCode::SUCCESS
        }
    }
}

pub(super) fn unfreeze(arguments: &Unfreeze) -> ExitCode {
    let target = match target(arguments.scope, arguments.name.as_deref()) {
        Ok(target) => target,
        Err(code) => return code,
    };
    let mut not_said = Vec::new();
    // A fleet is waited for.
    let asked = arguments.socket.ask(&Question::Unfreeze(target.clone()), Duration::from_secs(15), |answer| {
        not_said = FleetAnswer::read(&answer).not_said;
        say!("{target} {}", if answer["was_frozen"] == true { "is unfrozen" } else { "was not frozen" });
        for still in answer["still_frozen"].as_array().into_iter().flatten().filter_map(|it| it.as_str()) {
            say!("still frozen: {still}");
        }
    });
    match asked {
        Err(code) => code,
        Ok(()) if not_said.is_empty() => ExitCode::SUCCESS,
        Ok(()) => fail(format!("these gateways have not read it yet, and still refuse: {}", not_said.join(", "))),
    }
}
