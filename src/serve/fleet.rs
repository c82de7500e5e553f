//! Reads what is frozen for the fleet, on a thread of its own, and writes it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::clock::Clock;
use crate::process::{Fleet, Process};
use crate::replay::{FleetMember, FleetReading, FleetReport};
use crate::safeguard::{Freeze, Note, Target, Unheard};

/// The interval between two readings.
const EVERY: Duration = Duration::from_millis(100);
/// The interval between two looks at what the other gateways say.
const AGAIN: Duration = Duration::from_millis(50);

/// The thread; dropping this ends it.
pub(super) struct FleetWatch {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for FleetWatch {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl FleetWatch {
    /// Starts it, if the gateway is one of a fleet.
    pub(super) fn start(process: &Arc<Process>) -> io::Result<Option<Self>> {
        if process.fleet.is_none() {
            return Ok(None);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let process = process.clone();
        let thread = thread::Builder::new().name("fleet".into()).spawn(move || {
            runtime.block_on(async {
                let Some(fleet) = &process.fleet else { return };
                tokio::select! {
                    _ = stopped => {}
                    () = read_again_and_again(&process.freeze, &process.clock, fleet) => {}
                }
            });
        })?;
        Ok(Some(Self { stop: Some(stop), thread: Some(thread) }))
    }
}

pub(super) async fn read_again_and_again(freeze: &Freeze, clock: &Clock, fleet: &Fleet) {
    let mut well = true;
    loop {
        let read = read(freeze, clock, fleet).await;
        match (&read, well) {
            (Err(why), true) => {
                tracing::warn!(%why, "what is frozen for the fleet cannot be read; nothing is admitted until it can");
            }
            (Ok(()), false) => tracing::info!("what is frozen for the fleet is read again"),
            (Err(_), false) | (Ok(()), true) => {}
        }
        well = read.is_ok();
        sleep(EVERY).await;
    }
}

/// One reading. The lease counts from before it was sent.
async fn read(freeze: &Freeze, clock: &Clock, fleet: &Fleet) -> Result<(), String> {
    let asked = clock.elapsed();
    let (version, state, cleared) = freeze.told();
    let FleetReading { version, state } = fleet.store.read(FleetReport { version, state, cleared }).await?;
    match freeze.hear(version, &state, asked) {
        Ok(()) => Ok(()),
        Err(Unheard::Strange) => Err("the state is of an earlier version, or not understood".into()),
        Err(Unheard::Differs(joined)) => {
            tracing::warn!(version, "two states of what is frozen have one version; what is in one of both is frozen");
            fleet.store.replace(version, joined).await.map(drop)
        }
    }
}

/// How a change came out.
pub(super) struct Changed {
    /// Whether it changed anything.
    pub(super) is_new: bool,
    /// Gateways that have not said that they hold no earlier state.
    pub(super) waiting: Vec<String>,
    /// Gateways that have not been heard of for so long that they can no longer send.
    pub(super) silent: Vec<String>,
}

/// Freezes a target for the fleet, or unfreezes it without a note. Returns once every gateway has taken that, or can no
/// longer send, or when `wait` is over.
///
/// # Errors
/// If it could not be written. The text is for the operator.
pub(super) async fn change(
    freeze: &Freeze,
    clock: &Clock,
    fleet: &Fleet,
    target: &Target,
    note: Option<Note>,
    wait: Duration,
) -> Result<Changed, String> {
    let began = clock.elapsed();
    let (is_new, version) = loop {
        let (version, next, changes) = match &note {
            Some(note) => freeze.following_with(target, note.clone()),
            None => freeze.following_without(target),
        };
        if !changes && freeze.is_known() {
            break (false, version);
        }
        if changes && fleet.store.replace(version, next).await? {
            break (true, version.saturating_add(1));
        }
        // Another change came first, or this gateway has not read the state yet.
        if clock.elapsed().saturating_sub(began) > wait {
            return Err("the state could not be read and changed in time".into());
        }
        sleep(AGAIN).await;
    };
    // A gateway that does not report can go on for so long.
    let lapse = fleet.lease + fleet.store.straggling();
    let written = clock.elapsed();
    let mut silences = Silences::default();
    loop {
        let is_over = clock.elapsed().saturating_sub(began) > wait.max(lapse + AGAIN);
        let (found, members) = match fleet.store.members().await {
            Ok(members) => members,
            Err(why) if is_over => return Err(why),
            Err(_) => {
                sleep(AGAIN).await;
                continue;
            }
        };
        let (_, _, changes) = match &note {
            Some(note) => freeze.following_with(target, note.clone()),
            None => freeze.following_without(target),
        };
        let behind = members.into_iter().filter(|member| member.cleared < version);
        let (silent, waiting) = silences.divide(behind, lapse, clock.elapsed());
        let settled = clock.elapsed().saturating_sub(written) > lapse;
        let taken = found >= version && !changes;
        if taken && settled && waiting.is_empty() {
            return Ok(Changed { is_new, waiting, silent });
        }
        if is_over {
            if !taken {
                return Err("the change was lost, or undone meanwhile".into());
            }
            return Ok(Changed { is_new, waiting, silent });
        }
        sleep(AGAIN).await;
    }
}

/// Since when gateways have been silent. The store's clock may jump, so a silence counts only if it lasts here, too.
#[derive(Default)]
struct Silences(HashMap<String, Duration>);

impl Silences {
    /// The names of those that have been silent for longer than this, and of the others.
    fn divide(
        &mut self,
        members: impl Iterator<Item = FleetMember>,
        lapse: Duration,
        now: Duration,
    ) -> (Vec<String>, Vec<String>) {
        let (silent, heard): (Vec<FleetMember>, Vec<FleetMember>) = members.partition(|member| member.silent > lapse);
        self.0.retain(|name, _| silent.iter().any(|member| member.name == *name));
        let names = |members: Vec<FleetMember>| members.into_iter().map(|member| member.name);
        let (lasting, short): (Vec<String>, Vec<String>) =
            names(silent).partition(|name| now.saturating_sub(*self.0.entry(name.clone()).or_insert(now)) > lapse);
        (lasting, names(heard).chain(short).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_of_the_clock_of_the_store_silences_no_gateway() {
        let (mut silences, lapse) = (Silences::default(), Duration::from_secs(1));
        let mut look = |silent: u64, now: u64| {
            let member = FleetMember { name: "a".into(), cleared: 0, silent: Duration::from_millis(silent) };
            let (silent, waiting) = silences.divide([member].into_iter(), lapse, Duration::from_millis(now));
            (silent.len(), waiting.len())
        };
        assert_eq!(look(0, 0), (0, 1));
        assert_eq!(look(60_000, 50), (0, 1), "the clock jumped, or it has just fallen silent");
        assert_eq!(look(100, 100), (0, 1));
        assert_eq!(look(60_000, 2000), (0, 1));
        assert_eq!(look(61_001, 3001), (1, 0));
    }
}
