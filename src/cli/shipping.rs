//! The copy of the record in PostgreSQL, for commands: what the gateway leaves to be copied when it ends, and the copy as
//! files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::config::Config;
use crate::ship::{ShipSettings, read_back, ship_rest};
use crate::state;

/// The most time that copying the rest of the record may take when a process ends.
const REST: Duration = Duration::from_secs(5);

/// The record of a process, and where it is copied to.
pub(super) struct Rest(Option<(PathBuf, ShipSettings)>);

impl Rest {
    pub(super) fn of(config: &Config) -> Self {
        Self(config.audit.path().map(Path::to_owned).zip(config.ship.clone()))
    }

    /// Copies what is left of the record, which must be closed.
    pub(super) fn ship(self, runtime: &Runtime) {
        let Some((directory, settings)) = self.0 else { return };
        if let Err(error) = runtime.block_on(ship_rest(&directory, &settings, REST)) {
            tracing::warn!(%error, "audit.ship: the end of the record is not copied; the next process with this directory does it");
        }
    }
}

/// The copy as files, in a folder that is removed with this.
pub(super) struct Copied(PathBuf);

impl Drop for Copied {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

impl Copied {
    /// Reads the whole copy.
    pub(super) fn read(settings: &ShipSettings) -> Result<Self, String> {
        let random = getrandom::u64().map_err(|error| error.to_string())?;
        let folder = std::env::temp_dir().join(format!("saltgate-record-{random:016x}"));
        let named = |error: &dyn std::fmt::Display| format!("{}: {error}", folder.display());
        state::folder(&folder).map_err(|error| named(&error))?;
        let copied = Self(folder.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let read = runtime.block_on(read_back(settings, &folder));
        read.map_err(|error| format!("audit.ship: {error}"))?;
        Ok(copied)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}
