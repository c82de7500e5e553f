//! A row of the table of keys. One that is at fault is named and disabled, and the others are used (contract §4).

use std::time::SystemTime;

use super::PostgresError;
use super::secret_text::{SecretTextError, secret};
use crate::clock;
use crate::credential::Secret;
use crate::directory::KeyEntry;
use crate::policy::{Identifier, Owner, Role};
use crate::seal::{KeyRing, Place, SecretSlot};

/// What is wrong with a row. Names its apiKey, or its number where it has none, and no other value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {what}")]
pub(crate) struct RowFault {
    name: String,
    what: RowError,
}

/// What is wrong with it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum RowError {
    #[error("its api_key is not 1 to 64 letters and digits")]
    ApiKey,
    #[error("its {0} is NULL, or not {form}", form = Identifier::FORM)]
    Identifier(&'static str),
    #[error("its secret_1 is NULL")]
    NoSecret,
    #[error("its {0} {1}")]
    Secret(&'static str, #[source] SecretTextError),
    #[error("its active is neither true nor false")]
    Active,
    #[error("its {0} is not a time")]
    Expires(&'static str),
    #[error("its role is none of MEMBER, DEVELOPER and OWNER, so it may delete nothing")]
    Role,
    #[error("its {0} begins or ends with a blank, or has a control character or quotes, which is part of it")]
    Doubtful(&'static str),
}

/// Where the columns are in each row.
pub(super) struct Columns {
    api_key: usize,
    secret_1: usize,
    account: usize,
    member: usize,
    role: usize,
    secret_2: Option<usize>,
    active: Option<usize>,
    expires: Option<usize>,
    secret_1_expires: Option<usize>,
}

impl Columns {
    /// Finds the columns by name.
    pub(super) fn of<'n>(names: impl Iterator<Item = &'n str>) -> Result<Self, PostgresError> {
        let names: Vec<&str> = names.collect();
        let optional = |name: &str| names.iter().position(|it| *it == name);
        let needed = |name: &'static str| optional(name).ok_or(PostgresError::Column(name));
        Ok(Self {
            api_key: needed("api_key")?,
            secret_1: needed("secret_1")?,
            account: needed("account")?,
            member: needed("member")?,
            role: needed("role")?,
            secret_2: optional("secret_2"),
            active: optional("active"),
            expires: optional("expires"),
            secret_1_expires: optional("secret_1_expires"),
        })
    }

    /// The entry of a row, and what may be a mistake in it.
    pub(super) fn entry<'r>(
        &self,
        value: impl Fn(usize) -> Option<&'r str>,
        number: usize,
        seal: &KeyRing,
    ) -> Result<(KeyEntry, Option<RowFault>), RowFault> {
        let is_key = |text: &&str| (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
        let Some(api_key) = value(self.api_key).filter(is_key) else {
            return Err(RowFault { name: format!("row {number}"), what: RowError::ApiKey });
        };
        let fault = |what| RowFault { name: format!("key {api_key}"), what };
        let owner = self.owner(&value).map_err(fault)?;
        let secrets = self.secrets(api_key, &value, seal).map_err(fault)?;
        let active = match self.active.map(&value) {
            None => KeyEntry::ACTIVE,
            Some(Some("t" | "true")) => true,
            Some(Some("f" | "false")) => false,
            Some(_) => return Err(fault(RowError::Active)),
        };
        let expires = match self.expires.and_then(&value) {
            None | Some("infinity") => None,
            Some(text) => Some(time(text).ok_or_else(|| fault(RowError::Expires("expires")))?),
        };
        let secret_1_expires = match self.secret_1_expires.and_then(&value) {
            None | Some("infinity") => None,
            Some(text) => Some(time(text).ok_or_else(|| fault(RowError::Expires("secret_1_expires")))?),
        };
        let role_text = value(self.role).unwrap_or_default();
        let role = Role::parse(role_text);
        let doubtful = secrets.iter().position(|secret| secret.doubt().is_some());
        let doubt = match (role, doubtful) {
            (None, _) if !role_text.is_empty() => Some(RowError::Role),
            (_, Some(0)) => Some(RowError::Doubtful("secret_1")),
            (_, Some(_)) => Some(RowError::Doubtful("secret_2")),
            _ => None,
        };
        let entry =
            KeyEntry { api_key: api_key.into(), secrets, owner, role, active, expires, secret_1_expires, line: number };
        Ok((entry, doubt.map(fault)))
    }

    fn owner<'r>(&self, value: &impl Fn(usize) -> Option<&'r str>) -> Result<Owner, RowError> {
        let one = |column, name| {
            let text = value(column).filter(|text| Identifier::is_one(text));
            text.ok_or(RowError::Identifier(name))
        };
        Ok(Owner { account: one(self.account, "account")?.into(), member: one(self.member, "member")?.into() })
    }

    fn secrets<'r>(
        &self,
        api_key: &str,
        value: &impl Fn(usize) -> Option<&'r str>,
        seal: &KeyRing,
    ) -> Result<Vec<Secret>, RowError> {
        let read = |name, slot, text| {
            secret(text, Place { api_key, slot }, seal).map_err(|error| RowError::Secret(name, error))
        };
        let first = value(self.secret_1).ok_or(RowError::NoSecret)?;
        let mut secrets = vec![read("secret_1", SecretSlot::First, first)?];
        if let Some(text) = self.secret_2.and_then(value) {
            secrets.push(read("secret_2", SecretSlot::Second, text)?);
        }
        Ok(secrets)
    }
}

