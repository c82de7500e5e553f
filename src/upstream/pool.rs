//! One worker's connections to one server.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;

use super::AskError;
use super::connect::Made;
use super::server::{Server, Servers};
use super::traffic::Traffic;
use super::wire::Wire;
use crate::http::timer::DeadlineTimer;

/// One worker's idle connections to one server, for one kind of traffic. No other worker uses its lock.
pub(super) struct Pool<T: Traffic>(Arc<Inner<T>>);

struct Inner<T: Traffic> {
    servers: Arc<Servers>,
    at: usize,
    /// This worker's copy, so that cloning it does not share a reference count with other workers.
    host: HeaderValue,
    /// Ordered by the time of their last answer, the latest at the back.
    idle: Mutex<VecDeque<Box<Link<T>>>>,
}

impl<T: Traffic> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// A connection to the server, idle or in use.
pub(super) struct Link<T> {
    pub(super) wire: Wire,
    /// The timer for the answer.
    pub(super) timer: DeadlineTimer,
    epoch: u64,
    /// When the last answer on it ended.
    answered: Duration,
    /// When it has been idle for too long to be reused.
    good_until: Duration,
    traffic: PhantomData<fn() -> T>,
}

/// How long ago the last answer on a connection may have ended for it to be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reuse {
    /// As long as the connection may be idle: a lost request can be retried.
    Idle,
    /// `upstream.fresh`: the request cannot be retried, and the service may be closing an older idle connection.
    Fresh,
}

/// Counts a request as in flight, from the choice of its server to the end of the answer.
pub(super) struct Busy<T: Traffic> {
    pool: Pool<T>,
    counted: bool,
}

impl<T: Traffic> Drop for Busy<T> {
    fn drop(&mut self) {
        if self.counted {
            self.pool.server().end();
        }
    }
}

/// A connection that is in use.
pub(super) struct Connection<T: Traffic> {
    /// Boxed to keep the futures small.
    pub(super) link: Box<Link<T>>,
    reused: bool,
    pub(super) busy: Busy<T>,
}

impl<T: Traffic> Busy<T> {
    /// The value of `Host` for its server.
    pub(super) fn host(&self) -> &HeaderValue {
        &self.pool.0.host
    }
}

impl<T: Traffic> Connection<T> {
    /// Whether an earlier request was answered on it.
    pub(super) fn is_reused(&self) -> bool {
        self.reused
    }

    /// Notes that the server answered.
    pub(super) fn worked(&self) {
        self.busy.pool.server().worked();
    }

    /// Returns it to the pool after its answer was read to the end. The service keeps it open for `lasts`.
    pub(super) fn put(self, lasts: Duration) {
        let Self { mut link, busy, .. } = self;
        let pool = &busy.pool;
        if !pool.keeps(link.epoch) {
            return;
        }
        let Servers { settings, clock, .. } = &*pool.0.servers;
        // A little too early is safe: the connection counts as idle for longer than it is.
        link.answered = clock.turn_elapsed();
        link.good_until = link.answered + lasts.min(settings.idle_timeout);
        let mut idle = pool.idle();
        if idle.len() >= settings.max_idle {
            idle.pop_front();
        }
        idle.push_back(link);
    }

    /// Notes that no whole answer was received. If the connection was reused, the service may have closed it while idle, and
    /// the other idle ones too, so those are dropped.
    pub(super) fn broke(&self) {
        if self.reused {
            self.busy.pool.idle().clear();
        }
    }
}

impl<T: Traffic> Pool<T> {
    pub(super) fn new(servers: &Arc<Servers>, at: usize) -> Self {
        let host = &servers.list[at].host;
        let host = HeaderValue::from_bytes(host.as_bytes()).unwrap_or_else(|_| host.clone());
        Self(Arc::new(Inner { servers: servers.clone(), at, host, idle: Mutex::default() }))
    }

    fn server(&self) -> &Server {
        &self.0.servers.list[self.0.at]
    }

    /// Counts a request as in flight.
    pub(super) fn busy(&self) -> Busy<T> {
        Busy { pool: self.clone(), counted: self.server().begin() }
    }

    /// Whether connections of this epoch are kept.
    fn keeps(&self, epoch: u64) -> bool {
        self.server().is_used() && epoch == self.server().epoch()
    }

    /// Takes the usable idle connection with the latest answer, so that the others can expire.
    pub(super) fn take(&self, busy: Busy<T>, reuse: Reuse) -> Result<Connection<T>, Busy<T>> {
        // Read anew: after a pause of the process within this turn, the server may have closed what was fresh when it began.
        let now = self.0.servers.clock.elapsed();
        let fresh = self.0.servers.settings.fresh;
        let mut waiting = self.idle();
        while let Some(mut link) = waiting.pop_back() {
            if reuse == Reuse::Fresh && now.saturating_sub(link.answered) >= fresh {
                // The others are older still. All of them stay for requests that can be retried.
                waiting.push_back(link);
                break;
            }
            if self.is_good(&mut link, now) {
                return Ok(Connection { link, reused: true, busy });
            }
        }
        Err(busy)
    }

    fn is_good(&self, link: &mut Link<T>, now: Duration) -> bool {
        now < link.good_until && self.keeps(link.epoch) && link.wire.is_quiet()
    }

    pub(super) fn sweep(&self) {
        let now = self.0.servers.clock.elapsed();
        self.idle().retain_mut(|link| self.is_good(link, now));
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<Box<Link<T>>>> {
        // A panic leaves no invalid state: a connection is in the queue or it is not.
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a new connection.
    pub(super) async fn connect(&self, busy: Busy<T>, trial: bool) -> Result<Connection<T>, AskError> {
        let servers = &self.0.servers;
        let server = self.server();
        match servers.connect(server).await {
            Ok(made) => {
                server.worked();
                Ok(Connection { link: Box::new(Link::new(made)), reused: false, busy })
            }
            Err(error) => {
                servers.failed(server, trial, &error);
                Err(error)
            }
        }
    }
}

impl<T: Traffic> Link<T> {
    fn new(made: Made<T>) -> Self {
        let (stream, epoch) = made.into_parts();
        Self {
            wire: Wire::new(stream),
            timer: DeadlineTimer::default(),
            epoch,
            answered: Duration::ZERO,
            good_until: Duration::ZERO,
            traffic: PhantomData,
        }
    }
}
