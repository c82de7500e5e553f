//! One connection, from accepting it to its end.

mod context;
mod delivered;
mod http1;
mod http2;
mod unread;

use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Instrument;

use super::accepting::Failures;
use super::entries::{Entry, Order, Phase};
use crate::listen::{ConnectionSlot, Full, GreetError, Http, Listener, handshake, suit_answers, suits_answers};
use crate::socket::{Delivery, Socket};
use context::{Connection, last_call};
pub(super) use context::{Shared, Stack};

/// A listener as tokio polls it.
enum Accepting {
    Tcp {
        listener: tokio::net::TcpListener,
        /// Whether a connection has inherited the options of the listener. Then later ones do, too.
        inherited: AtomicBool,
    },
    Unix(tokio::net::UnixListener),
}

impl Accepting {
    fn new(listener: Listener) -> io::Result<Self> {
        Ok(match listener {
            Listener::Tcp(listener) => {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                suit_answers(&listener);
                Self::Tcp { listener, inherited: AtomicBool::new(false) }
            }
            Listener::Unix(listener) => Self::Unix(tokio::net::UnixListener::from_std(listener)?),
        })
    }

    async fn accept(&self) -> io::Result<Accepted> {
        Ok(match self {
            Self::Tcp { listener, inherited } => {
                let (stream, from) = listener.accept().await?;
                // Connections that were waiting before the listener had its options have not inherited them. They are accepted first.
                if !inherited.load(Ordering::Relaxed) {
                    let suits = suits_answers(&stream);
                    inherited.store(suits, Ordering::Relaxed);
                    if !suits {
                        suit_answers(&stream);
                    }
                }
                Accepted { raw: Socket::tcp(stream, Delivery::Posted)?, from: Some(from.ip()) }
            }
            Self::Unix(listener) => {
                Accepted { raw: Socket::unix(listener.accept().await?.0, Delivery::Posted)?, from: None }
            }
        })
    }

    /// A connection that waits to be accepted, if there is one.
    async fn waiting(&self) -> Option<Accepted> {
        let now = std::future::poll_fn(|_| std::task::Poll::Ready(()));
        tokio::select! {
            biased;
            accepted = self.accept() => accepted.ok(),
            () = now => None,
        }
    }
}

/// A connection that was accepted, and from which address; a Unix socket has none.
struct Accepted {
    raw: Socket,
    from: Option<IpAddr>,
}

/// Accepts until the listener is to leave, then waits until every connection has ended.
pub(super) async fn accept(order: Order, stack: impl Stack, shared: Shared) {
    let (listener, entry) = order;
    let mut stopped = pin!(entry.stopped());
    let mut connections = JoinSet::new();
    match Accepting::new(listener) {
        Ok(listener) => {
            let mut begin = |accepted, slot| {
                let (stack, shared, entry) = (stack.clone(), shared.clone(), entry.clone());
                // Boxed, and made in its place: the runtime moves the future of a task several times, and this one is large.
                let served = Box::write(Box::new_uninit(), serve(accepted, slot, stack, shared, entry));
                connections.spawn(Box::into_pin(served));
                while connections.try_join_next().is_some() {}
            };
            // A connection for which there is no room is kept here, so that later ones wait in the kernel's queue.
            let mut failures = Failures::of("a connection");
            loop {
                let accepted = tokio::select! {
                    () = stopped.as_mut() => break,
                    accepted = listener.accept() => accepted,
                };
                match accepted {
                    Ok(accepted) => tokio::select! {
                        biased;
                        slot = shared.slot() => begin(accepted, slot),
                        () = stopped.as_mut() => {
                            begin(accepted, None);
                            break;
                        }
                    },
                    Err(error) => failures.pause(&error).await,
                }
            }
            // The clients of these connections already consider themselves accepted.
            while let Some(accepted) = listener.waiting().await {
                begin(accepted, None);
            }
        }
        Err(error) => tracing::error!(%error, "the listener cannot be used"),
    }
    entry.accepts_no_more();
    let all_ended = async { while connections.join_next().await.is_some() {} };
    let mut all_ended = pin!(all_ended);
    tokio::select! {
        () = all_ended.as_mut() => return,
        () = entry.reached(Phase::Closing) => {}
        () = drain_timeout(&shared) => entry.advance(Phase::Closing),
    }
    all_ended.await;
}

/// Waits for `limits.drain_timeout` from now on, and follows changes by a reload.
async fn drain_timeout(shared: &Shared) {
    let (since, mut reloads) = (Instant::now(), shared.current.reloads());
    while let Some(left) = shared.limits().drain_timeout.checked_sub(since.elapsed()) {
        tokio::select! {
            () = tokio::time::sleep(left) => {}
            // This cannot fail: a generation exists as long as there are connections.
            _ = reloads.changed() => {}
        }
    }
}

async fn serve(accepted: Accepted, slot: Option<ConnectionSlot>, stack: impl Stack, shared: Shared, entry: Arc<Entry>) {
    let slot = match slot {
        Some(slot) => Some(slot),
        None => tokio::select! {
            slot = shared.slot() => slot,
            () = entry.reached(Phase::Cutting) => None,
        },
    };
    // The slot is given back last, after the connection is closed.
    let Some(mut slot) = slot else { return };
    let _open = shared.metrics.connection();
    let activity = slot.activity().clone();
    let evicted = tokio::select! {
        biased;
        () = converse(accepted, &mut slot, stack, &shared, entry) => None,
        full = activity.evicted() => Some(full),
    };
    if let Some(full) = evicted {
        shared.crowd.evicted(full, slot.client());
    }
}

async fn converse(
    accepted: Accepted,
    slot: &mut ConnectionSlot,
    stack: impl Stack,
    shared: &Shared,
    entry: Arc<Entry>,
) {
    // The order matters: if the settings change between the two reads, the connection ends once too often, which is
    // better than once too seldom.
    let (changes, opened, limits) = (entry.changes(), entry.opened(), shared.limits());
    let told_to_end = async {
        entry.reached(Phase::Closing).await;
        last_call(&entry).await;
    };
    let established = tokio::select! {
        biased;
        established = handshake(accepted.raw, accepted.from, &opened, &limits, slot) => established,
        () = told_to_end => return,
    };
    let established = match established {
        Ok(established) => established,
        Err(refused) => {
            if let GreetError::ClientShare(client) = refused {
                shared.crowd.is_full(Full::Client, Some(client));
            }
            if !matches!(refused, GreetError::Gone(_)) {
                shared.metrics.connection_refused(refused.as_str());
            }
            let detail: &dyn std::error::Error = &refused;
            return tracing::debug!(reason = refused.as_str(), detail, "a connection was closed");
        }
    };
    let activity = slot.activity().clone();
    let connection =
        Connection { peer: established.peer, entry, activity, opened, changes, spoken: AtomicBool::new(false) };
    let (http, io) = (established.http, established.io);
    let span = tracing::debug_span!("connection", peer = connection.peer.address().map(tracing::field::display));
    let served = async {
        match http {
            Http::One => http1::serve(io, connection, stack, shared).await,
            Http::Two => http2::serve(io, connection, stack, shared).await,
        }
    };
    served.instrument(span).await;
}
