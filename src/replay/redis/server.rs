//! One Redis server: its connections and its circuit breaker.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo,
    RedisError, TlsCertificates, Value,
};
use tokio::runtime;
use tokio::time::timeout;

use super::Connection;
use super::script::Number;
use super::settings::{Access, RedisStartError, TlsFiles};
use crate::credential::Hidden;
use crate::net::Authority;

/// Why a server is not used. The texts continue a sentence that begins with the server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    /// It does not answer, or not in time. It may recover.
    #[error("{0}")]
    OutOfReach(String),
    /// It answers, but its configuration makes it unusable.
    #[error("{0}")]
    Misconfigured(String),
    /// A reply did not match its request, so it is unclear which replies of the connection belong to which requests.
    #[error("a reply did not match its request; the connection was closed")]
    OutOfSync,
}

impl From<Trouble> for RedisStartError {
    fn from(trouble: Trouble) -> Self {
        Self::Misconfigured(trouble.to_string())
    }
}

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        match error.kind() {
            redis::ErrorKind::AuthenticationFailed | redis::ErrorKind::InvalidClientConfig => {
                Self::Misconfigured(format!("refuses the user or the password, or the settings are at fault: {error}"))
            }
            _ if matches!(error.code(), Some("NOPERM" | "NOAUTH" | "WRONGPASS")) => {
                Self::Misconfigured(format!("does not permit what the gateway needs: {error}"))
            }
            _ => Self::OutOfReach(error.to_string()),
        }
    }
}

/// How long a connection counts as alive without a reply. Redis closes idle connections after its own `timeout`,
/// which is in whole seconds.
const QUIET: Duration = Duration::from_millis(500);

/// One server. Its circuit breaker is open until the watcher has checked the server, and again after a failure.
pub(super) struct Server {
    pub(super) address: Authority,
    client: Client,
    /// What takes the place of the network.
    #[cfg(test)]
    link: Option<super::simulated::Link>,
    /// Whether each connection asks first whether the server is a master.
    checks_role: bool,
    /// One connection for each runtime, so that pipelined requests share a task and a core.
    connections: Mutex<Vec<Held>>,
    usable: AtomicBool,
    trouble: Mutex<Option<Trouble>>,
    /// Whether all its slots must be attested again before it is used.
    pub(super) in_doubt: AtomicBool,
    /// Its clock minus elapsed time, in milliseconds, as of the last check that attested it.
    clock: AtomicI64,
    /// Whether its clock jumped ahead, so that it may have forgotten salts too early, and it is not fenced for that yet.
    pub(super) jumped: AtomicBool,
}

/// [`Server::clock`] before the first check.
const UNEXAMINED: i64 = i64::MIN;

/// A connection of one runtime.
struct Held {
    runtime: runtime::Id,
    connection: Connection,
    /// The elapsed time at which it was last known to be alive.
    alive: Duration,
}

impl Server {
    pub(super) fn new(address: Authority, access: &Access, tls: &TlsFiles) -> Result<Self, Trouble> {
        let (host, port) = (address.host().to_owned(), address.port());
        // The name is resolved anew for each connection.
        let addr = if access.tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let mut redis = RedisConnectionInfo::default().set_db(access.database).set_skip_set_lib_name();
        if let Some(username) = &access.username {
            redis = redis.set_username(username);
        }
        if let Some(password) = &access.password {
            redis = redis.set_password(&password.0);
        }
        let info = addr.into_connection_info()?.set_redis_settings(redis);
        let client = if access.tls {
            let own = |(certificate, Hidden(key)): &(Vec<u8>, Hidden)| ClientTlsConfig {
                client_cert: certificate.clone(),
                client_key: key.clone().into_bytes(),
            };
            let client_tls = tls.client.as_ref().map(own);
            let files = TlsCertificates { client_tls, root_cert: tls.ca.clone() };
            let refused =
                |error| Trouble::Misconfigured(format!("cannot be used with ca, certificate and key: {error}"));
            Client::build_with_tls(info, files).map_err(refused)?
        } else {
            Client::open(info)?
        };
        Ok(Self {
            address,
            client,
            #[cfg(test)]
            link: tls.link.clone(),
            checks_role: false,
            connections: Mutex::default(),
            usable: AtomicBool::new(false),
            trouble: Mutex::default(),
            in_doubt: AtomicBool::new(true),
            clock: AtomicI64::new(UNEXAMINED),
            jumped: AtomicBool::new(false),
        })
    }

    /// Makes each connection ask first whether the server is a master.
    pub(super) fn checking_role(self) -> Self {
        Self { checks_role: true, ..self }
    }

    pub(super) fn is_usable(&self) -> bool {
        self.usable.load(Ordering::Acquire)
    }

    /// Notes its clock minus elapsed time, in milliseconds. If the clock has jumped, after it was fenced for that.
    pub(super) fn shows(&self, clock: i64) {
        self.clock.store(clock, Ordering::Release);
    }

