//! What a build without the feature `postgres` has in place of look-ups in PostgreSQL. The configuration refuses them by
//! name, so nothing of this is reached; if it were, nothing would be deleted.

use super::{ABSENT, OwnerAnswer, OwnerQuery};
use crate::clock::Clock;

// A test shows that such a configuration is refused where this is set.
const _: () = assert!(ABSENT.is_some(), "a build without PostgreSQL refuses a configuration that asks for it");

/// PostgreSQL is not in this build.
#[derive(Debug, thiserror::Error)]
#[error("PostgreSQL is not in this build")]
pub struct NoPostgres;

impl NoPostgres {
    /// Whether the answer came too late.
    pub(crate) fn is_late(&self) -> bool {
        false
    }

    /// Whether only this value is at fault.
    pub(crate) fn is_of_a_value(&self) -> bool {
        false
    }
}

/// Cannot be asked.
#[derive(Clone, Debug)]
pub(crate) struct NoOwnerTable;

impl NoOwnerTable {
    pub(crate) const NOBODYS: &str = "saltgate-check";

    pub(crate) fn new(_: &OwnerQuery, _: usize, _: &Clock, _: Option<&Self>) -> Self {
        Self
    }

    pub(crate) async fn ask(&self, _: usize, _: &str) -> Result<OwnerAnswer, NoPostgres> {
        Err(NoPostgres)
    }

    pub(crate) fn try_again(&self) {}

    pub(crate) fn trouble(&self) -> Option<String> {
        Some(NoPostgres.to_string())
    }
}
