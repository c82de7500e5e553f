//! The servers of a generation and the state of each, which all workers share. A reload keeps the state of a server that it
//! does not change.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderValue;
use rustls::pki_types::ServerName;

use super::names::Names;
use super::settings::{ServerAddress, UpstreamSettings};
use super::tls::{self, ClientTls};
use super::{AskError, InvalidSetting};
use crate::certificate::Expiry;
use crate::clock::Clock;

/// The most servers: the set of those that were tried is one `u64`.
pub(crate) const MAX_SERVERS: usize = 64;
/// After this many failed connections in a row a server is ejected.
const FAILURES: u32 = 3;
/// The first ejection lasts this long. The time doubles with each failed trial.
const BASE_EJECTION: Duration = Duration::from_secs(1);
const MAX_EJECTION: Duration = Duration::from_secs(60);

/// The servers of the service.
pub struct Servers {
    pub(super) list: Box<[Server]>,
    pub(super) settings: UpstreamSettings,
    pub(super) clock: Clock,
    /// TLS, if some server uses it.
    tls: Option<Arc<ClientTls>>,
}

/// One server.
pub(super) struct Server {
    pub(super) name: String,
    pub(super) host: HeaderValue,
    pub(super) endpoint: Endpoint,
    pub(super) tls: Option<(Arc<ClientTls>, ServerName<'static>)>,
    pub(super) state: Arc<State>,
    /// Whether there are other servers. Only then is it ejected, and are its requests counted.
    has_others: bool,
}

/// Where a connection goes.
pub(super) enum Endpoint {
    Fixed(SocketAddr),
    Named(String, u16),
    Unix(PathBuf),
}

/// The state of a server.
#[derive(Default)]
pub(super) struct State {
    in_flight: CacheLine,
    /// The health checks report it as unhealthy.
    down: AtomicBool,
    /// Whether a health check has finished.
    checked: AtomicBool,
    /// Failed connections since the last success.
    failures: AtomicU32,
    /// The elapsed time in nanoseconds until which it is ejected; 0 if it is not ejected.
    ejected_until: AtomicU64,
    /// Failed trials in a row.
    trials: AtomicU32,
    pub(super) names: Names,
}

/// A counter on a cache line of its own, because all workers write it and read the fields beside it.
#[derive(Default)]
#[repr(align(128))]
struct CacheLine(AtomicUsize);

/// Whether a server can be used now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Usable,
    /// Its ejection is over, and the caller makes the one trial.
    Trial,
    Out,
}

impl Servers {
    /// The servers of these settings. Servers that were in `before` keep their state.
    ///
    /// # Errors
    /// If a certificate, a key or a name cannot be used.
    pub fn new(settings: UpstreamSettings, clock: Clock, before: Option<&Self>) -> Result<Self, InvalidSetting> {
        if !(1..=MAX_SERVERS).contains(&settings.servers.len()) {
            let why = format!("names {} servers; expected 1 to {MAX_SERVERS}", settings.servers.len());
            return Err(InvalidSetting::new("upstream.servers", why));
        }
        let speaks_tls = |address: &ServerAddress| matches!(address, ServerAddress::Network { tls: true, .. });
        let tls = settings.servers.iter().any(speaks_tls).then(|| ClientTls::new(&settings.tls)).transpose()?;
        let tls = tls.map(Arc::new);
        let same = |before: &&Self| before.settings.tls == settings.tls && before.settings.health == settings.health;
        let before = before.filter(same);
        let has_others = settings.servers.len() > 1;
        let server = |address: &ServerAddress| {
            let name = address.to_string();
            let authority = settings.host.clone().map_or_else(|| HeaderValue::try_from(address.authority()), Ok);
            let host = authority.map_err(|_| {
                InvalidSetting::new("upstream.servers", "is not a host and port that a Host header can carry")
            })?;
            let known = before.and_then(|before| before.list.iter().find(|server| server.name == name));
            let (endpoint, tls) = match address {
                ServerAddress::Unix(path) => (Endpoint::Unix(path.clone()), None),
                ServerAddress::Network { at, tls: speaks } => {
                    let name = speaks.then(|| tls::name(&settings.tls, at.host())).transpose()?;
                    let endpoint = match at.address() {
                        Some(ip) => Endpoint::Fixed(SocketAddr::new(ip, at.port())),
                        None => Endpoint::Named(at.host().to_owned(), at.port()),
                    };
                    (endpoint, tls.clone().zip(name))
                }
            };
            let state = known.map(|known| known.state.clone()).unwrap_or_default();
            Ok(Server { name, host, endpoint, tls, state, has_others })
        };
        let list = settings.servers.iter().map(server).collect::<Result<_, InvalidSetting>>()?;
        Ok(Self { list, settings, clock, tls })
    }

