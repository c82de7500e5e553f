use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;

use super::{fail, load, report};
use crate::clock::Clock;
use crate::config::Config;
use crate::serve::{Gateway, StartError};
use crate::telemetry;

#[derive(Args)]
pub(super) struct Arguments {
    /// The configuration, in TOML
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// DANGEROUS: moves a replay journal that is damaged aside and forgets which salts it knew;
    /// nothing signed before this start plus window_future is admitted
    #[arg(long)]
    discard_replay_journal: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let mut config = match load(&arguments.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    config.discard_replay_journal = arguments.discard_replay_journal;
    let logs = telemetry::start_logs(LevelFilter::INFO);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let gateway = match Gateway::start(config, Clock::system()) {
        Ok(gateway) => gateway,
        Err(StartError::Config(faults)) => return report(&faults),
        Err(error) => {
            drop(logs);
            return fail(error);
        }
    };
    announce(&gateway);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(error),
    };
    match runtime.block_on(until_told(gateway, &logs)) {
        Ok(code) => code,
        Err(error) => fail(format!("signals cannot be received: {error}")),
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
            "[replay.memory]: a restart forgets which salts were spent; what the window before it admits could be \
             replayed unless when_new = \"fence\""
        );
    }
    if let Some(until) = process.salts.fenced_until() {
        tracing::warn!(
            until = crate::clock::rfc3339(until),
            "fenced: the replay memory is new, and nothing signed before then is admitted"
        );
    }
}

/// Reloads on SIGHUP, drains on SIGTERM and SIGINT, and ends at once on the second of those.
async fn until_told(mut gateway: Gateway, logs: &telemetry::Logs) -> std::io::Result<ExitCode> {
    let mut reload = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut ticks = tokio::time::interval(std::time::Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = ticks.tick() => gateway.process().metrics.log_dropped(logs.dropped().dropped_lines()),
            _ = reload.recv() => take(&mut gateway),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    tracing::info!("draining");
    let drained = tokio::task::spawn_blocking(move || gateway.drain());
    tokio::select! {
        drained = drained => {
            if drained.unwrap_or(false) {
                tracing::info!("drained");
            } else {
                tracing::warn!("drain_timeout is over: what was still in flight is cut off");
            }
            Ok(ExitCode::SUCCESS)
        }
        _ = terminate.recv() => Ok(ExitCode::FAILURE),
        _ = interrupt.recv() => Ok(ExitCode::FAILURE),
    }
}

fn take(gateway: &mut Gateway) {
    let config = Config::load(gateway.file());
    match gateway.reload(config) {
        Ok(needs_restart) => {
            tracing::info!("reloaded");
            for setting in needs_restart {
                tracing::warn!(setting, "changed, and takes effect at the next start");
            }
        }
        Err(faults) => {
            for fault in faults {
                tracing::error!("{fault}");
            }
            tracing::error!("not reloaded: the configuration is at fault; the old one stays in force");
        }
    }
}
