//! The file of keys as a text that people wrote: it is changed entry by entry, and its comments and its order stay.
//!
//! Nothing is judged here: whoever writes a changed text has the configuration's reader judge it first.

mod written;

use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Key, Table, Value};

pub(crate) use written::WrittenSecret;

/// A file of keys that can be changed.
#[derive(Debug)]
pub(crate) struct KeyFile(DocumentMut);

/// Why the file cannot be changed so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyFileError {
    /// It is not TOML.
    #[error("is not TOML: {0}")]
    NotToml(String),
    /// Its keys are not written as tables.
    #[error("does not write each key as [[key]]; only such a file can be changed by command")]
    NoTables,
    /// It has no such key.
    #[error("has no key {0}")]
    Unknown(String),
    /// It has that key already.
    #[error("has the key {0} already")]
    Exists(String),
    /// The key has two secrets.
    #[error("has two secrets for {0}; promote the second or give the key only one")]
    TwoSecrets(String),
    /// The key has one secret.
    #[error("has only one secret for {0}; there is nothing to promote")]
    OneSecret(String),
    /// TOML has no such date.
    #[error("cannot have the date {0}")]
    NoDate(String),
    /// A column of a table cannot hold a secret of the key.
    #[cfg(feature = "postgres")]
    #[error("cannot hold a secret of {0}: it is in a file with a relative path, or looks as if it was elsewhere")]
    NoColumn(String),
    /// The table needs a role.
    #[cfg(feature = "postgres")]
    #[error("holds no key without a role, such as {0}")]
    NoRole(String),
    /// The key has neither `secret` nor a list `secrets`.
    #[error("has no secret for {0}")]
    NoSecret(String),
}

impl KeyFile {
    /// Reads a text.
    ///
    /// # Errors
    /// If it is not TOML, or its keys are not tables.
    pub(crate) fn parse(text: &str) -> Result<Self, KeyFileError> {
        // The whole message would show the line, which may hold a secret.
        let read = text.parse::<DocumentMut>().map_err(|error| KeyFileError::NotToml(error.message().to_owned()))?;
        match read.get("key") {
            None | Some(Item::ArrayOfTables(_)) => Ok(Self(read)),
            Some(_) => Err(KeyFileError::NoTables),
        }
    }

    /// The text as it is now.
    pub(crate) fn text(&self) -> String {
        self.0.to_string()
    }

    /// The apiKeys, in their order.
    pub(crate) fn api_keys(&self) -> Vec<String> {
        self.tables().filter_map(api_key).map(str::to_owned).collect()
    }

    /// Adds a key with these fields, and its secret behind the first of them.
    ///
    /// # Errors
    /// If it is there already.
    pub(crate) fn add(&mut self, fields: &[(&str, &str)], secret: &WrittenSecret) -> Result<(), KeyFileError> {
        let mut table = Table::new();
        for (number, (name, value)) in fields.iter().enumerate() {
            table.insert(name, Item::Value((*value).into()));
            if number == 0 {
                table.insert("secret", Item::Value(secret.value()));
            }
        }
        self.add_table(table)
    }

    /// Adds all keys of another file, as they are written there.
    ///
    /// # Errors
    /// If one of them is there already.
    pub(crate) fn add_all(&mut self, other: &Self) -> Result<(), KeyFileError> {
        other.tables().try_for_each(|table| self.add_table(table.clone()))
    }

    fn add_table(&mut self, mut table: Table) -> Result<(), KeyFileError> {
        if let Some(name) = api_key(&table)
            && self.tables().any(|known| api_key(known) == Some(name))
        {
            return Err(KeyFileError::Exists(name.to_owned()));
        }
        table.set_position(None);
        if self.tables().next().is_none() {
            // Comments of a file without keys stay above the first one.
            let above = self.0.trailing().as_str().unwrap_or_default().to_owned();
            self.0.set_trailing("");
            let between = if above.is_empty() || above.ends_with("\n\n") { "" } else { "\n" };
            let own = table.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default().to_owned();
            table.decor_mut().set_prefix(format!("{above}{between}{own}"));
        } else if table.decor().prefix().is_none() {
            table.decor_mut().set_prefix("\n");
        }
        let keys = self.0.entry("key").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
        keys.as_array_of_tables_mut().ok_or(KeyFileError::NoTables)?.push(table);
        Ok(())
    }

