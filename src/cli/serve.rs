use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
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
    let logs = match telemetry::start_logs(LevelFilter::INFO) {
        Ok(logs) => logs,
        Err(error) => return fail(error),
    };
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(error),
    };
    // Before anything serves: a signal that nobody has asked for yet would end the process at once.
    let signals = match runtime.block_on(async { Signals::new() }) {
        Ok(signals) => signals,
        Err(error) => return fail(format!("signals cannot be received: {error}")),
    };
    let gateway = match Gateway::start(config, Clock::system()) {
        Ok(gateway) => gateway,
        Err(StartError::Config(faults)) => return report(&faults),
        Err(error) => {
            drop(logs);
            return fail(error);
        }
    };
    announce(&gateway);
    stand_back();
    runtime.block_on(until_told(gateway, signals, &logs))
}

/// This thread reads files and keys anew when it is told to. Where it shares a processor with workers,
/// they go first: a reload may take its time, a request may not.
fn stand_back() {
    const NICER: i32 = 10;
    if let Err(error) = rustix::process::nice(NICER) {
        tracing::debug!(%error, "reloads have the priority of requests");
    }
}

/// What the process is told to do.
struct Signals {
    reload: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            reload: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
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
async fn until_told(mut gateway: Gateway, signals: Signals, logs: &telemetry::Logs) -> ExitCode {
    let Signals { mut reload, mut terminate, mut interrupt } = signals;
    let mut ticks = tokio::time::interval(std::time::Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = ticks.tick() => gateway.process().metrics.log_dropped(logs.dropped()),
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
            ExitCode::SUCCESS
        }
        _ = terminate.recv() => ExitCode::FAILURE,
        _ = interrupt.recv() => ExitCode::FAILURE,
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
