//! `saltgate reload`: has the running gateway take its configuration, and prints what it took, or every fault.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{EX_CONFIG, Socket};
use crate::console::{complain, say};
use crate::control::Question;

/// How long reading many keys may take.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    socket: Socket,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let (mut faulty, mut changed) = (false, false);
    let asked = arguments.socket.ask(&Question::Reload, PATIENCE, |line| {
        let text = |name: &str| line[name].as_str();
        if let Some(fault) = text("fault") {
            faulty = true;
            complain!("{fault}");
        } else if let Some(keys) = line["keys"].as_u64() {
            say!("reloaded: {keys} keys ({} added, {} removed)", line["added"], line["removed"]);
        } else if let Some(setting) = text("changed") {
            changed = true;
            say!("in force: {setting}");
        } else if let Some(setting) = text("needs_restart") {
            changed = true;
            say!("at the next start: {setting}");
        } else if let Some(warning) = text("warning") {
            complain!("warning: {warning}");
        }
    });
    match asked {
        Err(_) if faulty => ExitCode::from(EX_CONFIG),
        Err(code) => code,
        Ok(()) => {
            if !changed {
                say!("no setting has changed");
            }
            ExitCode::SUCCESS
        }
    }
}
