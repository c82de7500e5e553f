//! The database tables, and the transaction that deletes a segment.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use super::record::{Automation, CrmCounts, Deleted, Segment, SegmentDeletion, StoreError, Tables};
use super::seed;

/// The database, with one connection for one caller at a time. Every call blocks.
#[derive(Debug)]
pub struct Store(Mutex<Connection>);

const SELECT_SEGMENT: &str = "SELECT segment_id, account_id, owner_id, name, created_at, version,
    (SELECT count(*) FROM segment_members m WHERE m.segment_id = s.segment_id) FROM segments s";

impl Store {
    /// Opens the database at `path`, or creates it.
    ///
    /// # Errors
    /// If it cannot be opened, or is not a database.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.execute_batch(include_str!("schema.sql"))?;
        Ok(Self(Mutex::new(connection)))
    }

    /// Fills an empty database with the sample data. Any other database is unchanged, so that a restart does not
    /// restore deleted segments.
    ///
    /// # Errors
    /// If the database fails.
    pub fn seed(&self) -> Result<(), StoreError> {
        let mut connection = self.connection();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if transaction.query_row("SELECT count(*) = 0 FROM accounts", [], |row| row.get(0))? {
            seed::write(&transaction)?;
        }
        Ok(transaction.commit()?)
    }

    /// One segment, if it belongs to the account.
    ///
    /// # Errors
    /// If the database fails.
    pub fn segment(&self, account: &str, id: &str) -> Result<Option<Segment>, StoreError> {
        Ok(find(&self.connection(), account, id)?)
    }

    /// The account's segments, in the order of insertion.
    ///
    /// # Errors
    /// If the database fails.
    pub fn segments(&self, account: &str) -> Result<Vec<Segment>, StoreError> {
        let sql = format!("{SELECT_SEGMENT} WHERE account_id = ?1 ORDER BY rowid");
        Ok(self.connection().prepare(&sql)?.query_map([account], segment_of)?.collect::<Result<_, _>>()?)
    }

    /// The account's segments that belong to `creator`, in the order of insertion.
    ///
    /// # Errors
    /// If the database fails.
    pub fn segments_of(&self, account: &str, creator: &str) -> Result<Vec<Segment>, StoreError> {
        Ok(self.segments(account)?.into_iter().filter(|segment| segment.owner == creator).collect())
    }

    /// The automations linked to a segment; `None` if the account has no such segment.
    ///
    /// # Errors
    /// If the database fails.
    pub fn automations(&self, account: &str, id: &str) -> Result<Option<Vec<Automation>>, StoreError> {
        let connection = self.connection();
        match find(&connection, account, id)? {
            Some(_) => Ok(Some(automations(&connection, id)?)),
            None => Ok(None),
        }
    }

    /// Deletes a segment and its cached members and stops its automations for good, if `judge` allows it; all in one
    /// transaction, including the call of `judge`.
    ///
    /// # Errors
    /// If the database fails; then nothing has changed.
    pub fn delete_segment<R>(
        &self,
        account: &str,
        id: &str,
        judge: impl FnOnce(&Segment) -> Result<(), R>,
    ) -> Result<SegmentDeletion<R>, StoreError> {
        let mut connection = self.connection();
        // A transaction that is dropped before its commit is rolled back.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let Some(segment) = find(&transaction, account, id)? else { return Ok(SegmentDeletion::NotFound) };
        if let Err(reason) = judge(&segment) {
            return Ok(SegmentDeletion::Refused(reason));
        }
        let stop = "UPDATE automations SET triggering = 0 WHERE segment_id = ?1 AND triggering = 1";
        let automations = transaction.execute(stop, [id])?;
        let unlink = "UPDATE automations SET segment_id = NULL, stopped_with = ?1 WHERE segment_id = ?1";
        transaction.execute(unlink, [id])?;
        let members = transaction.execute("DELETE FROM segment_members WHERE segment_id = ?1", [id])?;
        transaction.execute("DELETE FROM segments WHERE segment_id = ?1", [id])?;
        transaction.commit()?;
        Ok(SegmentDeletion::Deleted(Deleted { members, automations }))
    }

    /// Makes another member of the account the segment's owner, and increases the segment's version. Returns false if
    /// the account has no such segment.
    ///
    /// # Errors
    /// If the database fails, or the account has no such member.
    pub fn hand_over(&self, account: &str, id: &str, owner: &str) -> Result<bool, StoreError> {
        let sql = "UPDATE segments SET owner_id = ?3, version = version + 1 WHERE account_id = ?1 AND segment_id = ?2";
        Ok(self.connection().execute(sql, params![account, id, owner])? == 1)
    }

    /// How many rows every table has.
    ///
    /// # Errors
    /// If the database fails.
    pub fn counts(&self) -> Result<CrmCounts, StoreError> {
        let sql = "SELECT (SELECT count(*) FROM accounts), (SELECT count(*) FROM members),
            (SELECT count(*) FROM segments), (SELECT count(*) FROM segment_members),
            (SELECT count(*) FROM automations), (SELECT count(*) FROM automations WHERE triggering = 1)";
        Ok(self.connection().query_row(sql, [], |row| {
            Ok(CrmCounts {
                accounts: row.get(0)?,
                members: row.get(1)?,
                segments: row.get(2)?,
                segment_members: row.get(3)?,
                automations: row.get(4)?,
                triggering: row.get(5)?,
            })
        })?)
    }

    /// The rows of one segment of any account in all tables, also after its deletion.
    ///
    /// # Errors
    /// If the database fails.
    pub fn tables_for(&self, id: &str) -> Result<Tables, StoreError> {
        let connection = self.connection();
        let by_id = format!("{SELECT_SEGMENT} WHERE segment_id = ?1");
        let contacts = "SELECT contact FROM segment_members WHERE segment_id = ?1 ORDER BY contact";
        Ok(Tables {
            segment: connection.query_row(&by_id, [id], segment_of).optional()?,
            contacts: connection.prepare(contacts)?.query_map([id], |row| row.get(0))?.collect::<Result<_, _>>()?,
            automations: automations(&connection, id)?,
        })
    }

    /// Ignores a poisoned lock: the transaction of a thread that panicked was rolled back.
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn find(connection: &Connection, account: &str, id: &str) -> rusqlite::Result<Option<Segment>> {
    let sql = format!("{SELECT_SEGMENT} WHERE account_id = ?1 AND segment_id = ?2");
    connection.query_row(&sql, [account, id], segment_of).optional()
}