    /// Each server's name, and whether it is used and could last be reached.
    pub fn healthy(&self) -> impl Iterator<Item = (&str, bool)> {
        self.list.iter().map(|server| (server.name.as_str(), server.is_used() && !server.is_in_trouble()))
    }

    /// Resolves names again whose addresses are too old, and tries failing addresses, on the caller's runtime. Connecting does
    /// the same, but connections that are always reused never connect.
    pub fn refresh_names(self: &Arc<Self>) {
        for (at, server) in self.list.iter().enumerate() {
            if !matches!(server.endpoint, Endpoint::Named(..)) {
                continue;
            }
            let (asks, tries) = (server.state.names.is_due(&self.clock), server.state.names.are_failing());
            if !asks && !tries {
                continue;
            }
            let servers = self.clone();
            tokio::spawn(async move {
                let server = &servers.list[at];
                let Endpoint::Named(host, _) = &server.endpoint else { return };
                if asks {
                    // An error is reported by the next connection.
                    let asked = server.state.names.look_up(host, &servers.settings, &servers.clock);
                    drop(tokio::time::timeout(servers.settings.connect_timeout, asked).await);
                }
                servers.try_failing(server).await;
            });
        }
    }

    /// Whether some server uses TLS.
    pub fn have_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Loads the certificates of `[upstream.tls]` if their files changed. `None` if they did not. If they cannot be used, the
    /// old ones stay in force. Connections with replaced certificates are not reused.
    pub fn look_at_files(&self) -> Option<Result<(), InvalidSetting>> {
        let looked = self.tls.as_ref()?.look()?;
        if looked.is_ok() {
            let with_tls = self.list.iter().filter(|server| server.tls.is_some());
            with_tls.for_each(|server| server.state.names.begin_epoch());
        }
        Some(looked)
    }

    /// Whether the files of `[upstream.tls]` are the ones in force.
    pub fn have_current_files(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.is_current())
    }

    /// When the certificates of `[upstream.tls]` expire.
    pub fn expiries(&self) -> Vec<Expiry> {
        self.tls.as_ref().map(|tls| tls.expiries()).unwrap_or_default()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    /// Whether a server can be used. If this returns [`Standing::Trial`], no other caller gets the trial.
    pub(super) fn standing(&self, server: &Server) -> Standing {
        let state = &server.state;
        if state.down.load(Ordering::Relaxed) {
            return Standing::Out;
        }
        if !server.has_others {
            return Standing::Usable;
        }
        let until = state.ejected_until.load(Ordering::Relaxed);
        if until == 0 {
            return Standing::Usable;
        }
        let now = self.now();
        if now < until {
            return Standing::Out;
        }
        // If the caller is cancelled, another trial is due a little later.
        let over = now.saturating_add(nanos(self.settings.connect_timeout + BASE_EJECTION));
        match state.ejected_until.compare_exchange(until, over, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Standing::Trial,
            Err(_) => Standing::Out,
        }
    }

    /// Counts a failed connection, and ejects the server if there were too many.
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
            state.ejected_until.store(until, Ordering::Relaxed);
            true
        } else {
            // If several connections fail at once, only one of them ejects the server.
            state.ejected_until.compare_exchange(0, until, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        if set {
            let pause = format_args!("{pause:.1?}").to_string();
            tracing::warn!(server = server.name, %error, pause, "cannot be reached: the upstream server is ejected");
        }
    }
}

impl Server {
    pub(super) fn epoch(&self) -> u64 {
        self.state.names.epoch()
    }

