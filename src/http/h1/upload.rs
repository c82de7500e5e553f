//! A request body that arrives after its head. The connection reads it, and only when its reader asks for more.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};

use super::response_body::{Framing, MalformedResponse};

/// The reader's side of the body.
pub(crate) struct Upload {
    shared: Arc<Mutex<Shared>>,
    /// How many bytes are still to arrive, if the head has a length.
    left: Option<u64>,
}

/// The connection's side of the body.
pub(super) struct Receiving {
    shared: Arc<Mutex<Shared>>,
    framing: Framing,
    /// The client waits for `100 Continue` before it sends.
    awaits_continue: bool,
}

/// The state that both sides share. They usually run on one task, so nobody waits for the lock.
#[derive(Default)]
struct Shared {
    part: Option<Bytes>,
    /// Nothing follows `part`.
    is_over: bool,
    error: Option<io::Error>,
    /// The reader waits for more.
    wanted: bool,
    reader: Option<Waker>,
    /// Woken when the reader wants more; `None` while the connection is being polled and checks this itself.
    connection: Option<Waker>,
}

fn locked(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    // A panic leaves no invalid state.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Both sides of a body with this framing, of which nothing was read yet.
pub(super) fn upload(framing: Framing, awaits_continue: bool) -> (Receiving, Upload) {
    let (shared, left) = (Arc::default(), framing.left());
    (Receiving { shared: Arc::clone(&shared), framing, awaits_continue }, Upload { shared, left })
}

impl Upload {
    /// The next bytes of the body; `None` at its end.
    pub(in crate::http) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let mut shared = locked(&self.shared);
        if let Some(part) = shared.part.take() {
            self.left = self.left.map(|left| left.saturating_sub(part.len() as u64));
            return Poll::Ready(Some(Ok(part)));
        }
        if let Some(error) = shared.error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        if shared.is_over {
            return Poll::Ready(None);
        }
        shared.wanted = true;
        shared.reader = Some(cx.waker().clone());
        if let Some(connection) = shared.connection.take() {
            connection.wake();
        }
        Poll::Pending
    }

    /// Whether nothing of it is left.
    pub(in crate::http) fn is_over(&self) -> bool {
        let shared = locked(&self.shared);
        shared.is_over && shared.part.is_none() && shared.error.is_none()
    }

    /// How many bytes are left, if the head has a length.
    pub(in crate::http) fn left(&self) -> Option<u64> {
        self.left
    }
}

impl Receiving {
    /// Whether `100 Continue` must be sent now: once, when the body is first wanted.
    pub(super) fn takes_continue(&mut self) -> bool {
        self.awaits_continue && self.is_wanted() && std::mem::take(&mut self.awaits_continue)
    }

    /// Whether the client still waits for `100 Continue`.
    pub(super) fn awaits_continue(&self) -> bool {
        self.awaits_continue
    }

    /// Whether the reader waits for more.
    pub(super) fn is_wanted(&self) -> bool {
        locked(&self.shared).wanted
    }

    /// Whether the last byte of it was read.
    pub(super) fn is_over(&self) -> bool {
        self.framing.is_over()
    }

    /// Adds bytes that were read, all of which belong to this body.
    pub(super) fn take(&mut self, read: &mut BytesMut) {
        // A client that sends the body does not wait for `100 Continue`.
        self.awaits_continue = false;
        let part = self.part(read);
        let is_over = self.framing.is_over();
        self.tell(|shared| {
            match part {
                Ok(part) => shared.part = join(shared.part.take(), part),
                // This cannot happen: the strict reader has accepted the body.
                Err(malformed) => shared.error = Some(malformed.into()),
            }
            shared.is_over = is_over;
        });
    }

    /// The content of the bytes that were read. Usually it is one piece; chunks that arrive together are joined.
    fn part(&mut self, read: &mut BytesMut) -> Result<Option<Bytes>, MalformedResponse> {
        let first = self.framing.take(read)?;
        let Some(second) = self.framing.take(read)? else { return Ok(first) };
        let mut joined = BytesMut::with_capacity(first.as_ref().map_or(0, Bytes::len) + second.len() + read.len());
        joined.extend_from_slice(&first.unwrap_or_default());
        joined.extend_from_slice(&second);
        while let Some(more) = self.framing.take(read)? {
            joined.extend_from_slice(&more);
        }
        Ok(Some(joined.freeze()))
    }

    /// Discards what was read.
    pub(super) fn skip(&mut self, read: &mut BytesMut) {
        while let Ok(Some(_)) = self.framing.take(read) {}
    }

    /// Ends the body early.
    pub(super) fn fail(&mut self, error: io::Error) {
        self.tell(|shared| shared.error = Some(error));
    }

    fn tell(&self, change: impl FnOnce(&mut Shared)) {
        let mut shared = locked(&self.shared);
        change(&mut shared);
        let tells = shared.part.is_some() || shared.is_over || shared.error.is_some();
        if tells {
            shared.wanted = false;
            if let Some(reader) = shared.reader.take() {
                reader.wake();
            }
        }
    }

    /// Sets the waker for when more is wanted; `None` while the connection checks this itself.
    pub(super) fn watch(&self, waker: Option<&Waker>) {
        locked(&self.shared).connection = waker.cloned();
    }

    /// The whole body, if all of it has arrived and none was taken.
    pub(super) fn whole(&self) -> Option<Bytes> {
        let mut shared = locked(&self.shared);
        if shared.is_over && shared.error.is_none() { Some(shared.part.take().unwrap_or_default()) } else { None }
    }
}

fn join(first: Option<Bytes>, second: Option<Bytes>) -> Option<Bytes> {
    match (first, second) {
        (Some(first), Some(second)) => Some([first, second].concat().into()),
        (first, second) => first.or(second),
    }
}
