//! A secret as it is written.

use toml_edit::{InlineTable, Value};

/// A secret as it is written in a file, or in a column of a table.
#[derive(Clone, Debug)]
pub(crate) enum WrittenSecret {
    /// `"text"`.
    Text(String),
    /// `{ sealed = "…" }`.
    Sealed(String),
    /// `{ env = "NAME" }` or `{ file = "path" }`, or something else.
    Elsewhere(Value),
}

impl WrittenSecret {
    pub(super) fn read(value: &Value) -> Self {
        let sealed = value.as_inline_table().and_then(|table| table.get("sealed")?.as_str());
        match (value.as_str(), sealed) {
            (Some(text), _) => Self::Text(text.to_owned()),
            (None, Some(sealed)) => Self::Sealed(sealed.to_owned()),
            (None, None) => Self::Elsewhere(value.clone().decorated("", "")),
        }
    }

    pub(super) fn value(&self) -> Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Sealed(sealed) => {
                let mut table = InlineTable::new();
                table.insert("sealed", sealed.as_str().into());
                table.into()
            }
            Self::Elsewhere(value) => value.clone(),
        }
    }

    /// Whether its value is the same for this process as for a gateway: not if it is a variable that is not set here.
    pub(crate) fn is_readable_here(&self) -> bool {
        let Self::Elsewhere(value) = self else { return true };
        let name = value.as_inline_table().and_then(|table| table.get("env")?.as_str());
        name.is_none_or(|name| std::env::var_os(name).is_some())
    }

    /// Reads a column (docs/keys-in-postgresql.md).
    #[cfg(feature = "postgres")]
    pub(crate) fn of_column(text: &str) -> Self {
        let named = |name: &str, value: &str| {
            let mut table = InlineTable::new();
            table.insert(name, value.into());
            Self::Elsewhere(table.into())
        };
        match text.split_once(':') {
            Some(("sg1", _)) => Self::Sealed(text.to_owned()),
            Some(("env", name)) => named("env", name),
            Some(("file", path)) => named("file", path),
            _ => Self::Text(text.to_owned()),
        }
    }

    /// The same as a column has it; `None` if that would be read as something else.
    #[cfg(feature = "postgres")]
    pub(crate) fn column(&self) -> Option<String> {
        match self {
            Self::Text(text) => matches!(Self::of_column(text), Self::Text(_)).then(|| text.clone()),
            Self::Sealed(sealed) => Some(sealed.clone()),
            Self::Elsewhere(value) => {
                let table = value.as_inline_table()?;
                let text = |name: &str| table.get(name).and_then(Value::as_str);
                let path = || text("file").filter(|path| path.starts_with('/')).map(|path| format!("file:{path}"));
                text("env").map(|name| format!("env:{name}")).or_else(path)
            }
        }
    }

    /// Where the secret is, without any part of it. `here`: where those are that are written as they are.
    pub(crate) fn place(&self, here: &str) -> String {
        match self {
            Self::Text(_) => here.to_owned(),
            Self::Sealed(sealed) => format!("sealed by {}", crate::seal::id_of(sealed).unwrap_or("?")),
            Self::Elsewhere(value) => value.to_string(),
        }
    }
}

#[cfg(all(test, feature = "postgres"))]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_the_same_in_a_column() {
        for text in ["the secret itself", "sg1:k:00", "env:NAME", "file:/path"] {
            assert_eq!(WrittenSecret::of_column(text).column().as_deref(), Some(text));
        }
        let elsewhere = |text: &str| WrittenSecret::read(&text.parse().unwrap()).column();
        assert_eq!(elsewhere("{ env = \"NAME\" }").as_deref(), Some("env:NAME"));
        assert_eq!(elsewhere("{ file = \"/path\" }").as_deref(), Some("file:/path"));
        // A relative path would be relative to something else, and this text would be read as the name of a variable.
        assert_eq!(elsewhere("{ file = \"path\" }"), None);
        assert_eq!(WrittenSecret::Text("env:the secret itself".into()).column(), None);
    }
}
