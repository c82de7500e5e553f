//! What is asked of the gateway as a whole over the control socket: whoever owns the gateway does it, so that a command and a
//! signal never work at the same time.

use tokio::sync::{mpsc, oneshot};

use super::reload::Reloaded;
use crate::config::Fault;

/// One command.
pub(crate) enum Command {
    /// Take the configuration as it is now, and answer what came of it.
    Reload(oneshot::Sender<Result<Reloaded, NotReloaded>>),
    /// Drain, and stay until told to end. Whoever asks watches the progress.
    Drain,
}

/// Why nothing was taken.
#[derive(Debug)]
pub(crate) enum NotReloaded {
    /// The configuration has these faults.
    Faults(Vec<Fault>),
    /// The gateway is on its way out.
    Draining,
}

/// Where its owner receives commands.
pub(crate) struct Commands(mpsc::UnboundedReceiver<Command>);

/// Where the control socket sends them.
pub(super) type ToOwner = mpsc::UnboundedSender<Command>;

/// Few people ask at a time, and each waits for an answer: nothing piles up.
pub(super) fn channel() -> (ToOwner, Commands) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, Commands(receiver))
}

impl Commands {
    /// The next one. Waits for ever once there can be none.
    pub(crate) async fn next(&mut self) -> Command {
        match self.0.recv().await {
            Some(command) => command,
            None => std::future::pending().await,
        }
    }
}
