//! Why an answer does not say whose segment it is. No text holds a value of the answer.

use crate::lookup::{LookupError, NotItsId, Unusable};
use crate::policy::Identifier;
use crate::postgres::{OwnerColumn, PostgresError};

/// Why an answer is unclear.
#[derive(Debug, thiserror::Error)]
pub enum Unclear {
    /// No answer could be read.
    #[error(transparent)]
    Unread(LookupError),
    /// A value is missing or has the wrong form.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// An id in it is not the segment's.
    #[error("the upstream's answer is about another segment, or may be ({pointer} is not its id)", pointer = .0.0)]
    AnotherSegment(#[source] NotItsId),
    /// The database could not be asked.
    #[error("PostgreSQL: {0}")]
    Unasked(#[source] PostgresError),
    /// Its answer is not one row with an account.
    #[error(transparent)]
    Row(#[from] RowError),
}

impl From<NoCreator> for Unclear {
    fn from(why: NoCreator) -> Self {
        match why {
            NoCreator::Value(why) => Self::Unusable(why),
            NoCreator::Column(why) => Self::Row(why),
        }
    }
}

/// Why an answer that says the account does not say the creator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoCreator {
    /// A value of the service's answer.
    #[error(transparent)]
    Value(#[from] Unusable),
    /// A column of the row.
    #[error(transparent)]
    Column(#[from] RowError),
}

/// Why rows do not say whose segment it is. It holds no value of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// There is more than one.
    #[error("ownership.postgres.query gives more than one row for the segment")]
    Several,
    /// A column is NULL.
    #[error("the {0} of ownership.postgres.query is NULL")]
    Null(OwnerColumn),
    /// A column is no valid [`Identifier`].
    #[error("the {0} of ownership.postgres.query is not {form}", form = Identifier::FORM)]
    NotIdentifier(OwnerColumn),
}
