//! Duties that are due once a second and belong to no request.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::certificates::Certificates;
use super::entries::Entries;
use crate::clock::JumpWatch;
use crate::gate::{Current, Generation};
use crate::ownership::Ownership;
use crate::process::Process;
use crate::upstream::{Checks, Servers, Upstreams};

/// How often they are done.
const TICK: Duration = Duration::from_secs(1);

/// Performs the duties until it is dropped. Runs on one worker.
pub(super) async fn run(
    process: Arc<Process>,
    current: Arc<Current>,
    entries: Arc<Entries>,
    certificates: Arc<Certificates>,
) {
    let mut ticks = tokio::time::interval(TICK);
    let mut clock = JumpWatch::new(process.clock.clone());
    let mut checked = Checked::new(current.load().servers.clone());
    loop {
        ticks.tick().await;
        let generation = current.load_full();
        checked.follow(&generation);
        generation.servers.refresh_names();
        if let Ownership::Postgres(table) = &generation.ownership {
            table.try_again();
        }
        watch_clock(&process, &mut clock);
        forget_what_expired(&process);
        process.metrics.sample(process.clock.elapsed());
        refresh_gauges(&process, &generation);
        reload_certificates(&process, &generation, &entries, &certificates).await;
        generation.upstreams.iter().for_each(Upstreams::sweep);
    }
}

/// The health checks of the servers in force.
struct Checked {
    servers: Arc<Servers>,
    /// `None` only while one set of checks is replaced by another.
    checks: Option<Checks>,
}

impl Checked {
    fn new(servers: Arc<Servers>) -> Self {
        Self { checks: Some(servers.check()), servers }
    }

    /// Checks the servers of this generation, if a reload replaced them.
    fn follow(&mut self, generation: &Generation) {
        if Arc::ptr_eq(&self.servers, &generation.servers) {
            return;
        }
        // The old checks end first: otherwise a server in both sets would get two verdicts.
        self.checks = None;
        *self = Self::new(generation.servers.clone());
    }
}

/// Reports that the wall clock was set. Nothing else depends on this.
fn watch_clock(process: &Process, watch: &mut JumpWatch) {
    let (skew, jumped) = watch.look();
    process.clock_skew.store(skew.seconds(), Ordering::Relaxed);
    if jumped {
        process.metrics.clock_jumped();
        tracing::warn!(
            skew_seconds = skew.seconds(),
            "the wall clock was set: it is {skew}; dates are judged by it, but no spent salt is forgotten because of it"
        );
    }
}

/// Drops spent salts and budget entries that have expired.
fn forget_what_expired(process: &Process) {
    process.salts.forget();
    process.budget_usage.forget(process.clock.elapsed());
    process.shadow_budget_usage.forget(process.clock.elapsed());
}

/// Updates the gauges that nothing else updates.
pub(super) fn refresh_gauges(process: &Process, generation: &Generation) {
    generation.servers.healthy().for_each(|(server, healthy)| process.metrics.upstream(server, healthy));
    let fence = process.salts.fenced_until().and_then(|until| until.duration_since(process.clock.now()).ok());
    process.metrics.replay(process.salts.held(), process.salts.capacity(), fence.unwrap_or_default());
}

/// Loads certificates whose files have changed.
async fn reload_certificates(
    process: &Process,
    generation: &Generation,
    entries: &Arc<Entries>,
    certificates: &Arc<Certificates>,
) {
    if !generation.servers.have_tls() && entries.tls().is_empty() {
        return;
    }
    // Reading files may block, and this runs on a worker.
    let (certificates, entries) = (certificates.clone(), entries.clone());
    let (servers, metrics) = (generation.servers.clone(), process.metrics.clone());
    drop(tokio::task::spawn_blocking(move || certificates.look(&entries, &servers, &metrics)).await);
}