    /// What its clock should show now, in milliseconds since 1970. `None` before the first check.
    pub(super) fn should_show(&self, elapsed: Duration) -> Option<i64> {
        let clock = Some(self.clock.load(Ordering::Acquire)).filter(|clock| *clock != UNEXAMINED)?;
        Some(clock.saturating_add(i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Closes the breaker. Returns whether it was open.
    pub(super) fn resume(&self) -> bool {
        *unpoisoned(&self.trouble) = None;
        !self.usable.swap(true, Ordering::AcqRel)
    }

    /// Opens the breaker. Returns whether this is worth a log line: the breaker was closed, or the kind of trouble is
    /// new.
    pub(super) fn suspend(&self, trouble: Trouble) -> bool {
        let kind = std::mem::discriminant(&trouble);
        let old = unpoisoned(&self.trouble).replace(trouble);
        self.usable.swap(false, Ordering::AcqRel) || old.is_none_or(|old| std::mem::discriminant(&old) != kind)
    }

    pub(super) fn trouble(&self) -> Option<Trouble> {
        unpoisoned(&self.trouble).clone()
    }

    /// The connection of this runtime, if there is one.
    pub(super) fn connected(&self) -> Option<Connection> {
        let here = runtime::Handle::try_current().ok()?.id();
        let connections = unpoisoned(&self.connections);
        connections.iter().find(|held| held.runtime == here).map(|held| held.connection.clone())
    }

    /// Whether this runtime's connection has replied within [`QUIET`].
    pub(super) fn is_alive(&self, elapsed: Duration) -> bool {
        let Ok(here) = runtime::Handle::try_current() else { return false };
        let connections = unpoisoned(&self.connections);
        let held = connections.iter().find(|held| held.runtime == here.id());
        held.is_some_and(|held| elapsed.saturating_sub(held.alive) < QUIET)
    }

    /// Notes that this runtime's connection has just replied.
    pub(super) fn answered(&self, elapsed: Duration) {
        let Ok(here) = runtime::Handle::try_current() else { return };
        let mut connections = unpoisoned(&self.connections);
        connections.iter_mut().filter(|held| held.runtime == here.id()).for_each(|held| held.alive = elapsed);
    }

    /// Makes sure that this runtime has a live connection. The server may have closed an idle one, and a claim sent
    /// on it would be lost.
    pub(super) async fn revive(&self, number: Number, limit: Duration) -> Result<(), Trouble> {
        if let Some(mut connection) = self.connected() {
            let mut ping = redis::cmd("PING");
            ping.arg(number.to_string());
            match timeout(limit, ping.query_async::<Value>(&mut connection)).await {
                Ok(Ok(answer)) if number.is_echoed(&answer) => return Ok(()),
                // A reply to another request, or an error.
                Ok(Ok(_) | Err(_)) => self.disconnect(),
                Err(_) => return Err(Trouble::OutOfReach(format!("no answer within {} ms", limit.as_millis()))),
            }
        }
        self.connection(limit).await.map(drop)
    }

    /// The connection of this runtime, made if there is none.
    pub(super) async fn connection(&self, limit: Duration) -> Result<Connection, Trouble> {
        if let Some(connection) = self.connected() {
            return Ok(connection);
        }
        let late = || Trouble::OutOfReach(format!("no connection within {} ms", limit.as_millis()));
        let connecting = async {
            let mut connection = self.connect().await?;
            if self.checks_role {
                check_role(&mut connection).await?;
            }
            Ok::<_, Trouble>(connection)
        };
        let connection = timeout(limit, connecting).await.map_err(|_| late())??;
        let here = runtime::Handle::current().id();
        let mut connections = unpoisoned(&self.connections);
        connections.retain(|held| held.runtime != here);
        connections.push(Held { runtime: here, connection: connection.clone(), alive: Duration::ZERO });
        Ok(connection)
    }

    async fn connect(&self) -> Result<Connection, Trouble> {
        #[cfg(test)]
        if let Some(link) = &self.link {
            return Ok(link.connect(&self.address).await?);
        }
        // Each request has its own timeout.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        #[cfg(test)]
        let connection = Connection::Real(connection);
        Ok(connection)
    }

    /// Ends the connection of this runtime.
    pub(super) fn disconnect(&self) {
        let Ok(here) = runtime::Handle::try_current() else { return };
        unpoisoned(&self.connections).retain(|held| held.runtime != here.id());
    }

    /// Ends the connections of all other runtimes.
    pub(super) fn disconnect_others(&self) {
        let Ok(here) = runtime::Handle::try_current() else { return };
        unpoisoned(&self.connections).retain(|held| held.runtime == here.id());
    }

    /// Ends the connections of all runtimes.
    pub(super) fn disconnect_all(&self) {
        unpoisoned(&self.connections).clear();
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

/// Checks that a server says that it is a master.
async fn check_role(connection: &mut Connection) -> Result<(), Trouble> {
    let info: String = redis::cmd("INFO").arg("replication").query_async(connection).await?;
    let is_master = info.lines().any(|line| line == "role:master");
    if is_master { Ok(()) } else { Err(Trouble::OutOfReach("is not a master now".into())) }
}

/// A panic cannot leave the guarded values half changed, so a poisoned lock is used as it is.
pub(super) fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
