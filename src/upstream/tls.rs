use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::Unfit;
use super::settings::Tls;

/// What speaks TLS to all servers.
pub(super) fn connector(tls: &Tls) -> Result<TlsConnector, Unfit> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = versions.map_err(|error| Unfit::new("upstream.tls", error.to_string()))?;
    let builder = builder.with_root_certificates(roots(tls.ca.as_deref())?);
    let mut config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            const KEY: &str = "upstream.tls.key";
            let chain = certificates("upstream.tls.certificate", certificate)?;
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| {
                Unfit::new(KEY, format!("{}: {error}; expected a private key in PEM", key.display()))
            })?;
            builder.with_client_auth_cert(chain, private).map_err(|error| {
                Unfit::new(KEY, format!("{}: {error}; expected the key of upstream.tls.certificate", key.display()))
            })?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The name that a server's certificate must have.
pub(super) fn name(tls: &Tls, host: &str) -> Result<ServerName<'static>, Unfit> {
    let (key, name) = match &tls.server_name {
        Some(name) => ("upstream.tls.server_name", name.as_str()),
        None => ("upstream.servers", host),
    };
    ServerName::try_from(name.to_owned())
        .map_err(|_| Unfit::new(key, format!("{name:?} is no name that a certificate can have")))
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, Unfit> {
    const KEY: &str = "upstream.tls.ca";
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            for certificate in certificates(KEY, path)? {
                roots.add(certificate).map_err(|error| Unfit::new(KEY, format!("{}: {error}", path.display())))?;
            }
        }
        None => {
            // One that cannot be used makes no server trusted.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(Unfit::new(KEY, "the system has no certificate authorities; name a file of them here"));
            }
        }
    }
    Ok(roots)
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Unfit> {
    let unfit = |what: String| Unfit::new(key, format!("{}: {what}; expected certificates in PEM", path.display()));
    let read = CertificateDer::pem_file_iter(path).map_err(|error| unfit(error.to_string()))?;
    let found = read.collect::<Result<Vec<_>, _>>().map_err(|error| unfit(error.to_string()))?;
    if found.is_empty() { Err(unfit("holds no certificate".into())) } else { Ok(found) }
}
