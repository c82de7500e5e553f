//! The servers of a generation, and what is known of each: shared by all workers, and kept by a
//! reload that leaves a server as it was.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderValue;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::resolve::Names;
use super::settings::{Address, Settings};
use super::{AskError, Unfit, tls};
use crate::clock::Clock;

/// The most servers: which of them were tried is one word.
pub const MAX_SERVERS: usize = 64;
/// Connections in a row that must fail before a server is set aside.
const FAILURES: u32 = 3;
/// For how long at first; twice as long each time its trial fails.
const ASIDE: Duration = Duration::from_secs(1);
const ASIDE_AT_MOST: Duration = Duration::from_secs(60);

/// Where the service is.
pub struct Servers {
    pub(super) list: Box<[Server]>,
    pub(super) settings: Settings,
    pub(super) clock: Clock,
}

/// One server.
pub(super) struct Server {
    pub(super) name: String,
    pub(super) host: HeaderValue,
    pub(super) endpoint: Endpoint,
    pub(super) tls: Option<(TlsConnector, ServerName<'static>)>,
    pub(super) state: Arc<State>,
    /// Whether there are others: only then is there somebody to set it aside for, and is it of
    /// use to know how busy it is.
    has_others: bool,
}

/// Where a connection goes.
pub(super) enum Endpoint {
    Fixed(SocketAddr),
    Named(String, u16),
    Unix(PathBuf),
}

/// What is known of a server.
#[derive(Default)]
pub(super) struct State {
    in_flight: Alone,
    /// The checks say so.
    down: AtomicBool,
    /// Whether the checks have said anything.
    checked: AtomicBool,
    /// Connections that could not be made since something worked.
    failures: AtomicU32,
    /// The elapsed time, in nanoseconds, until which it is set aside; 0 if it is not.
    aside_until: AtomicU64,
    /// Trials that failed in a row.
    trials: AtomicU32,
    pub(super) names: Names,
}

/// On a cache line of its own: everybody writes it, and only ever reads what lies beside it.
#[derive(Default)]
#[repr(align(128))]
struct Alone(AtomicUsize);

/// What may be done with a server now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Usable,
    /// Its time aside is over, and this caller is the one who finds out.
    Trial,
    Out,
}

impl Servers {
    /// The servers of these settings; what `before` knows of those that are the same is kept.
    ///
    /// # Errors
    /// If a certificate, a key or a name cannot be used.
    pub fn new(settings: Settings, clock: Clock, before: Option<&Self>) -> Result<Self, Unfit> {
        if !(1..=MAX_SERVERS).contains(&settings.servers.len()) {
            let why = format!("names {} servers; expected 1 to {MAX_SERVERS}", settings.servers.len());
            return Err(Unfit::new("upstream.servers", why));
        }
        let speaks_tls = |address: &Address| matches!(address, Address::Network { tls: true, .. });
        let connector = settings.servers.iter().any(speaks_tls).then(|| tls::connector(&settings.tls)).transpose()?;
        let same = |before: &&Self| before.settings.tls == settings.tls && before.settings.health == settings.health;
        let before = before.filter(same);
        let has_others = settings.servers.len() > 1;
        let server = |address: &Address| {
            let name = address.to_string();
            let authority = settings.host.clone().map_or_else(|| HeaderValue::try_from(address.authority()), Ok);
            let host = authority
                .map_err(|_| Unfit::new("upstream.servers", "is not a host and port that a Host header can carry"))?;
            let known = before.and_then(|before| before.list.iter().find(|server| server.name == name));
            let (endpoint, tls) = match address {
                Address::Unix(path) => (Endpoint::Unix(path.clone()), None),
                Address::Network { host, port, tls } => {
                    let name = tls.then(|| tls::name(&settings.tls, host)).transpose()?;
                    let endpoint = match host.parse::<IpAddr>() {
                        Ok(ip) => Endpoint::Fixed(SocketAddr::new(ip, *port)),
                        Err(_) => Endpoint::Named(host.clone(), *port),
                    };
                    (endpoint, connector.clone().zip(name))
                }
            };
            let state = known.map(|known| known.state.clone()).unwrap_or_default();
            Ok(Server { name, host, endpoint, tls, state, has_others })
        };
        let list = settings.servers.iter().map(server).collect::<Result<_, Unfit>>()?;
        Ok(Self { list, settings, clock })
    }

    /// Each server's name, and whether it is used and could last be reached.
    pub fn healthy(&self) -> impl Iterator<Item = (&str, bool)> {
        self.list.iter().map(|server| (server.name.as_str(), server.is_used() && !server.is_in_trouble()))
    }

