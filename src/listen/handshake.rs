//! What happens on a connection before HTTP: the PROXY header, the client's share of connections, the TLS handshake and
//! the choice of the HTTP version.

use std::io;
use std::net::IpAddr;

use tokio_rustls::TlsAcceptor;

use super::proxy::{self, Header, Source};
use super::{ConnectionSlot, Io, Opened, Peer, Stream};
use crate::event_loop::timeout;
use crate::policy::Limits;
use crate::socket::Socket;

/// Which HTTP a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Http {
    /// HTTP/1.0 or HTTP/1.1.
    One,
    /// HTTP/2.
    Two,
}

/// A connection on which HTTP begins.
pub(crate) struct Established {
    /// The connection.
    pub io: Io,
    /// The other side.
    pub peer: Peer,
    /// Which HTTP it speaks.
    pub http: Http,
}

/// Why a connection is closed before HTTP begins.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GreetError {
    /// The proxy is not one of `trusted_proxies`.
    #[error("the proxy is not one of trusted_proxies")]
    UntrustedProxy,
    /// There is no PROXY header, or it is malformed.
    #[error("the PROXY header: {0}")]
    ProxyHeader(&'static str),
    /// Its client has reached its limit of connections, and all of them are in use.
    #[error("{0} has as many connections as it may have")]
    ClientShare(IpAddr),
    /// The TLS handshake failed.
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
    /// The client was too slow. The text says what did not arrive in time.
    #[error("{0} did not arrive in time")]
    TooSlow(&'static str),
    /// The client closed the connection, or sent nothing.
    #[error("the client closed the connection")]
    Gone(#[source] io::Error),
}

impl GreetError {
    /// The `reason` label.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::UntrustedProxy => "untrusted_proxy",
            Self::ProxyHeader(_) => "proxy_header",
            Self::ClientShare(_) => "client_share",
            Self::Tls(_) => "tls_handshake",
            Self::TooSlow(_) => "too_slow",
            Self::Gone(_) => "client_gone",
        }
    }
}

/// Does what comes before HTTP on a connection from this address; a Unix socket has none. Counts the connection, which holds
/// `slot`, for its client.
///
/// # Errors
/// Why the connection must be closed.
pub(crate) async fn handshake(
    raw: Socket,
    from: Option<IpAddr>,
    opened: &Opened,
    limits: &Limits,
    slot: &mut ConnectionSlot,
) -> Result<Established, GreetError> {
    let Opened { settings, tls } = opened;
    let connected = from.map(|address| address.to_canonical());
    let mut stream = Stream::new(raw);
    let mut address = connected;
    if settings.proxy_protocol {
        // The mode of a Unix socket decides who may connect.
        if connected.is_some() && !settings.trusted.is_empty() && !settings.trusted.holds(connected) {
            return Err(GreetError::UntrustedProxy);
        }
        let source = timeout(limits.header_timeout, proxy_header(&mut stream));
        match source.await.map_err(|_| GreetError::TooSlow("the PROXY header"))?? {
            Source::Client(client) => address = Some(client),
            Source::Proxy => {}
        }
    }
    let peer = Peer::new(address, tls.is_some(), &settings.trusted);
    if let Some(address) = peer.address()
        && !peer.is_trusted()
        && !slot.enter(address)
    {
        return Err(GreetError::ClientShare(address));
    }
    let (io, http) = match tls {
        Some(tls) => {
            let handshake = TlsAcceptor::from(tls.current()).accept(stream);
            let handshake = timeout(limits.header_timeout, handshake);
            let stream =
                handshake.await.map_err(|_| GreetError::TooSlow("the TLS handshake"))?.map_err(GreetError::Tls)?;
            let chosen = stream.get_ref().1.alpn_protocol();
            let http = if chosen == Some(b"h2") { Http::Two } else { Http::One };
            (Io::Tls(Box::new(stream)), http)
        }
        None => {
            let http = if settings.http2 { prior_knowledge(&mut stream, limits).await? } else { Http::One };
            (Io::Plain(stream), http)
        }
    };
    Ok(Established { io, peer, http })
}

async fn more(stream: &mut Stream) -> Result<(), GreetError> {
    match stream.look_further().await {
        Ok(0) => Err(GreetError::Gone(io::ErrorKind::UnexpectedEof.into())),
        Ok(_) => Ok(()),
        Err(error) => Err(GreetError::Gone(error)),
    }
}

async fn proxy_header(stream: &mut Stream) -> Result<Source, GreetError> {
    loop {
        match proxy::parse(stream.ahead()) {
            Header::Incomplete => more(stream).await?,
            Header::Whole(source, bytes) => {
                stream.skip(bytes);
                return Ok(source);
            }
            Header::Wrong(why) => return Err(GreetError::ProxyHeader(why)),
        }
    }
}

/// The preface of a client that knows that the server speaks HTTP/2 (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

async fn prior_knowledge(stream: &mut Stream, limits: &Limits) -> Result<Http, GreetError> {
    if stream.ahead().is_empty() {
        let first = timeout(limits.first_byte_timeout(), more(stream));
        first.await.map_err(|_| GreetError::Gone(io::ErrorKind::TimedOut.into()))??;
    }
    let preface = async {
        loop {
            let ahead = stream.ahead();
            let same = ahead.iter().zip(PREFACE).all(|(byte, of_preface)| byte == of_preface);
            match (same, ahead.len() >= PREFACE.len()) {
                (false, _) => return Ok(Http::One),
                (true, true) => return Ok(Http::Two),
                (true, false) => more(stream).await?,
            }
        }
    };
    timeout(limits.header_timeout, preface).await.map_err(|_| GreetError::TooSlow("the preface of HTTP/2"))?
}
