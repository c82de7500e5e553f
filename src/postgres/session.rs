//! One connection to PostgreSQL.

use std::fmt;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_postgres::config::{ChannelBinding, SslMode, TargetSessionAttrs};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls};

use super::error::told;
use super::tls::VerifiedTls;
use super::{PostgresAddress, PostgresError, PostgresServer};
use crate::credential::Hidden;

/// How long a connection is silent before the system asks whether its other end is still there.
const SILENCE: Duration = Duration::from_secs(30);
/// How long the other end's system may take to acknowledge what was sent, however long the database takes to answer.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);

/// An open connection; dropping it closes it.
pub(super) struct Session {
    pub(super) client: Client,
    driver: JoinHandle<()>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Session {
    /// Connects to the first server that accepts writes. Each has an equal share of `timeout`, so that one that does not
    /// answer does not keep others from being tried. `notify` is woken by every notification.
    pub(super) async fn open(
        address: &PostgresAddress,
        timeout: Duration,
        notify: Option<&Arc<Notify>>,
    ) -> Result<Self, PostgresError> {
        let tls = match address.tls {
            true => {
                // The files are read on another thread: a worker may be waiting here.
                let named = address.clone();
                let read = tokio::task::spawn_blocking(move || VerifiedTls::new(&named)).await;
                Some(read.unwrap_or(Err(PostgresError::NoAuthorities(address.section)))?)
            }
            false => None,
        };
        let share = timeout / u32::try_from(address.servers.len()).unwrap_or(u32::MAX).max(1);
        let mut troubles = Vec::new();
        for server in &address.servers {
            let config = config(address, server);
            let opened = match &tls {
                Some(tls) => tokio::time::timeout(share, Self::by(&config, tls.clone(), notify)).await,
                None => tokio::time::timeout(share, Self::by(&config, NoTls, notify)).await,
            };
            match opened {
                Ok(Ok((client, driver))) => return Ok(Self { client, driver }),
                Ok(Err(error)) => troubles.push(format!("{server}: {}", told(&error))),
                Err(_) => troubles.push(format!("{server}: no connection within {} ms", share.as_millis())),
            }
        }
        Err(PostgresError::NoServer(troubles))
    }

    async fn by<T>(
        config: &Config,
        tls: T,
        notify: Option<&Arc<Notify>>,
    ) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error>
    where
        T: tokio_postgres::tls::MakeTlsConnect<tokio_postgres::Socket>,
        T::Stream: Send + 'static,
    {
        let (client, connection) = config.connect(tls).await?;
        Ok((client, tokio::spawn(drive(connection, notify.cloned()))))
    }

    /// Whether the connection is known to have ended.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Waits until the connection has ended.
    pub(super) async fn ended(&mut self) {
        drop((&mut self.driver).await);
    }
}

fn config(address: &PostgresAddress, server: &PostgresServer) -> Config {
    let mut config = Config::new();
    match server {
        PostgresServer::Tcp(authority) => config.host(authority.host()).port(authority.port()),
        PostgresServer::Socket(folder, port) => config.host_path(folder).port(*port),
    };
    config.user(&address.user).dbname(&address.database).application_name("saltgate").keepalives_idle(SILENCE);
    config.tcp_user_timeout(UNACKNOWLEDGED);
    if let Some(Hidden(password)) = &address.password {
        config.password(password);
    }
    config.ssl_mode(if address.tls { SslMode::Require } else { SslMode::Disable });
    config.channel_binding(if address.requires_binding { ChannelBinding::Require } else { ChannelBinding::Prefer });
    // A standby may lag behind, and would not know of a revocation.
    config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    config
}

/// Reads and writes until the connection ends; the client sees why.
async fn drive<S, T>(mut connection: Connection<S, T>, notify: Option<Arc<Notify>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
        if let (AsyncMessage::Notification(_), Some(notify)) = (message, &notify) {
            notify.notify_one();
        }
    }
}

/// Waits for at most so long.
pub(super) async fn within<T>(
    (limit, section): (Duration, &'static str),
    what: &'static str,
    future: impl Future<Output = Result<T, PostgresError>>,
) -> Result<T, PostgresError> {
    tokio::time::timeout(limit, future).await.unwrap_or(Err(PostgresError::Late { what, section, limit }))
}
