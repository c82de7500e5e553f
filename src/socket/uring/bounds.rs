//! How much a ring and a connection on it may hold.

/// How many operations can be begun before they must be submitted.
pub(super) const SUBMISSIONS: u32 = 512;
/// How many completions can wait. If there are more, the kernel keeps them, and ends operations that would go on.
pub(super) const COMPLETIONS: u32 = 4096;
/// How many buffers a ring receives into. If all are full, receiving ends, and begins again when some were read.
pub(super) const BUFFERS: u16 = 128;
/// The size of each.
pub(super) const BUFFER: usize = 4096;
/// How many connections a ring has. Those beyond use epoll. Each has at most three operations at a time: one receives, one sends, one
/// cancels.
pub(super) const CONNECTIONS: usize = 65_536;
/// How many bytes may wait to be read before nothing more is received. What is in the buffers then still arrives.
pub(super) const MAX_UNREAD: usize = 64 << 10;
/// How many bytes may wait to be sent, besides those that the kernel has.
pub(super) const MAX_UNSENT: usize = 64 << 10;
/// How many connections may wait to be settled before that is done without waiting until nothing else is ready.
pub(super) const MAX_DUE: usize = 64;
/// How many buffers for sending are kept for the next use, and how large each may be.
pub(super) const SPARES: usize = 64;
pub(super) const SPARE: usize = 16 << 10;
