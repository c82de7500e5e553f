//! `saltgate replay`: maintains a store of spent salts while no gateway uses it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{fail, load};
use crate::clock::{self, Clock};
use crate::console::say;
use crate::replay::{Journal, ReplaySettings, Reset, boot_id};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lower a floor that a wrong wall clock has raised too far. First stop the gateway and correct
    /// the clock
    ResetClock {
        /// The configuration, in TOML
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let Command::ResetClock { config } = &arguments.command;
    let config = match load(config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let path = match &config.replay {
        ReplaySettings::Journal(journal) => &journal.path,
        ReplaySettings::Memory(_) => {
            say!(
                "[replay.memory]: nothing to reset: a restart forgets the floor, and when_new = \"fence\" covers the gap"
            );
            return ExitCode::SUCCESS;
        }
        ReplaySettings::Redis(_) => {
            return fail(
                "[replay.redis]: the store uses Redis's own clock; correct that clock, and start with a new prefix if the floor is too high",
            );
        }
    };
    let clock = Clock::system();
    match Journal::reset_clock(&clock, path, config.window, &boot_id()) {
        Ok(Reset::NotNeeded { floor }) => {
            match floor {
                Some(floor) => say!("nothing to reset: the floor is {}, within the window", clock::rfc3339(floor)),
                None => say!("nothing to reset: the floor was never raised"),
            }
            ExitCode::SUCCESS
        }
        Ok(Reset::Done { from, to }) => {
            say!("the floor was   {}", clock::rfc3339(from));
            say!("it is now       {}: nothing signed before then is admitted", clock::rfc3339(to));
            say!(
                "Every salt that is still stored stays spent. Salts dated between the two floors that were spent and then"
            );
            say!("forgotten while the clock was wrong would be admitted again once their dates are reached.");
            ExitCode::SUCCESS
        }
        Err(error) => fail(error),
    }
}