    /// Asks anew for the addresses of names whose time is over, on the runtime of the caller:
    /// connections that are kept for ever would never.
    pub fn refresh_names(self: &Arc<Self>) {
        for (at, server) in self.list.iter().enumerate() {
            if !matches!(server.endpoint, Endpoint::Named(..)) || !server.state.names.is_due(&self.clock) {
                continue;
            }
            let servers = self.clone();
            tokio::spawn(async move {
                let Endpoint::Named(host, _) = &servers.list[at].endpoint else { return };
                let names = &servers.list[at].state.names;
                // Nobody waits for it; whoever connects finds out what is wrong.
                let asked = names.look_up(host, &servers.settings, &servers.clock);
                drop(tokio::time::timeout(servers.settings.connect_timeout, asked).await);
            });
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    /// What may be done with a server, and if that is to try it, the trial is the caller's.
    pub(super) fn standing(&self, server: &Server) -> Standing {
        let state = &server.state;
        if state.down.load(Ordering::Relaxed) {
            return Standing::Out;
        }
        if !server.has_others {
            return Standing::Usable;
        }
        let until = state.aside_until.load(Ordering::Relaxed);
        if until == 0 {
            return Standing::Usable;
        }
        let now = self.now();
        if now < until {
            return Standing::Out;
        }
        // Whoever gives up in the middle of it leaves it to the next, a little later.
        let over = now.saturating_add(nanos(self.settings.connect_timeout + ASIDE));
        match state.aside_until.compare_exchange(until, over, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Standing::Trial,
            Err(_) => Standing::Out,
        }
    }

    /// A connection to the server could not be made.
    pub(super) fn failed(&self, server: &Server, trial: bool, error: &AskError) {
        let state = &server.state;
        let failures = state.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if !server.has_others || (!trial && failures < FAILURES) {
            return;
        }
        let trials = if trial { state.trials.fetch_add(1, Ordering::Relaxed).saturating_add(1) } else { 0 };
        let now = self.now();
        let pause = pause(trials, now);
        let until = now.saturating_add(nanos(pause));
        let set = if trial {
            state.aside_until.store(until, Ordering::Relaxed);
            true
        } else {
            // Of many that fail at the same time, one sets it aside.
            state.aside_until.compare_exchange(0, until, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        if set {
            let pause = format_args!("{pause:.1?}").to_string();
            tracing::warn!(server = server.name, %error, pause, "cannot be reached: the upstream server is set aside");
        }
    }
}

impl Server {
    pub(super) fn epoch(&self) -> u64 {
        self.state.names.epoch()
    }

    /// Whether requests go there.
    pub(super) fn is_used(&self) -> bool {
        let aside = self.has_others && self.state.aside_until.load(Ordering::Relaxed) != 0;
        !aside && !self.state.down.load(Ordering::Relaxed)
    }

    fn is_in_trouble(&self) -> bool {
        self.state.failures.load(Ordering::Relaxed) != 0
    }

    /// A connection was made, or an answer came: whatever was wrong is over.
    pub(super) fn worked(&self) {
        let state = &self.state;
        // Read first: all workers read, and hardly ever does one write. Both: one that works while
        // another finds it failing may be set aside and have no failures.
        if !self.is_in_trouble() && state.aside_until.load(Ordering::Relaxed) == 0 {
            return;
        }
        state.failures.store(0, Ordering::Relaxed);
        state.trials.store(0, Ordering::Relaxed);
        if state.aside_until.swap(0, Ordering::Relaxed) != 0 {
            tracing::info!(server = self.name, "can be reached: the upstream server is used again");
        }
    }

    /// What the checks say. Returns whether that is news.
    pub(super) fn set_down(&self, down: bool) -> bool {
        self.state.checked.store(true, Ordering::Relaxed);
        self.state.down.swap(down, Ordering::Relaxed) != down
    }

    /// Whether the checks have said anything.
    pub(super) fn is_checked(&self) -> bool {
        self.state.checked.load(Ordering::Relaxed)
    }

    /// How busy it is.
    pub(super) fn in_flight(&self) -> usize {
        self.state.in_flight.0.load(Ordering::Relaxed)
    }

    /// One more request is on its way, if anybody counts. Returns whether it is counted.
    pub(super) fn begin(&self) -> bool {
        if self.has_others {
            self.state.in_flight.0.fetch_add(1, Ordering::Relaxed);
        }
        self.has_others
    }

    /// A request that was counted has ended.
    pub(super) fn end(&self) {
        self.state.in_flight.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// How long a server is set aside after so many failed trials: up to a quarter less or more, so
/// that gateways do not come back all at once.
fn pause(trials: u32, seed: u64) -> Duration {
    let pause = ASIDE.saturating_mul(1_u32.checked_shl(trials.min(16)).unwrap_or(u32::MAX)).min(ASIDE_AT_MOST);
    let jitter = u32::try_from(super::dice::mixed(seed) % 512).unwrap_or(0);
    (pause * (768 + jitter) / 1024).min(ASIDE_AT_MOST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn two() -> (Servers, crate::clock::ManualTime) {
        let (clock, time) = Clock::manual(std::time::UNIX_EPOCH);
        let server = |port| Address::Network { host: "127.0.0.1".into(), port, tls: false };
        (Servers::new(Settings::new(vec![server(1), server(2)]), clock, None).unwrap(), time)
    }

    #[test]
    fn three_failures_in_a_row_set_a_server_aside_and_one_trial_follows() {
        let (servers, time) = two();
        let [server, other] = &*servers.list else { panic!() };
        let error = AskError::Unreachable("refused".into());
        servers.failed(server, false, &error);
        servers.failed(server, false, &error);
        server.worked();
        servers.failed(server, false, &error);
        servers.failed(server, false, &error);
        assert_eq!(servers.standing(server), Standing::Usable, "not three in a row");
        servers.failed(server, false, &error);
        assert_eq!((servers.standing(server), servers.standing(other)), (Standing::Out, Standing::Usable));
        // Those that were on their way make it no longer.
        servers.failed(server, false, &error);
        time.advance(Duration::from_millis(1300));
        assert_eq!(servers.standing(server), Standing::Trial);
        assert_eq!(servers.standing(server), Standing::Out, "one trial");
        servers.failed(server, true, &error);
        time.advance(Duration::from_millis(1400));
        assert_eq!(servers.standing(server), Standing::Out, "twice as long");
        time.advance(Duration::from_millis(1200));
        assert_eq!(servers.standing(server), Standing::Trial);
        server.worked();
        assert_eq!(servers.standing(server), Standing::Usable);
    }

    #[test]
    fn a_server_that_works_again_while_it_is_set_aside_is_used_again_after_its_trial() {
        let (servers, time) = two();
        let server = &servers.list[0];
        (0..3).for_each(|_| servers.failed(server, false, &AskError::Unreachable("refused".into())));
        // Another worker's connection was made between the third failure and its consequence.
        server.state.failures.store(0, Ordering::Relaxed);
        time.advance(Duration::from_millis(1300));
        assert_eq!(servers.standing(server), Standing::Trial);
        server.worked();
        assert_eq!(servers.standing(server), Standing::Usable);
    }

    #[test]
    fn the_only_server_is_never_set_aside() {
        let (clock, _time) = Clock::manual(std::time::UNIX_EPOCH);
        let only = Address::Network { host: "127.0.0.1".into(), port: 1, tls: false };
        let servers = Servers::new(Settings::new(vec![only]), clock, None).unwrap();
        (0..9).for_each(|_| servers.failed(&servers.list[0], false, &AskError::Unreachable("refused".into())));
        assert_eq!(servers.standing(&servers.list[0]), Standing::Usable);
        assert!(servers.healthy().all(|(_, healthy)| !healthy), "and yet it is told");
    }

    #[test]
    fn a_pause_doubles_up_to_a_minute() {
        for seed in 0..100 {
            assert!((750..1250).contains(&pause(0, seed).as_millis()));
            assert!((6_000..10_000).contains(&pause(3, seed).as_millis()));
            assert!((45_000..=60_000).contains(&pause(40, seed).as_millis()));
        }
    }

    #[test]
    fn a_reload_keeps_what_is_known_of_the_servers_that_stay() {
        let (old, _time) = two();
        assert!(old.list.iter().all(|server| server.set_down(true)), "news");
        let mut settings = old.settings.clone();
        settings.servers[1] = Address::Unix("/x".into());
        let new = Servers::new(settings.clone(), old.clock.clone(), Some(&old)).unwrap();
        let used = |servers: &Servers| servers.list.iter().map(Server::is_used).collect::<Vec<_>>();
        assert_eq!(used(&new), [false, true]);
        settings.tls.server_name = Some("other".into());
        let other = Servers::new(settings, old.clock.clone(), Some(&old)).unwrap();
        assert_eq!(used(&other), [true, true], "asked in another way, it may say otherwise");
    }
}
