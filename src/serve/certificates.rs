//! The certificates in force: when they expire, and whether their files were replaced.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::entries::Entries;
use crate::certificate::Expiry;
use crate::config::Config;
use crate::telemetry::Metrics;
use crate::upstream::Servers;

/// All users of certificates in a running gateway.
pub(super) struct Certificates {
    /// The certificate authorities for Redis as read at the start: a change needs a restart.
    redis: Vec<Expiry>,
}

impl Certificates {
    pub(super) fn new(config: &Config) -> Self {
        Self { redis: config.replay.expiries() }
    }

    /// Loads files that changed, and updates the gauges.
    pub(super) fn look(&self, entries: &Entries, servers: &Servers, metrics: &Metrics) {
        let listeners = entries.tls();
        for looked in listeners.iter().filter_map(|tls| tls.look()) {
            match looked {
                Ok(()) => tracing::info!("the certificates changed; new connections get the new ones"),
                Err(error) => {
                    tracing::error!(%error, "the changed certificates cannot be used; the old ones stay in force");
                }
            }
        }
        match servers.look_at_files() {
            None => {}
            Some(Ok(())) => {
                tracing::info!("upstream.tls: the certificates changed; new connections use the new ones")
            }
            Some(Err(fault)) => tracing::error!(
                error = fault.why,
                "{}: the changed certificates cannot be used; the old ones stay in force",
                fault.key
            ),
        }
        metrics.certificates_taken(listeners.iter().all(|tls| tls.is_current()) && servers.have_current_files());
        self.tell_expiries(entries, servers, metrics);
    }

    /// Updates the gauges of expiry times.
    pub(super) fn tell_expiries(&self, entries: &Entries, servers: &Servers, metrics: &Metrics) {
        // Of several certificates with one name, only the first to expire counts.
        let mut first = BTreeMap::<(&'static str, String), SystemTime>::new();
        for Expiry { part, name, at } in self.expiries(entries, servers) {
            first.entry((part.as_str(), name)).and_modify(|known| *known = at.min(*known)).or_insert(at);
        }
        metrics.certificates(first.iter().map(|((part, name), at)| (*part, name.as_str(), *at)));
    }

    /// One line for each certificate in force that has expired.
    pub(super) fn expired(
        &self,
        config: &Config,
        entries: &Entries,
        servers: &Servers,
        now: SystemTime,
    ) -> Vec<String> {
        config.expired(self.expiries(entries, servers), now)
    }

    /// Every certificate in force.
    pub(super) fn expiries(&self, entries: &Entries, servers: &Servers) -> Vec<Expiry> {
        let listeners = entries.tls();
        let all = listeners.iter().flat_map(|tls| tls.expiries()).chain(servers.expiries());
        all.chain(self.redis.iter().cloned()).collect()
    }
}
