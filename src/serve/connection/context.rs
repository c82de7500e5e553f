//! What all connections share, and the state of one connection while it is served.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use http::{HeaderMap, Response};
use tower::Service;

use crate::clock::Clock;
use crate::config::Capacity;
use crate::gate::{Arrival, Body, Current};
use crate::http::RequestBody;
use crate::http::timer::LAST_CALL;
use crate::listen::{self, Activity, ConnectionLimit, ConnectionSlot, Full, Peer};
use crate::net::Client;
use crate::policy::{KeepAlive, Limits};
use crate::process::Process;
use crate::serve::crowd::Crowd;
use crate::serve::entries::{Entry, Phase};
use crate::telemetry::Metrics;

/// The service that answers the requests of a connection.
pub(in crate::serve) trait Stack:
    Service<Arrival<RequestBody>, Response = Box<Response<Body>>, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

impl<S> Stack for S where
    S: Service<Arrival<RequestBody>, Response = Box<Response<Body>>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static
{
}

/// What all connections share.
#[derive(Clone)]
pub(in crate::serve) struct Shared {
    pub(super) limit: Arc<ConnectionLimit>,
    pub(super) crowd: Arc<Crowd>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    pub(super) current: Arc<Current>,
}

impl Shared {
    pub(in crate::serve) fn new(capacity: &Capacity, process: &Arc<Process>, current: &Arc<Current>) -> Self {
        Self {
            limit: Arc::new(ConnectionLimit::new(capacity.max_connections, capacity.max_connections_per_client)),
            crowd: Arc::new(Crowd::new(process, capacity)),
            metrics: process.metrics.clone(),
            clock: process.clock.clone(),
            current: current.clone(),
        }
    }

    /// Waits for a slot for an accepted connection; `None` if there will never be one.
    pub(super) async fn slot(&self) -> Option<ConnectionSlot> {
        if let Some(slot) = self.limit.try_take() {
            return Some(slot);
        }
        self.crowd.is_full(Full::Gateway, None);
        self.limit.wait().await
    }

    /// The limits in force now.
    pub(super) fn limits(&self) -> Limits {
        self.current.load().limits
    }
}

/// The state of a connection while it is served.
pub(super) struct Connection {
    pub(super) peer: Peer,
    pub(super) entry: Arc<Entry>,
    /// Whether it can be closed to make room for another one.
    pub(super) activity: Arc<Activity>,
    pub(super) opened: Arc<listen::Opened>,
    /// How often the settings of its listener had changed when the connection began.
    pub(super) changes: u64,
    /// Whether a request has arrived.
    pub(super) spoken: AtomicBool,
}

impl Connection {
    /// Whether a reload has changed the settings that the connection began with: then it ends with its next answer.
    pub(super) fn is_outdated(&self) -> bool {
        self.entry.changes() != self.changes
    }

    pub(super) fn keep_alive(&self) -> KeepAlive {
        if self.is_outdated() { KeepAlive::Never } else { self.opened.settings.keep_alive }
    }

    /// Who sent a message, according to the proxies that are trusted now.
    pub(super) fn client_of(&self, headers: &HeaderMap) -> Client {
        if self.is_outdated() { self.client_of_now(headers) } else { self.peer.client_of(headers) }
    }

    #[cold]
    fn client_of_now(&self, headers: &HeaderMap) -> Client {
        self.peer.judged_by(&self.entry.opened().settings.trusted).client_of(headers)
    }
}

/// Waits until a client that has sent nothing yet must have sent its first request.
pub(super) async fn last_call(entry: &Entry) {
    tokio::select! {
        () = tokio::time::sleep(LAST_CALL) => {}
        () = entry.reached(Phase::Cutting) => {}
    }
}
