//! Configuration → what runs.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use http::HeaderValue;
use tokio::sync::Semaphore;

use super::StartError;
use crate::audit;
use crate::clock::Clock;
use crate::config::{self, Config, Fault};
use crate::credential::PhpDates;
use crate::directory::{Clash, Directory, Entry};
use crate::gate::{Generation, Limits, Process, RequestIds, Tasks};
use crate::ownership::{Ownership, Pointers};
use crate::policy::Owner;
use crate::replay::{Memory, MemorySettings, OnFailover, Redis, RedisSettings, SpentSalts, WhenNew};
use crate::telemetry::Metrics;
use crate::upstream::{self, Upstream};

/// What a reload swaps. Takes the keys out of `config`.
pub(super) fn generation(config: &mut Config, workers: usize, clock: &Clock) -> Result<Generation, Vec<Fault>> {
    let directory = directory(config)?;
    let settings = upstream::Settings {
        host: config.upstream.server.host.clone(),
        port: config.upstream.server.port,
        connect_timeout: config.upstream.connect_timeout,
        response_timeout: config.upstream.response_timeout,
        idle_timeout: config.upstream.idle_timeout,
    };
    let name = config.upstream.server.to_string();
    let upstream_host = HeaderValue::try_from(name.clone()).map_err(|_| {
        vec![Fault::new(&config.file, None, "upstream.servers", "is not a host and port that a Host header can carry")]
    })?;
    Ok(Generation {
        directory,
        routes: config.routes.clone(),
        window: config.window,
        php_dates: if config.php_dates { PhpDates::Accept } else { PhpDates::Refuse },
        ownership: match &config.ownership {
            config::Ownership::Delegate => Ownership::Delegate,
            config::Ownership::Upstream { account, creator, segment } => {
                Ownership::Upstream(Pointers::new(account.clone(), creator.clone(), segment.clone()))
            }
        },
        upstreams: (0..workers).map(|_| Upstream::new(settings.clone(), clock.clone())).collect(),
        upstream_host,
        upstream_name: name,
        limits: Limits {
            max_header_bytes: config.limits.max_header_bytes,
            max_target_bytes: config.limits.max_target_bytes,
            max_body_bytes: config.limits.max_body_bytes,
            body_timeout: config.limits.body_timeout,
        },
    })
}

/// The directory of a configuration's keys, which are taken out of it.
pub fn directory(config: &mut Config) -> Result<Directory, Vec<Fault>> {
    let keys = std::mem::take(&mut config.keys);
    let lines: Vec<usize> = keys.iter().map(|key| key.line).collect();
    let entries = keys.into_iter().map(|key| Entry {
        api_key: key.api_key,
        secrets: key.secrets,
        owner: Owner { account: key.account.into(), member: key.member.into() },
        role: key.role,
        active: key.active,
        expires: key.expires,
    });
    Directory::new(entries.collect()).map_err(|clash| {
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

/// What lives as long as the process.
pub(super) fn process(config: &Config, metrics: &Arc<Metrics>, clock: Clock) -> Result<Process, StartError> {
    let record = match &config.audit {
        config::Audit::DangerNoRecord => {
            tracing::warn!("audit.danger_no_record: deletions leave no record");
            audit::Record::none(clock.clone())
        }
        config::Audit::Record { path, sync } => {
            let sync = match sync {
                config::Sync::Each => audit::Sync::Each,
                config::Sync::Os => audit::Sync::Os,
            };
            let metrics = metrics.clone();
            audit::Record::open_in(path, sync, clock.clone(), move |took| metrics.audit_sync(took))
                .map_err(|error| StartError::Other(error.to_string()))?
        }
    };
    let salts = salts(config, &clock)?;
    Ok(Process {
        clock,
        salts,
        record,
        slots: Arc::new(Semaphore::new(config.limits.max_in_flight)),
        metrics: metrics.clone(),
        request_ids: RequestIds::default(),
        tasks: Tasks::default(),
        draining: AtomicBool::new(false),
        ready_needs_replay: config.ready_needs.iter().any(|part| part == "replay"),
    })
}

/// The store of spent salts.
fn salts(config: &Config, clock: &Clock) -> Result<Box<dyn SpentSalts>, StartError> {
    let when_new = |places: &config::Places| match places.when_new {
        config::WhenNew::Fence => WhenNew::Fence,
        config::WhenNew::Accept => WhenNew::Accept,
    };
    match &config.replay {
        config::Replay::Memory(places) => {
            let settings = MemorySettings {
                max_salts: places.max_salts,
                max_salts_per_key: places.max_salts_per_key,
                when_new: when_new(places),
                window: config.window,
            };
            Ok(Box::new(Memory::new(clock.clone(), settings)))
        }
        config::Replay::Redis(redis) => {
            let ca = redis.ca.as_ref().map(|path| {
                let unread =
                    |error| vec![Fault::new(path, None, "replay.redis.ca", format!("cannot be read: {error}"))];
                std::fs::read(path).map_err(|error| StartError::Config(unread(error)))
            });
            let settings = RedisSettings {
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
                max_salts: redis.places.max_salts,
                max_salts_per_key: redis.places.max_salts_per_key,
                when_new: when_new(&redis.places),
                on_failover: match redis.on_failover {
                    config::OnFailover::Fence => OnFailover::Fence,
                    config::OnFailover::DangerAccept => OnFailover::DangerAccept,
                },
                window: config.window,
            };
            let started = Redis::start(clock.clone(), settings).map_err(StartError::Other)?;
            Ok(Box::new(started))
        }
    }
}