/// A time as PostgreSQL writes it in the time zone UTC, such as `2027-01-01 00:00:00.5+00`.
pub(super) fn time(text: &str) -> Option<SystemTime> {
    if text == "-infinity" {
        return Some(SystemTime::UNIX_EPOCH);
    }
    let (date, time) = text.strip_suffix("+00").unwrap_or(text).split_once(' ').unwrap_or((text, "00:00:00"));
    clock::instant(&format!("{date}T{time}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::Kek;
    use std::time::Duration;

    const ROW: [(&str, &str); 8] = [
        ("account", "account-1"),
        ("active", "t"),
        ("api_key", "KEY"),
        ("expires", "2027-01-01 00:00:00.5+00"),
        ("member", "member-1"),
        ("role", "OWNER"),
        ("secret_1", "0123456789abcdef"),
        ("secret_2", "fedcba9876543210"),
    ];

    fn ring() -> KeyRing {
        KeyRing::new(vec![("2026-12".into(), Kek::of_file(&[7; 32]).unwrap())])
    }

    /// Reads the row with one column replaced.
    fn read(column: &str, by: Option<&'static str>) -> Result<(KeyEntry, Option<RowFault>), RowFault> {
        let columns = Columns::of(ROW.iter().map(|(name, _)| *name)).unwrap();
        columns.entry(|at| if ROW[at].0 == column { by } else { Some(ROW[at].1) }, 7, &ring())
    }

    #[test]
    fn a_row_is_read_by_the_names_of_its_columns() {
        let (entry, doubt) = read("", None).unwrap();
        assert_eq!((&*entry.api_key, entry.secrets.len(), entry.active, doubt), ("KEY", 2, true, None));
        assert_eq!(
            (&*entry.owner.account, &*entry.owner.member, entry.role),
            ("account-1", "member-1", Some(Role::Owner))
        );
        let half_past = SystemTime::UNIX_EPOCH + Duration::from_millis(1_798_761_600_500);
        assert_eq!(entry.expires, Some(half_past));
        assert_eq!(
            read("expires", Some("2027-01-01")).unwrap().0.expires,
            Some(half_past - Duration::from_millis(500))
        );
        assert_eq!(read("expires", Some("-infinity")).unwrap().0.expires, Some(SystemTime::UNIX_EPOCH));
        for (column, by) in
            [("expires", None), ("expires", Some("infinity")), ("secret_2", None), ("active", Some("f"))]
        {
            assert!(read(column, by).is_ok(), "{column}");
        }
        let least = ["role", "member", "account", "secret_1", "api_key"];
        assert!(Columns::of(least.into_iter()).is_ok());
        for missing in least {
            let others = least.into_iter().filter(|name| *name != missing);
            assert!(Columns::of(others).is_err_and(|error| error.to_string().contains(missing)));
        }
    }

    #[test]
    fn a_row_at_fault_is_named_without_any_of_its_values() {
        for (column, by) in [
            ("account", None),
            ("account", Some("")),
            ("member", Some("hunter2 hunter2 hunter2")),
            ("secret_1", None),
            ("secret_1", Some("hunter2")),
            ("secret_2", Some("hunter2")),
            ("secret_1", Some("sg1:2026-12:hunter2hunter2")),
            ("secret_1", Some("env:NO_SUCH_hunter2")),
            ("secret_1", Some("file:hunter2")),
            ("secret_1", Some("file:/no/such/hunter2")),
            ("active", None),
            ("active", Some("hunter2")),
            ("expires", Some("hunter2")),
        ] {
            let fault = read(column, by).map(drop).unwrap_err().to_string();
            assert!(fault.starts_with("key KEY: its ") && fault.contains(column), "{fault}");
            assert!(!fault.contains("hunter2"), "{fault}");
        }
        assert!(read("api_key", Some("hunter2!")).map(drop).unwrap_err().to_string().starts_with("row 7: its api_key"));
    }

    #[test]
    fn a_row_that_may_be_a_mistake_is_used_and_named() {
        for (column, by) in
            [("role", "hunter2"), ("secret_1", " hunter2hunter2hunter2"), ("secret_2", "hunter2hunter2hunter2\n")]
        {
            let (_, doubt) = read(column, Some(by)).unwrap();
            let doubt = doubt.unwrap().to_string();
            assert!(doubt.contains(column) && !doubt.contains("hunter2"), "{doubt}");
        }
        assert_eq!(read("role", None).unwrap().1, None, "no role is written on purpose");
    }

    #[test]
    fn a_sealed_secret_opens_only_in_the_row_and_the_column_that_it_was_sealed_for() {
        let secret = Secret::new(b"the secret that is sealed").unwrap();
        let sealed = |api_key, slot| ring().seal(Place { api_key, slot }, &secret).unwrap().leak() as &'static str;
        let (first, second) = (sealed("KEY", SecretSlot::First), sealed("KEY", SecretSlot::Second));
        assert_eq!(read("secret_1", Some(first)).unwrap().0.secrets[0].expose(), secret.expose());
        assert_eq!(read("secret_2", Some(second)).unwrap().0.secrets[1].expose(), secret.expose());
        for (column, by) in
            [("secret_1", second), ("secret_2", first), ("secret_1", sealed("OTHER", SecretSlot::First))]
        {
            let fault = read(column, Some(by)).map(drop).unwrap_err().to_string();
            assert!(fault.contains("does not open"), "{fault}");
        }
    }

    #[test]
    fn a_secret_may_be_in_a_file_of_its_own() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "the secret of a file\n").unwrap();
        let place = Place { api_key: "KEY", slot: SecretSlot::First };
        let found = secret(&format!("file:{}", file.path().display()), place, &ring()).unwrap();
        assert_eq!(found.expose(), b"the secret of a file");
        assert!(secret("file:/dev/zero", place, &ring()).is_err(), "not a file");
    }
}
