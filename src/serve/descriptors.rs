//! File descriptors: every connection, from a client or to the service, needs one.
//!
//! 1. The soft limit is raised to what the limits in the configuration may need at most.
//! 2. If the hard limit does not allow that, the limits in the configuration are lowered until they fit.
//!    Connections beyond them are refused or wait. So whatever clients do, a descriptor is left for the admin
//!    listener, for the record, and for requests that passed the gates.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Capacity;

/// Descriptors for everything but connections: record, journal, runtimes, admin listener.
const BESIDES: u64 = 256;

/// Raises the soft limit to what the limits may need, or lowers the limits to what is available.
pub(super) fn make_room(capacity: &mut Capacity) {
    let needed = needed(capacity);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return;
    }
    let wanted = maximum.map_or(needed, |maximum| needed.min(maximum));
    // If this fails, the check below finds it.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    let available = getrlimit(Resource::Nofile).current.unwrap_or(needed);
    if available >= needed {
        return;
    }
    fit(capacity, available);
    tracing::warn!(
        descriptors = available,
        needed,
        max_connections = capacity.max_connections,
        max_in_flight = capacity.max_in_flight,
        max_passing = capacity.max_passing,
        "there are fewer descriptors than the limits may need, so the limits are lowered: raise the hard limit of open \
         files to what is needed (LimitNOFILE, ulimit -Hn), or lower limits.max_connections and limits.max_passing"
    );
}

/// One descriptor for each client connection, and two to the service for each concurrent request: one in use, and
/// one kept for the next request.
fn needed(capacity: &Capacity) -> u64 {
    let at_once = capacity.max_in_flight.saturating_add(capacity.max_passing);
    let connections = capacity.max_connections.saturating_add(at_once.saturating_mul(2));
    (connections as u64).saturating_add(BESIDES)
}

/// Fits the limits into the available descriptors. At most a quarter goes to everything that is no connection. Of
/// the rest, up to a quarter goes to judged requests; clients and passing messages share what is left in the ratio
/// of their limits.
fn fit(capacity: &mut Capacity, available: u64) {
    let left = available - (available / 4).min(BESIDES);
    let judged = (capacity.max_in_flight as u64).min(left / 8).max(1);
    let left = left.saturating_sub(2 * judged);
    let (clients, passing) = (capacity.max_connections as u64, capacity.max_passing as u64);
    let all = u128::from(clients) + 2 * u128::from(passing);
    // This is never more than the limit before.
    let passing = u64::try_from(u128::from(passing) * u128::from(left) / all.max(1)).unwrap_or(passing).max(1);
    let clients = clients.min(left.saturating_sub(2 * passing)).max(1);
    let lower = |limit: &mut usize, to: u64| *limit = usize::try_from(to).map_or(*limit, |to| to.min(*limit));
    lower(&mut capacity.max_in_flight, judged);
    lower(&mut capacity.max_in_flight_per_key, judged);
    lower(&mut capacity.max_passing, passing);
    lower(&mut capacity.max_connections, clients);
    lower(&mut capacity.max_connections_per_client, (clients - clients / 4).max(1));
}

/// How many idle connections of each kind one worker keeps to one server: all together no more than there may be
/// concurrent requests.
pub(super) fn max_idle(capacity: &Capacity, workers: usize, servers: usize) -> usize {
    let at_once = capacity.max_in_flight.min(capacity.max_passing);
    (at_once / (workers * servers).max(1)).clamp(1, crate::upstream::MAX_IDLE)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn defaults() -> Capacity {
        let environment = |name: &str| name.starts_with("CRM_KEY_").then(|| format!("a secret for {name}"));
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/sidecar.toml");
        Config::load_with(&example, &environment).unwrap().capacity
    }

    #[test]
    fn lowered_limits_fit_the_available_descriptors() {
        let capacity = defaults();
        assert!(needed(&capacity) > 10_000 + 2 * 4_096);
        for available in [16, 64, 256, 400, 1_024, 4_096, needed(&capacity) - 1] {
            let mut lowered = capacity;
            fit(&mut lowered, available);
            let at_once = lowered.max_in_flight + lowered.max_passing;
            let most = (lowered.max_connections + 2 * at_once) as u64;
            assert!(most < available, "{available}: {lowered:?}");
            assert!(available - most >= (available / 4).min(BESIDES), "{available}: something is left for the rest");
            assert!(lowered.max_in_flight >= 1 && lowered.max_passing >= 1 && lowered.max_in_flight_per_key >= 1);
        }
    }

    #[test]
    fn idle_connections_do_not_exceed_concurrent_requests() {
        let capacity = defaults();
        for (workers, servers) in [(1, 1), (2, 1), (16, 4), (64, 16)] {
            let idle = max_idle(&capacity, workers, servers) * workers * servers;
            assert!(idle <= capacity.max_in_flight.max(workers * servers), "{workers} {servers}: {idle}");
        }
    }
}
