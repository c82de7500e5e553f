//! The running gateway: workers, reload, drain, the admin listener.

mod accepting;
mod admin;
mod assemble;
mod certificates;
mod commands;
mod connection;
mod control;
mod crowd;
mod descriptors;
mod drain;
mod earlier;
mod entries;
mod fleet;
mod heartbeat;
mod housekeeping;
#[cfg(feature = "postgres")]
mod kept_keys;
mod key_counts;
#[cfg(feature = "postgres")]
mod key_watch;
mod keys;
mod last_use;
mod levels;
mod ready;
mod reload;
#[cfg(test)]
mod simulation;
mod start_error;
mod status;
mod status_page;
mod workers;

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};

pub(crate) use self::commands::{Command, Commands, NotReloaded};
pub use self::drain::Drained;
pub(crate) use self::heartbeat::Heartbeat;
pub(crate) use self::reload::Reloaded;
pub(crate) use self::start_error::StartError;

use self::certificates::Certificates;
use self::drain::{Event, Progress, Stage};
use self::entries::Entries;
use self::keys::Keys;
use self::last_use::LastUse;
use self::status::StatusSource;
use crate::clock::Clock;
use crate::config::Config;
use crate::gate::Current;
use crate::listen::{BoundTcp, ListenAddress, unused_sockets};
use crate::process::Process;
use crate::replay;
use crate::socket::IoBackend;
use crate::telemetry::Metrics;
use crate::trace::SpanExporter;

/// A running gateway.
pub struct Gateway {
    process: Arc<Process>,
    current: Arc<Current>,
    config: Config,
    /// Ends after the workers.
    #[cfg(feature = "postgres")]
    key_watch: Option<key_watch::KeyWatch>,
    _fleet: Option<fleet::FleetWatch>,
    workers: workers::Workers,
    entries: Arc<Entries>,
    certificates: Arc<Certificates>,
    status: Arc<StatusSource>,
    keys: Keys,
    last_use: Option<LastUse>,
    admin: Option<SocketAddr>,
    admin_worker: Option<admin::Admin>,
    control: Option<control::Control>,
    commands: Option<Commands>,
    heartbeat: Option<Heartbeat>,
    events: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    progress: Progress,
    exporter: Option<SpanExporter>,
    /// Copies the record.
    #[cfg(feature = "postgres")]
    _shipper: Option<crate::ship::Shipper>,
}

