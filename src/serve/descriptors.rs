//! Descriptors: every connection is one, and each deletion on its way another.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Limits;

/// What a process has besides connections: its record, its journal, its runtimes.
const BESIDES: u64 = 256;

/// Takes as many descriptors as the limits may need, as far as the system gives them; says so
/// where it does not, for connections beyond that would wait or be closed.
pub(super) fn make_room(limits: &Limits) {
    let needed = (limits.max_connections + limits.max_in_flight) as u64 + BESIDES;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return;
    }
    let wanted = maximum.map_or(needed, |maximum| needed.min(maximum));
    let taken = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    if wanted < needed || taken.is_err() {
        tracing::warn!(
            descriptors = getrlimit(Resource::Nofile).current,
            needed,
            "fewer descriptors than limits.max_connections may need: raise the limit of open files (LimitNOFILE, \
             ulimit -n), or lower limits.max_connections"
        );
    }
}
