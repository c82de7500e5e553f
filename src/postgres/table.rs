//! The table of keys: whether it changed, and all of it.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::Stream;
use tokio::sync::Notify;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

use super::rows::{Columns, RowFault};
use super::session::{Session, within};
use super::{KeyTableSettings, PostgresAddress, PostgresError};
use crate::directory::KeyEntry;
use crate::seal::KeyRing;

/// A table of keys that is read again and again, by one connection.
pub(crate) struct KeyTable {
    pub(super) settings: KeyTableSettings,
    pub(super) session: Option<Session>,
    /// The version that was read last.
    version: Option<String>,
    seal: SealInForce,
    /// What its secrets were opened by when it was read last.
    opened_by: Option<Arc<KeyRing>>,
}

/// What opens the sealed secrets of a table. A reload replaces it.
#[derive(Clone)]
pub(crate) struct SealInForce(Arc<Mutex<Arc<KeyRing>>>);

impl SealInForce {
    /// What opens them now.
    pub(crate) fn load(&self) -> Arc<KeyRing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whatever is read from now on is opened by these keys.
    pub(crate) fn replace(&self, seal: Arc<KeyRing>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = seal;
    }
}

/// All keys at one moment.
pub(crate) struct KeySnapshot {
    /// The version of the table.
    pub version: String,
    /// The keys that can be used.
    pub entries: Vec<KeyEntry>,
    /// The rows that cannot.
    pub faults: Vec<RowFault>,
    /// What may be mistakes in rows that are used.
    pub doubts: Vec<RowFault>,
}

impl KeySnapshot {
    /// The version of our own schema, without the server.
    pub(crate) fn number(&self) -> Option<i64> {
        self.version.split(' ').next()?.parse().ok()
    }
}

/// Columns of our own, next to those of the version.
const STANDBY: &str = "saltgate_standby";
const SERVER: &str = "saltgate_server";

impl KeyTable {
    /// Connects at the first look.
    pub(crate) fn new(settings: KeyTableSettings) -> Self {
        let seal = SealInForce(Arc::new(Mutex::new(settings.seal.clone())));
        Self { settings, session: None, version: None, seal, opened_by: None }
    }

    /// What opens its sealed secrets, to be replaced.
    pub(crate) fn seal_in_force(&self) -> SealInForce {
        self.seal.clone()
    }

    /// Connects, if there is no connection.
    ///
    /// # Errors
    /// If no server can be used.
    pub(crate) async fn connect(&mut self) -> Result<(), PostgresError> {
        self.session = Some(self.session().await?);
        Ok(())
    }

    pub(super) async fn session(&mut self) -> Result<Session, PostgresError> {
        match self.session.take().filter(|session| !session.is_closed()) {
            Some(session) => Ok(session),
            None => Session::open(&self.settings.address, self.settings.timeout, None).await,
        }
    }

    /// All keys, if the version is another than at the last look.
    ///
    /// # Errors
    /// If the database cannot be asked. The next look connects again.
    pub(crate) async fn look(&mut self) -> Result<Option<KeySnapshot>, PostgresError> {
        let session = self.session().await?;
        let limit = (self.settings.timeout, self.settings.address.section);
        let version = within(limit, "the query of the version", self.version(&session, "commit")).await?;
        let same_seal = self.opened_by.as_ref().is_some_and(|seal| Arc::ptr_eq(seal, &self.seal.load()));
        if self.version.as_ref() == Some(&version) && same_seal {
            self.session = Some(session);
            return Ok(None);
        }
        let (snapshot, seal) = within(limit, "the query of all keys", self.snapshot(&session)).await?;
        self.opened_by = Some(seal);
        self.version = Some(snapshot.version.clone());
        self.session = Some(session);
        Ok(Some(snapshot))
    }

    /// Forgets what was read, so that the next look reads all keys.
    pub(crate) fn forget(&mut self) {
        self.version = None;
    }