impl Gateway {
    /// Starts all workers and the admin listener. When this returns, requests are answered.
    ///
    /// # Errors
    /// If the configuration has faults, an address is in use, or the record cannot be opened.
    pub fn start(mut config: Config, clock: Clock) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::new()?);
        let workers = workers::count(config.workers);
        descriptors::make_room(&mut config.capacity);
        // Faults of the configuration are found before anything is opened, so that a faulty file takes no port.
        let mut generation = assemble::generation(&mut config, workers, &clock, None).map_err(StartError::Config)?;
        let io = config.io_backend().map_err(|fault| StartError::Config(vec![fault]))?;
        let entries = Arc::new(Entries::new(workers));
        let listeners = entries.plan(&config)?;
        for name in unused_sockets(config.listeners.iter().map(|listener| &listener.address)) {
            tracing::warn!(
                name,
                "a socket was passed in, and no listener has its name: who connects to it waits in vain"
            );
        }
        let admin = config.admin.map(BoundTcp::open).transpose();
        let admin = admin.map_err(|error| StartError::Listen("admin.address", error))?;
        let control = config.safeguards.socket.as_deref().map(control::ControlSocket::open).transpose();
        let control = control.map_err(StartError::Control)?;
        let (tracing, exporter) = assemble::traces(&config, &metrics, &clock)?;
        let process = assemble::process(&config, &metrics, clock, tracing)?;
        let process = Arc::new(process);
        generation.directory.remember_uses(&process.key_uses.all());
        keys::put_on_record(&process.record, None, &mut generation, "start");
        let current = Arc::new(Current::new(&process.reporting, generation));
        metrics.reloaded(Some(&config.hash()));
        // Before the workers, so that the first request finds the keys if they can be read.
        #[cfg(feature = "postgres")]
        let key_watch = {
            let record = config.audit.path();
            let start = |table| key_watch::KeyWatch::start(table, record, process.clone(), current.clone());
            config.key_table.clone().map(start).transpose().map_err(StartError::Workers)?
        };

        #[cfg(feature = "postgres")]
        let shipper = assemble::shipper(&config, &process).map_err(StartError::Workers)?;
        let fleet = fleet::FleetWatch::start(&process).map_err(StartError::Workers)?;
        let shared = connection::Shared::new(&config.capacity, &process, &current);
        let certificates = Arc::new(Certificates::new(&config));
        let parts = (&process, &current, &entries, &certificates);
        let (events, heartbeat) = (mpsc::channel(), Heartbeat::new(workers));
        let runtimes = (config.workers, config.io, io);
        let workers = workers::start(runtimes, workers, parts, &shared, (&events.0, &heartbeat));
        let workers = workers.map_err(StartError::Workers)?;
        let kinds: Vec<_> = workers.io_backends().into_iter().map(IoBackend::as_str).collect();
        metrics.io_backends(&kinds);
        tracing::info!(io = kinds.join(", "), workers = workers.len(), "the workers have started");
        entries.carry_out(listeners, |worker, order| workers.order(worker, order));
        certificates.tell_expiries(&entries, &current.load().servers, &metrics);
        let status = Arc::new(StatusSource::new(&process, &current, &entries, &certificates, (&config, kinds)));
        let (admin, admin_worker) = match admin {
            None => (None, None),
            Some(socket) => {
                let worker = admin::start(socket, &process, &current, &status).map_err(StartError::Workers)?;
                (Some(worker.1), Some(worker.0))
            }
        };
        let keys_file = config.keys_file.path.clone();
        let (to_owner, commands) = commands::channel();
        let progress = Progress::new(Stage::Serving);
        let owner = (to_owner, progress.subscribe());
        let control =
            control.map(|socket| control::start(socket, &process, &current, keys_file, owner, &status)).transpose();
        let control = control.map_err(StartError::Workers)?;
        let keys = Keys::start(&mut config, &process, &current).map_err(StartError::Workers)?;
        let last_use = LastUse::start(&config, &process, &current).map_err(StartError::Workers)?;
        Ok(Self {
            process,
            current,
            config,
            #[cfg(feature = "postgres")]
            key_watch,
            _fleet: fleet,
            workers,
            entries,
            certificates,
            status,
            keys,
            last_use,
            admin,
            admin_worker,
            control,
            commands: Some(commands),
            heartbeat: Some(heartbeat),
            events,
            progress,
            exporter,
            #[cfg(feature = "postgres")]
            _shipper: shipper,
        })
    }

    /// The addresses on which requests are accepted, in the order of the configuration at the start.
    pub fn addresses(&self) -> Vec<ListenAddress> {
        self.entries.addresses()
    }

    /// The first TCP address, if there is one.
    pub fn address(&self) -> Option<SocketAddr> {
        self.addresses().into_iter().find_map(|address| match address {
            ListenAddress::Tcp(address) => Some(address),
            ListenAddress::Unix(_) | ListenAddress::Passed(_) => None,
        })
    }

    /// The address of `/live`, `/ready` and `/metrics`.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The state that all workers share.
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// The generation that new requests are judged by.
    pub fn current(&self) -> &Arc<Current> {
        &self.current
    }

    /// What is asked of the whole gateway over the control socket, for its owner to do. The second call gets nothing.
    pub(crate) fn commands(&mut self) -> Option<Commands> {
        self.commands.take()
    }

    /// Whether the workers still answer, for a watchdog. The second call gets nothing.
    pub(crate) fn heartbeat(&mut self) -> Option<Heartbeat> {
        self.heartbeat.take()
    }

    /// The warnings of `check` about the configuration in force; none of them prevents its use.
    pub fn warnings(&self) -> Vec<String> {
        let (servers, now) = (self.current.load_full().servers.clone(), self.process.clock.now());
        let expired = self.certificates.expired(&self.config, &self.entries, &servers, now);
        self.config.warnings.iter().map(ToString::to_string).chain(expired).collect()
    }

    /// Whether the keys are in a table, since the start.
    fn reads_a_table(&self) -> bool {
        #[cfg(feature = "postgres")]
        return self.key_watch.is_some();
        #[cfg(not(feature = "postgres"))]
        false
    }

    /// Whether a restart forgets which salts were spent.
    pub fn forgets(&self) -> bool {
        matches!(self.config.replay, replay::ReplaySettings::Memory(_))
    }

    /// The configuration file of this gateway.
    pub fn file(&self) -> &std::path::Path {
        &self.config.file
    }
}
