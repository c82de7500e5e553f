//! Configuration → what runs.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};

use super::StartError;
use crate::audit;
use crate::clock::Clock;
use crate::config::{self, Config, Fault};
use crate::credential::PhpDates;
use crate::directory::{Clash, Directory, Entry};
use crate::gate::{Generation, Limits, Mode, Process, Refusals, RequestIds, Tasks};
use crate::ownership::{Ownership, Pointers};
use crate::policy::Owner;
use crate::replay::{
    self, Journal, JournalSettings, JournalSync, Memory, MemorySettings, OnFailover, Redis, RedisSettings, Room,
    SpentSalts, WhenNew,
};
use crate::safeguard::{Budgets, Freeze, Guard, Recount, Takings};
use crate::telemetry::Metrics;
use crate::throttle::{FailedSignatures, Slots};
use crate::upstream::hygiene::Authorization;
use crate::upstream::{self, Address, Servers, Upstream};

/// What a reload swaps. Takes the keys out of `config`; keeps what `before` knows of servers.
pub(super) fn generation(
    config: &mut Config,
    workers: usize,
    clock: &Clock,
    before: Option<&Servers>,
) -> Result<Generation, Vec<Fault>> {
    let directory = directory(config)?;
    let servers = servers(config, upstream_settings(config), clock, before)?;
    Ok(Generation {
        directory,
        mode: match config.mode {
            config::Mode::Enforce => Mode::Enforce,
            config::Mode::Observe => Mode::Observe,
        },
        routes: config.routes.clone(),
        passthrough: config.passthrough.clone(),
        log_successes: config.log_successes,
        window: config.window,
        php_dates: if config.php_dates { PhpDates::Accept } else { PhpDates::Refuse },
        ownership: ownership(config),
        budgets: budgets(&config.safeguards),
        guard: guard(&config.safeguards.automations),
        upstreams: (0..workers).map(|_| Upstream::new(&servers)).collect(),
        servers,
        authorization: match config.upstream.authorization {
            config::Authorization::Strip => Authorization::Strip,
            config::Authorization::Keep => Authorization::Keep,
        },
        limits: Limits {
            max_header_bytes: config.limits.max_header_bytes,
            max_target_bytes: config.limits.max_target_bytes,
            max_body_bytes: config.limits.max_body_bytes,
            body_timeout: config.limits.body_timeout,
        },
    })
}

/// How the upstream of a configuration is reached.
pub fn upstream_settings(config: &Config) -> upstream::Settings {
    let config::Upstream { servers, host, tls, health, .. } = &config.upstream;
    let address = |server: &config::Server| {
        let network = |at: &config::Authority, tls| Address::Network { host: at.host.clone(), port: at.port, tls };
        match server {
            config::Server::Http(at) => network(at, false),
            config::Server::Https(at) => network(at, true),
            config::Server::Unix(path) => Address::Unix(path.clone()),
        }
    };
    upstream::Settings {
        host: host.clone(),
        tls: upstream::Tls {
            ca: tls.ca.clone(),
            identity: tls.certificate.clone().zip(tls.key.clone()),
            server_name: tls.server_name.clone(),
        },
        health: health.as_ref().map(|health| upstream::Health {
            path: health.path.clone(),
            interval: health.interval,
            timeout: health.timeout,
            healthy_threshold: health.healthy_threshold,
            unhealthy_threshold: health.unhealthy_threshold,
        }),
        dns_refresh: config.upstream.dns_refresh,
        connect_timeout: config.upstream.connect_timeout,
        response_timeout: config.upstream.response_timeout,
        idle_timeout: config.upstream.idle_timeout,
        ..upstream::Settings::new(servers.iter().map(address).collect())
    }
}

/// The servers of these settings, with what is known of those that were there `before`.
///
/// # Errors
/// If a certificate, a key or a name cannot be used.
pub fn servers(
    config: &Config,
    settings: upstream::Settings,
    clock: &Clock,
    before: Option<&Servers>,
) -> Result<Arc<Servers>, Vec<Fault>> {
    let servers = Servers::new(settings, clock.clone(), before);
    servers.map(Arc::new).map_err(|unfit| vec![Fault::new(&config.file, None, unfit.key, unfit.why)])
}

/// Whose segment it is, as a configuration says that it is learned.
pub fn ownership(config: &Config) -> Ownership {
    match &config.ownership {
        config::Ownership::Delegate => Ownership::Delegate,
        config::Ownership::Upstream { account, creator, segment, name } => {
            let pointers = Pointers::new(account.clone(), creator.clone(), segment.clone());
            Ownership::Upstream(pointers.with_name(name.clone()))
        }
    }
}

fn budgets(safeguards: &config::Safeguards) -> Budgets {
    Budgets { key: safeguards.budget_per_key, account: safeguards.budget_per_account }
}

