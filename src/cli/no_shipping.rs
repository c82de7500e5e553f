//! In a build without PostgreSQL, which refuses a configuration that copies the record to it.

use std::path::Path;

use tokio::runtime::Runtime;

use crate::config::Config;
use crate::ship::ShipSettings;

pub(super) struct Rest;

impl Rest {
    pub(super) fn of(_: &Config) -> Self {
        Self
    }

    pub(super) fn ship(self, _: &Runtime) {}
}

/// There is none.
pub(super) enum Copied {}

impl Copied {
    pub(super) fn read(settings: &ShipSettings) -> Result<Self, String> {
        Err(format!("audit.ship: PostgreSQL at {} is not in this build", settings.address))
    }

    pub(super) fn path(&self) -> &Path {
        match *self {}
    }
}
