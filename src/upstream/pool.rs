use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use super::server::{Server, Servers};
use super::{AskError, Outgoing};
use crate::wire::Alarm;

/// Connections that are kept for the next request, at most.
const MAX_IDLE: usize = 256;
/// The most bytes of an answer's head.
const MAX_HEAD: usize = 64 * 1024;

/// One worker's connections to one server: nobody else waits for its lock.
#[derive(Clone)]
pub(super) struct Pool(Arc<Inner>);

struct Inner {
    servers: Arc<Servers>,
    at: usize,
    /// This worker's copy: cloning it touches no other's memory.
    host: HeaderValue,
    idle: Mutex<VecDeque<Idle>>,
}

struct Idle {
    sender: SendRequest<Outgoing>,
    alarm: Alarm,
    epoch: u64,
    since: Duration,
}

/// A request that is on its way to a server, from the choice of it to the end of the answer.
pub(super) struct Busy {
    pool: Pool,
    counted: bool,
}

impl Drop for Busy {
    fn drop(&mut self) {
        if self.counted {
            self.pool.server().end();
        }
    }
}

/// A connection that somebody uses.
pub(super) struct Connection {
    pub(super) sender: SendRequest<Outgoing>,
    /// For whoever waits for an answer.
    pub(super) alarm: Alarm,
    reused: bool,
    epoch: u64,
    busy: Busy,
}

impl Connection {
    /// Whether a request was answered on it before.
    pub(super) fn is_reused(&self) -> bool {
        self.reused
    }

    /// The server has answered on it.
    pub(super) fn worked(&self) {
        self.busy.pool.server().worked();
    }

    /// Keeps it for the next request: its answer was read to its end.
    pub(super) fn put(self) {
        let Self { sender, alarm, epoch, busy, .. } = self;
        let pool = &busy.pool;
        if sender.is_closed() || !pool.keeps(epoch) {
            return;
        }
        let mut idle = pool.idle();
        if idle.len() == MAX_IDLE {
            idle.pop_front();
        }
        idle.push_back(Idle { sender, alarm, epoch, since: pool.0.servers.clock.elapsed() });
    }

    /// Drops all idle connections to the same server.
    pub(super) fn clear_pool(&self) {
        self.busy.pool.idle().clear();
    }
}

impl Pool {
    pub(super) fn new(servers: &Arc<Servers>, at: usize) -> Self {
        let host = &servers.list[at].host;
        let host = HeaderValue::from_bytes(host.as_bytes()).unwrap_or_else(|_| host.clone());
        Self(Arc::new(Inner { servers: servers.clone(), at, host, idle: Mutex::default() }))
    }

    fn server(&self) -> &Server {
        &self.0.servers.list[self.0.at]
    }

    /// `Host` towards this server.
    pub(super) fn host(&self) -> HeaderValue {
        self.0.host.clone()
    }

    /// Counts a request.
    pub(super) fn busy(&self) -> Busy {
        Busy { pool: self.clone(), counted: self.server().begin() }
    }

    /// Whether connections of this epoch are kept.
    fn keeps(&self, epoch: u64) -> bool {
        self.server().is_used() && epoch == self.server().epoch()
    }

    /// The connection used last, if it is alive: the older ones may go.
    pub(super) fn take(&self, busy: Busy) -> Result<Connection, Busy> {
        let mut waiting = self.idle();
        while let Some(ready) = waiting.iter().rposition(|idle| idle.sender.is_ready()) {
            let Some(idle) = waiting.remove(ready) else { break };
            if self.is_fresh(&idle, self.0.servers.clock.elapsed()) {
                let Idle { sender, alarm, epoch, .. } = idle;
                return Ok(Connection { sender, alarm, reused: true, epoch, busy });
            }
        }
        Err(busy)
    }

    fn is_fresh(&self, idle: &Idle, now: Duration) -> bool {
        let young = now.saturating_sub(idle.since) < self.0.servers.settings.idle_timeout;
        young && !idle.sender.is_closed() && self.keeps(idle.epoch)
    }

    pub(super) fn sweep(&self) {
        let now = self.0.servers.clock.elapsed();
        self.idle().retain(|idle| self.is_fresh(idle, now));
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<Idle>> {
        // Nothing in here can be half done: a connection is in the queue or it is not.
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fresh connection.
    pub(super) async fn connect(&self, busy: Busy, trial: bool) -> Result<Connection, AskError> {
        let servers = &self.0.servers;
        let server = self.server();
        let made = match servers.connect(server).await {
            Ok((stream, epoch)) => handshake(stream).await.map(|sender| (sender, epoch)),
            Err(error) => Err(error),
        };
        match made {
            Ok((sender, epoch)) => {
                server.worked();
                Ok(Connection { sender, alarm: Alarm::default(), reused: false, epoch, busy })
            }
            Err(error) => {
                servers.failed(server, trial, &error);
                Err(error)
            }
        }
    }
}

/// HTTP on a stream.
pub(super) async fn handshake(stream: super::stream::Stream) -> Result<SendRequest<Outgoing>, AskError> {
    let (sender, driver) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        // As in front: `serve/http1.rs`.
        .writev(false)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| AskError::Unreachable(error.to_string()))?;
    // It ends by itself: with its sender, or with its peer.
    tokio::spawn(async move { drop(driver.await) });
    Ok(sender)
}
