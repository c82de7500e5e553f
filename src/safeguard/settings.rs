//! `[control]`, `[budget]` and `[automations]` (contract §1, step 6). The configuration is read into these types.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::freeze_error::FreezeError;
use super::{Budgets, Freeze, Guard, Note};

use crate::clock::{self, Clock};

/// The safeguards, and the socket that controls them.
#[derive(Clone, Debug)]
pub struct SafeguardSettings {
    /// `control.socket`.
    pub socket: Option<PathBuf>,
    /// The directory that stores the freeze state: `control.state`, or the record's directory with `.control` appended
    /// to its name.
    pub state: Option<PathBuf>,
    /// `safeguard.lease`, if `safeguard.scope` is `fleet`: for how long what is frozen for the fleet is known after it was
    /// read.
    pub fleet: Option<Duration>,
    /// `[budget]`.
    pub budgets: Budgets,
    /// `[automations]`.
    pub guard: Guard,
    /// Whether a start with a freeze state that cannot be trusted goes on with everything frozen. Set by the command
    /// line only.
    pub discard_freeze: bool,
}

impl SafeguardSettings {
    /// Default of `safeguard.lease`.
    pub const LEASE: Duration = Duration::from_secs(1);
    /// Two readings and the time of an answer must fit into it.
    pub const LEAST_LEASE: Duration = Duration::from_millis(300);

    /// Opens the freeze state. Without a socket nothing can change it, but it still applies.
    ///
    /// # Errors
    /// If the stored state cannot be trusted and `discard_freeze` is false, or it cannot be written.
    pub(crate) fn open_freeze(&self, record: Option<&Path>, clock: &Clock) -> Result<Freeze, FreezeError> {
        let Some(state) = &self.state else {
            return self.fleet.map_or(Ok(Freeze::none()), |lease| Freeze::none().for_fleet(clock.clone(), lease));
        };
        let discard = self.discard_freeze.then(|| Note {
            since: clock::rfc3339(clock.now()),
            uid: rustix::process::getuid().as_raw(),
            reason: Some("started with --discard-freeze: what was frozen before is unknown".into()),
        });
        let keep = self.socket.is_some() || self.fleet.is_some();
        let freeze = Freeze::open(state, record, keep, discard)?;
        let freeze = match self.fleet {
            Some(lease) => freeze.for_fleet(clock.clone(), lease)?,
            None => freeze,
        };
        for (target, note) in freeze.list() {
            tracing::warn!(%target, since = note.since, uid = note.uid, reason = note.reason, "frozen");
        }
        Ok(freeze)
    }
}
