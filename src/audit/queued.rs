//! A line on its way to the thread that writes the record.

use tokio::sync::oneshot;

/// What a line is, as far as the writer treats it differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineKind {
    /// An intent. If it cannot be written it is dropped, because its deletion is then refused.
    Intent,
    /// The outcome of an intent. Like every other line it is kept and written later if it cannot be written now.
    Outcome,
    /// A line whose writer is told whether it could be written, and repeats it if not.
    Answered,
    /// Any other.
    Other,
}

impl LineKind {
    pub(super) fn is_kept(self) -> bool {
        matches!(self, Self::Outcome | Self::Other)
    }
}

/// A line that waits to be written.
pub(super) struct Line {
    pub(super) body: Vec<u8>,
    pub(super) durable: Option<oneshot::Sender<()>>,
    pub(super) kind: LineKind,
}

impl Line {
    /// One that nobody waits for.
    pub(super) fn alone(body: Vec<u8>) -> Self {
        Self::alone_of(LineKind::Other, body)
    }

    pub(super) fn alone_of(kind: LineKind, body: Vec<u8>) -> Self {
        Self { body, durable: None, kind }
    }
}
