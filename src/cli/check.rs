use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{fail, live, load, report};
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
    /// Try it too: connect to every server, ask for its health, reach Redis; deletes and spends nothing
    #[arg(long)]
    live: bool,
    /// With --live: ask whose segment this is, as a deletion would
    #[arg(long, value_name = "ID", requires = "live")]
    segment: Option<String>,
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
    // The files of certificates and keys are read here.
    if let Err(faults) = serve::servers(&config, serve::upstream_settings(&config), &Clock::system(), None) {
        return report(&faults);
    }
    for warning in &config.warnings {
        eprintln!("warning: {warning}");
    }
    print!("{}", config.describe(arguments.all));
    println!("# {} keys in {}; the configuration is sound", directory.len(), config.keys_file.display());
    if !arguments.live {
        return ExitCode::SUCCESS;
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(error),
    };
    runtime.block_on(live::check(&config, &directory, arguments.segment.as_deref()))
}
