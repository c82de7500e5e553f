//! The `saltgate` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    saltgate::cli::run()
}
