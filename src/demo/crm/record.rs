//! The data types of the store.

/// The database failed; nothing has changed.
#[derive(Debug, thiserror::Error)]
#[error("the CRM's database failed: {0}")]
pub struct StoreError(#[source] rusqlite::Error);

/// A segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its id.
    pub id: String,
    /// The account it belongs to.
    pub account: String,
    /// Its owner: the member who created it, or who took it over.
    pub owner: String,
    /// Its name.
    pub name: String,
    /// When it was created, RFC 3339.
    pub created_at: String,
    /// Increases with every change.
    pub version: i64,
    /// How many members are cached for it.
    pub cached_members: u32,
}

impl Segment {
    /// The strong entity tag of this version, quotes included.
    pub fn etag(&self) -> String {
        format!("\"{}\"", self.version)
    }
}

/// An automation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Automation {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether its segment triggers it.
    pub triggering: bool,
}

/// The result of a deletion; `R` is the reason for a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentDeletion<R> {
    /// The segment is deleted.
    Deleted(Deleted),
    /// The account has no such segment.
    NotFound,
    /// The segment exists, and the deletion was refused.
    Refused(R),
}

/// What was deleted together with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// How many cached members were deleted.
    pub members: usize,
    /// How many automations were stopped.
    pub automations: usize,
}

/// How many rows there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrmCounts {
    /// In `accounts`.
    pub accounts: u32,
    /// In `members`.
    pub members: u32,
    /// In `segments`.
    pub segments: u32,
    /// In `segment_members`.
    pub segment_members: u32,
    /// In `automations`.
    pub automations: u32,
    /// In `automations`, those that trigger.
    pub triggering: u32,
}

/// The rows of one segment in all tables, also after its deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// Its row in `segments`.
    pub segment: Option<Segment>,
    /// Its contacts in `segment_members`.
    pub contacts: Vec<String>,
    /// Its automations: linked to it, or stopped with it.
    pub automations: Vec<Automation>,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self(error)
    }
}
