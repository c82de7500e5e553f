//! The strict reader of the row that PostgreSQL gives for a segment.

use super::segment_info::SegmentInfo;
use super::unclear::{NoCreator, RowError};
use crate::policy::Identifier;
use crate::postgres::{OwnerAnswer, OwnerColumn};

/// What the row says; `None` if there is no such segment.
///
/// # Errors
/// If it is not one row whose account has the form of one. A creator that cannot be used is an error only for those who may see
/// the segment.
pub(super) fn read(answer: OwnerAnswer) -> Result<Option<SegmentInfo>, RowError> {
    match answer {
        OwnerAnswer::NoRow => Ok(None),
        OwnerAnswer::SeveralRows => Err(RowError::Several),
        OwnerAnswer::Row { account, creator } => Ok(Some(SegmentInfo {
            account: identifier(account, OwnerColumn::Account)?,
            creator: identifier(creator, OwnerColumn::Creator).map_err(NoCreator::Column),
            name: None,
            version: None,
        })),
    }
}

fn identifier(value: Option<String>, column: OwnerColumn) -> Result<Identifier, RowError> {
    Identifier::parse(&value.ok_or(RowError::Null(column))?).ok_or(RowError::NotIdentifier(column))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(account: Option<&str>, creator: Option<&str>) -> Result<Option<SegmentInfo>, RowError> {
        read(OwnerAnswer::Row { account: account.map(Into::into), creator: creator.map(Into::into) })
    }

    #[test]
    fn only_one_row_of_two_identifiers_says_whose_segment_it_is() {
        let found = row(Some("account-1"), Some("7")).unwrap().unwrap();
        assert_eq!((&**found.account(), &**found.creator().unwrap()), ("account-1", "7"));
        assert_eq!((found.name(), found.version()), (None, None));
        assert_eq!(read(OwnerAnswer::NoRow), Ok(None));
        assert_eq!(read(OwnerAnswer::SeveralRows), Err(RowError::Several));
        assert_eq!(row(None, Some("m")), Err(RowError::Null(OwnerColumn::Account)));
        for odd in ["", "two words", "a\n", "세그먼트", &"x".repeat(129)] {
            assert_eq!(row(Some(odd), Some("m")), Err(RowError::NotIdentifier(OwnerColumn::Account)), "{odd:?}");
            let found = row(Some("account-1"), Some(odd)).unwrap().unwrap();
            assert_eq!(found.creator(), Err(&RowError::NotIdentifier(OwnerColumn::Creator).into()), "{odd:?}");
        }
        let found = row(Some("account-1"), None).unwrap().unwrap();
        assert!(found.creator().unwrap_err().to_string().contains("second column (the creator)"));
    }
}
