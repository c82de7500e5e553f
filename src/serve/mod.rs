//! The running gateway: workers, reload, drain, the admin listener.

mod admin;
mod assemble;
mod connection;
mod control;
mod descriptors;
mod entries;
mod frames;
mod http1;
mod http2;
mod streams;
mod workers;

pub use assemble::{directory, ownership, record_settings, redis_settings, servers, upstream_settings};
pub use entries::certificates;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;

use self::entries::{Entries, Phase};
use crate::clock::{Clock, JumpWatch};
use crate::config::{Config, Fault, Replay};
use crate::gate::{Generation, Process};
use crate::listen::{Address, Door, ListenError};
use crate::telemetry::Metrics;

/// Why a gateway does not start.
#[derive(Debug)]
pub enum StartError {
    /// The configuration is at fault.
    Config(Vec<Fault>),
    /// An address is not to be had.
    Listen(&'static str, ListenError),
    /// Anything else.
    Other(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(faults) => {
                let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
            Self::Listen(which, error) => write!(f, "{which}: {error}"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for StartError {}

/// A gateway that runs.
pub struct Gateway {
    process: Arc<Process>,
    current: Arc<ArcSwap<Generation>>,
    config: Config,
    workers: workers::Workers,
    entries: Arc<Entries>,
    admin: Option<SocketAddr>,
    admin_worker: Option<admin::Admin>,
    control: Option<control::Control>,
}

impl Gateway {
    /// Starts all workers and the admin listener. When this returns, requests are answered.
    ///
    /// # Errors
    /// If the configuration is at fault, an address is in use, or the record cannot be opened.
    pub fn start(mut config: Config, clock: Clock) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::new().map_err(|error| StartError::Other(error.to_string()))?);
        let workers = workers::count(config.workers);
        // What can be wrong is found before anything is opened: a faulty file takes no port.
        let generation = assemble::generation(&mut config, workers, &clock, None).map_err(StartError::Config)?;
        let entries = Arc::new(Entries::new(&config, workers));
        let listeners = entries.plan(&config)?;
        let admin = config.admin.map(Door::open).transpose();
        let admin = admin.map_err(|error| StartError::Listen("admin.address", error))?;
        let control = config.safeguards.socket.as_deref().map(control::ControlDoor::open).transpose();
        let control = control.map_err(|error| StartError::Other(format!("control.socket: {error}")))?;
        let process = assemble::process(&config, &metrics, clock)?;
        let process = Arc::new(process);
        let current = Arc::new(ArcSwap::from_pointee(generation));
        metrics.reloaded(Some(&config.hash()));

        descriptors::make_room(&config.limits);
        let failed = |error: std::io::Error| StartError::Other(format!("workers cannot be started: {error}"));
        let limits = connection::Limits::new(&config, &process, &current);
        let workers = workers::start(config.workers, workers, &entries, &process, &current, &limits).map_err(failed)?;
        entries.carry_out(listeners, |worker, order| workers.order(worker, order));
        entries.tell_expiries(&metrics);
        let (admin, admin_worker) = match admin {
            None => (None, None),
            Some(door) => {
                let worker = admin::start(door, &process, &current).map_err(failed)?;
                (Some(worker.1), Some(worker.0))
            }
        };
        let keys_file = config.keys_file.clone();
        let control = control.map(|door| control::start(door, &process, &current, keys_file)).transpose();
        let control = control.map_err(failed)?;
        Ok(Self { process, current, config, workers, entries, admin, admin_worker, control })
    }

    /// Where requests are taken, in the order of the configuration at the start.
    pub fn addresses(&self) -> Vec<Address> {
        self.entries.addresses()
    }

    /// The first TCP address of those, if there is one.
    pub fn address(&self) -> Option<SocketAddr> {
        self.addresses().into_iter().find_map(|address| match address {
            Address::Tcp(address) => Some(address),
            Address::Unix(_) => None,
        })
    }

    /// Where live, ready and metrics are.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// What all workers share.
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// Takes a new configuration, or reports why not and keeps the old one whole. Requests on
    /// their way keep what they began with. Returns the settings that changed but need a
    /// restart.
    ///
    /// # Errors
    /// Every fault of the new configuration.
    pub fn reload(&mut self, config: Result<Config, Vec<Fault>>) -> Result<Vec<String>, Vec<Fault>> {
        let taken = config.and_then(|mut config| {
            if self.config.keeps_window() {
                config.window = self.config.window;
            }
            let old = self.current.load_full();
            let (workers, clock) = (self.workers.len(), &self.process.clock);
            let mut generation = assemble::generation(&mut config, workers, clock, Some(&old.servers))?;
            generation.directory = generation.directory.after(&old.directory);
            let names: Vec<String> = generation.servers.healthy().map(|(name, _)| name.to_owned()).collect();
            assemble::recount(&self.config, &config, generation.budgets, &self.process)?;
            // The last that can go wrong: from here on all of it is taken.
            let listeners = self.entries.plan(&config).map_err(|error| match error {
                StartError::Config(faults) => faults,
                StartError::Listen(key, error) => vec![Fault::new(&config.file, None, key, error.to_string())],
                StartError::Other(what) => vec![Fault::new(&config.file, None, "listener", what)],
            })?;
            let needs_restart = self.config.needs_restart(&config);
            self.process.metrics.reloaded(Some(&config.hash()));
            self.current.store(Arc::new(generation));
            self.entries.carry_out(listeners, |worker, order| self.workers.order(worker, order));
            self.entries.tell_expiries(&self.process.metrics);
            let gone = old.servers.healthy().filter(|(name, _)| !names.iter().any(|new| new == name));
            gone.for_each(|(name, _)| self.process.metrics.upstream_gone(name));
            self.config = config;
            Ok(needs_restart)
        });
        if taken.is_err() {
            self.process.metrics.reloaded(None);
        }
        taken
    }

    /// Whether a restart forgets which salts were spent.
    pub fn forgets(&self) -> bool {
        matches!(self.config.replay, Replay::Memory(_))
    }

    /// The file this gateway was configured by.
    pub fn file(&self) -> &std::path::Path {
        &self.config.file
    }

    /// Ends the gateway. `/ready` says so first, and for `drain_delay` connections are accepted and
    /// every answer tells its client to go elsewhere; then nothing more is accepted, and what is in
    /// flight has `drain_timeout` to finish. Returns whether all of it did.
    pub fn drain(self) -> bool {
        let Self { process, workers, entries, config, admin_worker, control, .. } = self;
        process.draining.store(true, Ordering::Relaxed);
        if !config.limits.drain_delay.is_zero() {
            entries.advance(Phase::Announcing);
            std::thread::sleep(config.limits.drain_delay);
        }
        entries.close();
        entries.advance(Phase::Closing);
        let finished = workers.join(config.limits.drain_timeout);
        drop(admin_worker);
        drop(control);
        finished
    }
}

/// How often what is forgotten is forgotten, and the gauges are brought up to date.
const TICK: Duration = Duration::from_secs(1);

/// The work that no request does.
async fn housekeeping(process: Arc<Process>, current: Arc<ArcSwap<Generation>>, entries: Arc<Entries>) {
    let mut ticks = tokio::time::interval(TICK);
    let mut clock = JumpWatch::new(process.clock.clone());
    let mut servers = current.load().servers.clone();
    let mut checks = servers.check();
    loop {
        ticks.tick().await;
        let generation = current.load_full();
        if !Arc::ptr_eq(&servers, &generation.servers) {
            servers = generation.servers.clone();
            // What is checked no longer ends first: two could not agree.
            drop(checks);
            checks = servers.check();
        }
        servers.refresh_names();
        look_at_clock(&process, &mut clock);
        process.salts.forget();
        process.takings.forget(process.clock.elapsed());
        process.watched.forget(process.clock.elapsed());
        refresh(&process, &generation);
        if entries.have_tls() {
            // Files may be slow, and this is a worker.
            let (entries, metrics) = (entries.clone(), process.metrics.clone());
            drop(tokio::task::spawn_blocking(move || entries.look_at_files(&metrics)).await);
        }
        generation.upstreams.iter().for_each(crate::upstream::Upstream::sweep);
    }
}

/// A wall clock that was set is told of, and changes nothing by itself.
fn look_at_clock(process: &Process, watch: &mut JumpWatch) {
    let (skew, jumped) = watch.look();
    process.clock_skew.store(skew.seconds(), Ordering::Relaxed);
    if jumped {
        process.metrics.clock_jumped();
        tracing::warn!(
            skew_seconds = skew.seconds(),
            "the wall clock was set: it is {skew}; dates are judged by it, and no spent salt is forgotten for it"
        );
    }
}

/// Brings the gauges up to date.
fn refresh(process: &Process, generation: &Generation) {
    generation.servers.healthy().for_each(|(server, healthy)| process.metrics.upstream(server, healthy));
    let fence = process.salts.fenced_until().and_then(|until| until.duration_since(process.clock.now()).ok());
    process.metrics.replay(process.salts.held(), process.salts.capacity(), fence.unwrap_or_default());
}
