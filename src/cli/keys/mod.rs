//! `saltgate keys`: shows and changes the keys, in a file or in the table of our own schema (contract §8). Comments and order of a
//! file stay.
//!
//! 1. Changed keys are judged as `saltgate check` does before they are written. A file is replaced as a whole, a table changed in
//!    one transaction.
//! 2. A new secret is printed once, alone on standard output. No other output holds a secret.
//! 3. The gateways that can be asked say from when the change is in force.

mod change;
mod compare;
mod document;
mod file;
mod in_force;
mod last_use;
mod list;
mod sealing;
#[cfg(feature = "postgres")]
mod table;
mod up_to;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

#[derive(Subcommand)]
pub(super) enum Command {
    /// List the keys: whose they are, where their secrets stand, and when each was last used
    List(list::List),
    /// Add a key, and print its new secret once
    Add(change::Add),
    /// Give a key a second secret, and print it once; both are accepted until `promote`, or until `--end`
    Rotate(change::Rotate),
    /// Remove the first of two secrets: only the second is accepted from then on
    Promote(change::Promote),
    /// Switch a key off
    Revoke(OneKey),
    /// Set when a key expires
    Expire(change::Expire),
    /// Seal the secrets that stand in the file by the first key of `[seal]`
    Seal(Source),
    /// Seal every sealed secret again by the first key of `[seal]`, so that the others can be removed
    Reseal(Source),
    /// Add all keys of another file
    Import(compare::Other),
    /// Print how another file differs: which keys it adds, removes and changes
    Diff(compare::Other),
}

/// Which keys.
#[derive(Args)]
pub(super) struct Source {
    /// The configuration that names the file or table of keys, the keys of `[seal]` and the control socket, in TOML
    #[arg(long, value_name = "FILE", required_unless_present_any = ["file", "postgres"], conflicts_with = "file")]
    config: Option<PathBuf>,
    /// The file of keys, in TOML; without `[seal]` and without a gateway to ask
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The database with the table of keys, as a role that may change them: postgres://clerk:${PG_PASSWORD}@db/crm, in which
    /// ${NAME} is a variable; with --config in place of its directory.postgres.url
    #[arg(long, value_name = "URL", conflicts_with = "file")]
    postgres: Option<String>,
    /// The directory.file.last_use of another gateway with the same keys; once for each
    #[arg(long, value_name = "FILE")]
    last_use: Vec<PathBuf>,
}

#[derive(Args)]
pub(super) struct OneKey {
    /// The apiKey
    #[arg(value_name = "API_KEY")]
    api_key: String,
    #[command(flatten)]
    source: Source,
}

pub(super) fn run(command: &Command) -> ExitCode {
    let done = match command {
        Command::List(arguments) => list::run(arguments),
        Command::Add(arguments) => change::add(arguments),
        Command::Rotate(key) => change::rotate(key),
        Command::Promote(key) => change::promote(key),
        Command::Revoke(key) => change::revoke(key),
        Command::Expire(arguments) => change::expire(arguments),
        Command::Seal(source) => sealing::seal(source),
        Command::Reseal(source) => sealing::reseal(source),
        Command::Import(other) => compare::import(other),
        Command::Diff(other) => compare::diff(other),
    };
    done.err().unwrap_or(ExitCode::SUCCESS)
}
