//! TLS to the servers, from files that may be replaced while the gateway runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::InvalidSetting;
use super::settings::UpstreamTls;
use super::traffic::{Each, Traffic};
use crate::certificate::{self, CertificateError, CertificateUse, Expiry, certificates, private_key};
use crate::file_watch::FileWatch;

/// TLS to all servers of a generation. Each kind of traffic resumes only its own sessions.
///
/// Everything that is read from the files is replaced at once. A connection keeps what it began with.
pub(super) struct ClientTls {
    settings: UpstreamTls,
    made: ArcSwap<Made>,
    watch: FileWatch,
    /// Whether the files are the ones in force.
    current: AtomicBool,
}

struct Made {
    connectors: Each<TlsConnector>,
    expiries: Vec<Expiry>,
}

impl ClientTls {
    /// Reads the files of these settings.
    pub(super) fn new(settings: &UpstreamTls) -> Result<Self, InvalidSetting> {
        let identity = settings.identity.iter().flat_map(|(certificate, key)| [certificate, key]);
        let paths: Vec<PathBuf> = settings.ca.iter().chain(identity).cloned().collect();
        let watch = FileWatch::new(paths);
        let made = ArcSwap::from_pointee(make(settings)?);
        Ok(Self { settings: settings.clone(), made, watch, current: AtomicBool::new(true) })
    }

    /// The connector for a new connection.
    pub(super) fn connector<T: Traffic>(&self) -> TlsConnector {
        self.made.load().connectors.of::<T>().clone()
    }

    /// When each certificate expires: our own, and the authorities of `upstream.tls.ca`.
    pub(super) fn expiries(&self) -> Vec<Expiry> {
        self.made.load().expiries.clone()
    }

    /// Loads the files if they changed. `None` if they did not. If they cannot be used, the old ones stay in force.
    pub(super) fn look(&self) -> Option<Result<(), InvalidSetting>> {
        if !self.watch.has_changed() {
            return None;
        }
        let taken = make(&self.settings).map(|made| self.made.store(Arc::new(made)));
        self.current.store(taken.is_ok(), Ordering::Relaxed);
        Some(taken)
    }

    /// Whether the files were the ones in force when they were last checked.
    pub(super) fn is_current(&self) -> bool {
        self.current.load(Ordering::Relaxed)
    }
}

fn make(tls: &UpstreamTls) -> Result<Made, InvalidSetting> {
    let mut expiries = Vec::new();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = versions.map_err(|error| InvalidSetting::new("upstream.tls", error.to_string()))?;
    let builder = builder.with_root_certificates(roots(tls, &mut expiries)?);
    let mut config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            const KEY: &str = "upstream.tls.key";
            let chain = certificates(certificate).map_err(invalid_setting("upstream.tls.certificate"))?;
            // Only the first certificate is reported: the others are those of authorities.
            expiries.extend(certificate::expiries(CertificateUse::Upstream, &chain[..1]));
            let private = private_key(key).map_err(invalid_setting(KEY))?;
            builder.with_client_auth_cert(chain, private).map_err(|error| {
                InvalidSetting::new(
                    KEY,
                    format!("{}: {error}; expected the key of upstream.tls.certificate", key.display()),
                )
            })?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connectors = Each::new(|| {
        let mut config = config.clone();
        config.resumption = Resumption::default();
        TlsConnector::from(Arc::new(config))
    });
    Ok(Made { connectors, expiries })
}

/// The name that a server's certificate must be for.
pub(super) fn name(tls: &UpstreamTls, host: &str) -> Result<ServerName<'static>, InvalidSetting> {
    let (key, name) = match &tls.server_name {
        Some(name) => ("upstream.tls.server_name", name.as_str()),
        None => ("upstream.servers", host),
    };
    ServerName::try_from(name.to_owned())
        .map_err(|_| InvalidSetting::new(key, format!("{name:?} is not a name that a certificate can have")))
}

fn roots(tls: &UpstreamTls, expiries: &mut Vec<Expiry>) -> Result<RootCertStore, InvalidSetting> {
    const KEY: &str = "upstream.tls.ca";
    let mut roots = RootCertStore::empty();
    match &tls.ca {
        Some(path) => {
            let authorities = certificates(path).map_err(invalid_setting(KEY))?;
            expiries.extend(certificate::expiries(CertificateUse::UpstreamCa, &authorities));
            for authority in authorities {
                roots
                    .add(authority)
                    .map_err(|error| InvalidSetting::new(KEY, format!("{}: {error}", path.display())))?;
            }
        }
        None => {
            // Certificates of the system that cannot be read are skipped.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(InvalidSetting::new(
                    KEY,
                    "the system has no certificate authorities; name a file of them here",
                ));
            }
        }
    }
    Ok(roots)
}

fn invalid_setting(key: &'static str) -> impl Fn(CertificateError) -> InvalidSetting {
    move |error| InvalidSetting::new(key, error.to_string())
}
