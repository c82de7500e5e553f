//! Configuration (contract §9): reads TOML into checked types, or reports all faults at once, one line each.
//!
//! 1. An unknown key is a fault, with the nearest known key as a suggestion. A feature that is not in this build is
//!    refused by name, not ignored.
//! 2. A secret that cannot be resolved prevents the start. No fault and no setting shows a secret.
//! 3. A reload applies every setting that is not listed in [`NEEDS_RESTART`]. If one of those has changed, the
//!    reload names it.

mod admin;
mod audit;
mod descriptions;
mod directory;
mod expired;
mod fault;
mod io;
mod keys;
mod limits;
mod listener;
mod loops;
mod numbers;
mod outline;
mod ownership;
mod places;
mod postgres;
mod process;
mod read;
mod redis;
mod replay;
mod routes;
mod safeguard;
pub(crate) mod schema;
mod seal;
mod secrets;
mod section;
mod socket;
mod source;
mod statement;
mod tables;
#[cfg(test)]
mod tests;
mod texts;
mod trace;
mod upstream;
mod user_info;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use crate::audit::Audit;
use crate::credential::PhpDates;
use crate::directory::{KeyEntry, KeysFile};
use crate::file_watch::FileWatch;
use crate::listen::ListenerSettings;
use crate::ownership::Ownership;
use crate::policy::{Limits, Mode, Passthrough, Routes};
use crate::postgres::{KeyTableSettings, OwnerQuery};
use crate::repeats;
use crate::replay::Window;
use crate::telemetry::LogLevel;

pub(crate) use self::admin::admin_address;
pub(crate) use self::limits::Capacity;
pub(crate) use self::safeguard::control_socket;
pub(crate) use directory::key_source;
pub(crate) use fault::{Fault, Setting};
#[cfg(any(test, fuzzing))]
pub(crate) use keys::fuzz::fuzz as fuzz_keys;
pub(crate) use keys::{judge_keys, read_keys};
#[cfg(feature = "postgres")]
pub(crate) use postgres::address_of;

/// Settings that only a restart changes: those whose key begins with one of these.
pub(crate) const NEEDS_RESTART: &[&str] = &[
    "admin.",
    "runtime.",
    "replay.",
    "audit.",
    "control.",
    "safeguard.",
    "directory.postgres.",
    "directory.file.last_use",
    "trace.",
    "log.level",
    "limits.max_connections",
    "limits.max_in_flight",
    "limits.max_passing",
    "limits.failed_signatures_per_client",
];

/// A checked configuration.
#[derive(Debug)]
pub struct Config {
    /// The file it came from.
    pub file: PathBuf,
    /// The listeners.
    pub listeners: Vec<ListenerSettings>,
    /// The TLS files that they name.
    tls_files: Vec<listener::NamedFile>,
    /// The address of `/live`, `/ready` and `/metrics`.
    pub admin: Option<SocketAddr>,
    /// Shared parts without which `/ready` fails.
    pub ready_needs: Vec<String>,
    /// How many workers.
    pub workers: Workers,
    /// How their sockets are read and written.
    pub(crate) io: crate::socket::IoChoice,
    /// How far a date may lie from now.
    pub window: Window,
    /// Whether the date format of the PHP SDK is accepted.
    pub php_dates: PhpDates,
    /// The store of spent salts.
    pub replay: crate::replay::ReplaySettings,
    /// How repeats are handled.
    pub repeats: repeats::RepeatSettings,
    /// The keys.
    pub keys: Vec<KeyEntry>,
    /// The file that the keys came from; for a table of keys, its servers, to show.
    pub(crate) keys_file: KeysFile,
    /// Notices that this file, or one that it names, changed since it was read.
    pub(crate) keys_watch: FileWatch,
    /// The table of keys, if they are not in a file.
    pub(crate) key_table: Option<KeyTableSettings>,
    /// How the owner of a segment is found.
    pub(crate) ownership: Ownership<OwnerQuery>,
    /// The service.
    pub upstream: crate::upstream::UpstreamSettings,
    /// The audit record.
    pub audit: Audit,
    /// Where the record is copied to.
    pub(crate) ship: Option<crate::ship::ShipSettings>,
    /// The safeguards, and the socket that controls them.
    pub safeguards: crate::safeguard::SafeguardSettings,
    /// Limits on the size of messages, and timeouts of connections.
    pub limits: Limits,
    /// Limits that are fixed at the start.
    pub capacity: Capacity,
    /// Whether refusals are enforced.
    pub mode: Mode,
    /// The routes on which deletions are accepted.
    pub routes: Routes,
    /// What goes upstream without passing a gate.
    pub passthrough: Passthrough,
    /// Whether the log has successful deletions, too.
    pub log_successes: bool,
    /// The least severe level that is logged.
    pub log_level: LogLevel,
    /// Where traces go, and whose are continued.
    pub(crate) trace: crate::trace::TraceSettings,
    /// Every setting, as read.
    pub settings: Vec<Setting>,
    /// Settings that are allowed but may be mistakes.
    pub warnings: Vec<Fault>,
}

