//! The command line (contract §8): one file per command.
//!
//! Exit status: 0 done, 2 usage, 78 configuration, 1 anything else.

mod audit;
mod check;
mod completions;
#[cfg(feature = "demo")]
mod demo;
mod drain;
mod explain;
mod first_look;
mod freeze;
mod init;
mod key_table;
mod keys;
mod live;
mod live_report;
mod man;
mod owner_query;
mod probe;
mod refusals;
mod reload;
mod replay;
mod schema;
mod serve;
mod serving;
#[cfg(feature = "postgres")]
mod shipping;
#[cfg(not(feature = "postgres"))]
#[path = "no_shipping.rs"]
mod shipping;
mod sign;
mod socket;
mod status;
mod told;
mod watchdog;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::config::{Config, Fault};
use crate::console::{self, complain};
use socket::Socket;

/// An authenticating reverse proxy for the deletion of CRM segments
#[derive(Parser)]
#[command(name = "saltgate", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Try it out: run a gateway in front of an embedded CRM with sample data
    #[cfg(feature = "demo")]
    Demo(demo::Arguments),
    /// Write a configuration and a file of keys to start from
    Init(init::Arguments),
    /// Run the gateway
    Serve(serve::Arguments),
    /// Maintain the replay journal while no gateway uses it
    Replay(replay::Arguments),
    /// Validate the configuration and print the settings that differ from their defaults
    Check(check::Arguments),
    /// Sign a request: print the value of its Authorization header
    Sign(sign::Arguments),
    /// Read a header from standard input and explain whether it is accepted, and why; does not spend its salt
    Explain(explain::Arguments),
    /// Freeze deletions for a key, an account, or everything
    Freeze(freeze::Freeze),
    /// Lift a freeze
    Unfreeze(freeze::Unfreeze),
    /// List the requests that the running gateway refused most recently, and why
    Refusals(refusals::Arguments),
    /// Have the running gateway take its configuration, and print what it took or every fault
    Reload(reload::Arguments),
    /// Have the running gateway send its clients elsewhere, and wait until nothing is under way; it stays until SIGTERM
    Drain(drain::Arguments),
    /// Ask the running gateway whether it lives, or is ready; for health checks where there is no shell
    Probe(probe::Arguments),
    /// Whether the running gateway is well, and why not
    Status(status::Arguments),
    /// The same, drawn again each second; `q` leaves
    Top(status::TopArguments),
    /// Show and change the file of keys
    #[command(subcommand)]
    Keys(keys::Command),
    /// Verify, read and reconcile the audit record
    #[command(subcommand)]
    Audit(audit::Command),
    /// What the configuration may hold
    #[command(subcommand)]
    Config(schema::Command),
    /// Print a script that completes saltgate's command line in a shell
    Completions(completions::Arguments),
    /// Write a manual page for each command
    Man(man::Arguments),
}

#[derive(Args)]
struct WithConfig {
    /// The configuration, in TOML
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Exit status: the configuration has a fault.
const EX_CONFIG: u8 = 78;
/// Exit status: the command line is wrong.
const EX_USAGE: u8 = 2;

/// Runs the command that the arguments name.
pub fn run() -> ExitCode {
    // Files and sockets that a library creates without a mode are private to their owner, too.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    console::end(match Arguments::try_parse() {
        Ok(arguments) => dispatch(arguments.command),
        Err(error) => {
            let text = error.render().to_string();
            if error.use_stderr() {
                console::complain_in_lines(&text)
            } else {
                console::text(&text)
            }
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(EX_USAGE))
        }
    })
}

fn dispatch(command: Command) -> ExitCode {
    match command {
        #[cfg(feature = "demo")]
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Init(arguments) => init::run(&arguments),
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Sign(arguments) => sign::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Freeze(arguments) => freeze::freeze(&arguments),
        Command::Unfreeze(arguments) => freeze::unfreeze(&arguments),
        Command::Refusals(arguments) => refusals::run(&arguments),
        Command::Reload(arguments) => reload::run(&arguments),
        Command::Drain(arguments) => drain::run(&arguments),
        Command::Probe(arguments) => probe::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Top(arguments) => status::top(&arguments),
        Command::Keys(command) => keys::run(&command),
        Command::Audit(command) => audit::run(&command),
        Command::Config(command) => schema::run(&command),
        Command::Completions(arguments) => completions::run(&arguments, Arguments::command()),
        Command::Man(arguments) => man::run(&arguments, Arguments::command()),
    }
}

/// Loads the configuration, or prints its faults on standard error, one per line.
fn load(path: &Path) -> Result<Config, ExitCode> {
    Config::load(path).map_err(|faults| report(&faults))
}

fn report(faults: &[Fault]) -> ExitCode {
    for fault in faults {
        complain!("{fault}");
    }
    ExitCode::from(EX_CONFIG)
}

fn fail(what: impl std::fmt::Display) -> ExitCode {
    complain!("saltgate: {what}");
    ExitCode::FAILURE
}
