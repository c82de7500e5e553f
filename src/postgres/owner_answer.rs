//! What a query of a segment's owner answers.

use std::fmt;

/// What the database says about a segment, not judged yet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OwnerAnswer {
    /// There is no row.
    NoRow,
    /// There is one; a column that is NULL is `None`.
    Row {
        /// The first column.
        account: Option<String>,
        /// The second column.
        creator: Option<String>,
    },
    /// There are several.
    SeveralRows,
}

/// A column of that query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerColumn {
    /// The first.
    Account,
    /// The second.
    Creator,
}

impl fmt::Display for OwnerColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Account => "first column (the account)",
            Self::Creator => "second column (the creator)",
        })
    }
}
