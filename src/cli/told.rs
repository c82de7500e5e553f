//! What `saltgate serve` tells systemd: that it is ready, reloads and stops, and in one sentence how it is.

use super::watchdog;
use crate::clock;
use crate::config::Fault;
use crate::process::Process;
use crate::serve::Gateway;
use crate::systemd::{Notifier, watchdog_period};

/// What systemd is told.
pub(super) struct Told {
    notifier: Notifier,
    /// Where requests are taken.
    serves: String,
    /// Why the last reload was not taken.
    not_reloaded: Option<String>,
}

impl Told {
    /// The gateway has started: tells it, and starts the watchdog if there is one.
    pub(super) fn of(gateway: &mut Gateway) -> Self {
        let mut told = Self { notifier: notifier(), serves: serves(gateway), not_reloaded: None };
        told.notifier.ready(&told.status(gateway.process()));
        if let (Some(period), Some(heartbeat)) = (watchdog_period(), gateway.heartbeat())
            && let Err(error) = watchdog::start(period, heartbeat, notifier())
        {
            tracing::error!(%error, "the watchdog cannot be started: systemd will take this process for hung");
        }
        told
    }

    /// A reload begins.
    pub(super) fn reloading(&mut self) {
        self.notifier.reloading();
    }

    /// It is done.
    pub(super) fn reloaded(&mut self, gateway: &Gateway, faults: Option<&[Fault]>) {
        self.serves = serves(gateway);
        self.not_reloaded = faults.map(|faults| match faults {
            [first, rest @ ..] if !rest.is_empty() => {
                format!("not reloaded, {} faults, the first is {first}", rest.len() + 1)
            }
            faults => format!("not reloaded: {}", faults.first().map(ToString::to_string).unwrap_or_default()),
        });
        self.notifier.ready(&self.status(gateway.process()));
    }

    /// How it is, once a second.
    pub(super) fn look(&mut self, process: &Process) {
        self.notifier.status(&self.status(process));
    }

    /// The process ends once it is drained.
    pub(super) fn stopping(&mut self) {
        self.notifier.stopping("draining");
    }

    fn status(&self, process: &Process) -> String {
        if process.is_draining() {
            return match process.slots.taken() + process.passing_slots.taken() {
                0 => "draining".into(),
                requests => format!("draining: {requests} requests are under way"),
            };
        }
        let fenced = process.salts.fenced_until().map(|until| format!("fenced until {}", clock::rfc3339(until)));
        let told = [fenced.unwrap_or_else(|| self.serves.clone())].into_iter().chain(self.not_reloaded.clone());
        told.collect::<Vec<_>>().join("; ")
    }
}

fn notifier() -> Notifier {
    Notifier::from_environment().unwrap_or_else(|error| {
        tracing::warn!("{error}; the service manager is not told anything");
        Notifier::nobody()
    })
}

fn serves(gateway: &Gateway) -> String {
    let addresses: Vec<String> = gateway.addresses().iter().map(ToString::to_string).collect();
    format!("serving on {}", addresses.join(" "))
}
