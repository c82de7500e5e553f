//! The table of keys that a command shows or changes, and the gateways that read it.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::runtime::Runtime;

use super::up_to::UpTo;
use crate::cli::{EX_CONFIG, fail};
use crate::clock::{Clock, rfc3339};
use crate::config::address_of;
use crate::console::complain;
use crate::directory::{Directory, KeysFile};
use crate::key_use::GatewayUses;
use crate::postgres::{KeyAdmin, KeyRows, KeyTableSettings, PostgresError, TableGateway};
use crate::seal::KeyRing;

/// How long gateways may take to read a change.
const NOTICED: Duration = Duration::from_secs(10);
/// The pause between two questions.
const PAUSE: Duration = Duration::from_millis(100);

/// A table.
pub(super) struct Table {
    runtime: Runtime,
    admin: KeyAdmin,
    /// What was wrong with it before.
    faults: Vec<String>,
    /// The version of the keys after they were written.
    version: i64,
}

impl Table {
    /// Connects to the table of these settings, or of this address, and reads all keys.
    pub(super) fn open(
        settings: Option<KeyTableSettings>,
        url: Option<&str>,
    ) -> Result<(Self, KeyRows, KeysFile), ExitCode> {
        if settings.as_ref().is_some_and(|settings| !settings.is_ours) {
            return Err(fail(
                "directory.postgres.query reads a table of your own; this command knows only that of deploy/postgres",
            ));
        }
        let timeout = settings.as_ref().map_or(KeyTableSettings::TIMEOUT, |settings| settings.timeout);
        let seal = settings.as_ref().map_or_else(Arc::default, |settings| settings.seal.clone());
        let address = match (url, settings) {
            (Some(url), settings) => {
                let ca = settings.and_then(|settings| settings.address.ca);
                address_of(url, ca).map_err(|why| fail(format!("--postgres {why}")))?
            }
            (None, Some(settings)) => settings.address,
            (None, None) => return Err(fail("give --config FILE, --file FILE or --postgres URL")),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(fail)?;
        let path = format!("PostgreSQL at {address}").into();
        let opened = runtime.block_on(async {
            let admin = KeyAdmin::open(&address, timeout).await?;
            let rows = admin.read().await?;
            Ok((admin, rows))
        });
        let (admin, rows) = opened.map_err(|error: PostgresError| fail(format!("PostgreSQL at {address}: {error}")))?;
        let (_, faults) = rows.judge(&seal).map_err(fail)?;
        faults.iter().for_each(|fault| complain!("warning: {fault}"));
        let table = Self { runtime, admin, faults, version: 0 };
        Ok((table, rows, KeysFile { path, allow_empty: true, last_use: None, seal }))
    }

    /// Writes the changed rows, unless one of them would be at fault.
    pub(super) fn write(&mut self, rows: &KeyRows, seal: &KeyRing) -> Result<Directory, ExitCode> {
        let (directory, faults) = rows.judge(seal).map_err(fail)?;
        let mut new = faults.iter().filter(|fault| !self.faults.contains(fault)).peekable();
        if new.peek().is_some() {
            complain!("saltgate: nothing was written; these keys would be at fault:");
            new.for_each(|fault| complain!("{fault}"));
            return Err(ExitCode::from(EX_CONFIG));
        }
        self.version = self.runtime.block_on(self.admin.write(rows)).map_err(fail)?;
        Ok(directory)
    }

    /// When secrets were last used, as each gateway has kept it, and the time of the database.
    pub(super) fn uses(&self, up_to: UpTo) -> Result<(Vec<GatewayUses>, SystemTime), ExitCode> {
        if up_to == UpTo::Now {
            let version = self.runtime.block_on(self.admin.stir()).map_err(fail)?;
            if let Some(one) = self.wait_for(version)?.1.first() {
                let GatewayUses { gateway, until, .. } = &one.uses;
                return Err(fail(format!(
                    "{gateway} does not answer: what was used on it since {} is not known; nothing was written",
                    rfc3339(*until)
                )));
            }
        }
        let read = self.runtime.block_on(async {
            let (mut gateways, now) = self.admin.gateways().await?;
            self.admin.add_uses(&mut gateways).await?;
            Ok((gateways, now))
        });
        let (gateways, now) = read.map_err(|error: PostgresError| fail(error))?;
        Ok((gateways.into_iter().map(|one| one.uses).collect(), now))
    }

    /// From when the change is in force, and where.
    pub(super) fn since(&self) -> Result<String, ExitCode> {
        let (gateways, silent) = self.wait_for(self.version)?;
        if !silent.is_empty() {
            let names: Vec<String> = silent
                .iter()
                .map(|one| format!("{}, last heard of at {}", one.uses.gateway, rfc3339(one.uses.until)))
                .collect();
            return Err(fail(format!(
                "written, but NOT known to be in force on {}: it uses other keys for directory.postgres.max_stale at most",
                names.join("; ")
            )));
        }
        let running: Vec<String> =
            gateways.iter().map(|one| format!("since {} on {}", rfc3339(one.uses.until), one.uses.gateway)).collect();
        Ok(match running.is_empty() {
            true => "no gateway that runs has registered: a gateway uses it when it next reads the table".into(),
            false => format!("in force {} (version {})", running.join(", "), self.version),
        })
    }

    /// Waits until every gateway that runs has keys of this version. Returns those, and those that do not answer.
    fn wait_for(&self, version: i64) -> Result<(Vec<TableGateway>, Vec<TableGateway>), ExitCode> {
        let clock = Clock::system();
        let until = clock.elapsed() + NOTICED;
        loop {
            let (gateways, _) = self.runtime.block_on(self.admin.gateways()).map_err(fail)?;
            let running = gateways.into_iter().filter(|one| one.is_running);
            let (others, silent): (Vec<_>, Vec<_>) =
                running.partition(|one| one.version.is_some_and(|it| it >= version));
            if silent.is_empty() || clock.elapsed() >= until {
                return Ok((others, silent));
            }
            std::thread::sleep(PAUSE);
        }
    }
}