fn guard(pointers: &config::Automations) -> Guard {
    let config::Automations { list, id, name } = pointers.clone();
    Guard { list, id, name }
}

/// What is frozen. Without a socket nothing can change it, and it holds all the same.
fn freeze(safeguards: &config::Safeguards) -> Result<Freeze, StartError> {
    let freeze = match &safeguards.state {
        None => Freeze::none(),
        Some(state) => Freeze::open(state, safeguards.socket.is_some())
            .map_err(|error| StartError::Other(format!("control.state: {error}")))?,
    };
    for (target, note) in freeze.list() {
        tracing::warn!(%target, since = note.since, uid = note.uid, reason = note.reason, "frozen");
    }
    Ok(freeze)
}

/// What was taken of the budgets by whoever wrote the record.
fn takings(config: &Config, clock: &Clock) -> Result<Takings, StartError> {
    let (takings, budgets) = (Takings::default(), budgets(&config.safeguards));
    if let Some(recount) = takings.widen(budgets, clock.elapsed()) {
        count(recount, &config.audit, clock).map_err(|error| {
            StartError::Other(format!("budget: what was deleted within the last span cannot be counted: {error}"))
        })?;
    }
    Ok(takings)
}

fn count(mut recount: Recount<'_>, record: &config::Audit, clock: &Clock) -> Result<(), audit::ReadError> {
    let now = clock.now();
    let since = now.checked_sub(recount.span()).unwrap_or(std::time::UNIX_EPOCH);
    if let config::Audit::Record { path, .. } = record {
        let unreadable = audit::intents_since(path, since, |key, account, at| {
            // What is dated ahead was written by another clock, and is counted as of now.
            recount.found(key, account, now.duration_since(at).unwrap_or_default());
        })?;
        if unreadable > 0 {
            tracing::warn!(unreadable, "budget: lines of the record cannot be read, and are not counted");
        }
    }
    recount.finish();
    Ok(())
}

/// How long a reload waits for intents that are being written.
const WRITTEN_MS: u32 = 5_000;

/// Counts anew, from the record of the process, for budgets that are wider than any before.
pub(super) fn recount(running: &Config, new: &Config, budgets: Budgets, process: &Process) -> Result<(), Vec<Fault>> {
    let Some(recount) = process.takings.widen(budgets, process.clock.elapsed()) else { return Ok(()) };
    let failed = |why: String| {
        vec![Fault::new(&new.file, None, "budget", format!("what was deleted so far cannot be counted: {why}"))]
    };
    if !recount.all_written(WRITTEN_MS) {
        return Err(failed("the record does not take what is being written".into()));
    }
    count(recount, &running.audit, &process.clock).map_err(|error| failed(error.to_string()))
}

/// The directory of a configuration's keys, which are taken out of it.
pub fn directory(config: &mut Config) -> Result<Directory, Vec<Fault>> {
    let keys = std::mem::take(&mut config.keys);
    let lines: Vec<usize> = keys.iter().map(|key| key.line).collect();
    let entries = keys.into_iter().map(|key| Entry {
        api_key: key.api_key,
        secrets: std::iter::once(key.secret).chain(key.second).collect(),
        owner: Owner { account: key.account.into(), member: key.member.into() },
        role: key.role,
        active: key.active,
        expires: key.expires,
    });
    Directory::new(entries).map_err(|clash| {
        let (what, first, second) = match clash {
            Clash::NoRandomness => {
                let message = "the operating system has no random bytes; the decoy for unknown keys cannot be made";
                return vec![Fault::new(&config.keys_file, None, "", message)];
            }
            Clash::ApiKey(first, second) => ("has the api_key of the one", first, second),
            Clash::Secret(first, second) => ("has a secret that signs like one of the key", first, second),
        };
        let message = format!("this key {what} in line {}; each must be its own", lines[first]);
        vec![Fault::new(&config.keys_file, Some(lines[second]), "key", message)]
    })
}

/// How the record of a configuration is kept.
pub fn record_settings(audit: &config::Audit) -> audit::Settings {
    let config::Audit::Record { sync, rotate_size, rotate_age, retain, low_water, .. } = *audit else {
        return audit::Settings::default();
    };
    audit::Settings {
        sync: match sync {
            config::Sync::Each => audit::Sync::Each,
            config::Sync::Os => audit::Sync::Os,
        },
        rotate_size: rotate_size as u64,
        rotate_age,
        retain,
        low_water: low_water as u64,
        ..audit::Settings::default()
    }
}

/// Says what earlier processes left without an outcome; the start does not wait for it.
fn report_abandoned(directory: &Path) {
    let directory = directory.to_owned();
    let look = move || match audit::abandoned(&directory) {
        Ok((0, _)) => {}
        Ok((count, complete)) => tracing::warn!(
            count,
            complete,
            "deletions whose outcome is unknown: an earlier process ended between intent and outcome; \
             `saltgate audit show --unknown` lists them, `saltgate audit reconcile` asks the upstream"
        ),
        Err(error) => tracing::warn!(%error, "whether earlier deletions have an outcome cannot be told"),
    };
    if let Err(error) = std::thread::Builder::new().name("record-look".into()).spawn(look) {
        tracing::warn!(%error, "whether earlier deletions have an outcome is not looked at");
    }
}