    /// The secrets of a key.
    ///
    /// # Errors
    /// If there is no such key, or it has none.
    pub(crate) fn secrets(&self, name: &str) -> Result<Vec<WrittenSecret>, KeyFileError> {
        let table = self.tables().find(|table| api_key(table) == Some(name));
        let table = table.ok_or_else(|| KeyFileError::Unknown(name.to_owned()))?;
        if let Some(Item::Value(value)) = table.get("secret") {
            return Ok(vec![WrittenSecret::read(value)]);
        }
        // A table of its own: `[key.secret]`.
        if let Some(Item::Table(table)) = table.get("secret") {
            let value = Value::InlineTable(table.clone().into_inline_table());
            return Ok(vec![WrittenSecret::read(&value)]);
        }
        let list = table.get("secrets").and_then(Item::as_array);
        let list = list.ok_or_else(|| KeyFileError::NoSecret(name.to_owned()))?;
        Ok(list.iter().map(WrittenSecret::read).collect())
    }

    /// Gives a key these secrets instead of its own, at the same place.
    ///
    /// # Errors
    /// If there is no such key, or it has no secret.
    pub(crate) fn set_secrets(&mut self, name: &str, secrets: &[WrittenSecret]) -> Result<(), KeyFileError> {
        let table = self.table(name)?;
        let list = Value::Array(secrets.iter().map(WrittenSecret::value).collect::<Array>());
        let is_list = table.contains_key("secrets");
        let (new, value) = match secrets {
            [one] if !is_list => ("secret", one.value()),
            _ => ("secrets", list),
        };
        // An entry that is renamed keeps its place only if those behind it are inserted again.
        let names: Vec<String> = table.iter().map(|(name, _)| name.to_owned()).collect();
        let mut found = false;
        for entry in names {
            let Some((key, item)) = table.remove_entry(&entry) else { continue };
            if entry != "secret" && entry != "secrets" {
                table.insert_formatted(&key, item);
                continue;
            }
            found = true;
            let mut renamed = Key::new(new);
            *renamed.leaf_decor_mut() = key.leaf_decor().clone();
            let mut value = value.clone();
            if let Item::Value(old) = &item {
                *value.decor_mut() = old.decor().clone();
            }
            table.insert_formatted(&renamed, Item::Value(value));
        }
        if found { Ok(()) } else { Err(KeyFileError::NoSecret(name.to_owned())) }
    }

    /// Switches a key off.
    ///
    /// # Errors
    /// If there is no such key.
    pub(crate) fn switch_off(&mut self, name: &str) -> Result<(), KeyFileError> {
        self.set(name, "active", false.into())
    }

    /// Sets when a key expires, as a date of TOML.
    ///
    /// # Errors
    /// If there is no such key.
    pub(crate) fn expire(&mut self, name: &str, at: toml_edit::Datetime) -> Result<(), KeyFileError> {
        self.set(name, "expires", at.into())
    }

    /// Sets when the first of its two secrets ends, or that it does not.
    ///
    /// # Errors
    /// If there is no such key.
    pub(crate) fn end_first(&mut self, name: &str, at: Option<toml_edit::Datetime>) -> Result<(), KeyFileError> {
        match at {
            Some(at) => self.set(name, "secret_1_expires", at.into()),
            None => self.table(name).map(|table| drop(table.remove("secret_1_expires"))),
        }
    }

    fn set(&mut self, name: &str, field: &str, mut value: Value) -> Result<(), KeyFileError> {
        let table = self.table(name)?;
        if let Some(Item::Value(old)) = table.get(field) {
            *value.decor_mut() = old.decor().clone();
        }
        table.insert(field, Item::Value(value));
        Ok(())
    }

    fn table(&mut self, name: &str) -> Result<&mut Table, KeyFileError> {
        let tables =
            self.0.get_mut("key").and_then(Item::as_array_of_tables_mut).into_iter().flat_map(|all| all.iter_mut());
        let mut tables = tables.filter(|table| api_key(table) == Some(name));
        tables.next().ok_or_else(|| KeyFileError::Unknown(name.to_owned()))
    }

