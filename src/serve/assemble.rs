//! Builds what runs from a configuration: what a reload swaps, and what lives as long as the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::time::Duration;

use super::{StartError, descriptors, earlier, last_use, workers};
use crate::clock::Clock;
use crate::config::{Config, Fault};
use crate::directory::KeyState;
use crate::gate::{Generation, Reporting, RequestIds};
use crate::pipeline::Tasks;
use crate::process::{Fleet, Process};
use crate::repeats::Repeats;
use crate::replay::{RedisStartError, SpentSalts, StoreOpenError};
use crate::safeguard::{BudgetCounts, BudgetUsage, Budgets, FleetBudgets};
use crate::telemetry::{Metrics, Refusals};
use crate::throttle::{FailedSignatures, LateBodies, PassingSlots, Slots};
use crate::trace::{SpanExporter, TraceStartError, Tracing};
use crate::upstream::{Servers, UpstreamSettings, Upstreams};

/// Builds what a reload swaps. Takes the keys out of `config`, and keeps what `before` knows of servers,
/// and its connections to a database that stays the same.
pub(super) fn generation(
    config: &mut Config,
    workers: usize,
    clock: &Clock,
    before: Option<&Generation>,
) -> Result<Generation, Vec<Fault>> {
    let directory = config.take_directory()?;
    let max_idle = descriptors::max_idle(&config.capacity, workers, config.upstream.servers.len());
    let upstream = UpstreamSettings { max_idle, ..config.upstream.clone() };
    let servers = Servers::new(upstream, clock.clone(), before.map(|before| &*before.servers));
    let servers = Arc::new(servers.map_err(|unfit| vec![config.fault(unfit.key, unfit.why)])?);
    Ok(Generation {
        directory: directory.into(),
        keys: Arc::new(match &config.key_table {
            None => KeyState::of_file(clock.elapsed()),
            Some(table) => KeyState::of_database(clock.elapsed(), table.max_stale),
        }),
        key_set: 0,
        mode: config.mode,
        routes: config.routes.clone(),
        passthrough: config.passthrough.clone(),
        log_successes: config.log_successes,
        window: config.window,
        php_dates: config.php_dates,
        ownership: config.ownership.open(workers, clock, before.map(|before| &before.ownership)),
        budgets: config.safeguards.budgets,
        guard: config.safeguards.guard.clone(),
        upstreams: (0..workers).map(|_| Upstreams::new(&servers)).collect(),
        servers,
        authorization: config.upstream.authorization,
        limits: config.limits,
        spending: config.limits.spent_per_key.into(),
    })
}

/// How long a reload waits for intents that are being written.
const WRITTEN: Duration = Duration::from_secs(5);

/// Counts again from the record if a budget spans more time than any before.
pub(super) fn recount(running: &Config, new: &Config, budgets: Budgets, process: &Process) -> Result<(), Vec<Fault>> {
    // A fleet keeps what any budget needs.
    let BudgetCounts::Process(usage) = &*process.budget_usage else { return Ok(()) };
    let counted = usage.widen_from_record(budgets, &running.audit, &process.clock, WRITTEN);
    counted.map_err(|why| vec![new.fault("budget", format!("what was deleted so far cannot be counted: {why}"))])
}

/// Starts the exporter of traces, if there is one.
pub(super) fn traces(
    config: &Config,
    metrics: &Arc<Metrics>,
    clock: &Clock,
) -> Result<(Tracing, Option<SpanExporter>), StartError> {
    SpanExporter::start(&config.trace, clock, metrics).map_err(|error| match error {
        TraceStartError::Endpoint(why) => StartError::Config(vec![config.fault("trace.endpoint", why)]),
        TraceStartError::Thread(error) => StartError::Traces(error),
    })
}

/// Builds what lives as long as the process.
pub(super) fn process(
    config: &Config,
    metrics: &Arc<Metrics>,
    clock: Clock,
    tracing: Tracing,
) -> Result<Process, StartError> {
    // This must come before the process begins a record file of its own.
    let earlier = earlier::requests(config, &clock)?;
    let safeguards = &config.safeguards;
    let freeze = safeguards.open_freeze(config.audit.path(), &clock).map_err(StartError::Freeze)?;
    let recorded = match safeguards.fleet {
        None => BudgetUsage::from_record(safeguards.budgets, &config.audit, &clock).map_err(StartError::Budget)?,
        // Counted in its store.
        Some(_) => BudgetUsage::default(),
    };
    let synced = metrics.clone();
    let record = config.audit.open(clock.clone(), move |took| synced.audit_sync(took));
    let record = record.map_err(StartError::Record)?;
    let salts = salts(config, &clock)?;
    let now = clock.now();
    let repeats = Repeats::new(config.repeats, clock.clone());
    repeats.restore(earlier);
    let (capacity, workers) = (&config.capacity, workers::count(config.workers));
    let salts: Arc<dyn SpentSalts> = salts.into();
    let fleet = safeguards.fleet.and_then(|lease| Some(Fleet { store: salts.fleet()?, lease }));
    let budget_usage = match &fleet {
        Some(fleet) => BudgetCounts::Fleet(FleetBudgets::new(fleet.store.clone())),
        None => BudgetCounts::Process(recorded),
    };
    let refusals = Arc::new(Refusals::new(workers));
    let reporting = Arc::new(Reporting {
        clock: clock.clone(),
        request_ids: RequestIds::default(),
        metrics: metrics.clone(),
        record: record.clone(),
        refusals: refusals.clone(),
        salts: salts.clone(),
        repeats: repeats.clone(),
        tracing,
    });
    Ok(Process {
        clock,
        salts,
        repeats,
        record,
        slots: Slots::new(capacity.max_in_flight, capacity.max_in_flight_per_key),
        passing_slots: PassingSlots::new(capacity.max_passing),
        late_bodies: LateBodies::default(),
        failed_signatures: FailedSignatures::new(capacity.failed_signatures_per_client),
        freeze: Arc::new(freeze),
        fleet,
        budget_usage: Arc::new(budget_usage),
        shadow_budget_usage: Arc::default(),
        refusals,
        metrics: metrics.clone(),
        reporting,
        tasks: (0..workers).map(|_| Tasks::default()).collect(),
        draining: AtomicBool::new(false),
        clock_skew: AtomicI64::new(0),
        keys_refused: AtomicBool::new(false),
        key_uses: Arc::new(last_use::ledger(config, now)),
        ready_needs_replay: config.ready_needs.iter().any(|part| part == "replay"),
    })
}

/// Starts to copy the record, if the configuration says where to.
#[cfg(feature = "postgres")]
pub(super) fn shipper(config: &Config, process: &Process) -> std::io::Result<Option<crate::ship::Shipper>> {
    let (Some(settings), Some(directory)) = (&config.ship, config.audit.path()) else { return Ok(None) };
    let files = process.record.shipped_files();
    crate::ship::Shipper::start(directory, settings, files, process.clock.clone(), process.metrics.clone()).map(Some)
}

fn salts(config: &Config, clock: &Clock) -> Result<Box<dyn SpentSalts>, StartError> {
    config.replay.open(clock.clone()).map_err(|error| match error {
        StoreOpenError::Redis(RedisStartError::File { setting, file, error }) => {
            StartError::Config(vec![Fault::of_redis_file(setting, &file, &error)])
        }
        error => StartError::Salts(error),
    })
}