    /// Begins a transaction, asks for the version and goes on with `then`. One message of the simple protocol, because a
    /// pooler may give each transaction another connection.
    async fn version(&self, session: &Session, then: &str) -> Result<String, PostgresError> {
        let KeyTableSettings { query, version_query, timeout, .. } = &self.settings;
        let version_query = match version_query {
            Some(query) => query.clone(),
            None => digest(query),
        };
        let text = format!("{};\n{version_query}\n;{then}", begin(*timeout));
        let (mut version, mut server) = (Vec::new(), String::new());
        for message in session.client.simple_query(&text).await? {
            let SimpleQueryMessage::Row(row) = message else { continue };
            match row.columns().iter().map(|column| column.name()).collect::<Vec<_>>()[..] {
                [STANDBY, SERVER] => {
                    if value(&row, 0) != Some("f") {
                        return Err(PostgresError::Standby);
                    }
                    server = value(&row, 1).unwrap_or_default().to_owned();
                }
                [_] => version.push(value(&row, 0).map(str::to_owned)),
                _ => return Err(PostgresError::Version),
            }
        }
        match &version[..] {
            // Another server may have come to the same number by other changes.
            [Some(version)] => Ok(format!("{version} of the server started at {server}")),
            _ => Err(PostgresError::Version),
        }
    }

    async fn snapshot(&self, session: &Session) -> Result<(KeySnapshot, Arc<KeyRing>), PostgresError> {
        let version = self.version(session, "").await?;
        // Only now: if these rows were sealed after a reload, they are opened by what that reload has put in force.
        let seal = self.seal.load();
        let mut snapshot = KeySnapshot { version, entries: Vec::new(), faults: Vec::new(), doubts: Vec::new() };
        let mut columns = None;
        let mut messages = pin!(session.client.simple_query_raw(&self.settings.query).await?);
        let mut number = 0;
        while let Some(message) = std::future::poll_fn(|cx| messages.as_mut().poll_next(cx)).await {
            match message? {
                SimpleQueryMessage::RowDescription(described) => {
                    let names = described.iter().map(|column| column.name());
                    if columns.replace(Columns::of(names)?).is_some() {
                        return Err(PostgresError::Statements);
                    }
                }
                SimpleQueryMessage::Row(row) => {
                    number += 1;
                    let Some(columns) = &columns else { continue };
                    match columns.entry(|column| value(&row, column), number, &seal) {
                        Ok((entry, doubt)) => {
                            snapshot.doubts.extend(doubt);
                            snapshot.entries.push(entry);
                        }
                        Err(fault) => snapshot.faults.push(fault),
                    }
                }
                _ => {}
            }
        }
        if columns.is_none() {
            return Err(PostgresError::Column("api_key"));
        }
        session.client.batch_execute("commit").await?;
        Ok((snapshot, seal))
    }
}

fn value(row: &SimpleQueryRow, column: usize) -> Option<&str> {
    row.try_get(column).ok().flatten()
}

/// The begin of a transaction that reads one state of the database, writes times in one form, and ends by itself if the
/// gateway does not.
fn begin(timeout: Duration) -> String {
    let ms = timeout.as_millis();
    format!(
        "begin isolation level repeatable read read only; set local statement_timeout = {ms}; \
         set local idle_in_transaction_session_timeout = {ms}; set local datestyle = 'ISO, YMD'; \
         set local timezone = 'UTC'; \
         select pg_is_in_recovery() as {STANDBY}, pg_postmaster_start_time() as {SERVER}"
    )
}

/// A query of a number that changes with every row, in whatever order the rows come.
fn digest(query: &str) -> String {
    format!(
        "select concat_ws(' ', count(*), sum(hashtextextended(saltgate_row::text, 1)), \
         sum(hashtextextended(saltgate_row::text, 2))) from (\n{query}\n) as saltgate_row"
    )
}

/// A connection on which changes are announced; only a hint.
pub(crate) struct Listening(Session);

impl Listening {
    /// Connects, and wakes `notify` whenever a change is announced.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub(crate) async fn open(
        address: &PostgresAddress,
        timeout: Duration,
        notify: &Arc<Notify>,
    ) -> Result<Self, PostgresError> {
        let session = Session::open(address, timeout, Some(notify)).await?;
        let listen = format!("listen {}", KeyTableSettings::CHANNEL);
        within((timeout, address.section), "LISTEN", async { Ok(session.client.batch_execute(&listen).await?) })
            .await?;
        Ok(Self(session))
    }

    /// Waits until the connection is lost.
    pub(crate) async fn ended(&mut self) {
        self.0.ended().await;
    }
}