/// `[runtime] workers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// One runtime per core, each with its own listener and connections.
    PerCore,
    /// This many of them.
    Count(NonZeroUsize),
    /// One runtime for all cores, which share the work.
    Shared,
}

impl Config {
    /// Loads a configuration and its keys.
    ///
    /// # Errors
    /// Every fault that was found.
    pub fn load(path: &Path) -> Result<Self, Vec<Fault>> {
        Self::load_with(path, &|name| std::env::var(name).ok())
    }

    /// Like [`Self::load`], with another environment.
    ///
    /// # Errors
    /// Every fault that was found.
    pub fn load_with(path: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, Vec<Fault>> {
        read::load(path, environment)
    }

    /// A fault of a setting in this file, found when the setting was used.
    pub(crate) fn fault(&self, key: &str, message: impl Into<String>) -> Fault {
        Fault::new(&self.file, None, key, message)
    }

    /// The settings as TOML-like lines: those that differ from their defaults, or all.
    pub fn describe(&self, all: bool) -> String {
        let line = |setting: &Setting| {
            let is_default = setting.default.as_ref() == Some(&setting.value);
            let note = if is_default { "  # default" } else { "" };
            (all || !is_default).then(|| format!("{} = {}{note}\n", setting.key, setting.value))
        };
        self.settings.iter().filter_map(line).collect()
    }

    /// A name for this configuration: equal settings have equal names. Keys are not included.
    pub(crate) fn hash(&self) -> String {
        // FNV-1a, because the name need not resist attacks, only differ.
        let bytes = self.settings.iter().flat_map(|s| [s.key.as_bytes(), b"=", s.value.as_bytes(), b"\n"].concat());
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        format!("{hash:016x}")
    }

    /// Whether the window stays that of the start: gateways that share their salts must change it together.
    pub(crate) fn keeps_window(&self) -> bool {
        matches!(self.replay, crate::replay::ReplaySettings::Redis(_))
    }

    /// The settings of `new` that differ from these and that a reload cannot change.
    pub(crate) fn needs_restart(&self, new: &Self) -> Vec<String> {
        let window = |key: &str| self.keeps_window() && key.starts_with("authentication.window_");
        // Where the keys come from is chosen at the start.
        let moves = self.key_table.is_some() != new.key_table.is_some();
        let keys = |key: &str| moves && key.starts_with("directory.");
        let fixed = |s: &&Setting| {
            window(&s.key) || keys(&s.key) || NEEDS_RESTART.iter().any(|prefix| s.key.starts_with(prefix))
        };
        let differs = |ours: &[Setting], theirs: &[Setting]| -> Vec<String> {
            ours.iter().filter(fixed).filter(|s| !theirs.contains(s)).map(|s| s.key.clone()).collect()
        };
        let mut names = differs(&self.settings, &new.settings);
        names.extend(differs(&new.settings, &self.settings));
        names.sort();
        names.dedup();
        names
    }

    /// The settings of `new` that differ from ours and that a reload takes, as lines: all but `fixed`.
    pub(crate) fn changed(&self, new: &Self, fixed: &[String]) -> Vec<String> {
        let taken = |setting: &&Setting| !fixed.contains(&setting.key);
        let differs = new.settings.iter().filter(taken).filter(|setting| !self.settings.contains(setting));
        let mut lines: Vec<String> = differs.map(|setting| format!("{} = {}", setting.key, setting.value)).collect();
        let gone = |setting: &&Setting| new.settings.iter().all(|new| new.key != setting.key);
        lines.extend(self.settings.iter().filter(taken).filter(gone).map(|setting| format!("{} is gone", setting.key)));
        lines
    }
}

/// Reads a file, or says in one sentence why it cannot be read.
fn file(path: &Path, what: &str) -> Result<String, Fault> {
    let fault = |message: String| Fault::new(path, None, "", message);
    if path.is_dir() {
        return Err(fault(format!("is a directory; expected {what}")));
    }
    match std::fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| fault("is not UTF-8 text".into())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(fault(format!("is not there; expected {what}")))
        }
        Err(error) => Err(fault(format!("cannot be read: {error}"))),
    }
}
