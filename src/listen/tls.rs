use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use super::certificate::{self, Facts};

/// The files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, and those up to but without the root, in PEM.
    pub chain: PathBuf,
    /// Its key, in PEM.
    pub key: PathBuf,
}

/// Whether clients show certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    Off,
    /// They are asked; one that is shown must be good.
    Optional,
    /// Without a good one there is no connection.
    Required,
}

/// What TLS on a listener is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The first is for whoever asks for no name, or one that none is for.
    pub certificates: Vec<CertificateFiles>,
    /// Who signs clients' certificates, in PEM.
    pub client_ca: Option<PathBuf>,
    /// Whether clients show certificates.
    pub client_auth: ClientAuth,
    /// Whether TLS 1.2 is spoken besides 1.3.
    pub tls12: bool,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
}

/// Why TLS cannot be had from some files: which, and what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it, and what to do.
    pub message: String,
}

impl TlsError {
    fn new(file: &Path, message: impl Into<String>) -> Self {
        Self { file: file.into(), message: message.into() }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.message)
    }
}

impl std::error::Error for TlsError {}

/// TLS on a listener, by files that may change.
///
/// What was made of the files is replaced as a whole; a connection keeps what it began with.
pub struct Tls {
    files: TlsFiles,
    made: ArcSwap<Made>,
    /// The files as they were last looked at, whether something good came of them or not.
    seen: Mutex<Vec<Option<Identity>>>,
}

struct Made {
    config: Arc<ServerConfig>,
    expiries: Vec<(String, SystemTime)>,
}

/// Which file a path leads to, through however many links, and which content of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Tls {
    /// Makes TLS of these files.
    ///
    /// # Errors
    /// The first file with which something is wrong.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let seen = Mutex::new(identities(&files));
        let made = ArcSwap::from_pointee(make(&files)?);
        Ok(Self { files, made, seen })
    }

    /// The files it is made of.
    pub fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// What a connection that begins now is served by.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.made.load().config.clone()
    }

    /// The names the certificates go by, and when each expires.
    pub fn expiries(&self) -> Vec<(String, SystemTime)> {
        self.made.load().expiries.clone()
    }

    /// Looks whether the files changed, and takes them if they did: whether they were taken, or
    /// why not. What was in force stays in force until something good comes.
    pub fn look(&self) -> Option<Result<(), TlsError>> {
        let now = identities(&self.files);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == now {
            return None;
        }
        *seen = now;
        Some(make(&self.files).map(|made| self.made.store(Arc::new(made))))
    }
}

fn identities(files: &TlsFiles) -> Vec<Option<Identity>> {
    let pairs = files.certificates.iter().flat_map(|pair| [&pair.chain, &pair.key]);
    let identity = |path: &PathBuf| {
        let about = fs::metadata(path).ok()?;
        let changed = (about.ctime(), about.ctime_nsec());
        Some(Identity { device: about.dev(), inode: about.ino(), size: about.size(), changed })
    };
    pairs.chain(&files.client_ca).map(identity).collect()
}

fn make(files: &TlsFiles) -> Result<Made, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut names = HashMap::new();
    let (mut keys, mut expiries) = (Vec::new(), Vec::new());
    for (nth, pair) in files.certificates.iter().enumerate() {
        let (key, facts) = certified(pair, &provider)?;
        for name in &facts.names {
            if let Some(other) = names.insert(name.clone(), nth) {
                let other = files.certificates[other].chain.display();
                let message = format!("is for {name}, as {other} is; a name must have one certificate");
                return Err(TlsError::new(&pair.chain, message));
            }
        }
        let name = facts.names.into_iter().next().unwrap_or_else(|| format!("certificate {}", nth + 1));
        expiries.push((name, facts.expires));
        keys.push(Arc::new(key));
    }
    let versions: &[_] =
        if files.tls12 { &[&rustls::version::TLS13, &rustls::version::TLS12] } else { &[&rustls::version::TLS13] };
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions);
    let unusable = |error: rustls::Error| {
        TlsError::new(files.certificates.first().map_or(Path::new(""), |pair| &pair.chain), error.to_string())
    };
    let builder = builder.map_err(unusable)?;
    let builder = match (&files.client_ca, files.client_auth) {
        (_, ClientAuth::Off) | (None, _) => builder.with_no_client_auth(),
        (Some(path), auth) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(path)?), provider);
            let verifier = if auth == ClientAuth::Optional { verifier.allow_unauthenticated() } else { verifier };
            let verifier = verifier.build().map_err(|error| TlsError::new(path, error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(ByName { keys, names }));
    let protocols: &[&[u8]] = if files.http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(Made { config: Arc::new(config), expiries })
}

fn certified(pair: &CertificateFiles, provider: &CryptoProvider) -> Result<(CertifiedKey, Facts), TlsError> {
    let CertificateFiles { chain, key } = pair;
    let certificates = certificates(chain)?;
    let facts = certificates.first().and_then(|first| certificate::facts(first));
    let facts = facts.ok_or_else(|| TlsError::new(chain, "holds a certificate that cannot be read"))?;
    let pem = zeroize::Zeroizing::new(read(key)?);
    let parsed = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| TlsError::new(key, "holds no private key; expected one in PEM, without a passphrase"))?;
    let certified = CertifiedKey::from_der(certificates, parsed, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::new(key, format!("is not the key of the first certificate in {}", chain.display()))
        }
        error => TlsError::new(key, format!("cannot be used: {error}")),
    })?;
    Ok((certified, facts))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(TlsError::new(path, "holds no certificate; expected some in PEM")),
    }
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| TlsError::new(path, format!("cannot be used: {error}")))?;
    }
    Ok(roots)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => TlsError::new(path, "is not there"),
        _ => TlsError::new(path, format!("cannot be read: {error}")),
    })
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

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(f)
    }
}