    /// Whether requests are sent to it.
    pub(super) fn is_used(&self) -> bool {
        let ejected = self.has_others && self.state.ejected_until.load(Ordering::Relaxed) != 0;
        !ejected && !self.state.down.load(Ordering::Relaxed)
    }

    fn is_in_trouble(&self) -> bool {
        self.state.failures.load(Ordering::Relaxed) != 0
    }

    /// Notes a connection or an answer, which ends failures and ejection.
    pub(super) fn worked(&self) {
        let state = &self.state;
        // Read first, so that the cache line is rarely written. Check both: a success between the last failure and the
        // ejection leaves a server ejected without failures.
        if !self.is_in_trouble() && state.ejected_until.load(Ordering::Relaxed) == 0 {
            return;
        }
        state.failures.store(0, Ordering::Relaxed);
        state.trials.store(0, Ordering::Relaxed);
        if state.ejected_until.swap(0, Ordering::Relaxed) != 0 {
            tracing::info!(server = self.name, "can be reached: the upstream server is used again");
        }
    }

    /// Sets the result of the health checks. Returns whether it changed.
    pub(super) fn set_down(&self, down: bool) -> bool {
        self.state.checked.store(true, Ordering::Relaxed);
        self.state.down.swap(down, Ordering::Relaxed) != down
    }

    /// Whether a health check has finished.
    pub(super) fn is_checked(&self) -> bool {
        self.state.checked.load(Ordering::Relaxed)
    }

    /// The number of requests in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.state.in_flight.0.load(Ordering::Relaxed)
    }

    /// Counts a request that begins, if there are other servers. Returns whether it was counted.
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

/// How long a server is ejected after this many failed trials. The time varies by up to a quarter, so that several gateways
/// do not return at once.
fn pause(trials: u32, seed: u64) -> Duration {
    let pause = BASE_EJECTION.saturating_mul(1_u32.checked_shl(trials.min(16)).unwrap_or(u32::MAX)).min(MAX_EJECTION);
    let jitter = u32::try_from(super::rng::mixed(seed) % 512).unwrap_or(0);
    (pause * (768 + jitter) / 1024).min(MAX_EJECTION)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::net::Authority;

    fn two() -> (Servers, crate::clock::ManualTime) {
        let (clock, time) = Clock::manual(std::time::UNIX_EPOCH);
        let server = |port| ServerAddress::Network { at: Authority::new("127.0.0.1", port).unwrap(), tls: false };
        (Servers::new(UpstreamSettings::new(vec![server(1), server(2)]), clock, None).unwrap(), time)
    }

    #[test]
    fn three_failures_in_a_row_eject_a_server_and_one_trial_follows() {
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
    fn a_server_that_works_again_while_it_is_ejected_is_used_again_after_its_trial() {
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
    fn the_only_server_is_never_ejected() {
        let (clock, _time) = Clock::manual(std::time::UNIX_EPOCH);
        let only = ServerAddress::Network { at: Authority::new("127.0.0.1", 1).unwrap(), tls: false };
        let servers = Servers::new(UpstreamSettings::new(vec![only]), clock, None).unwrap();
        (0..9).for_each(|_| servers.failed(&servers.list[0], false, &AskError::Unreachable("refused".into())));
        assert_eq!(servers.standing(&servers.list[0]), Standing::Usable);
        assert!(servers.healthy().all(|(_, healthy)| !healthy), "it is reported all the same");
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
    fn a_reload_keeps_the_state_of_unchanged_servers() {
        let (old, _time) = two();
        assert!(old.list.iter().all(|server| server.set_down(true)), "news");
        let mut settings = old.settings.clone();
        settings.servers[1] = ServerAddress::Unix("/x".into());
        let new = Servers::new(settings.clone(), old.clock.clone(), Some(&old)).unwrap();
        let used = |servers: &Servers| servers.list.iter().map(Server::is_used).collect::<Vec<_>>();
        assert_eq!(used(&new), [false, true]);
        settings.tls.server_name = Some("other".into());
        let other = Servers::new(settings, old.clock.clone(), Some(&old)).unwrap();
        assert_eq!(used(&other), [true, true], "asked in another way, it may say otherwise");
    }
}
