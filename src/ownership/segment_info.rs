//! What is known of a segment that may be deleted.

use super::unclear::NoCreator;
use crate::policy::{Identifier, StrongTag};

/// What the source of ownership says about a segment. Only the strict readers of this room make one:
/// [`Pointers::read`](super::Pointers::read) of an answer of the service, and `rows::read` of one of PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    pub(super) account: Identifier,
    pub(super) creator: Result<Identifier, NoCreator>,
    pub(super) name: Option<String>,
    pub(super) version: Option<StrongTag>,
}

impl SegmentInfo {
    /// The segment's account.
    pub fn account(&self) -> &Identifier {
        &self.account
    }

    /// Who created the segment.
    ///
    /// # Errors
    /// If the answer does not say. For a segment of another account this is no error.
    pub fn creator(&self) -> Result<&Identifier, &NoCreator> {
        self.creator.as_ref()
    }

    /// The segment's name, if it is configured and is text.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The version of the segment that this describes.
    pub fn version(&self) -> Option<&StrongTag> {
        self.version.as_ref()
    }
}
