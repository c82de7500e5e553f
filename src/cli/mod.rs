//! The command line (contract §8): one file per command.
//!
//! Exit status: 0 done, 2 usage, 78 configuration, 1 anything else.

mod audit;
mod check;
#[cfg(feature = "demo")]
mod demo;
mod explain;
mod freeze;
mod live;
mod refusals;
mod replay;
mod serve;
mod sign;
mod socket;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, Fault};
use socket::Socket;

/// An authenticating reverse proxy that lets exactly the right deletions through.
#[derive(Parser)]
#[command(name = "saltgate", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A gateway and an embedded CRM with sample data: shows the job, then keeps serving
    #[cfg(feature = "demo")]
    Demo(demo::Arguments),
    /// Runs the gateway
    Serve(serve::Arguments),
    /// Mends a replay journal that a wrong clock has led astray
    Replay(replay::Arguments),
    /// Loads everything and prints what differs from the defaults
    Check(check::Arguments),
    /// Prints the value of an Authorization header
    Sign(sign::Arguments),
    /// Reads a header on standard input and says how it is judged, and why; spends nothing
    Explain(explain::Arguments),
    /// Holds back all deletions, an account's or a key's, until they are thawed
    Freeze(freeze::Freeze),
    /// Thaws what was frozen
    Unfreeze(freeze::Unfreeze),
    /// Prints the last requests that the running gateway refused, and why
    Refusals(refusals::Arguments),
    /// The record: is it as it was written, what does it say, what became of the unknown
    #[command(subcommand)]
    Audit(audit::Command),
}

#[derive(Args)]
struct WithConfig {
    /// The configuration, in TOML
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// A configuration is at fault.
const EX_CONFIG: u8 = 78;
/// The command line is at fault.
const EX_USAGE: u8 = 2;

/// Runs the command that the arguments name.
pub fn run() -> ExitCode {
    match Arguments::parse().command {
        #[cfg(feature = "demo")]
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Sign(arguments) => sign::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Freeze(arguments) => freeze::freeze(&arguments),
        Command::Unfreeze(arguments) => freeze::unfreeze(&arguments),
        Command::Refusals(arguments) => refusals::run(&arguments),
        Command::Audit(command) => audit::run(&command),
    }
}

/// The configuration, or its faults on standard error, a line each.
fn load(path: &Path) -> Result<Config, ExitCode> {
    Config::load(path).map_err(|faults| report(&faults))
}

fn report(faults: &[Fault]) -> ExitCode {
    for fault in faults {
        eprintln!("{fault}");
    }
    ExitCode::from(EX_CONFIG)
}

fn fail(what: impl std::fmt::Display) -> ExitCode {
    eprintln!("saltgate: {what}");
    ExitCode::FAILURE
}
