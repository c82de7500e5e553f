use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;

use super::AskError;
use super::server::{Server, Servers};
use super::wire::Wire;
use crate::wire::Alarm;

/// Connections that are kept for the next request, at most.
const MAX_IDLE: usize = 256;

/// One worker's connections to one server: nobody else waits for its lock.
#[derive(Clone)]
pub(super) struct Pool(Arc<Inner>);

struct Inner {
    servers: Arc<Servers>,
    at: usize,
    /// This worker's copy: cloning it touches no other's memory.
    host: HeaderValue,
    idle: Mutex<VecDeque<Box<Link>>>,
}

/// A connection to the server, whoever has it.
pub(super) struct Link {
    pub(super) wire: Wire,
    /// For whoever waits for an answer.
    pub(super) alarm: Alarm,
    epoch: u64,
    /// When it was last given something to do.
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
    /// In a box: a request on its way would carry its room about.
    pub(super) link: Box<Link>,
    reused: bool,
    pub(super) busy: Busy,
}

impl Busy {
    /// `Host` towards its server.
    pub(super) fn host(&self) -> &HeaderValue {
        &self.pool.0.host
    }
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
        let Self { link, busy, .. } = self;
        let pool = &busy.pool;
        if !pool.keeps(link.epoch) {
            return;
        }
        let mut idle = pool.idle();
        if idle.len() == MAX_IDLE {
            idle.pop_front();
        }
        idle.push_back(link);
    }

    /// No whole answer came on it. If it was used before, it may have died of old age, and so may the
    /// others that wait.
    pub(super) fn broke(&self) {
        if self.reused {
            self.busy.pool.idle().clear();
        }
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

    /// Counts a request.
    pub(super) fn busy(&self) -> Busy {
        Busy { pool: self.clone(), counted: self.server().begin() }
    }

    /// Whether connections of this epoch are kept.
    fn keeps(&self, epoch: u64) -> bool {
        self.server().is_used() && epoch == self.server().epoch()
    }

    /// The connection used last that can have a request: the older ones may go.
    pub(super) fn take(&self, busy: Busy) -> Result<Connection, Busy> {
        let now = self.0.servers.clock.elapsed();
        let mut waiting = self.idle();
        while let Some(mut link) = waiting.pop_back() {
            if self.is_fresh(&mut link, now) {
                link.since = now;
                return Ok(Connection { link, reused: true, busy });
            }
        }
        Err(busy)
    }

    fn is_fresh(&self, link: &mut Link, now: Duration) -> bool {
        let young = now.saturating_sub(link.since) < self.0.servers.settings.idle_timeout;
        young && self.keeps(link.epoch) && link.wire.is_quiet()
    }

    pub(super) fn sweep(&self) {
        let now = self.0.servers.clock.elapsed();
        self.idle().retain_mut(|link| self.is_fresh(link, now));
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<Box<Link>>> {
        // Nothing in here can be half done: a connection is in the queue or it is not.
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fresh connection.
    pub(super) async fn connect(&self, busy: Busy, trial: bool) -> Result<Connection, AskError> {
        let servers = &self.0.servers;
        let server = self.server();
        match servers.connect(server).await {
            Ok((stream, epoch)) => {
                server.worked();
                let since = servers.clock.elapsed();
                let link = Link { wire: Wire::new(stream), alarm: Alarm::default(), epoch, since };
                Ok(Connection { link: Box::new(link), reused: false, busy })
            }
            Err(error) => {
                servers.failed(server, trial, &error);
                Err(error)
            }
        }
    }
}
