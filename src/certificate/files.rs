//! Reads certificates and private keys from files.

use std::fs;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Why a file of certificates or keys cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", file.display())]
#[cfg_attr(not(feature = "postgres"), allow(unreachable_pub, reason = "an error of PostgreSQL holds it"))]
pub struct CertificateError {
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
