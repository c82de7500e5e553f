use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::proxy::{self, Header, Source};
use super::{Clients, Io, Peer, Place, Raw, Stream, Tls, Trusted};

/// What connections of a listener begin with.
#[derive(Clone)]
pub struct Settings {
    /// Whether a PROXY header comes first.
    pub proxy_protocol: bool,
    /// Whose word about a client's address is taken; with `proxy_protocol`, and not empty, also who
    /// may connect at all.
    pub trusted: Arc<Trusted>,
    /// TLS, if it ends here.
    pub tls: Option<Arc<Tls>>,
    /// Whether HTTP/2 is spoken besides HTTP/1.1.
    pub http2: bool,
    /// From the first byte of anything to its end.
    pub header_timeout: Duration,
    /// Until the first byte.
    pub idle_timeout: Duration,
}

/// Which HTTP a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    /// HTTP/1.0 or HTTP/1.1.
    One,
    /// HTTP/2.
    Two,
}

/// A connection where HTTP begins.
pub struct Greeted {
    /// The connection.
    pub io: Io,
    /// The other side.
    pub peer: Peer,
    /// Which HTTP it speaks.
    pub http: Http,
    /// Its place among its client's connections.
    pub place: Option<Place>,
}

/// Why a connection is closed before HTTP begins.
#[derive(Debug)]
pub enum Refused {
    /// Not a proxy that may connect.
    UntrustedProxy,
    /// No PROXY header, or a wrong one.
    ProxyHeader(&'static str),
    /// Its client has as many connections as a client may have.
    ClientShare,
    /// No TLS came of it.
    Tls(io::Error),
    /// Something did not come in time.
    TooSlow(&'static str),
    /// It ended, or nothing ever came.
    Gone(io::Error),
}

impl Refused {
    /// The `reason` label.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::UntrustedProxy => "untrusted_proxy",
            Self::ProxyHeader(_) => "proxy_header",
            Self::ClientShare => "client_share",
            Self::Tls(_) => "tls_handshake",
            Self::TooSlow(_) => "too_slow",
            Self::Gone(_) => "client_gone",
        }
    }
}

/// Brings a connection to where HTTP begins.
///
/// # Errors
/// If it is to be closed, and why.
pub async fn greet(raw: Raw, settings: &Settings, clients: &Arc<Clients>) -> Result<Greeted, Refused> {
    let connected = raw.peer().map_err(Refused::Gone)?.map(|address| address.ip().to_canonical());
    let mut stream = Stream::new(raw);
    let mut address = connected;
    if settings.proxy_protocol {
        // On a Unix socket its mode says who may connect.
        if connected.is_some() && !settings.trusted.is_empty() && !settings.trusted.holds(connected) {
            return Err(Refused::UntrustedProxy);
        }
        let source = timeout(settings.header_timeout, proxy_header(&mut stream));
        match source.await.map_err(|_| Refused::TooSlow("the PROXY header"))?? {
            Source::Client(client) => address = Some(client),
            Source::Proxy => {}
        }
    }
    let peer = Peer::new(address, settings.tls.is_some(), &settings.trusted);
    let place = match peer.address() {
        Some(address) if !peer.is_trusted() => Some(clients.enter(address).ok_or(Refused::ClientShare)?),
        _ => None,
    };
    let (io, http) = match &settings.tls {
        Some(tls) => {
            let handshake = TlsAcceptor::from(tls.current()).accept(stream);
            let handshake = timeout(settings.header_timeout, handshake);
            let stream = handshake.await.map_err(|_| Refused::TooSlow("the TLS handshake"))?.map_err(Refused::Tls)?;
            let chosen = stream.get_ref().1.alpn_protocol();
            let http = if chosen == Some(b"h2") { Http::Two } else { Http::One };
            (Io::Tls(Box::new(stream)), http)
        }
        None => {
            let http = if settings.http2 { prior_knowledge(&mut stream, settings).await? } else { Http::One };
            (Io::Plain(stream), http)
        }
    };
    Ok(Greeted { io, peer, http, place })
}

async fn more(stream: &mut Stream) -> Result<(), Refused> {
    match stream.look_further().await {
        Ok(0) => Err(Refused::Gone(io::ErrorKind::UnexpectedEof.into())),
        Ok(_) => Ok(()),
        Err(error) => Err(Refused::Gone(error)),
    }
}

async fn proxy_header(stream: &mut Stream) -> Result<Source, Refused> {
    loop {
        match proxy::parse(stream.ahead()) {
            Header::Incomplete => more(stream).await?,
            Header::Whole(source, bytes) => {
                stream.skip(bytes);
                return Ok(source);
            }
            Header::Wrong(why) => return Err(Refused::ProxyHeader(why)),
        }
    }
}

/// What a client begins with that knows we speak HTTP/2 (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

async fn prior_knowledge(stream: &mut Stream, settings: &Settings) -> Result<Http, Refused> {
    if stream.ahead().is_empty() {
        let first = timeout(settings.idle_timeout, more(stream));
        first.await.map_err(|_| Refused::Gone(io::ErrorKind::TimedOut.into()))??;
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
    timeout(settings.header_timeout, preface).await.map_err(|_| Refused::TooSlow("the preface of HTTP/2"))?
}
