//! The running gateway: workers, reload, drain, the admin listener.

mod admin;
mod assemble;
mod connection;
mod descriptors;
mod framing;
mod workers;

pub use assemble::{directory, ownership, record_settings, redis_settings, servers, upstream_settings};

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::clock::{Clock, JumpWatch};
use crate::config::{Config, Fault, Replay};
use crate::gate::{Generation, Process};
use crate::listen::{Door, ListenError};
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
    door: Door,
    admin: Option<SocketAddr>,
    /// True once nothing more is to be accepted.
    closing: watch::Sender<bool>,
    admin_worker: Option<admin::Admin>,
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
        let door = Door::open(config.listener).map_err(|error| StartError::Listen("listener.address", error))?;
        let admin = config.admin.map(Door::open).transpose();
        let admin = admin.map_err(|error| StartError::Listen("admin.address", error))?;
        let process = assemble::process(&config, &metrics, clock)?;
        let process = Arc::new(process);
        let current = Arc::new(ArcSwap::from_pointee(generation));
        metrics.reloaded(Some(&config.hash()));

        descriptors::make_room(&config.limits);
        let (closing, closed) = watch::channel(false);
        let failed = |error: std::io::Error| StartError::Other(format!("workers cannot be started: {error}"));
        let listeners = door.listeners(workers).map_err(failed)?;
        let limits = connection::Limits::new(&config);
        let workers =
            workers::start(config.workers, listeners, &process, &current, &limits, &closed).map_err(failed)?;
        let (admin, admin_worker) = match admin {
            None => (None, None),
            Some(door) => {
                let worker = admin::start(door, &process, &current).map_err(failed)?;
                (Some(worker.1), Some(worker.0))
            }
        };
        Ok(Self { process, current, config, workers, door, admin, closing, admin_worker })
    }

    /// Where requests are taken.
    pub fn address(&self) -> SocketAddr {
        self.door.address()
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
            let needs_restart = self.config.needs_restart(&config);
            self.process.metrics.reloaded(Some(&config.hash()));
            self.current.store(Arc::new(generation));
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

    /// Ends the gateway: `/ready` says so first, then nothing more is accepted, and what is in
    /// flight has `drain_timeout` to finish. Returns whether all of it did.
    pub fn drain(self) -> bool {
        let Self { process, workers, closing, config, admin_worker, door, .. } = self;
        process.draining.store(true, Ordering::Relaxed);
        std::thread::sleep(config.limits.drain_delay);
        // Nobody listens any more only if every worker is gone already.
        let _ = closing.send(true);
        let finished = workers.join(config.limits.drain_timeout);
        drop(admin_worker);
        drop(door);
        finished
    }
}

/// How often what is forgotten is forgotten, and the gauges are brought up to date.
const TICK: Duration = Duration::from_secs(1);

/// The work that no request does.
async fn housekeeping(process: Arc<Process>, current: Arc<ArcSwap<Generation>>) {
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
        refresh(&process, &generation);
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
