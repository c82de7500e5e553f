//! What commands do in our own schema: they read and change keys, and ask which gateways have what in force.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::types::Type;

use super::key_rows::{KeyRow, KeyRows};
use super::rows::time;
use super::session::{Session, within};
use super::{PostgresAddress, PostgresError};
use crate::key_use::{GatewayUses, SILENT_AFTER};

const KEYS: &str = "select api_key, account, member, role, state = 'active' as active, expires, secret_1, secret_2, \
                    secret_1_expires from saltgate.key order by api_key";
const VERSION: &str = "select version from saltgate.key_version";
const RECORD: &str = "jsonb_to_recordset(cast($1 as jsonb)) as new (api_key text, account text, member text, role text, \
                      active boolean, expires timestamptz, secret_1 text, secret_2 text, secret_1_expires timestamptz)";
const USES: &str = "select instance, api_key, secret, used from saltgate.key_use";

/// A connection of a command.
pub(crate) struct KeyAdmin {
    session: Session,
    timeout: Duration,
    /// The section that has the limit, for messages.
    section: &'static str,
}

/// A process of a gateway, and which keys it has in force.
pub(crate) struct TableGateway {
    instance: String,
    /// Whether it has not ended, as far as is known.
    pub is_running: bool,
    /// What it has kept of uses, and when.
    pub uses: GatewayUses,
    /// The version of its keys.
    pub version: Option<i64>,
}

impl KeyAdmin {
    /// Connects.
    ///
    /// # Errors
    /// If no server can be used.
    pub(crate) async fn open(address: &PostgresAddress, timeout: Duration) -> Result<Self, PostgresError> {
        Ok(Self { session: Session::open(address, timeout, None).await?, timeout, section: address.section })
    }

    /// Reads all keys.
    ///
    /// # Errors
    /// If the database cannot be asked.
    pub(crate) async fn read(&self) -> Result<KeyRows, PostgresError> {
        self.keys("commit").await
    }

    async fn keys(&self, then: &str) -> Result<KeyRows, PostgresError> {
        let rows = self.rows(&format!("{};\n{KEYS};\n{then}", begin(self.timeout))).await?;
        Ok(KeyRows::new(rows.iter().map(|row| KeyRow::of(|at| row[at].as_deref())).collect()))
    }

    /// Writes the changes, in one transaction. Returns the version of the keys now.
    ///
    /// # Errors
    /// If they cannot be written, or somebody else has changed keys since they were read. Then nothing was written.
    pub(crate) async fn write(&self, rows: &KeyRows) -> Result<i64, PostgresError> {
        // From here on the database refuses what others change meanwhile.
        if !self.keys("").await?.are_those_before(rows) {
            return Err(PostgresError::Changed);
        }
        let (new, changed) = rows.changes();
        let insert = format!(
            "insert into saltgate.key (api_key, account, member, role, state, expires, secret_1, secret_2, secret_1_expires) \
             select api_key, account, member, role, case when active then 'active' else 'inactive' end, expires, secret_1, \
             secret_2, secret_1_expires from {RECORD}"
        );
        // A key that was revoked or set inactive stays so, and no command switches one on.
        let update = format!(
            "update saltgate.key as key set state = case when new.active then key.state when key.state = 'active' then \
             'revoked' else key.state end, expires = new.expires, secret_1 = new.secret_1, secret_2 = new.secret_2, \
             secret_1_expires = new.secret_1_expires from {RECORD} where key.api_key = new.api_key"
        );
        for (statement, rows) in [(insert, new), (update, changed)] {
            if !rows.is_empty() {
                self.change(&statement, &Value::from(rows).to_string()).await?;
            }
        }
        self.commit().await
    }

    /// Counts a change of keys, without any: each gateway then keeps at once what it knows. Returns the version.
    ///
    /// # Errors
    /// If the database cannot be asked.
    pub(crate) async fn stir(&self) -> Result<i64, PostgresError> {
        let stir = format!("{};\nupdate saltgate.key set api_key = api_key where false", begin(self.timeout));
        self.rows(&stir).await?;
        self.commit().await
    }

