//! How a connection to a server is made: name, address, TLS, all within `connect_timeout`.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};

use super::AskError;
use super::server::{Endpoint, Server, Servers};
use super::stream::Stream;

/// A connection, and the epoch of the addresses it was made by.
pub(super) type Made = (Stream, u64);

impl Servers {
    /// A connection to this server. Not counted for or against it.
    pub(super) async fn connect(&self, server: &Server) -> Result<Made, AskError> {
        let limit = self.settings.connect_timeout;
        let deadline = Instant::now() + limit;
        let epoch = server.epoch();
        let made = match &server.endpoint {
            Endpoint::Unix(path) => {
                timeout_at(deadline, UnixStream::connect(path)).await.map(|made| made.map(Stream::Unix))
            }
            Endpoint::Fixed(address) => timeout_at(deadline, open(server, *address)).await,
            Endpoint::Named(host, port) => return self.connect_by_name(server, host, *port, deadline).await,
        };
        Ok((told(server, limit, made)?, epoch))
    }

    /// Each address in turn gets its share of the time that is left: one that swallows what is
    /// sent to it does not hide the others.
    async fn connect_by_name(
        &self,
        server: &Server,
        host: &str,
        port: u16,
        deadline: Instant,
    ) -> Result<Made, AskError> {
        let limit = self.settings.connect_timeout;
        let names = &server.state.names;
        let found = timeout_at(deadline, names.look_up(host, &self.settings, &self.clock)).await;
        let (addresses, turn) = told(server, limit, found)?;
        let epoch = names.epoch();
        let mut last = None;
        for n in 0..addresses.len() {
            let address = SocketAddr::new(addresses[(turn + n) % addresses.len()], port);
            let now = Instant::now();
            let shares = u32::try_from(addresses.len() - n).unwrap_or(u32::MAX);
            let until = now + deadline.saturating_duration_since(now) / shares;
            match told(server, limit, timeout_at(until, open(server, address)).await) {
                Ok(stream) => return Ok((stream, epoch)),
                Err(error) => last = Some(error),
            }
        }
        names.doubt();
        Err(last.unwrap_or_else(|| AskError::Unreachable(format!("{}: has no address", server.name))))
    }
}

async fn open(server: &Server, address: SocketAddr) -> io::Result<Stream> {
    let stream = TcpStream::connect(address).await?;
    // Without it a small request could wait for an acknowledgement.
    drop(stream.set_nodelay(true));
    match &server.tls {
        None => Ok(Stream::Tcp(stream)),
        Some((connector, name)) => Ok(Stream::Tls(Box::new(connector.connect(name.clone(), stream).await?))),
    }
}

/// Nothing was made, and why: for the log.
fn told<T>(
    server: &Server,
    limit: Duration,
    made: Result<io::Result<T>, tokio::time::error::Elapsed>,
) -> Result<T, AskError> {
    match made {
        Ok(Ok(made)) => Ok(made),
        Ok(Err(error)) => Err(AskError::Unreachable(format!("{}: {error}", server.name))),
        Err(_) => Err(AskError::ConnectTimeout(format!("{}: no connection within {limit:?}", server.name))),
    }
}
