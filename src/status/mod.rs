//! Whether all is well and why not, at one moment (contract §10): the status page, its JSON, and what `saltgate status` gets.
//!
//! 1. A [`Status`] is data. Whoever runs the gateway fills it in; nothing here asks anybody.
//! 2. The page and `/status.json` name no key, account, member, segment or client. Only [`Status::json_with_keys`], for the
//!    control socket, does.
//! 3. The page is one document without scripts. Its style is allowed by its hash, and nothing else is loaded.

mod json;
mod page;
mod tables;
mod text;

use std::time::{Duration, SystemTime};

use crate::refusal::Reason;
use crate::telemetry::RequestCounts;

pub(crate) use page::CONTENT_SECURITY_POLICY;
pub(crate) use text::{bytes, span};

/// A certificate that expires within this is worth a look.
pub(crate) const CERTIFICATE_SOON: Duration = Duration::from_secs(14 * 86_400);
/// How many of the latest refusals are shown.
pub(crate) const REFUSALS: usize = 20;

/// What a gateway is like at one moment.
pub(crate) struct Status {
    /// When this was so.
    pub now: SystemTime,
    /// How long the process has run.
    pub up: Duration,
    /// Whether it serves, in one word.
    pub verdict: StatusVerdict,
    /// The parts with which something is wrong, and what.
    pub troubles: Vec<(&'static str, String)>,
    /// What is no trouble of a part and yet worth a look.
    pub remarks: Vec<String>,
    /// Requests by outcome and reason.
    pub requests: Vec<RequestCounts>,
    /// Requests that hold a slot, and how many there may be.
    pub in_flight: (usize, usize),
    /// Open connections, and how many there may be.
    pub connections: (u64, usize),
    /// How the workers read and write their sockets.
    pub io: Vec<&'static str>,
    /// The latest refusals, newest first.
    pub refusals: Vec<ShownRefusal>,
    /// Each server, and whether it is used and could last be reached.
    pub upstreams: Vec<(String, bool)>,
    /// The store of spent salts.
    pub salts: SaltStore,
    /// The record; `None` if none is kept.
    pub record: Option<RecordStatus>,
    /// How many targets are frozen, by scope.
    pub frozen: [(&'static str, usize); 3],
    /// What is frozen by name, and since when. Not on the page.
    pub frozen_targets: Vec<(String, String)>,
    /// How many keys are in force, and how long ago they were read.
    pub keys: (usize, Duration),
    /// Certificates in force: what each is used for, its name, and when it expires.
    pub certificates: Vec<(&'static str, String, SystemTime)>,
    /// The configuration in force.
    pub config: ConfigStatus,
}

/// Whether a gateway serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatusVerdict {
    /// All is well.
    Ready,
    /// It serves, and something is wrong.
    Degraded,
    /// It refuses until this time what could have been spent before.
    Fenced(SystemTime),
    /// It is ending.
    Draining,
    /// Something is missing without which it refuses.
    NotReady,
}

/// A refusal as it is shown.
pub(crate) struct ShownRefusal {
    /// When.
    pub time: SystemTime,
    /// The request id.
    pub id: Box<str>,
    /// Why.
    pub reason: Reason,
    /// The apiKey that was claimed. Not on the page.
    pub api_key: Option<Box<str>>,
}

/// The store of spent salts.
pub(crate) struct SaltStore {
    /// `journal`, `memory` or `redis`.
    pub kind: &'static str,
    /// How many salts it holds.
    pub held: usize,
    /// How many it has room for.
    pub room: usize,
}

/// The record.
pub(crate) struct RecordStatus {
    /// Whether it can be written.
    pub is_writable: bool,
    /// The free bytes on its file system, if they could be measured.
    pub free: Option<u64>,
    /// Deletions without an outcome.
    pub open_outcomes: usize,
    /// The head of the chain: `instance/file/line/hash`.
    pub head: Option<String>,
}

/// The configuration in force.
#[derive(Clone, Default)]
pub(crate) struct ConfigStatus {
    /// Its name: the same settings, the same name.
    pub hash: String,
    /// The settings that differ from their defaults, one `key = value` each. Secrets are redacted.
    pub differences: Vec<String>,
}

impl StatusVerdict {
    /// The word in `/status.json`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Fenced(_) => "fenced",
            Self::Draining => "draining",
            Self::NotReady => "not_ready",
        }
    }
}
