//! `saltgate demo`: starts the demo, walks through the decision table, changes a key, and keeps serving.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::fail;
use crate::demo::{self, Demo};
use crate::telemetry;

#[derive(Args)]
pub(super) struct Arguments {
    /// Exit after the walk-through: status 0, or 1 if any answer is not the expected one
    #[arg(long)]
    once: bool,
    /// Keep the CRM's data and the record in this directory instead of a temporary one
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Run only the CRM, at this address, to try a configuration of your own in front of it
    #[arg(long, value_name = "ADDRESS", conflicts_with = "once")]
    crm: Option<SocketAddr>,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    if let Some(address) = arguments.crm {
        return match demo::serve_crm(address, arguments.data.as_deref()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(error),
        };
    }
    // The walk-through prints its own output, so the log shows errors only.
    let _logs = match telemetry::start_logs(telemetry::LogLevel::Error) {
        Ok(logs) => logs,
        Err(error) => return fail(error),
    };
    let demo = match Demo::start(arguments.data.as_deref()) {
        Ok(demo) => demo,
        Err(error) => return fail(error),
    };
    let as_expected = match demo.walk() {
        Ok(as_expected) => as_expected,
        Err(error) => return fail(error),
    };
    if !as_expected {
        return fail("an answer is not the expected one; its line begins with `!`");
    }
    if arguments.once {
        return ExitCode::SUCCESS;
    }
    match demo.keep_serving() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error),
    }
}
