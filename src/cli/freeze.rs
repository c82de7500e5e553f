use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{EX_USAGE, Socket, fail};
use crate::control::Question;
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
    /// Print what is frozen, and freeze nothing
    #[arg(long, conflicts_with_all = ["scope", "reason"])]
    list: bool,
    /// Why, for whoever finds it frozen
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// How long to wait until no earlier deletion can still leave, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(..=600))]
    wait: u64,
    #[command(flatten)]
    socket: Socket,
}

#[derive(Args)]
pub(super) struct Unfreeze {
    /// What to thaw: each is thawed by itself
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
        (Scope::Account, None) => Err("which account? give its id"),
        (Scope::Key, None) => Err("which key? give its apiKey"),
    }
    .map_err(|what| {
        eprintln!("saltgate: {what}");
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
    let (mut left, mut enforced) = (0, true);
    let asked = arguments.socket.ask(&question, wait, |answer| {
        let frozen = if answer["new"] == true { "is frozen" } else { "was frozen already, and is" };
        println!("{target} {frozen}");
        if answer["known"] == false {
            eprintln!(
                "warning: the gateway knows no such {}: is it spelled right? case counts",
                match target {
                    Target::Account(_) => "account",
                    Target::All | Target::Key(_) => "key",
                }
            );
        }
        enforced = answer["enforced"] == true;
        left = answer["still_leaving"].as_u64().unwrap_or(u64::MAX);
    });
    match asked {
        Err(code) => code,
        Ok(()) if !enforced => fail(
            "this gateway only observes (mode = \"observe\"): it holds nothing back, and deletions go on. The freeze \
             is kept, and is in force once the mode is enforce",
        ),
        Ok(()) if left == 0 => {
            println!("no earlier deletion can still leave");
            ExitCode::SUCCESS
        }
        Ok(()) => fail(format!(
            "{left} deletions that were let through before are not answered yet: they were sent and wait for their \
             answer, or may still leave; no other will. Ask again to wait for them"
        )),
    }
}

fn list(socket: &Socket) -> ExitCode {
    let mut none = true;
    let asked = socket.ask(&Question::Frozen, Duration::ZERO, |line| {
        none = false;
        let reason = line["reason"].as_str().map(|reason| format!(": {}", reason.escape_debug())).unwrap_or_default();
        let (what, since) = (line["frozen"].as_str().unwrap_or("?"), line["since"].as_str().unwrap_or("?"));
        println!("{what}  since {since} by uid {}{reason}", line["uid"]);
    });
    match asked {
        Err(code) => code,
        Ok(()) => {
            if none {
                println!("nothing is frozen");
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
    let asked = arguments.socket.ask(&Question::Unfreeze(target.clone()), Duration::ZERO, |answer| {
        println!("{target} {}", if answer["was_frozen"] == true { "is thawed" } else { "was not frozen" });
        for still in answer["still_frozen"].as_array().into_iter().flatten().filter_map(|it| it.as_str()) {
            println!("still frozen: {still}");
        }
    });
    asked.map_or_else(|code| code, |()| ExitCode::SUCCESS)
}
