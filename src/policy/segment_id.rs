//! The id of a segment.

use std::sync::Arc;

use crate::bytewise;

/// A segment's id: `[A-Za-z0-9_-]{1,64}`, as written in the raw path (contract §5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentId(Arc<str>);

impl SegmentId {
    /// The id, if `text` is a valid one.
    pub fn parse(text: &str) -> Option<Self> {
        let of_an_id = |b: u8| b.is_ascii_alphanumeric() | matches!(b, b'_' | b'-');
        ((1..=64).contains(&text.len()) && bytewise::all(text.as_bytes(), of_an_id)).then(|| Self(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
