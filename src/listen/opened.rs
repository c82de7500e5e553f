//! The settings of a listener's connections, with the files of its TLS read.

use std::sync::Arc;

use super::{ConnectionSettings, ListenerTls, TlsFiles};
use crate::certificate::CertificateError;

/// [`ConnectionSettings`] whose files of TLS are read.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    /// The settings.
    pub settings: ConnectionSettings,
    /// TLS, if it ends here.
    pub tls: Option<Arc<ListenerTls>>,
}

impl ConnectionSettings {
    /// The same, with the files of TLS read.
    ///
    /// # Errors
    /// The first file with which something is wrong.
    pub(crate) fn open(&self) -> Result<Opened, CertificateError> {
        let load = |files: &TlsFiles| ListenerTls::load(files.clone(), self.http2).map(Arc::new);
        Ok(Opened { tls: self.tls.as_ref().map(load).transpose()?, settings: self.clone() })
    }
}
