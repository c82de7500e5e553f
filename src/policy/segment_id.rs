//! The id of a segment.

/// A segment's id: `[A-Za-z0-9_-]{1,64}`, as written in the raw path (contract §5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentId(Box<str>);

impl SegmentId {
    /// The id, if `text` is a valid one.
    pub fn parse(text: &str) -> Option<Self> {
        let of_an_id = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        ((1..=64).contains(&text.len()) && text.bytes().all(of_an_id)).then(|| Self(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
