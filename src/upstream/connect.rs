//! Connects to a server: name, address and TLS, all within `connect_timeout`.

use std::io;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use super::AskError;
use super::server::{Endpoint, Server, Servers};
use super::stream::Stream;
use super::traffic::{Probe, Traffic};
use crate::event_loop::{TimedOut, timeout_at};
use crate::socket::{Delivery, Socket};

/// A new connection for this kind of traffic, with the epoch of the addresses and certificates in force when it began.
pub(super) struct Made<T> {
    stream: Stream,
    epoch: u64,
    traffic: PhantomData<fn() -> T>,
}

impl<T: Traffic> Made<T> {
    fn new(stream: Stream, epoch: u64) -> Self {
        Self { stream, epoch, traffic: PhantomData }
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    pub(super) fn into_parts(self) -> (Stream, u64) {
        (self.stream, self.epoch)
    }
}

impl Servers {
    /// Connects to this server. The result does not count for or against the server.
    pub(super) async fn connect<T: Traffic>(&self, server: &Server) -> Result<Made<T>, AskError> {
        let limit = self.settings.connect_timeout;
        let deadline = Instant::now() + limit;
        let epoch = server.epoch();
        let made = match &server.endpoint {
            Endpoint::Unix(path) => timeout_at(deadline, open_unix(path)).await,
            Endpoint::Fixed(address) => timeout_at(deadline, open::<T>(server, *address)).await,
            Endpoint::Named(host, port) => return self.connect_by_name(server, host, *port, deadline).await,
        };
        Ok(Made::new(classified(server, limit, made)?, epoch))
    }

    /// Tries the addresses one after the other. Each gets an equal share of the time that is left, so that an address
    /// that does not answer leaves time for the others. Addresses that failed last time come last.
    async fn connect_by_name<T: Traffic>(
        &self,
        server: &Server,
        host: &str,
        port: u16,
        deadline: Instant,
    ) -> Result<Made<T>, AskError> {
        let limit = self.settings.connect_timeout;
        let names = &server.state.names;
        let found = timeout_at(deadline, names.look_up(host, &self.settings, &self.clock)).await;
        let (addresses, turn) = classified(server, limit, found)?;
        let epoch = names.epoch();
        let mut last = None;
        let order = names.in_order(&addresses, turn);
        for (n, address) in order.iter().enumerate() {
            let now = Instant::now();
            let shares = u32::try_from(order.len() - n).unwrap_or(u32::MAX);
            let until = now + deadline.saturating_duration_since(now) / shares;
            let opened = timeout_at(until, open::<T>(server, SocketAddr::new(*address, port))).await;
            match classified(server, limit, opened) {
                Ok(stream) => {
                    self.address_works(server, *address);
                    return Ok(Made::new(stream, epoch));
                }
                Err(error) => {
                    // The order matters only if there is another address.
                    if order.len() > 1 {
                        self.address_fails(server, *address, &error);
                    }
                    last = Some(error);
                }
            }
        }
        names.expire();
        Err(last.unwrap_or_else(|| AskError::Unreachable(format!("{}: has no address", server.name))))
    }
}

impl Servers {
    fn address_works(&self, server: &Server, address: IpAddr) {
        if server.state.names.works(address) {
            tracing::info!(server = server.name, %address, "an address can be reached again and is used like the others");
        }
    }

    fn address_fails(&self, server: &Server, address: IpAddr, error: &AskError) {
        if server.state.names.fails(address, &self.clock) {
            tracing::warn!(
                server = server.name,
                %address,
                %error,
                "an address cannot be reached: it is tried last until it can be reached"
            );
        }
    }

    /// Tries the failing addresses that are due, in the background, so that no request has to wait for them.
    pub(super) async fn try_failing(&self, server: &Server) {
        let Endpoint::Named(_, port) = server.endpoint else { return };
        while let Some(address) = server.state.names.next_to_try(&self.clock) {
            let until = Instant::now() + self.settings.connect_timeout;
            let opened = timeout_at(until, open::<Probe>(server, SocketAddr::new(address, port))).await;
            match classified(server, self.settings.connect_timeout, opened) {
                Ok(_) => self.address_works(server, address),
                Err(error) => self.address_fails(server, address, &error),
            }
        }
    }
}

async fn open_unix(path: &Path) -> io::Result<Stream> {
    Socket::unix(UnixStream::connect(path).await?, Delivery::Known).map(Stream::Plain)
}

async fn open<T: Traffic>(server: &Server, address: SocketAddr) -> io::Result<Stream> {
    let stream = TcpStream::connect(address).await?;
    // Nagle's algorithm would delay small requests until an acknowledgement.
    drop(stream.set_nodelay(true));
    let socket = Socket::tcp(stream, Delivery::Known)?;
    match &server.tls {
        None => Ok(Stream::Plain(socket)),
        Some((tls, name)) => {
            let connected = tls.connector::<T>().connect(name.clone(), socket).await?;
            Ok(Stream::Tls(Box::new(connected)))
        }
    }
}

/// Turns the result of one attempt into an error for the log.
fn classified<T>(server: &Server, limit: Duration, made: Result<io::Result<T>, TimedOut>) -> Result<T, AskError> {
    match made {
        Ok(Ok(made)) => Ok(made),
        Ok(Err(error)) => Err(AskError::Unreachable(format!("{}: {error}", server.name))),
        Err(_) => Err(AskError::ConnectTimeout(format!("{}: no connection within {limit:?}", server.name))),
    }
}
