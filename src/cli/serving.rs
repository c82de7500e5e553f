//! What `saltgate serve` does while the gateway runs: it reloads it on SIGHUP and by command, drains it by command, and ends
//! it on SIGTERM, SIGINT or SIGQUIT.

use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::told::Told;
use crate::config::{Config, Fault};
use crate::serve::{Command, Drained, Gateway, NotReloaded, Reloaded};
use crate::telemetry;

/// The signals that the process handles.
pub(super) struct Signals {
    reload: Signal,
    pub(super) end: End,
    /// Signals without a meaning here; without a handler they would kill the process.
    _ignored: [Signal; 2],
}

/// The signals that end the process.
pub(super) struct End {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            reload: signal(SignalKind::hangup())?,
            end: End {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
                quit: signal(SignalKind::quit())?,
            },
            _ignored: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
        })
    }
}

impl End {
    /// Waits for one of them.
    pub(super) async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.quit.recv() => {}
        }
    }
}

/// Reloads on SIGHUP and by command. Drains by command, and then stays until it is told to end. Drains and ends on SIGTERM,
/// SIGINT or SIGQUIT, and closes connections at once on the second of those.
pub(super) async fn until_told_to_end(
    mut gateway: Gateway,
    signals: Signals,
    logs: &telemetry::Logs,
    mut told: Told,
) -> ExitCode {
    let Signals { reload: mut hang_up, mut end, _ignored } = signals;
    let Some(mut commands) = gateway.commands() else { return ExitCode::FAILURE };
    let mut ticks = tokio::time::interval(std::time::Duration::from_secs(1));
    let mut told_to_end = loop {
        tokio::select! {
            _ = ticks.tick() => {
                gateway.process().metrics.deliveries().log_dropped(logs.dropped());
                told.look(gateway.process());
            }
            _ = hang_up.recv() => drop(reload(&mut gateway, &mut told)),
            command = commands.next() => match command {
                // Whoever asked may have left.
                Command::Reload(answer) => drop(answer.send(reload(&mut gateway, &mut told).map_err(NotReloaded::Faults))),
                Command::Drain => break 0,
            },
            () = end.received() => break 1,
        }
    };
    tracing::info!("draining");
    let (haste, process) = (gateway.haste(), gateway.process().clone());
    let stays = told_to_end == 0;
    // A process that stays is not stopping: systemd would wait for its end, and then kill it.
    if !stays {
        told.stopping();
    }
    let mut drained =
        tokio::task::spawn_blocking(move || if stays { gateway.drain_and_stay() } else { gateway.drain() });
    loop {
        tokio::select! {
            drained = &mut drained => return ended(drained.ok()),
            _ = ticks.tick() => {
                process.metrics.deliveries().log_dropped(logs.dropped());
                told.look(&process);
            }
            () = end.received(), if told_to_end < 2 => {
                told_to_end += 1;
                if told_to_end == 1 {
                    tracing::info!("told to end: the process ends once nothing is under way");
                    told.stopping();
                    haste.end();
                } else {
                    tracing::warn!("second signal: connections are closed, except those of requests whose salts are spent");
                    haste.hurry();
                }
            }
            _ = hang_up.recv() => tracing::warn!("not reloaded: the process is draining"),
            command = commands.next() => match command {
                Command::Reload(answer) => drop(answer.send(Err(NotReloaded::Draining))),
                Command::Drain => {}
            },
        }
    }
}

/// Logs how a drain ended, and returns the exit status; `None` means that it panicked.
fn ended(drained: Option<Drained>) -> ExitCode {
    match drained {
        Some(Drained::Whole) => tracing::info!("drained"),
        Some(Drained::Late { lost: 0 }) => {
            tracing::warn!("drain_timeout is over: requests in flight were cut off; none of them had spent its salt");
        }
        Some(Drained::Late { lost }) => {
            tracing::error!(
                lost,
                "drain_timeout is over: requests whose salts were spent are cut off; the record says which outcomes are \
                 unknown"
            );
            return ExitCode::FAILURE;
        }
        None => return ExitCode::FAILURE,
    }
    ExitCode::SUCCESS
}

/// Takes the configuration as it is now, and logs what came of it.
fn reload(gateway: &mut Gateway, told: &mut Told) -> Result<Reloaded, Vec<Fault>> {
    told.reloading();
    let reloaded = gateway.reload(Config::load(gateway.file()));
    match &reloaded {
        Ok(Reloaded { warnings, needs_restart, .. }) => {
            tracing::info!("reloaded");
            warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
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
    told.reloaded(gateway, reloaded.as_ref().err().map(Vec::as_slice));
    reloaded
}
