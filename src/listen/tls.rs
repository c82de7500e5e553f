//! TLS on a listener, from files that may be replaced while the gateway runs.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use super::{CertificateFiles, ClientAuth, TlsFiles};
use crate::certificate::{self, CertificateError, CertificateUse, Expiry, Facts, certificates, private_key};
use crate::file_watch::FileWatch;

/// TLS on a listener, from files that may be replaced.
///
/// Everything that is read from the files is replaced at once. A connection keeps what it began with.
pub(crate) struct ListenerTls {
    files: TlsFiles,
    /// Whether HTTP/2 is offered.
    http2: bool,
    made: ArcSwap<Made>,
    watch: FileWatch,
    /// Whether the files are the ones in force.
    current: AtomicBool,
}

struct Made {
    config: Arc<ServerConfig>,
    expiries: Vec<Expiry>,
}

impl ListenerTls {
    /// Loads these files. HTTP/2 is offered if `http2`.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub(crate) fn load(files: TlsFiles, http2: bool) -> Result<Self, CertificateError> {
        let pairs = files.certificates.iter().flat_map(|pair| [&pair.chain, &pair.key]);
        let watch = FileWatch::new(pairs.chain(&files.client_ca).cloned().collect());
        let made = ArcSwap::from_pointee(make(&files, http2)?);
        Ok(Self { files, http2, made, watch, current: AtomicBool::new(true) })
    }

    /// The configuration for a new connection.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.made.load().config.clone()
    }

    /// When each certificate expires, those of clients' authorities included.
    pub(crate) fn expiries(&self) -> Vec<Expiry> {
        self.made.load().expiries.clone()
    }

    /// Loads the files if they changed. `None` if they did not. If they cannot be used, the old ones stay in force.
    pub(crate) fn look(&self) -> Option<Result<(), CertificateError>> {
        if !self.watch.has_changed() {
            return None;
        }
        let taken = make(&self.files, self.http2).map(|made| self.made.store(Arc::new(made)));
        self.current.store(taken.is_ok(), Ordering::Relaxed);
        Some(taken)
    }

    /// Whether the files were the ones in force when they were last checked.
    pub(crate) fn is_current(&self) -> bool {
        self.current.load(Ordering::Relaxed)
    }
}

fn make(files: &TlsFiles, http2: bool) -> Result<Made, CertificateError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut names = HashMap::new();
    let (mut keys, mut expiries) = (Vec::new(), Vec::new());
    for (nth, pair) in files.certificates.iter().enumerate() {
        let (key, facts) = certified(pair, &provider)?;
        for name in &facts.names {
            if let Some(other) = names.insert(name.clone(), nth) {
                let other = files.certificates[other].chain.display();
                let message = format!("is for {name}, as {other} is; a name must have one certificate");
                return Err(CertificateError::new(&pair.chain, message));
            }
        }
        expiries.push(Expiry { part: CertificateUse::Listener, name: facts.name(nth), at: facts.expires });
        keys.push(Arc::new(key));
    }
    let versions: &[_] =
        if files.tls12 { &[&rustls::version::TLS13, &rustls::version::TLS12] } else { &[&rustls::version::TLS13] };
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions);
    let unusable = |error: rustls::Error| {
        CertificateError::new(files.certificates.first().map_or(Path::new(""), |pair| &pair.chain), error.to_string())
    };
    let builder = builder.map_err(unusable)?;
    let builder = match (&files.client_ca, files.client_auth) {
        (_, ClientAuth::Off) | (None, _) => builder.with_no_client_auth(),
        (Some(path), auth) => {
            let authorities = certificates(path)?;
            expiries.extend(certificate::expiries(CertificateUse::ListenerClientCa, &authorities));
            let roots = Arc::new(roots(path, authorities)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            let verifier = if auth == ClientAuth::Optional { verifier.allow_unauthenticated() } else { verifier };
            let verifier = verifier.build().map_err(|error| CertificateError::new(path, error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(ByName { keys, names }));
    let protocols: &[&[u8]] = if http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(Made { config: Arc::new(config), expiries })
}

fn certified(pair: &CertificateFiles, provider: &CryptoProvider) -> Result<(CertifiedKey, Facts), CertificateError> {
    let CertificateFiles { chain, key } = pair;
    let certificates = certificates(chain)?;
    let facts = certificates.first().and_then(|first| certificate::facts(first));
    let facts = facts.ok_or_else(|| CertificateError::new(chain, "holds a certificate that cannot be read"))?;
    let certified = CertifiedKey::from_der(certificates, private_key(key)?, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            CertificateError::new(key, format!("is not the key of the first certificate in {}", chain.display()))
        }
        error => CertificateError::new(key, format!("cannot be used: {error}")),
    })?;
    Ok((certified, facts))
}

fn roots(path: &Path, authorities: Vec<CertificateDer<'static>>) -> Result<RootCertStore, CertificateError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority).map_err(|error| CertificateError::new(path, format!("cannot be used: {error}")))?;
    }
    Ok(roots)
}

/// Which certificate is for which name.
#[derive(Debug)]
struct ByName {
    keys: Vec<Arc<CertifiedKey>>,
    names: HashMap<String, usize>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().map(str::to_ascii_lowercase).and_then(|name| {
            let one_label_less = || name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
            self.names.get(&name).or_else(|| self.names.get(&one_label_less()?))
        });
        self.keys.get(named.copied().unwrap_or(0)).cloned()
    }
}

impl fmt::Debug for ListenerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(f)
    }
}
