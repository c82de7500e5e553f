//! `saltgate replay`: what is done to a store of spent salts while no gateway uses it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{fail, load};
use crate::clock::{self, Clock};
use crate::config::Replay;
use crate::replay::{Journal, Reset, boot_id};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Recovers from a wall clock that was wrong: brings a floor that lies beyond the window back,
    /// behind the fence. Stop the gateway and set the clock right first
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
        Replay::Journal { path, .. } => path,
        Replay::Memory(_) => {
            println!("[replay.memory]: nothing to reset: a restart forgets its floor; when_new = \"fence\" covers it");
            return ExitCode::SUCCESS;
        }
        Replay::Redis(_) => {
            return fail(
                "[replay.redis]: its clock is Redis's own; set that right, and start with a new prefix if its floor is too high",
            );
        }
    };
    let clock = Clock::system();
    match Journal::reset_clock(&clock, path, config.window, &boot_id()) {
        Ok(Reset::NotNeeded { floor }) => {
            match floor {
                Some(floor) => println!("nothing to reset: the floor is {}, within the window", clock::rfc3339(floor)),
                None => println!("nothing to reset: the floor was never raised"),
            }
            ExitCode::SUCCESS
        }
        Ok(Reset::Done { from, to }) => {
            println!("the floor was   {}", clock::rfc3339(from));
            println!("it is now       {}: nothing signed before then is admitted", clock::rfc3339(to));
            println!("Every salt that is still remembered stays so. Headers dated between the two that were spent and");
            println!("forgotten while the clock was wrong would be admitted again when their dates come.");
            ExitCode::SUCCESS
        }
        Err(error) => fail(error),
    }
}
