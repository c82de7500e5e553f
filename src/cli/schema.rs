//! `saltgate config schema`: prints the JSON Schema of the configuration, or of the file of keys.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::config::schema;
use crate::console;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Print the JSON Schema of the configuration, for editors and validators
    Schema(Schema),
}

#[derive(Args)]
pub(super) struct Schema {
    /// Print the schema of the file of keys instead
    #[arg(long)]
    keys: bool,
}

pub(super) fn run(command: &Command) -> ExitCode {
    let Command::Schema(arguments) = command;
    console::text(&if arguments.keys { schema::of_keys() } else { schema::of_configuration() });
    ExitCode::SUCCESS
}
