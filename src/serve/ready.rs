//! Which parts of the gateway work: for `/ready`, the metrics and the status page.

use std::sync::atomic::Ordering;

use crate::clock;
use crate::directory::KeyHealth;
use crate::gate::Generation;
use crate::ownership::Ownership;
use crate::policy::Mode;
use crate::process::Process;
use crate::replay::{Floor, StoreHealth};

/// The state of a part of the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// It works.
    Ok,
    /// Something is wrong, but requests are served.
    Degraded(String),
    /// Nothing is served without this part.
    Gone(String),
}

impl Part {
    /// What is wrong with it.
    pub(super) fn trouble(self) -> Option<String> {
        match self {
            Self::Ok => None,
            Self::Degraded(why) | Self::Gone(why) => Some(why),
        }
    }
}

/// Every part by its name, in the order in which `/ready` has them.
pub(super) fn parts(process: &Process, current: &Generation) -> Vec<(&'static str, Part)> {
    let mut parts = vec![
        ("draining", gone_if(process.is_draining(), || "the process is ending".into())),
        ("record", record(process)),
        ("replay", replay(process)),
        ("directory", directory(process, current)),
        ("clock", clock(process)),
        ("upstream", upstream(current)),
    ];
    // Observe mode counts in this process.
    if process.budget_usage.is_shared() && current.budgets.is_any() && current.mode == Mode::Enforce {
        parts.push(("budget", budget(process, current)));
    }
    if let Ownership::Postgres(table) = &current.ownership {
        // All gateways share it, too.
        parts.push(("ownership", table.trouble().map_or(Part::Ok, Part::Degraded)));
    }
    parts
}

fn record(process: &Process) -> Part {
    if !process.record.is_ready() {
        return Part::Gone("cannot be written".into());
    }
    let anew = "a file of it was taken away while it was written; it goes on in a new one, whose first line says why";
    let troubles =
        [(process.record.was_begun_anew(), anew), (process.record.is_low(), "less space is free than audit.low_water")];
    let told: Vec<&str> = troubles.iter().filter(|(is_so, _)| *is_so).map(|(_, why)| *why).collect();
    degraded_if(!told.is_empty(), || told.join("; "))
}

fn replay(process: &Process) -> Part {
    match (process.salts.health(), process.salts.fenced_until()) {
        (StoreHealth::Gone(why), _) => Part::Gone(why),
        (_, Some(until)) => Part::Gone(format!("fenced until {}", clock::rfc3339(until))),
        // A shared store may come back, and other gateways have the same problem.
        (StoreHealth::Degraded(why), None) if process.ready_needs_replay => Part::Gone(why),
        (StoreHealth::Degraded(why), None) => Part::Degraded(why),
        (StoreHealth::Ok, None) if !process.freeze.is_known() => {
            let why = "what is frozen for the fleet cannot be read (safeguard.scope)".into();
            if process.ready_needs_replay { Part::Gone(why) } else { Part::Degraded(why) }
        }
        (StoreHealth::Ok, None) => Part::Ok,
    }
}

/// The counts of the fleet are complete since the last fence began; budgets with a longer span are closed.
fn budget(process: &Process, current: &Generation) -> Part {
    let Floor(fence) = process.salts.floor();
    let budgets = [current.budgets.key, current.budgets.account].into_iter().flatten();
    let span = budgets.map(|budget| budget.span).max().unwrap_or_default();
    let until = fence.checked_sub(current.window.future).and_then(|began| began.checked_add(span));
    let closed = until.filter(|until| *until > process.clock.now() && !current.budgets.accepts_lost_counts);
    match closed {
        None => Part::Ok,
        Some(until) => Part::Degraded(format!(
            "Redis is new, or lost its data, and with them which deletions were made: budgets are closed until {}, those with \
             a shorter span earlier (budget.on_lost_counts)",
            clock::rfc3339(until)
        )),
    }
}

fn directory(process: &Process, current: &Generation) -> Part {
    // The log has the faults: they may hold an apiKey, and this is read by anybody who can reach the admin listener.
    let refused = "the keys were changed and cannot be used (the log says why); those of before stay in force";
    let source = match current.keys.health(process.clock.elapsed()) {
        KeyHealth::Gone(why) => return Part::Gone(why),
        KeyHealth::Degraded(why) => Some(why),
        KeyHealth::Ok => None,
    };
    let troubles = [
        (process.keys_refused.load(Ordering::Relaxed), refused),
        (current.directory.is_empty(), "holds no key: everybody is refused"),
        (source.is_some(), source.as_deref().unwrap_or_default()),
    ];
    let told: Vec<&str> = troubles.iter().filter(|(is_so, _)| *is_so).map(|(_, why)| *why).collect();
    degraded_if(!told.is_empty(), || told.join("; "))
}

/// All gateways share the upstream, so moving traffic to another one would not help.
fn upstream(current: &Generation) -> Part {
    let none = current.servers.healthy().all(|(_, healthy)| !healthy);
    degraded_if(none, || "no server could be reached when last tried".into())
}

fn clock(process: &Process) -> Part {
    let skew = process.clock_skew.load(Ordering::Relaxed);
    degraded_if(skew != 0, || format!("the wall clock is {skew} s from where elapsed time says it should be"))
}

fn gone_if(is_so: bool, why: impl FnOnce() -> String) -> Part {
    if is_so { Part::Gone(why()) } else { Part::Ok }
}

fn degraded_if(is_so: bool, why: impl FnOnce() -> String) -> Part {
    if is_so { Part::Degraded(why()) } else { Part::Ok }
}
