//! `saltgate serve`: runs the gateway.

use std::process::ExitCode;

use clap::Args;
use tokio::sync::oneshot;

use super::first_look::Source;
use super::serving::{Signals, until_told_to_end};
use super::shipping::Rest;
use super::told::Told;
use super::{fail, load, report};
use crate::clock::Clock;
use crate::listen;
use crate::serve::{Gateway, StartError};
use crate::telemetry;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    source: Source,
    /// DANGEROUS: set a damaged replay journal aside and forget which salts were spent; nothing signed
    /// before this start plus window_future is admitted
    #[arg(long)]
    discard_replay_journal: bool,
    /// If the freeze state cannot be trusted, set its file aside and freeze everything until `saltgate unfreeze all`
    #[arg(long)]
    discard_freeze: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    // Before anything else is opened.
    listen::take_passed_sockets();
    let file = match arguments.source.file() {
        Ok(file) => file,
        Err(code) => return code,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(error),
    };
    // Handlers come first: without one a signal kills the process, and reading many keys takes a while. Signals that
    // arrive during the start are handled once the gateway serves.
    let mut signals = match runtime.block_on(async { Signals::new() }) {
        Ok(signals) => signals,
        Err(error) => return fail(format!("signals cannot be received: {error}")),
    };
    let loaded = {
        let (file, (done, loaded)) = (file, oneshot::channel());
        // A thread of its own, so that a signal can end the process before loading is done.
        std::thread::spawn(move || done.send(load(&file)).map_err(drop));
        runtime.block_on(async {
            tokio::select! {
                biased;
                loaded = loaded => Some(loaded),
                () = signals.end.received() => None,
            }
        })
    };
    let mut config = match loaded {
        Some(Ok(Ok(config))) => config,
        Some(Ok(Err(code))) => return code,
        // The thread panicked, and the panic is in the log.
        Some(Err(_)) => return ExitCode::FAILURE,
        // A signal ended it before anything was opened.
        None => return ExitCode::SUCCESS,
    };
    if arguments.discard_replay_journal {
        config.replay.discard_journal();
    }
    config.safeguards.discard_freeze = arguments.discard_freeze;
    let logs = match telemetry::start_logs(config.log_level) {
        Ok(logs) => logs,
        Err(error) => return fail(error),
    };
    telemetry::log_panics();
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let known = config.warnings.len();
    let rest = Rest::of(&config);
    let mut gateway = match Gateway::start(config, Clock::system()) {
        Ok(gateway) => gateway,
        Err(StartError::Config(faults)) => return report(&faults),
        Err(error) => {
            drop(logs);
            return fail(error);
        }
    };
    announce(&gateway);
    let told = Told::of(&mut gateway);
    // The warnings of the configuration are already in the log.
    gateway.warnings().iter().skip(known).for_each(|warning| tracing::warn!("{warning}"));
    lower_priority();
    let code = runtime.block_on(until_told_to_end(gateway, signals, &logs, told));
    // The record is closed when nothing of the gateway is left.
    rest.ship(&runtime);
    code
}

/// Lowers the priority of this thread, which reloads files and keys: on a processor that it shares with workers,
/// requests go first.
fn lower_priority() {
    const NICER: i32 = 10;
    if let Err(error) = rustix::process::nice(NICER) {
        tracing::debug!(%error, "the priority of reloads cannot be lowered");
    }
}

fn announce(gateway: &Gateway) {
    tracing::info!(
        address = gateway.address().map(tracing::field::display),
        listeners = gateway.addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        admin = gateway.admin_address().map(tracing::field::display),
        version = env!("CARGO_PKG_VERSION"),
        "serving"
    );
    let process = gateway.process();
    if gateway.forgets() {
        tracing::warn!(
            "[replay.memory]: a restart forgets which salts were spent; headers signed within the window before it can be \
             replayed unless when_new = \"fence\""
        );
    }
    if let Some(until) = process.salts.fenced_until() {
        tracing::warn!(
            until = crate::clock::rfc3339(until),
            "fenced: salts that were spent earlier may be forgotten, so nothing signed before then is admitted"
        );
    }
}
