//! One server of Redis, as this process reaches it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisError};
use tokio::runtime;
use tokio::time::timeout;

use super::RedisSettings;

/// A host and a port.
pub(super) type Address = (String, u16);

/// Why a server is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It does not answer, or not in time; it may again.
    OutOfReach(String),
    /// It answers, and is not to be used as it is.
    Unfit(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfReach(why) | Self::Unfit(why) => f.write_str(why),
        }
    }
}

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        match error.kind() {
            redis::ErrorKind::AuthenticationFailed | redis::ErrorKind::InvalidClientConfig => {
                Self::Unfit(format!("refuses the user or the password, or the settings are at fault: {error}"))
            }
            _ if matches!(error.code(), Some("NOPERM" | "NOAUTH" | "WRONGPASS")) => {
                Self::Unfit(format!("does not permit what the gateway needs: {error}"))
            }
            _ => Self::OutOfReach(error.to_string()),
        }
    }
}

/// How long a connection is trusted to be alive without an answer. Redis closes quiet ones after
/// its own `timeout`, which is whole seconds.
const QUIET: Duration = Duration::from_millis(500);

/// One server. Its breaker is open until the watcher has seen it, and again from a failure on.
pub(super) struct Server {
    pub(super) address: Address,
    client: Client,
    /// One connection for each runtime: what is pipelined on it shares a task and a core.
    connections: Mutex<Vec<Held>>,
    usable: AtomicBool,
    trouble: Mutex<Option<Trouble>>,
    /// Whether all its slots must be vouched for again before it is used.
    pub(super) in_doubt: AtomicBool,
}

/// A connection of one runtime.
struct Held {
    runtime: runtime::Id,
    connection: MultiplexedConnection,
    /// The elapsed time at which it was last known to be alive.
    alive: Duration,
}

impl Server {
    pub(super) fn new(address: Address, settings: &RedisSettings) -> Result<Self, RedisError> {
        let (host, port) = address.clone();
        let addr = if settings.tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let mut redis = RedisConnectionInfo::default().set_db(settings.database).set_skip_set_lib_name();
        if let Some(username) = &settings.username {
            redis = redis.set_username(username);
        }
        if let Some(password) = &settings.password {
            redis = redis.set_password(password);
        }
        let info = addr.into_connection_info()?.set_redis_settings(redis);
        let client = match &settings.ca {
            Some(ca) => {
                let certificates = redis::TlsCertificates { client_tls: None, root_cert: Some(ca.clone()) };
                Client::build_with_tls(info, certificates)?
            }
            None => Client::open(info)?,
        };
        Ok(Self {
            address,
            client,
            connections: Mutex::default(),
            usable: AtomicBool::new(false),
            trouble: Mutex::default(),
            in_doubt: AtomicBool::new(true),
        })
    }

    pub(super) fn is_usable(&self) -> bool {
        self.usable.load(Ordering::Acquire)
    }

    /// Closes the breaker.
    pub(super) fn resume(&self) -> bool {
        *unpoisoned(&self.trouble) = None;
        !self.usable.swap(true, Ordering::AcqRel)
    }

    /// Opens the breaker. Returns whether that is news: the same kind of trouble in other words
    /// is none.
    pub(super) fn suspend(&self, trouble: Trouble) -> bool {
        let kind = std::mem::discriminant(&trouble);
        let old = unpoisoned(&self.trouble).replace(trouble);
        self.usable.swap(false, Ordering::AcqRel) || old.is_none_or(|old| std::mem::discriminant(&old) != kind)
    }

    pub(super) fn trouble(&self) -> Option<Trouble> {
        unpoisoned(&self.trouble).clone()
    }

    /// The connection of this runtime, if there is one.
    pub(super) fn connected(&self) -> Option<MultiplexedConnection> {
        let here = runtime::Handle::try_current().ok()?.id();
        let connections = unpoisoned(&self.connections);
        connections.iter().find(|held| held.runtime == here).map(|held| held.connection.clone())
    }

    /// Whether this runtime has a connection that answered a moment ago.
    pub(super) fn is_alive(&self, elapsed: Duration) -> bool {
        let Ok(here) = runtime::Handle::try_current() else { return false };
        let connections = unpoisoned(&self.connections);
        let held = connections.iter().find(|held| held.runtime == here.id());
        held.is_some_and(|held| elapsed.saturating_sub(held.alive) < QUIET)
    }

    /// The connection of this runtime has just answered.
    pub(super) fn answered(&self, elapsed: Duration) {
        let Ok(here) = runtime::Handle::try_current() else { return };
        let mut connections = unpoisoned(&self.connections);
        connections.iter_mut().filter(|held| held.runtime == here.id()).for_each(|held| held.alive = elapsed);
    }

    /// Makes sure that this runtime has a connection that answers: a quiet one may have been
    /// closed on the other side, and a claim sent on it would be lost.
    pub(super) async fn revive(&self, limit: Duration) -> Result<(), Trouble> {
        if let Some(mut connection) = self.connected() {
            let asked = timeout(limit, redis::cmd("PING").query_async::<()>(&mut connection)).await;
            match asked {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(_)) => self.disconnect(),
                Err(_) => return Err(Trouble::OutOfReach(format!("no answer within {} ms", limit.as_millis()))),
            }
        }
        self.connection(limit).await.map(drop)
    }

    /// The connection of this runtime, made if there is none.
    pub(super) async fn connection(&self, limit: Duration) -> Result<MultiplexedConnection, Trouble> {
        if let Some(connection) = self.connected() {
            return Ok(connection);
        }
        let late = || Trouble::OutOfReach(format!("no connection within {} ms", limit.as_millis()));
        // Whoever waits for an answer says for how long.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let connecting = self.client.get_multiplexed_async_connection_with_config(&config);
        let connection = timeout(limit, connecting).await.map_err(|_| late())??;
        let here = runtime::Handle::current().id();
        let mut connections = unpoisoned(&self.connections);
        connections.retain(|held| held.runtime != here);
        connections.push(Held { runtime: here, connection: connection.clone(), alive: Duration::ZERO });
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
        let (host, port) = &self.address;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Whether each server of these settings answers: nothing is read, claimed or written.
pub async fn ping(settings: &RedisSettings) -> Vec<(String, Result<(), String>)> {
    let mut answers = Vec::new();
    for address in &settings.servers {
        let name = format!("{}:{}", address.0, address.1);
        let answer = match Server::new(address.clone(), settings) {
            Err(error) => Err(error.to_string()),
            Ok(server) => match server.connection(settings.timeout).await {
                Err(trouble) => Err(trouble.to_string()),
                // A connection is one that has answered: user and password were taken.
                Ok(_) => server.revive(settings.timeout).await.map_err(|trouble| trouble.to_string()),
            },
        };
        answers.push((name, answer));
    }
    answers
}

/// What these locks guard is whole between any two statements.
pub(super) fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