    async fn change(&self, statement: &str, rows: &str) -> Result<(), PostgresError> {
        within((self.timeout, self.section), "the change of keys", async {
            let done = self.session.client.query_typed(statement, &[(&rows, Type::TEXT)]).await;
            done.map(drop).map_err(PostgresError::of_ours)
        })
        .await
    }

    async fn commit(&self) -> Result<i64, PostgresError> {
        let rows = self.rows(&format!("{VERSION};\ncommit")).await?;
        let version = rows.first().and_then(|row| row.first()?.as_ref()?.parse().ok());
        version.ok_or(PostgresError::Version)
    }

    /// Every process of a gateway that has registered, and the time of the database, by which they are seen.
    ///
    /// # Errors
    /// If the database cannot be asked.
    pub(crate) async fn gateways(&self) -> Result<(Vec<TableGateway>, SystemTime), PostgresError> {
        let silent = SILENT_AFTER.as_secs();
        let query = format!(
            "{};\nselect clock_timestamp();\nselect instance, name, since, seen, ended, version, not ended and seen > \
             clock_timestamp() - interval '{silent} s' from saltgate.gateway order by name, since;\ncommit",
            begin(self.timeout)
        );
        let (mut all, mut now) = (Vec::new(), None);
        for row in self.rows(&query).await? {
            match &row[..] {
                [Some(time_now)] => now = time(time_now),
                [Some(instance), Some(name), Some(since), Some(seen), Some(ended), version, is_running] => {
                    let (Some(since), Some(until)) = (time(since), time(seen)) else { continue };
                    let (gateway, ended, uses) = (name.clone(), ended == "t", HashMap::new());
                    all.push(TableGateway {
                        instance: instance.clone(),
                        uses: GatewayUses { gateway, since, until, ended, lost: None, uses },
                        version: version.as_ref().and_then(|version| version.parse().ok()),
                        is_running: is_running.as_deref() == Some("t"),
                    });
                }
                _ => {}
            }
        }
        Ok((all, now.ok_or(PostgresError::Version)?))
    }

    /// Adds the uses that these processes have kept.
    ///
    /// # Errors
    /// If the database cannot be asked.
    pub(crate) async fn add_uses(&self, gateways: &mut [TableGateway]) -> Result<(), PostgresError> {
        let mut by_instance: HashMap<_, _> =
            gateways.iter_mut().map(|one| (one.instance.clone(), &mut one.uses.uses)).collect();
        for row in self.rows(&format!("{};\n{USES};\ncommit", begin(self.timeout))).await? {
            let [Some(instance), Some(api_key), Some(secret), Some(used)] = &row[..] else { continue };
            if let (Some(uses), Some(at)) = (by_instance.get_mut(instance), time(used)) {
                uses.insert((api_key.as_str().into(), secret.as_str().into()), at);
            }
        }
        Ok(())
    }

    /// The rows of statements that give rows of one kind.
    async fn rows(&self, statements: &str) -> Result<Vec<Vec<Option<String>>>, PostgresError> {
        let messages = within((self.timeout, self.section), "the query of keys", async {
            self.session.client.simple_query(statements).await.map_err(PostgresError::of_ours)
        });
        let rows = messages.await?.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|at| row.try_get(at).ok().flatten().map(str::to_owned)).collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    }
}

/// The begin of a transaction that fails if somebody else changes keys meanwhile, and ends by itself.
fn begin(timeout: Duration) -> String {
    let ms = timeout.as_millis();
    format!(
        "begin isolation level repeatable read read write; set local statement_timeout = {ms}; \
         set local idle_in_transaction_session_timeout = {ms}; set local datestyle = 'ISO, YMD'; \
         set local timezone = 'UTC'"
    )
}
