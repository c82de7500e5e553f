use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tracing_subscriber::filter::LevelFilter;

use super::fail;
use crate::demo::Demo;
use crate::telemetry;

#[derive(Args)]
pub(super) struct Arguments {
    /// End after the walk: exit 0, or 1 if any answer was not what the table says
    #[arg(long)]
    once: bool,
    /// Keep the CRM and the record in this directory instead of a temporary one
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    // The walk speaks for itself; what is worth a warning still shows.
    let _logs = match telemetry::start_logs(LevelFilter::ERROR) {
        Ok(logs) => logs,
        Err(error) => return fail(error),
    };
    let demo = match Demo::start(arguments.data.as_deref()) {
        Ok(demo) => demo,
        Err(error) => return fail(error),
    };
    let as_told = match demo.walk() {
        Ok(as_told) => as_told,
        Err(error) => return fail(error),
    };
    if !as_told {
        return fail("an answer was not what the decision table says");
    }
    if arguments.once {
        return ExitCode::SUCCESS;
    }
    match demo.keep_serving() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error),
    }
}
