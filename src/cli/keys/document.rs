//! The keys as a command changes them: a file, or the rows of a table.

use std::str::FromStr;
use std::time::SystemTime;

use crate::clock;
use crate::key_file::{KeyFile, KeyFileError, WrittenSecret};
#[cfg(feature = "postgres")]
use crate::postgres::{KeyRow, KeyRows};

/// What is changed. Errors are those of a file; the texts fit a table, too.
pub(super) enum Document {
    /// A file.
    File(KeyFile),
    /// A table.
    #[cfg(feature = "postgres")]
    Table(KeyRows),
}

/// A key to be added. Times are RFC 3339.
#[cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "a file gets such keys as they are written"))]
pub(super) struct NewKey {
    pub(super) api_key: String,
    pub(super) account: String,
    pub(super) member: String,
    pub(super) role: Option<String>,
    pub(super) active: bool,
    pub(super) expires: Option<String>,
    pub(super) secrets: Vec<WrittenSecret>,
    pub(super) secret_1_expires: Option<String>,
}

impl Document {
    /// Where secrets are that are written as they are.
    pub(super) fn here(&self) -> &'static str {
        match self {
            Self::File(_) => "in the file",
            #[cfg(feature = "postgres")]
            Self::Table(_) => "in the table",
        }
    }

    pub(super) fn api_keys(&self) -> Vec<String> {
        match self {
            Self::File(file) => file.api_keys(),
            #[cfg(feature = "postgres")]
            Self::Table(rows) => rows.api_keys(),
        }
    }

    pub(super) fn secrets(&self, api_key: &str) -> Result<Vec<WrittenSecret>, KeyFileError> {
        match self {
            Self::File(file) => file.secrets(api_key),
            #[cfg(feature = "postgres")]
            Self::Table(rows) => rows.secrets(api_key),
        }
    }

    pub(super) fn set_secrets(&mut self, api_key: &str, secrets: &[WrittenSecret]) -> Result<(), KeyFileError> {
        match self {
            Self::File(file) => file.set_secrets(api_key, secrets),
            #[cfg(feature = "postgres")]
            Self::Table(rows) => rows.set_secrets(api_key, secrets),
        }
    }

    /// Sets when the first of two secrets ends, or that it does not.
    pub(super) fn end_first(&mut self, api_key: &str, at: Option<&str>) -> Result<(), KeyFileError> {
        match self {
            Self::File(file) => file.end_first(api_key, at.map(date).transpose()?),
            #[cfg(feature = "postgres")]
            Self::Table(rows) => rows.end_first(api_key, at),
        }
    }

    pub(super) fn switch_off(&mut self, api_key: &str) -> Result<(), KeyFileError> {
        match self {
            Self::File(file) => file.switch_off(api_key),
            #[cfg(feature = "postgres")]
            Self::Table(rows) => rows.switch_off(api_key),
        }
    }

    pub(super) fn expire(&mut self, api_key: &str, at: &str) -> Result<(), KeyFileError> {
        match self {
            Self::File(file) => file.expire(api_key, date(at)?),
            #[cfg(feature = "postgres")]
            Self::Table(rows) => rows.expire(api_key, at),
        }
    }

    pub(super) fn add(&mut self, key: &NewKey) -> Result<(), KeyFileError> {
        let NewKey { api_key, account, member, role, secrets, .. } = key;
        match self {
            Self::File(file) => {
                let mut fields = vec![("api_key", &**api_key), ("account", account), ("member", member)];
                fields.extend(role.as_deref().map(|role| ("role", role)));
                let first = secrets.first().ok_or_else(|| KeyFileError::NoSecret(api_key.clone()))?;
                file.add(&fields, first)
            }
            #[cfg(feature = "postgres")]
            Self::Table(rows) => {
                let columns = secrets.iter().map(WrittenSecret::column).collect::<Option<Vec<_>>>();
                rows.add(KeyRow {
                    api_key: api_key.clone(),
                    account: account.clone(),
                    member: member.clone(),
                    role: role.clone().ok_or_else(|| KeyFileError::NoRole(api_key.clone()))?,
                    active: key.active,
                    expires: key.expires.clone(),
                    secrets: columns.ok_or_else(|| KeyFileError::NoColumn(api_key.clone()))?,
                    secret_1_expires: key.secret_1_expires.clone(),
                })
            }
        }
    }
}

/// A time by its second, as it is shown and written.
pub(super) fn seconds(at: &SystemTime) -> String {
    format!("{}Z", &clock::rfc3339(*at)[..19])
}

/// The same as a date of TOML.
fn date<D: FromStr>(text: &str) -> Result<D, KeyFileError> {
    text.parse().map_err(|_| KeyFileError::NoDate(text.to_owned()))
}
