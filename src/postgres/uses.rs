//! Keeps when secrets were last used, beside the table of keys (deploy/postgres/schema-2.sql).

use std::time::UNIX_EPOCH;

use serde_json::json;
use tokio_postgres::types::Type;

use super::session::within;
use super::{KeyTable, PostgresError};
use crate::directory::SecretUse;

/// What a process of a gateway keeps of itself.
pub(crate) struct KeptUses<'k> {
    /// A number of this process.
    pub instance: &'k str,
    /// The gateway, for people.
    pub name: &'k str,
    /// Whether it ends.
    pub ended: bool,
    /// The version of the keys in force.
    pub version: Option<i64>,
    /// What was not kept before.
    pub uses: &'k [SecretUse],
}

impl KeyTable {
    /// Keeps them.
    ///
    /// # Errors
    /// If the database cannot be asked, or has no such function. The next question connects again.
    pub(crate) async fn keep_uses(&mut self, kept: &KeptUses<'_>) -> Result<(), PostgresError> {
        let session = self.session().await?;
        let uses = kept.uses.iter().map(|one| {
            let seconds = one.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            json!([one.api_key, one.secret, seconds])
        });
        let of = json!({
            "instance": kept.instance,
            "name": kept.name,
            "ended": kept.ended,
            "version": kept.version,
            "uses": uses.collect::<Vec<_>>(),
        })
        .to_string();
        let limit = self.settings.timeout;
        let ms = limit.as_millis();
        let client = &session.client;
        within((limit, self.settings.address.section), "keeping when secrets were last used", async {
            client.batch_execute(&format!("begin; set local statement_timeout = {ms}")).await?;
            let kept = client.query_typed("select saltgate.keep_use(cast($1 as jsonb))", &[(&of, Type::TEXT)]).await;
            kept.map_err(PostgresError::of_ours)?;
            Ok(client.batch_execute("commit").await?)
        })
        .await?;
        self.session = Some(session);
        Ok(())
    }
}
