//! The listeners of a gateway: which there are, and how they come and go by a reload.

use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::StartError;
use crate::config::{self, Config, Fault};
use crate::listen::{self, Address, Entrance, Listener, Tls, TlsFiles, Trusted};
use crate::telemetry::Metrics;

/// How far a listener is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// It serves.
    Open,
    /// Its clients are told to go elsewhere: every answer closes its connection.
    Announcing,
    /// Connections on which nothing is under way are closed.
    Closing,
}

/// One listener, as all workers share it.
pub(super) struct Entry {
    configured: config::Address,
    address: Address,
    settings: ArcSwap<listen::Settings>,
    /// The phase, for whoever waits for it, and for whoever only looks.
    phase: watch::Sender<Phase>,
    now: AtomicU8,
    /// Whether workers are to accept from it no more.
    stopped: watch::Sender<bool>,
    /// How many workers accept from it.
    accepting: AtomicUsize,
    entrance: Mutex<Option<Entrance>>,
}

impl Entry {
    /// What connections begin with that are accepted now.
    pub(super) fn settings(&self) -> Arc<listen::Settings> {
        self.settings.load_full()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Waits until workers are to accept from it no more.
    pub(super) fn stopped(&self) -> impl Future<Output = ()> + use<> {
        let mut stopped = self.stopped.subscribe();
        async move { drop(stopped.wait_for(|stopped| *stopped).await) }
    }

    /// Whether its clients are told to go elsewhere.
    pub(super) fn is_leaving(&self) -> bool {
        self.now.load(Ordering::Relaxed) > Phase::Open as u8
    }

    /// It goes on to this phase; never back.
    pub(super) fn advance(&self, to: Phase) {
        self.now.fetch_max(to as u8, Ordering::Relaxed);
        self.phase.send_if_modified(|phase| {
            let further = to > *phase;
            *phase = to.max(*phase);
            further
        });
    }

    /// One worker accepts from it no more.
    pub(super) fn accepts_no_more(&self) {
        self.accepting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What a worker is told to accept from.
pub(super) type Order = (Listener, Arc<Entry>);

/// All listeners.
pub(super) struct Entries {
    entries: Mutex<Vec<Arc<Entry>>>,
    workers: usize,
    header_timeout: Duration,
    idle_timeout: Duration,
}

/// What a reload does to the listeners, once nothing more can go wrong.
pub(super) struct Plan {
    kept: Vec<(Arc<Entry>, listen::Settings, u32)>,
    new: Vec<(Arc<Entry>, Vec<Listener>)>,
    gone: Vec<Arc<Entry>>,
}

impl Entries {
    /// None yet, for so many workers.
    pub(super) fn new(config: &Config, workers: usize) -> Self {
        let config::Limits { header_timeout, idle_timeout, .. } = config.limits;
        Self { entries: Mutex::default(), workers, header_timeout, idle_timeout }
    }

    /// What comes and goes by this configuration. New addresses are taken, and given back if the
    /// plan is dropped.
    pub(super) fn plan(&self, config: &Config) -> Result<Plan, StartError> {
        let tls = tls(config).map_err(StartError::Config)?;
        let mut before: Vec<_> = self.all().iter().map(|entry| Some(entry.clone())).collect();
        let mut plan = Plan { kept: Vec::new(), new: Vec::new(), gone: Vec::new() };
        for (listener, tls) in config.listeners.iter().zip(tls) {
            let settings = self.settings(listener, tls);
            let same = |entry: &&mut Option<Arc<Entry>>| {
                entry.as_ref().is_some_and(|entry| entry.configured == listener.address)
            };
            if let Some(kept) = before.iter_mut().find(same).and_then(Option::take) {
                plan.kept.push((kept, settings, listener.mode));
                continue;
            }
            let entrance = Entrance::open(&address(&listener.address), listener.mode);
            let entrance = entrance.map_err(|error| StartError::Listen("listener.address", error))?;
            let failed = |error: std::io::Error| StartError::Other(format!("listeners cannot be opened: {error}"));
            let listeners = entrance.listeners(self.workers).map_err(failed)?;
            let entry = Entry {
                configured: listener.address.clone(),
                address: entrance.address(),
                settings: ArcSwap::from_pointee(settings),
                phase: watch::Sender::new(Phase::Open),
                now: AtomicU8::new(Phase::Open as u8),
                stopped: watch::Sender::new(false),
                accepting: AtomicUsize::new(listeners.len()),
                entrance: Mutex::new(Some(entrance)),
            };
            plan.new.push((Arc::new(entry), listeners));
        }
        plan.gone = before.into_iter().flatten().collect();
        Ok(plan)
    }

    /// Does what was planned; `order` tells a worker what to accept from. Returns once what is gone
    /// accepts no more.
    pub(super) fn carry_out(&self, plan: Plan, order: impl Fn(usize, Order)) {
        let Plan { kept, new, gone } = plan;
        for (entry, settings, mode) in kept {
            entry.settings.store(Arc::new(settings));
            if let Some(Entrance::Unix(door)) = &*locked(&entry.entrance) {
                if let Err(error) = door.set_mode(mode) {
                    tracing::warn!(%error, address = %entry.address, "the mode of the socket cannot be set");
                }
            }
        }
        for (entry, listeners) in new {
            self.all().push(entry.clone());
            for (worker, listener) in listeners.into_iter().enumerate() {
                order(worker, (listener, entry.clone()));
            }
        }
        self.all().retain(|entry| !gone.iter().any(|gone| Arc::ptr_eq(gone, entry)));
        for entry in gone {
            entry.close();
            tracing::info!(address = %entry.address, "accepts no more; its connections end as they are answered");
            entry.advance(Phase::Announcing);
        }
    }

    fn settings(&self, listener: &config::Listener, tls: Option<Arc<Tls>>) -> listen::Settings {
        let mut trusted = Trusted::default();
        for proxy in &listener.trusted_proxies {
            match proxy {
                config::TrustedProxy::Network(network) => trusted.networks.push(*network),
                config::TrustedProxy::Unix => trusted.unix = true,
            }
        }
        listen::Settings {
            proxy_protocol: listener.proxy_protocol,
            trusted: Arc::new(trusted),
            tls,
            http2: listener.http2,
            header_timeout: self.header_timeout,
            idle_timeout: self.idle_timeout,
        }
    }

    fn all(&self) -> MutexGuard<'_, Vec<Arc<Entry>>> {
        locked(&self.entries)
    }

    /// Where requests are taken.
    pub(super) fn addresses(&self) -> Vec<Address> {
        self.all().iter().map(|entry| entry.address.clone()).collect()
    }

    /// Whether some listener has certificates.
    pub(super) fn have_tls(&self) -> bool {
        self.all().iter().any(|entry| entry.settings.load().tls.is_some())
    }

    /// Takes certificates that changed.
    pub(super) fn look_at_files(&self, metrics: &Metrics) {
        let entries = self.all().clone();
        for tls in entries.iter().filter_map(|entry| entry.settings.load().tls.clone()) {
            match tls.look() {
                None => {}
                Some(Ok(())) => {
                    tracing::info!("the certificates changed, and new connections get the new ones");
                    metrics.certificates_taken(true);
                }
                Some(Err(error)) => {
                    tracing::error!(%error, "the certificates changed and are at fault; the old ones stay in force");
                    metrics.certificates_taken(false);
                }
            }
        }
        self.tell_expiries(metrics);
    }

    /// Brings the gauges of the certificates up to date.
    pub(super) fn tell_expiries(&self, metrics: &Metrics) {
        let entries = self.all().clone();
        let tls = entries.iter().filter_map(|entry| entry.settings.load().tls.clone());
        metrics.certificates(tls.flat_map(|tls| tls.expiries()));
    }

    /// None accepts any more, when this returns.
    pub(super) fn close(&self) {
        self.all().clone().iter().for_each(|entry| entry.close());
    }

    /// All of them go on to this phase.
    pub(super) fn advance(&self, to: Phase) {
        self.all().iter().for_each(|entry| entry.advance(to));
    }
}

impl Entry {
    /// Accepts no more, when this returns. Only then may its clients be told: those that are come
    /// back at once, and must find the door shut rather than closing.
    fn close(&self) {
        // Ours goes first: what connects from now on is a worker's, who looks for it at the end.
        drop(locked(&self.entrance).take());
        self.stopped.send_replace(true);
        // Workers come by in no time; only one that hangs is not waited for for ever.
        for _ in 0..2000 {
            if self.accepting.load(Ordering::Acquire) == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn address(configured: &config::Address) -> Address {
    match configured {
        config::Address::Tcp(address) => Address::Tcp(*address),
        config::Address::Unix(path) => Address::Unix(path.clone()),
    }
}

/// The TLS of each listener of a configuration.
fn tls(config: &Config) -> Result<Vec<Option<Arc<Tls>>>, Vec<Fault>> {
    let (mut all, mut faults) = (Vec::new(), Vec::new());
    for listener in &config.listeners {
        let Some(tls) = &listener.tls else {
            all.push(None);
            continue;
        };
        let pair =
            |one: &config::Certificate| listen::CertificateFiles { chain: one.chain.clone(), key: one.key.clone() };
        let files = TlsFiles {
            certificates: tls.certificates.iter().map(pair).collect(),
            client_ca: tls.client_ca.clone(),
            client_auth: match tls.client_auth {
                config::ClientAuth::Off => listen::ClientAuth::Off,
                config::ClientAuth::Optional => listen::ClientAuth::Optional,
                config::ClientAuth::Required => listen::ClientAuth::Required,
            },
            tls12: tls.tls12,
            http2: listener.http2,
        };
        match Tls::load(files) {
            Ok(loaded) => all.push(Some(Arc::new(loaded))),
            Err(error) => faults.push(config::tls_fault(&config.file, tls, &error.file, &error.message)),
        }
    }
    if faults.is_empty() { Ok(all) } else { Err(faults) }
}

/// Reads the certificates of a configuration; what is no fault and yet worth a look.
///
/// # Errors
/// Every file with which something is wrong.
pub fn certificates(config: &Config, now: SystemTime) -> Result<Vec<String>, Vec<Fault>> {
    let all = tls(config)?;
    let expired = all.iter().flatten().flat_map(|tls| tls.expiries()).filter(|(_, expires)| *expires <= now);
    Ok(expired.map(|(name, _)| expired_warning(&config.file, &name)).collect())
}

fn expired_warning(file: &Path, name: &str) -> String {
    format!("{}: listener.tls.certificates: the certificate for {name} has expired; replace its files", file.display())
}
