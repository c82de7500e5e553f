//! `[runtime] io`: how the workers' sockets are read and written.

/// How the workers' sockets are to be read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IoChoice {
    /// On a ring if the kernel permits it, otherwise with epoll.
    Auto,
    /// With epoll.
    Epoll,
    /// On a ring, or not at all.
    Uring,
}

impl IoChoice {
    /// What a configuration without the setting has. A ring costs more than epoll while few connections are busy (docs/measurements.md).
    pub(crate) const DEFAULT: Self = Self::Epoll;
    /// The words of the setting.
    pub(crate) const WORDS: [(&str, Self); 3] = [("auto", Self::Auto), ("epoll", Self::Epoll), ("uring", Self::Uring)];
}

/// How the sockets of a worker are read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IoBackend {
    /// The runtime waits with epoll, and each read and write is a system call.
    Epoll,
    /// Reads and writes are submitted to a ring.
    Uring,
}

impl IoBackend {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Epoll, Self::Uring];

    /// Its name, in the log, the metrics and the status.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Epoll => "epoll",
            Self::Uring => "uring",
        }
    }
}
