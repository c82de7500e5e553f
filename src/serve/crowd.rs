//! Counts and logs connections for which there is no room.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::Capacity;
use crate::listen::Full;
use crate::process::Process;

/// Seconds between two warnings of the same kind: an attack would cause thousands.
const QUIET: u64 = 60;

/// Counts connections without room, and warns of them once a minute.
pub(super) struct Crowd {
    process: Arc<Process>,
    max_connections: usize,
    max_connections_per_client: usize,
    /// When each kind of warning was last logged, in seconds since boot; 0 for never.
    warned: [AtomicU64; 2],
}

impl Crowd {
    pub(super) fn new(process: &Arc<Process>, capacity: &Capacity) -> Self {
        process.metrics.connections_max(capacity.max_connections);
        Self {
            process: process.clone(),
            max_connections: capacity.max_connections,
            max_connections_per_client: capacity.max_connections_per_client,
            warned: Default::default(),
        }
    }

    /// A connection found no free slot; `client` is the one with too many connections, if that is the reason.
    pub(super) fn is_full(&self, full: Full, client: Option<IpAddr>) {
        self.process.metrics.connections_full(full.as_str());
        self.warn(full, client);
    }

    /// A connection is closed to make room for another one.
    pub(super) fn evicted(&self, full: Full, client: Option<IpAddr>) {
        self.process.metrics.connection_evicted(full.as_str());
        if full == Full::Client {
            self.is_full(full, client);
        }
    }

    fn warn(&self, full: Full, client: Option<IpAddr>) {
        let (now, warned) = (self.process.clock.elapsed().as_secs().max(1), &self.warned[full as usize]);
        let last = warned.load(Ordering::Relaxed);
        if (last != 0 && now.saturating_sub(last) < QUIET)
            || warned.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return;
        }
        match full {
            Full::Gateway => tracing::warn!(
                max_connections = self.max_connections,
                "every connection that limits.max_connections allows is taken: a new one replaces the oldest on which \
                 no caller was recognised, and waits if there is none; see saltgate_connections_full_total"
            ),
            Full::Client => tracing::warn!(
                max_connections_per_client = self.max_connections_per_client,
                client = client.map(tracing::field::display),
                "a client has as many connections as limits.max_connections_per_client allows: a new one replaces its \
                 oldest on which no caller was recognised, and is closed if there is none; list a proxy that serves \
                 many clients in trusted_proxies"
            ),
        }
    }
}
