//! TLS to PostgreSQL, always verified for the host (`verify-full`).

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ring::digest::{SHA256, SHA384, SHA512, digest};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as Encrypted;

use super::{PostgresAddress, PostgresError};
use crate::certificate::{SignatureHash, certificates, private_key, signature_hash};

/// Makes TLS connections.
#[derive(Clone)]
pub(super) struct VerifiedTls(TlsConnector);

impl VerifiedTls {
    /// Reads the authorities and the gateway's own certificate, so that a file that was replaced holds for the next connection.
    pub(super) fn new(address: &PostgresAddress) -> Result<Self, PostgresError> {
        let mut roots = RootCertStore::empty();
        match &address.ca {
            Some(path) => {
                for authority in certificates(path).map_err(|error| PostgresError::Ca(address.section, error))? {
                    roots.add(authority).map_err(PostgresError::Tls)?;
                }
            }
            None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
        }
        if roots.is_empty() {
            return Err(PostgresError::NoAuthorities(address.section));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = versions.map_err(PostgresError::Tls)?.with_root_certificates(roots);
        let config = match &address.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain =
                    certificates(certificate).map_err(|error| PostgresError::Identity(address.section, error))?;
                let key = private_key(key).map_err(|error| PostgresError::Identity(address.section, error))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| PostgresError::IdentityKey(address.section, error))?
            }
        };
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }
}

impl MakeTlsConnect<Socket> for VerifiedTls {
    type Stream = Verified;
    type TlsConnect = Handshake;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<Handshake> {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|_| io::Error::other("its host is not a name that a certificate can have"))?;
        Ok(Handshake(self.0.clone(), name))
    }
}

/// A connection that begins.
pub(super) struct Handshake(TlsConnector, ServerName<'static>);

impl TlsConnect<Socket> for Handshake {
    type Stream = Verified;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Verified>> + Send>>;

    fn connect(self, stream: Socket) -> Self::Future {
        Box::pin(async move { self.0.connect(self.1, stream).await.map(|stream| Verified(Box::new(stream))) })
    }
}

/// An encrypted connection to a server whose certificate was verified.
pub(super) struct Verified(Box<Encrypted<Socket>>);

impl TlsStream for Verified {
    /// The digest of the server's certificate. A login that is bound to it is worth nothing to somebody in between who has
    /// another certificate, even one that an authority has signed for this host.
    fn channel_binding(&self) -> ChannelBinding {
        let certificate = self.0.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let bound = certificate.and_then(|certificate| {
            let algorithm = match signature_hash(certificate)? {
                SignatureHash::Sha256 => &SHA256,
                SignatureHash::Sha384 => &SHA384,
                SignatureHash::Sha512 => &SHA512,
            };
            Some(ChannelBinding::tls_server_end_point(digest(algorithm, certificate).as_ref().to_vec()))
        });
        bound.unwrap_or_else(ChannelBinding::none)
    }
}

impl AsyncRead for Verified {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Verified {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
