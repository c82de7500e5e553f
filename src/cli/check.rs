use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{load, report};
use crate::clock::Clock;
use crate::serve;

#[derive(Args)]
pub(super) struct Arguments {
    /// The configuration, in TOML
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print every setting, not only what differs from its default
    #[arg(long)]
    all: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let mut config = match load(&arguments.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let directory = match serve::directory(&mut config) {
        Ok(directory) => directory,
        Err(faults) => return report(&faults),
    };
    match serve::certificates(&config, Clock::system().now()) {
        Ok(warnings) => warnings.iter().for_each(|warning| eprintln!("warning: {warning}")),
        Err(faults) => return report(&faults),
    }
    for warning in &config.warnings {
        eprintln!("warning: {warning}");
    }
    print!("{}", config.describe(arguments.all));
    println!("# {} keys in {}; the configuration is sound", directory.len(), config.keys_file.display());
    ExitCode::SUCCESS
}
