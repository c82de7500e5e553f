//! Reads certificates and private keys from files, and notices when a file changes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Why a file of certificates or keys cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", file.display())]
pub(crate) struct CertificateError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it, and what to do.
    pub message: String,
}

impl CertificateError {
    /// An error about `file`.
    pub(crate) fn new(file: &Path, message: impl Into<String>) -> Self {
        Self { file: file.into(), message: message.into() }
    }
}

/// All certificates of a file, at least one.
///
/// # Errors
/// If there is none, or one is malformed.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(CertificateError::new(path, "holds no certificate; expected one or more in PEM")),
    }
}

/// The private key of a file.
///
/// # Errors
/// If there is none, or it is encrypted with a passphrase.
pub(crate) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let pem = zeroize::Zeroizing::new(read(path)?);
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| CertificateError::new(path, "holds no private key; expected one in PEM, without a passphrase"))
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => CertificateError::new(path, "is not there"),
        _ => CertificateError::new(path, format!("cannot be read: {error}")),
    })
}

/// Watches files that may be replaced, by comparing them with how they were at the last check.
#[derive(Debug)]
pub(crate) struct FileWatch {
    paths: Vec<PathBuf>,
    seen: Mutex<Vec<Option<Identity>>>,
}

/// The identity of the file that a path leads to, through symbolic links, and of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl FileWatch {
    /// Remembers these files as they are now. Must be called before they are read, so that a change in between is
    /// noticed at the next check.
    pub(crate) fn new(paths: Vec<PathBuf>) -> Self {
        let seen = Mutex::new(identities(&paths));
        Self { paths, seen }
    }

    /// Whether any file changed since the last check.
    pub(crate) fn has_changed(&self) -> bool {
        let now = identities(&self.paths);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *seen != now;
        *seen = now;
        changed
    }
}

fn identities(paths: &[PathBuf]) -> Vec<Option<Identity>> {
    let identity = |path: &PathBuf| {
        let about = fs::metadata(path).ok()?;
        let changed = (about.ctime(), about.ctime_nsec());
        Some(Identity { device: about.dev(), inode: about.ino(), size: about.size(), changed })
    };
    paths.iter().map(identity).collect()
}
