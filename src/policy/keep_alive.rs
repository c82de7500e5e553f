//! When an HTTP/1 connection is reused after an answer.

/// When an HTTP/1 connection is reused after an answer (contract §6).
///
/// A signature covers neither method nor path. So if a proxy in front gets out of sync (it sees one request where the
/// gateway sees two), one caller's bytes could become the head of another caller's request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeepAlive {
    /// The connection closes after every 401, and nothing pipelined after a request with an unsafe method (such as a
    /// deletion) is read.
    #[default]
    Accepted,
    /// As in HTTP/1.1, for clients that connect directly.
    Always,
    /// One request for each connection, for a proxy that is not trusted to stay in sync.
    Never,
}
