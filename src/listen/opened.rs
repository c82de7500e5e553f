//! The settings of a listener's connections, with the files of its TLS read.

use std::sync::Arc;

use super::{ConnectionSettings, ListenerTls, TlsFiles};
use crate::certificate::CertificateError;

/// [`ConnectionSettings`] with their TLS files loaded.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    /// The settings.
    pub settings: ConnectionSettings,
    /// TLS, if the listener terminates it.
    pub tls: Option<Arc<ListenerTls>>,
}

impl ConnectionSettings {
    /// Loads the TLS files of these settings.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub(crate) fn open(&self) -> Result<Opened, CertificateError> {
        let load = |files: &TlsFiles| ListenerTls::load(files.clone(), self.http2).map(Arc::new);
        Ok(Opened { tls: self.tls.as_ref().map(load).transpose()?, settings: self.clone() })
    }
}