/// What lives as long as the process.
pub(super) fn process(config: &Config, metrics: &Arc<Metrics>, clock: Clock) -> Result<Process, StartError> {
    // Before this process begins a file of its own.
    let (freeze, takings) = (freeze(&config.safeguards)?, takings(config, &clock)?);
    let record = match &config.audit {
        config::Audit::DangerNoRecord => {
            tracing::warn!("audit.danger_no_record: deletions leave no record");
            audit::Record::none(clock.clone())
        }
        config::Audit::Record { path, .. } => {
            let metrics = metrics.clone();
            let settings = record_settings(&config.audit);
            audit::Record::open_in(path, settings, clock.clone(), move |took| metrics.audit_sync(took))
                .map_err(|error| StartError::Other(error.to_string()))
                .inspect(|_| report_abandoned(path))?
        }
    };
    let salts = salts(config, &clock)?;
    Ok(Process {
        clock,
        salts,
        record,
        slots: Slots::new(config.limits.max_in_flight, config.limits.max_in_flight_per_key),
        failed_signatures: FailedSignatures::new(config.limits.failed_signatures_per_client),
        freeze,
        takings,
        watched: Takings::default(),
        refusals: Refusals::new(super::workers::count(config.workers)),
        metrics: metrics.clone(),
        request_ids: RequestIds::default(),
        tasks: (0..super::workers::count(config.workers)).map(|_| Tasks::default()).collect(),
        draining: AtomicBool::new(false),
        clock_skew: AtomicI64::new(0),
        ready_needs_replay: config.ready_needs.iter().any(|part| part == "replay"),
    })
}

/// The store of spent salts.
fn salts(config: &Config, clock: &Clock) -> Result<Box<dyn SpentSalts>, StartError> {
    match &config.replay {
        config::Replay::Memory(places) => {
            let settings = MemorySettings { room: room(places), when_new: when_new(places), window: config.window };
            Ok(Box::new(Memory::new(clock.clone(), settings)))
        }
        config::Replay::Journal { path, sync, places } => {
            let settings = JournalSettings {
                path: path.clone(),
                room: room(places),
                sync: match sync {
                    config::JournalSync::Os => JournalSync::Os,
                    config::JournalSync::Every(often) => JournalSync::Every(*often),
                    config::JournalSync::Each => JournalSync::Each,
                },
                when_new: when_new(places),
                window: config.window,
                boot_id: replay::boot_id(),
                discard: config.discard_replay_journal,
            };
            let journal = Journal::open(clock.clone(), settings);
            Ok(Box::new(journal.map_err(|error| StartError::Other(error.to_string()))?))
        }
        config::Replay::Redis(redis) => {
            let settings = redis_settings(config, redis).map_err(StartError::Config)?;
            let started = Redis::start(clock.clone(), settings).map_err(StartError::Other)?;
            Ok(Box::new(started))
        }
    }
}

fn room(places: &config::Places) -> Room {
    Room { max_salts: places.max_salts, max_salts_per_key: places.max_salts_per_key }
}

fn when_new(places: &config::Places) -> WhenNew {
    match places.when_new {
        config::WhenNew::Fence => WhenNew::Fence,
        config::WhenNew::Accept => WhenNew::Accept,
    }
}

/// How the Redis of a configuration is reached.
///
/// # Errors
/// If the file of its authorities cannot be read.
pub fn redis_settings(config: &Config, redis: &config::Redis) -> Result<RedisSettings, Vec<Fault>> {
    let ca = redis.ca.as_ref().map(|path| {
        let unread = |error| vec![Fault::new(path, None, "replay.redis.ca", format!("cannot be read: {error}"))];
        std::fs::read(path).map_err(unread)
    });
    Ok(RedisSettings {
        servers: redis.servers.iter().map(|server| (server.host.clone(), server.port)).collect(),
        cluster: redis.cluster,
        tls: redis.tls,
        ca: ca.transpose()?,
        username: redis.username.clone(),
        password: redis.password.as_ref().map(|config::Hidden(password)| password.clone()),
        database: redis.database,
        prefix: redis.prefix.clone(),
        timeout: redis.timeout,
        clock_margin: redis.clock_margin,
        room: room(&redis.places),
        when_new: when_new(&redis.places),
        on_failover: match redis.on_failover {
            config::OnFailover::Fence => OnFailover::Fence,
            config::OnFailover::DangerAccept => OnFailover::DangerAccept,
        },
        window: config.window,
    })
}
