//! `saltgate completions SHELL`: prints a script that completes commands, options and their values in a shell.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use clap_complete::{Shell, generate};

use crate::console;

#[derive(Args)]
pub(super) struct Arguments {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: For,
}

/// The shells that are tested.
#[derive(Clone, Copy, ValueEnum)]
enum For {
    Bash,
    Zsh,
    Fish,
}

/// Prints the script for these commands.
pub(super) fn run(arguments: &Arguments, mut commands: clap::Command) -> ExitCode {
    let shell = match arguments.shell {
        For::Bash => Shell::Bash,
        For::Zsh => Shell::Zsh,
        For::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    generate(shell, &mut commands, "saltgate", &mut script);
    console::text(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}
