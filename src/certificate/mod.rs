//! Certificates in files: their names, and when they expire.
//!
//! Certificates are only read here; rustls verifies them.

#[cfg(feature = "postgres")]
mod digest;
mod facts;
mod files;

#[cfg(feature = "postgres")]
pub(crate) use digest::{SignatureHash, signature_hash};
pub(crate) use facts::{Facts, facts};
pub(crate) use files::{CertificateError, certificates, private_key};

use std::time::SystemTime;

/// When a certificate in use expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// What it is used for.
    pub part: CertificateUse,
    /// Its first DNS name, else the common name of its subject, else its number in the file.
    pub name: String,
    /// When it expires.
    pub at: SystemTime,
}

/// What a certificate is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CertificateUse {
    /// `listener.tls.certificates`.
    Listener,
    /// `listener.tls.client_ca`.
    ListenerClientCa,
    /// `upstream.tls.certificate`.
    Upstream,
    /// `upstream.tls.ca`.
    UpstreamCa,
    /// `replay.redis.certificate`.
    Redis,
    /// `replay.redis.ca`.
    RedisCa,
}

impl CertificateUse {
    /// The label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Listener => "listener",
            Self::ListenerClientCa => "listener_client_ca",
            Self::Upstream => "upstream",
            Self::UpstreamCa => "upstream_ca",
            Self::Redis => "redis",
            Self::RedisCa => "redis_ca",
        }
    }

    /// The setting that names its file.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Listener => "listener.tls.certificates",
            Self::ListenerClientCa => "listener.tls.client_ca",
            Self::Upstream => "upstream.tls.certificate",
            Self::UpstreamCa => "upstream.tls.ca",
            Self::Redis => "replay.redis.certificate",
            Self::RedisCa => "replay.redis.ca",
        }
    }
}

/// When each certificate of a file expires. A malformed one is skipped here; whoever uses the file reports it.
pub(crate) fn expiries(part: CertificateUse, ders: &[impl AsRef<[u8]>]) -> Vec<Expiry> {
    let expiry = |(n, der): (usize, &_)| -> Option<Expiry> {
        let facts = facts(AsRef::<[u8]>::as_ref(der))?;
        Some(Expiry { part, name: facts.name(n), at: facts.expires })
    };
    ders.iter().enumerate().filter_map(expiry).collect()
}
