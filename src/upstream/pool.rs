use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{AskError, Outgoing, Settings};
use crate::clock::Clock;

/// Connections that are kept for the next request, at most.
const MAX_IDLE: usize = 256;
/// The most bytes of an answer's head.
const MAX_HEAD: usize = 64 * 1024;
/// The most fields of an answer's head.
const MAX_FIELDS: usize = 128;

/// One worker's connections: nobody else waits for its lock.
#[derive(Clone)]
pub(super) struct Pool(Arc<Inner>);

struct Inner {
    settings: Settings,
    clock: Clock,
    idle: Mutex<VecDeque<Idle>>,
}

struct Idle {
    connection: Connection,
    since: Duration,
}

/// A connection that somebody uses.
pub(super) struct Connection {
    pub(super) sender: SendRequest<Outgoing>,
    reused: bool,
}

impl Connection {
    /// Whether a request was answered on it before.
    pub(super) fn is_reused(&self) -> bool {
        self.reused
    }
}

impl Pool {
    pub(super) fn new(settings: Settings, clock: Clock) -> Self {
        Self(Arc::new(Inner { settings, clock, idle: Mutex::default() }))
    }

    /// The connection used last, if it is alive: the older ones may go.
    pub(super) fn take(&self) -> Option<Connection> {
        let mut idle = self.idle();
        self.drop_old(&mut idle);
        let ready = idle.iter().rposition(|idle| idle.connection.sender.is_ready())?;
        idle.remove(ready).map(|idle| idle.connection)
    }

    /// Keeps a connection whose answer was read to its end.
    pub(super) fn put(&self, connection: Connection) {
        if connection.sender.is_closed() {
            return;
        }
        let mut idle = self.idle();
        if idle.len() == MAX_IDLE {
            idle.pop_front();
        }
        let connection = Connection { reused: true, ..connection };
        idle.push_back(Idle { connection, since: self.0.clock.elapsed() });
    }

    pub(super) fn sweep(&self) {
        self.drop_old(&mut self.idle());
    }

    pub(super) fn clear(&self) {
        self.idle().clear();
    }

    fn drop_old(&self, idle: &mut VecDeque<Idle>) {
        let now = self.0.clock.elapsed();
        idle.retain(|idle| {
            now.saturating_sub(idle.since) < self.0.settings.idle_timeout && !idle.connection.sender.is_closed()
        });
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<Idle>> {
        // Nothing in here can be half done: a connection is in the queue or it is not.
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fresh connection.
    pub(super) async fn connect(&self) -> Result<Connection, AskError> {
        let Settings { host, port, connect_timeout, .. } = &self.0.settings;
        let made = timeout(*connect_timeout, TcpStream::connect((host.as_str(), *port))).await;
        let stream = made.map_err(|_| AskError::ConnectTimeout)?.map_err(|_| AskError::Unreachable)?;
        // Without it a small request could wait for an acknowledgement.
        drop(stream.set_nodelay(true));
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_FIELDS)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| AskError::Unreachable)?;
        // It ends by itself: with its sender, or with its peer.
        tokio::spawn(async move { drop(driver.await) });
        Ok(Connection { sender, reused: false })
    }
}
