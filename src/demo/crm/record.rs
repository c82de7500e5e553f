//! What the store is asked for, and what it answers.

use std::fmt;

/// The database did not do what it was asked; nothing has changed.
#[derive(Debug)]
pub struct StoreError(rusqlite::Error);

/// A segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its id.
    pub id: String,
    /// The account it belongs to.
    pub account: String,
    /// The member who created it, or whom it was handed over to.
    pub owner: String,
    /// Its name.
    pub name: String,
    /// When it was created, RFC 3339.
    pub created_at: String,
    /// Goes up with every change.
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

/// What became of a deletion; `R` is the reason of whoever judged it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion<R> {
    /// Gone for good.
    Deleted(Deleted),
    /// The account has no such segment.
    NotFound,
    /// It is there, and stays.
    Refused(R),
}

/// What went with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Cached members that went with it.
    pub members: usize,
    /// Automations that triggered before, and do no more.
    pub automations: usize,
}

/// How many rows there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
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

/// What the tables hold of one segment, deleted or not.
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

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the CRM's database failed: {}", self.0)
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}
