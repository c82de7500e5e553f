//! The first request of a salt, and how it ended.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::{Asked, Became, KeptAnswer, Repeat};

/// The first request of a salt.
pub struct First {
    /// What the request asked for.
    pub asked: Asked,
    /// The length of its body, in bytes.
    pub body_length: u64,
    /// Its request id.
    id: [u8; 32],
    client: Option<IpAddr>,
    came: Duration,
    end: Mutex<Option<End>>,
    /// Whether a repeat ever waited for its end.
    awaited: AtomicBool,
    ended: Notify,
}

#[derive(Clone)]
struct End {
    became: Became,
    /// Boxed, because most answers are not kept.
    kept: Option<Box<KeptAnswer>>,
}

impl First {
    /// A request that arrived when the elapsed clock showed `came`.
    pub fn new(asked: Asked, body_length: u64, id: [u8; 32], client: Option<IpAddr>, came: Duration) -> Self {
        let (end, awaited, ended) = (Mutex::new(None), AtomicBool::new(false), Notify::new());
        Self { asked, body_length, id, client, came, end, awaited, ended }
    }

    /// Its request id.
    pub fn id(&self) -> String {
        std::str::from_utf8(&self.id).unwrap_or_default().to_owned()
    }

    /// How the request has ended, or that it has not.
    pub fn became(&self) -> Became {
        self.end().as_ref().map_or(Became::UnderWay, |end| end.became)
    }

    /// Describes a repeat that arrives now from this address.
    pub fn repeat(&self, client: Option<IpAddr>, now: Duration) -> Repeat {
        Repeat {
            of: self.id(),
            first: self.became(),
            after: Some(now.saturating_sub(self.came)),
            same_client: Some(self.client == client),
        }
    }

    /// Waits for the end of the request, and returns its answer; `None` if the answer is not kept.
    pub async fn ended(&self) -> Option<KeptAnswer> {
        // Set before reading the end: `conclude` writes the end first and reads this afterwards.
        self.awaited.store(true, Ordering::SeqCst);
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            // From here on a notification is not missed.
            ended.as_mut().enable();
            if let Some(End { kept, .. }) = self.end().clone() {
                return kept.map(|kept| *kept);
            }
            ended.await;
        }
    }

    pub(super) fn conclude(&self, became: Became, kept: Option<Box<KeptAnswer>>) {
        *self.end() = Some(End { became, kept });
        if self.awaited.load(Ordering::SeqCst) {
            self.ended.notify_waiters();
        }
    }

    fn end(&self) -> MutexGuard<'_, Option<End>> {
        // A panic cannot leave it half changed.
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