fn automations(connection: &Connection, segment: &str) -> rusqlite::Result<Vec<Automation>> {
    let sql = "SELECT automation_id, name, triggering FROM automations
        WHERE segment_id = ?1 OR stopped_with = ?1 ORDER BY rowid";
    let read = |row: &Row<'_>| Ok(Automation { id: row.get(0)?, name: row.get(1)?, triggering: row.get(2)? });
    connection.prepare(sql)?.query_map([segment], read)?.collect()
}

fn segment_of(row: &Row<'_>) -> rusqlite::Result<Segment> {
    Ok(Segment {
        id: row.get(0)?,
        account: row.get(1)?,
        owner: row.get(2)?,
        name: row.get(3)?,
        created_at: row.get(4)?,
        version: row.get(5)?,
        cached_members: row.get(6)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "CRMSG1260423081530123SGM11122233";

    fn store(dir: &tempfile::TempDir) -> Store {
        let store = Store::open(&dir.path().join("crm.sqlite")).unwrap();
        store.seed().unwrap();
        store
    }

    fn yes(_: &Segment) -> Result<(), ()> {
        Ok(())
    }

    #[test]
    fn a_deletion_removes_all_data_of_the_segment_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let (before, tables) = (store.counts().unwrap(), store.tables_for(ID).unwrap());
        assert_eq!((tables.contacts.len(), tables.automations.len()), (4, 2));

        let deleted = Deleted { members: 4, automations: 2 };
        assert_eq!(store.delete_segment("account-1", ID, yes).unwrap(), SegmentDeletion::Deleted(deleted));

        let expected = CrmCounts {
            segments: before.segments - 1,
            segment_members: before.segment_members - 4,
            triggering: before.triggering - 2,
            ..before
        };
        assert_eq!(store.counts().unwrap(), expected);
        let after = store.tables_for(ID).unwrap();
        assert!(after.segment.is_none() && after.contacts.is_empty());
        assert!(after.automations.len() == 2 && after.automations.iter().all(|a| !a.triggering));
    }

    #[test]
    fn a_deleted_segment_is_never_restored() {
        let dir = tempfile::tempdir().unwrap();
        let first = store(&dir);
        first.delete_segment("account-1", ID, yes).unwrap();
        let after = first.counts().unwrap();
        for revive in ["triggering = 1", "triggering = 1, segment_id = stopped_with"] {
            let sql = format!("UPDATE automations SET {revive} WHERE stopped_with = ?1");
            assert!(first.connection().execute(&sql, [ID]).is_err(), "{revive}");
        }
        assert_eq!(first.delete_segment("account-1", ID, yes).unwrap(), SegmentDeletion::NotFound);
        drop(first);
        assert_eq!(store(&dir).counts().unwrap(), after, "a restart seeds nothing");
    }

    #[test]
    fn a_deletion_that_fails_at_its_last_step_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let (counts, tables) = (store.counts().unwrap(), store.tables_for(ID).unwrap());
        let fail = "CREATE TRIGGER fail BEFORE DELETE ON segments BEGIN SELECT RAISE(FAIL, 'no'); END";
        store.connection().execute_batch(fail).unwrap();
        assert!(store.delete_segment("account-1", ID, yes).is_err());
        assert_eq!((store.counts().unwrap(), store.tables_for(ID).unwrap()), (counts, tables));
    }

    #[test]
    fn refused_deletions_and_other_accounts_segments_are_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let before = store.counts().unwrap();
        assert_eq!(store.delete_segment("account-1", ID, |_| Err("no")).unwrap(), SegmentDeletion::Refused("no"));
        assert_eq!(store.delete_segment("account-2", ID, yes).unwrap(), SegmentDeletion::NotFound);
        assert_eq!(store.counts().unwrap(), before);
    }

    #[test]
    fn handing_over_increases_the_version_and_stays_within_the_account() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let before = store.segment("account-1", ID).unwrap().unwrap();
        assert!(store.hand_over("account-1", ID, "member-owner").unwrap());
        let after = store.segment("account-1", ID).unwrap().unwrap();
        assert_eq!(after.owner, "member-owner");
        assert_ne!(after.etag(), before.etag());
        assert!(store.hand_over("account-1", ID, "member-stranger").is_err());
        assert!(!store.hand_over("account-2", ID, "member-stranger").unwrap());
    }
}