    fn tables(&self) -> impl Iterator<Item = &Table> {
        self.0.get("key").and_then(Item::as_array_of_tables).into_iter().flat_map(ArrayOfTables::iter)
    }
}

fn api_key(table: &Table) -> Option<&str> {
    table.get("api_key")?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Ours.\n\n[[key]] # the first\napi_key = \"A\"\nsecret = \"of A\" # since spring\naccount = \"a\"\n\n\
                        # Theirs.\n[[key]]\naccount = \"b\"\napi_key = \"B\"\nsecrets = [{ env = \"B1\" }, \"of B\"]\n# the end\n";

    fn changed(change: impl FnOnce(&mut KeyFile)) -> String {
        let mut file = KeyFile::parse(TEXT).unwrap();
        change(&mut file);
        file.text()
    }

    #[test]
    fn comments_and_order_stay() {
        assert_eq!(changed(|_| {}), TEXT);
        let two = [WrittenSecret::Text("of A".into()), WrittenSecret::Sealed("sg1:x".into())];
        let rotated = changed(|file| file.set_secrets("A", &two).unwrap());
        let list = "secrets = [\"of A\", { sealed = \"sg1:x\" }] # since spring\naccount";
        assert_eq!(rotated, TEXT.replace("secret = \"of A\" # since spring\naccount", list));
        let promoted = changed(|file| {
            let secrets = file.secrets("B").unwrap();
            file.set_secrets("B", &secrets[1..]).unwrap();
        });
        assert_eq!(promoted, TEXT.replace("[{ env = \"B1\" }, \"of B\"]", "[\"of B\"]"));
        let off = changed(|file| file.switch_off("A").unwrap());
        assert_eq!(off, TEXT.replace("account = \"a\"\n", "account = \"a\"\nactive = false\n"));
        let at = "2027-01-01T00:00:00Z".parse().unwrap();
        let ending = changed(|file| file.end_first("B", Some(at)).unwrap());
        assert_eq!(ending, TEXT.replace("\"of B\"]\n", "\"of B\"]\nsecret_1_expires = 2027-01-01T00:00:00Z\n"));
        assert_eq!(changed(|file| [Some(at), None].into_iter().for_each(|at| file.end_first("B", at).unwrap())), TEXT);
        let added = changed(|file| {
            file.add(&[("api_key", "C"), ("account", "c")], &WrittenSecret::Text("of C".into())).unwrap();
        });
        let new = "\n[[key]]\napi_key = \"C\"\nsecret = \"of C\"\naccount = \"c\"\n";
        assert_eq!(added, TEXT.replace("# the end\n", "") + new + "# the end\n");
    }

    #[test]
    fn the_first_key_comes_below_the_comments() {
        for (above, between) in [("", ""), ("# Ours.\n", "\n"), ("# Ours.\n\n", "")] {
            let mut file = KeyFile::parse(above).unwrap();
            for key in ["A", "B"] {
                file.add(&[("api_key", key)], &WrittenSecret::Text("x".into())).unwrap();
            }
            let keys = "[[key]]\napi_key = \"A\"\nsecret = \"x\"\n\n[[key]]\napi_key = \"B\"\nsecret = \"x\"\n";
            assert_eq!(file.text(), format!("{above}{between}{keys}"));
        }
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let mut file = KeyFile::parse(TEXT).unwrap();
        assert_eq!(file.api_keys(), ["A", "B"]);
        assert_eq!(file.switch_off("C"), Err(KeyFileError::Unknown("C".into())));
        assert_eq!(file.secrets("C").unwrap_err(), KeyFileError::Unknown("C".into()));
        let secret = WrittenSecret::Text("x".into());
        assert_eq!(file.add(&[("api_key", "A")], &secret), Err(KeyFileError::Exists("A".into())));
        assert_eq!(file.text(), TEXT);
        assert_eq!(KeyFile::parse("key = []").unwrap_err(), KeyFileError::NoTables);
        let said = KeyFile::parse("[[key]]\nsecret = \"open sesame").unwrap_err().to_string();
        assert!(said.starts_with("is not TOML") && !said.contains("sesame"), "{said}");
    }
}
