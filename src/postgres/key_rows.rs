//! The rows of our own table of keys, as a command changes them.

use serde_json::{Value, json};

use super::PostgresError;
use super::rows::Columns;
use crate::directory::{Directory, KeyEntry};
use crate::key_file::{KeyFileError, WrittenSecret};
use crate::seal::KeyRing;

/// The columns that are read and written.
pub(super) const COLUMNS: [&str; 9] =
    ["api_key", "account", "member", "role", "active", "expires", "secret_1", "secret_2", "secret_1_expires"];

/// A key as the table has it. Times are in PostgreSQL's form.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct KeyRow {
    /// The apiKey.
    pub api_key: String,
    /// The account.
    pub account: String,
    /// The member.
    pub member: String,
    /// The role.
    pub role: String,
    /// Whether its state is `active`.
    pub active: bool,
    /// When it expires.
    pub expires: Option<String>,
    /// Its one or two secrets.
    pub secrets: Vec<String>,
    /// When the first of two ends.
    pub secret_1_expires: Option<String>,
}

/// All keys of the table, before and after a change.
pub(crate) struct KeyRows {
    before: Vec<KeyRow>,
    now: Vec<KeyRow>,
}

/// A time that a command writes as RFC 3339, in PostgreSQL's form.
fn time(text: &str) -> String {
    text.replace('T', " ").replace('Z', "+00")
}

impl KeyRow {
    pub(super) fn of<'r>(value: impl Fn(usize) -> Option<&'r str>) -> Self {
        let text = |at: usize| value(at).map(str::to_owned);
        let secrets = [text(6), text(7)].into_iter().flatten().collect();
        let [api_key, account, member, role] = [0, 1, 2, 3].map(|at| text(at).unwrap_or_default());
        let active = value(4) == Some("t");
        Self { api_key, account, member, role, active, expires: text(5), secrets, secret_1_expires: text(8) }
    }

    fn value(&self, column: usize) -> Option<&str> {
        let secret = |at: usize| self.secrets.get(at).map(String::as_str);
        match column {
            0 => Some(&self.api_key),
            1 => Some(&self.account),
            2 => Some(&self.member),
            3 => Some(&self.role),
            4 => Some(if self.active { "t" } else { "f" }),
            5 => self.expires.as_deref(),
            6 => secret(0),
            7 => secret(1),
            _ => self.secret_1_expires.as_deref(),
        }
    }

    /// The row with a secret of its own in place of each variable that is not set here: a gateway may have another environment.
    fn with_variables(&self) -> Self {
        let mut row = self.clone();
        for secret in &mut row.secrets {
            if let Some(name) = secret.strip_prefix("env:").filter(|name| std::env::var_os(name).is_none()) {
                *secret = format!("of the variable {name}");
            }
        }
        row
    }

    fn json(&self) -> Value {
        COLUMNS.iter().enumerate().map(|(at, name)| ((*name).to_owned(), json!(self.value(at)))).collect()
    }
}

impl KeyRows {
    pub(super) fn new(rows: Vec<KeyRow>) -> Self {
        Self { before: rows.clone(), now: rows }
    }

    /// The keys, and what is wrong with those that are disabled.
    ///
    /// # Errors
    /// If there is no randomness.
    pub(crate) fn judge(&self, seal: &KeyRing) -> Result<(Directory, Vec<String>), PostgresError> {
        let columns = Columns::of(COLUMNS.into_iter())?;
        let (mut entries, mut faults) = (Vec::<KeyEntry>::new(), Vec::new());
        for (number, row) in (1..).zip(&self.now) {
            let row = row.with_variables();
            match columns.entry(|at| row.value(at), number, seal) {
                Ok((entry, _)) => entries.push(entry),
                Err(fault) => faults.push(fault.to_string()),
            }
        }
        let made = Directory::without_clashes(entries).map_err(|_| PostgresError::NoRandomness)?;
        faults.extend(made.1.iter().map(ToString::to_string));
        Ok((made.0, faults))
    }

    /// The apiKeys.
    pub(crate) fn api_keys(&self) -> Vec<String> {
        self.now.iter().map(|row| row.api_key.clone()).collect()
    }

    /// The secrets of a key.
    ///
    /// # Errors
    /// If there is no such key.
    pub(crate) fn secrets(&self, name: &str) -> Result<Vec<WrittenSecret>, KeyFileError> {
        let row = self.now.iter().find(|row| row.api_key == name);
        let row = row.ok_or_else(|| KeyFileError::Unknown(name.to_owned()))?;
        Ok(row.secrets.iter().map(|text| WrittenSecret::of_column(text)).collect())
    }

    /// Gives a key these secrets instead of its own.
    ///
    /// # Errors
    /// If there is no such key, or a column cannot hold one of them.
    pub(crate) fn set_secrets(&mut self, name: &str, secrets: &[WrittenSecret]) -> Result<(), KeyFileError> {
        let columns = secrets.iter().map(WrittenSecret::column).collect::<Option<Vec<_>>>();
        self.row(name)?.secrets = columns.ok_or_else(|| KeyFileError::NoColumn(name.to_owned()))?;
        Ok(())
    }

    /// Sets when the first of two secrets ends, or that it does not.
    ///
    /// # Errors
    /// If there is no such key.
    pub(crate) fn end_first(&mut self, name: &str, at: Option<&str>) -> Result<(), KeyFileError> {
        self.row(name)?.secret_1_expires = at.map(time);
        Ok(())
    }

    /// Switches a key off, for good.
    ///
    /// # Errors
    /// If there is no such key.
    pub(crate) fn switch_off(&mut self, name: &str) -> Result<(), KeyFileError> {
        self.row(name)?.active = false;
        Ok(())
    }

    /// Sets when a key expires.
    ///
    /// # Errors
    /// If there is no such key.
    pub(crate) fn expire(&mut self, name: &str, at: &str) -> Result<(), KeyFileError> {
        self.row(name)?.expires = Some(time(at));
        Ok(())
    }

    /// Adds a key. Its times are written as RFC 3339.
    ///
    /// # Errors
    /// If it is there already.
    pub(crate) fn add(&mut self, row: KeyRow) -> Result<(), KeyFileError> {
        if self.now.iter().any(|known| known.api_key == row.api_key) {
            return Err(KeyFileError::Exists(row.api_key));
        }
        let (expires, ends) = (row.expires.as_deref().map(time), row.secret_1_expires.as_deref().map(time));
        self.now.push(KeyRow { expires, secret_1_expires: ends, ..row });
        Ok(())
    }

    fn row(&mut self, name: &str) -> Result<&mut KeyRow, KeyFileError> {
        let row = self.now.iter_mut().find(|row| row.api_key == name);
        row.ok_or_else(|| KeyFileError::Unknown(name.to_owned()))
    }

    /// Whether these, which were just read, are what the others were before they were changed.
    pub(super) fn are_those_before(&self, changed: &Self) -> bool {
        self.before == changed.before
    }

    /// The rows that are new, and those that were changed.
    pub(super) fn changes(&self) -> (Vec<Value>, Vec<Value>) {
        // Rows are only added behind those of before.
        let changed = self.now.iter().zip(&self.before).filter(|(now, before)| now != before);
        let new = &self.now[self.before.len().min(self.now.len())..];
        (new.iter().map(KeyRow::json).collect(), changed.map(|(now, _)| now.json()).collect())
    }
}
