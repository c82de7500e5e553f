//! What the status page says of the running gateway.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;

use super::certificates::Certificates;
use super::entries::Entries;
use super::ready::{self, Part};
use crate::config::{Capacity, Config};
use crate::gate::{Current, Generation};
use crate::policy::Mode;
use crate::process::Process;
use crate::replay::ReplaySettings;
use crate::status::{
    CERTIFICATE_SOON, ConfigStatus, REFUSALS, RecordStatus, SaltStore, ShownRefusal, Status, StatusVerdict,
};

/// How full the store of salts may be before it is worth a look, in percent.
const ROOM_IS_SHORT: usize = 80;

/// Who can say what the gateway is like.
pub(super) struct StatusSource {
    process: Arc<Process>,
    current: Arc<Current>,
    entries: Arc<Entries>,
    certificates: Arc<Certificates>,
    config: ArcSwap<ConfigStatus>,
    capacity: Capacity,
    store: &'static str,
    io: Vec<&'static str>,
    started: Duration,
}

impl StatusSource {
    pub(super) fn new(
        process: &Arc<Process>,
        current: &Arc<Current>,
        entries: &Arc<Entries>,
        certificates: &Arc<Certificates>,
        (config, io): (&Config, Vec<&'static str>),
    ) -> Self {
        Self {
            process: process.clone(),
            current: current.clone(),
            entries: entries.clone(),
            certificates: certificates.clone(),
            config: ArcSwap::from_pointee(described(config)),
            capacity: config.capacity,
            store: match config.replay {
                ReplaySettings::Journal(_) => "journal",
                ReplaySettings::Memory(_) => "memory",
                ReplaySettings::Redis(_) => "redis",
            },
            io,
            started: process.clock.elapsed(),
        }
    }

    /// Another configuration is in force.
    pub(super) fn reloaded(&self, config: &Config) {
        self.config.store(Arc::new(described(config)));
    }

    pub(super) fn status(&self) -> Status {
        let Self { process, .. } = self;
        let current = self.current.load_full();
        let (now, elapsed) = (process.clock.now(), process.clock.elapsed());
        let parts = ready::parts(process, &current);
        let certificates = self.certificates(&current);
        Status {
            now,
            up: elapsed.saturating_sub(self.started),
            verdict: verdict(process, &parts),
            remarks: self.remarks(&current, &certificates, now),
            troubles: parts.into_iter().filter_map(|(name, part)| Some((name, part.trouble()?))).collect(),
            requests: process.metrics.lately(elapsed),
            in_flight: (process.slots.taken(), self.capacity.max_in_flight),
            io: self.io.clone(),
            connections: (process.metrics.open_connections() as u64, self.capacity.max_connections),
            refusals: refusals(process),
            upstreams: current.servers.healthy().map(|(name, healthy)| (name.to_owned(), healthy)).collect(),
            salts: SaltStore { kind: self.store, held: process.salts.held(), room: process.salts.capacity() },
            record: process.record.is_kept().then(|| RecordStatus {
                is_writable: process.record.is_ready(),
                free: process.record.free_bytes(),
                open_outcomes: process.record.open_outcomes().unwrap_or_default(),
                head: process.record.head().map(|head| head.to_string()),
            }),
            frozen: process.freeze.counts(),
            frozen_targets: frozen_targets(process),
            keys: (current.directory.len(), current.keys.age(elapsed)),
            certificates,
            config: ConfigStatus::clone(&self.config.load()),
        }
    }

    fn certificates(&self, current: &Generation) -> Vec<(&'static str, String, SystemTime)> {
        let all = self.certificates.expiries(&self.entries, &current.servers);
        let mut all: Vec<_> = all.into_iter().map(|it| (it.part.as_str(), it.name, it.at)).collect();
        all.sort_by_key(|(_, _, expires)| *expires);
        all
    }

    /// What no part of `/ready` tells of.
    fn remarks(
        &self,
        current: &Generation,
        certificates: &[(&'static str, String, SystemTime)],
        now: SystemTime,
    ) -> Vec<String> {
        let process = &self.process;
        let mut remarks = Vec::new();
        let mut remark = |is_so: bool, text: &str| {
            if is_so {
                remarks.push(text.to_owned());
            }
        };
        let soon = certificates.iter().any(|(_, _, expires)| *expires < now + CERTIFICATE_SOON);
        let [(_, all), (_, accounts), (_, keys)] = process.freeze.counts();
        remark(current.mode == Mode::Observe, "It only observes: nothing is refused.");
        remark(all > 0, "Everything is frozen: every deletion is refused.");
        remark(all == 0 && accounts + keys > 0, "Some keys or accounts are frozen.");
        remark(!process.record.is_kept(), "No record is kept.");
        remark(
            !process.metrics.is_reload_taken(),
            "The last reload was refused: an earlier configuration is in force.",
        );
        remark(soon, "A certificate has expired, or expires within 14 days.");
        let (held, room) = (process.salts.held(), process.salts.capacity());
        let is_short = held.saturating_mul(100) > room.saturating_mul(ROOM_IS_SHORT);
        remark(is_short, "There is little room left for salts: deletions stop when there is none.");
        remarks
    }
}

fn described(config: &Config) -> ConfigStatus {
    let differences = config.describe(false).lines().map(str::to_owned).collect();
    ConfigStatus { hash: config.hash(), differences }
}

fn verdict(process: &Process, parts: &[(&'static str, Part)]) -> StatusVerdict {
    let gone = parts.iter().filter(|(_, part)| matches!(part, Part::Gone(_)));
    let others = gone.clone().filter(|(name, _)| *name != "replay").count();
    if process.is_draining() {
        return StatusVerdict::Draining;
    }
    match (gone.count(), process.salts.fenced_until()) {
        (0, _) if parts.iter().all(|(_, part)| *part == Part::Ok) => StatusVerdict::Ready,
        (0, _) => StatusVerdict::Degraded,
        (_, Some(until)) if others == 0 => StatusVerdict::Fenced(until),
        _ => StatusVerdict::NotReady,
    }
}

fn refusals(process: &Process) -> Vec<ShownRefusal> {
    let shown = |refused: crate::telemetry::RefusedRequest| ShownRefusal {
        time: refused.time,
        id: refused.request_id,
        reason: refused.reason,
        api_key: refused.api_key,
    };
    process.refusals.latest(REFUSALS).into_iter().map(shown).collect()
}

fn frozen_targets(process: &Process) -> Vec<(String, String)> {
    process.freeze.list().into_iter().map(|(target, note)| (target.to_string(), note.since)).collect()
}
