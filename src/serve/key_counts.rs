//! How many keys there are, and how many came and went with a change.

use crate::directory::Directory;

/// How many keys there are, and how many came and went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyCounts {
    /// Now.
    pub all: usize,
    /// Those whose apiKey was not there before.
    pub added: usize,
    /// Those whose apiKey is not there any more.
    pub removed: usize,
}

impl KeyCounts {
    pub(super) fn new(before: &Directory, now: &Directory) -> Self {
        let missing = |from: &Directory, of: &Directory| {
            of.callers().filter(|caller| from.caller(&caller.api_key).is_none()).count()
        };
        Self { all: now.len(), added: missing(before, now), removed: missing(now, before) }
    }
}
