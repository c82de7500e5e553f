//! Reads `[[listener]]`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Config;
use super::fault::Fault;
use super::places::collide;
use super::section::Section;
use super::socket::socket_path;
use super::texts::quoted;
use crate::certificate::CertificateError;
use crate::listen::{
    CertificateFiles, ClientAuth, ConnectionSettings, ListenAddress, ListenerSettings, Opened, TlsFiles, Trusted,
};
use crate::net::{Network, parse_socket_address};
use crate::policy::KeepAlive;

const ADDRESS: &str = "an address such as \"127.0.0.1:8080\", \"unix:/run/saltgate/gate.sock\" or, for a socket that systemd \
                       passes in, \"fd:gate\"";
/// The socket is first created under a slightly longer name, which must fit, too.
const MAX_LISTENER_PATH: usize = 90;
const MODE: &str = "the mode of the socket, such as \"0660\"";

/// A TLS file and the setting that names it, for faults that are found when the file is read.
#[derive(Clone, Debug)]
pub(super) struct NamedFile {
    /// The index of its listener, counted from 0.
    listener: usize,
    file: PathBuf,
    key: &'static str,
    line: usize,
}

/// The listeners, and the files that they name.
pub(super) fn listeners(root: &mut Section<'_>) -> Option<(Vec<ListenerSettings>, Vec<NamedFile>)> {
    let source = root.source;
    let mut listeners: Vec<ListenerSettings> = Vec::new();
    let mut files = Vec::new();
    let sections = root.sections("listener");
    if sections.is_empty() {
        if !source.has_fault_of("listener") {
            source.fault_at(None, "listener", "is missing; expected [[listener]] with address = \"127.0.0.1:8080\"");
        }
        return None;
    }
    let mut sound = true;
    for section in sections {
        let at = section.at("address");
        match listener(section, listeners.len(), &mut files) {
            Some(new) => {
                if let Some(old) = listeners.iter().find(|old| collide(&old.address, &new.address)) {
                    let address = quoted(&new.address.to_string());
                    let message = if old.address == new.address {
                        format!("{address} is set twice; expected one listener of each address")
                    } else {
                        format!("{address} collides with the listener on {}; expected one of the two", old.address)
                    };
                    source.fault_at(at, "listener.address", message);
                    sound = false;
                }
                listeners.push(new);
            }
            None => sound = false,
        }
    }
    sound.then_some((listeners, files))
}

fn listener(mut section: Section<'_>, number: usize, files: &mut Vec<NamedFile>) -> Option<ListenerSettings> {
    let source = section.source;
    let address = address(&mut section);
    let at_mode = section.at("mode");
    let mode_text = section.has("mode").then(|| section.text("mode", MODE)).flatten();
    section.known("mode");
    let mode = mode_text.as_deref().map_or(Some(ListenerSettings::MODE), |text| {
        let octal = text.len() <= 4 && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        u32::from_str_radix(text, 8).ok().filter(|mode| octal && *mode <= 0o777)
    });
    if mode.is_none() {
        source.fault_at(at_mode, "listener.mode", format!("is not a mode; expected {MODE}"));
    }
    let modeless = match &address {
        Some(ListenAddress::Tcp(_)) => Some("an address with a port, which has no mode"),
        Some(ListenAddress::Passed(_)) => Some("a socket that is passed in, which has a mode already"),
        Some(ListenAddress::Unix(_)) | None => None,
    };
    if let (Some(what), Some(_)) = (modeless, &mode_text) {
        source.fault_at(at_mode, "listener.mode", format!("is set for {what}; leave it out"));
    }
    let words = [("off", false), ("required", true)];
    let proxy_protocol = section.word("proxy_protocol", &words, ConnectionSettings::PROXY_PROTOCOL);
    let trusted = Arc::new(trusted_proxies(&mut section, address.as_ref()));
    let http2 = section.flag("http2", ConnectionSettings::HTTP2);
    let words = [("accepted", KeepAlive::Accepted), ("always", KeepAlive::Always), ("never", KeepAlive::Never)];
    let keep_alive = section.word("keep_alive", &words, ConnectionSettings::KEEP_ALIVE);
    let tls = section.has("tls").then(|| {
        let tls = section.section("tls");
        tls_of(tls, number, files)
    });
    section.known("tls");
    section.finish();
    let tls = match tls {
        Some(tls) => Some(tls?),
        None => None,
    };
    let connections = ConnectionSettings { proxy_protocol, trusted, http2, keep_alive, tls };
    Some(ListenerSettings { address: address?, mode: mode?, connections })
}

fn address(section: &mut Section<'_>) -> Option<ListenAddress> {
    let source = section.source;
    let at = section.at("address");
    let text = section.text("address", ADDRESS)?;
    let read = match text.split_once(':') {
        Some(("unix", path)) => {
            socket_path(path, source, MAX_LISTENER_PATH).map(ListenAddress::Unix).map_err(|error| error.to_string())
        }
        Some(("fd", name)) => passed(name),
        Some(_) | None => parse_socket_address(&text).map(ListenAddress::Tcp).map_err(|error| error.to_string()),
    };
    let fault =
        |problem| source.fault_at(at, "listener.address", format!("{} {problem}; expected {ADDRESS}", quoted(&text)));
    read.map_err(fault).ok()
}

/// The name of a socket that is passed in: what systemd takes for `FileDescriptorName=`.
fn passed(name: &str) -> Result<ListenAddress, String> {
    let fits = (1..=255).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
    let why = "names no socket: a name has 1 to 255 visible ASCII characters and no colon";
    if fits { Ok(ListenAddress::Passed(name.to_owned())) } else { Err(why.to_owned()) }
}

fn trusted_proxies(section: &mut Section<'_>, address: Option<&ListenAddress>) -> Trusted {
    let source = section.source;
    const KEY: &str = "listener.trusted_proxies";
    const EXPECTED: &str =
        "addresses and networks such as [\"10.0.0.0/8\", \"fd00::1\"], and for a Unix socket \"unix\"";
    let at = section.at("trusted_proxies");
    let texts = section.texts("trusted_proxies", EXPECTED);
    let mut trusted = Trusted::default();
    for text in texts {
        match (text.as_str(), text.parse()) {
            ("unix", _) if matches!(address, Some(ListenAddress::Tcp(_))) => {
                source.fault_at(at, KEY, "names \"unix\", but the listener is not a Unix socket; leave it out");
            }
            ("unix", _) => trusted.unix = true,
            (_, Ok(network)) => trusted.networks.push(network),
            (_, Err(_)) => {
                let slip = text.split_once('/').is_some_and(|(address, _)| address.parse::<IpAddr>().is_ok());
                let hint = if slip { " (are there bits beyond the length of the network?)" } else { "" };
                source.fault_at(
                    at,
                    KEY,
                    format!("{} is not an address or a network{hint}; expected {EXPECTED}", quoted(&text)),
                );
            }
        }
    }
    trusted
}

fn tls_of(mut section: Section<'_>, listener: usize, files: &mut Vec<NamedFile>) -> Option<TlsFiles> {
    let source = section.source;
    let line = source.line(section.at);
    let at = Some(section.at);
    let there = section.at("certificates").is_some();
    let sections = section.sections("certificates");
    let mut certificates = Vec::new();
    let wanted = sections.len();
    for mut one in sections {
        let line = source.line(one.at);
        let chain = one.text("chain", "the path of the certificates, in PEM");
        let key = one.text("key", "the path of their key, in PEM");
        one.finish();
        if let (Some(chain), Some(key)) = (chain, key) {
            let pair = CertificateFiles { chain: source.resolve(&chain), key: source.resolve(&key) };
            let mut named = |key, file: &PathBuf| files.push(NamedFile { listener, file: file.clone(), key, line });
            named("listener.tls.certificates.chain", &pair.chain);
            named("listener.tls.certificates.key", &pair.key);
            certificates.push(pair);
        }
    }
    if wanted == 0 {
        let what = if there { "names none" } else { "is missing" };
        let message = format!("{what}; expected [{{ chain = \"gate.pem\", key = \"gate.key\" }}]");
        source.fault_at(at, "listener.tls.certificates", message);
    }
    let at_ca = section.at("client_ca");
    let ca = section.optional_text("client_ca", "the path of certificates in PEM");
    let client_ca = ca.map(|path| source.resolve(&path));
    if let Some(file) = &client_ca {
        files.push(NamedFile { listener, file: file.clone(), key: "listener.tls.client_ca", line });
    }
    let words = [("off", ClientAuth::Off), ("optional", ClientAuth::Optional), ("required", ClientAuth::Required)];
    let default = if client_ca.is_some() { ClientAuth::Required } else { ClientAuth::Off };
    let at_auth = section.at("client_auth");
    let client_auth = section.word("client_auth", &words, default);
    match (client_auth, &client_ca) {
        (ClientAuth::Off, Some(_)) => {
            let message =
                "conflicts with client_auth = \"off\", which requests no certificates; expected one of the two";
            source.fault_at(at_ca, "listener.tls.client_ca", message);
        }
        (ClientAuth::Optional | ClientAuth::Required, None) => {
            source.fault_at(
                at_auth,
                "listener.tls.client_auth",
                "requests certificates, but no authority for them is set; expected client_ca",
            );
        }
        _ => {}
    }
    let versions = [("1.2", true), ("1.3", false)];
    let tls12 = section.word("min_version", &versions, TlsFiles::TLS12);
    section.finish();
    let sound = wanted > 0 && certificates.len() == wanted;
    sound.then_some(TlsFiles { certificates, client_ca, client_auth, tls12 })
}

/// The first listener that collides with this address.
pub(super) fn collides_with<'c>(
    listeners: Option<&'c Vec<ListenerSettings>>,
    address: &ListenAddress,
) -> Option<&'c ListenAddress> {
    listeners?.iter().map(|listener| &listener.address).find(|listener| collide(listener, address))
}

/// Warns of a listener on which anybody who connects can choose the client's address.
pub(super) fn warn_of_believing_anybody(file: &Path, listeners: &[ListenerSettings]) -> Vec<Fault> {
    let open = listeners.iter().filter(|listener| !listener.address.is_local());
    open.filter_map(|listener| {
        let address = &listener.address;
        let loopback = if address.passed().is_some() { "known to be loopback" } else { "loopback" };
        let ConnectionSettings { trusted, proxy_protocol, .. } = &listener.connections;
        let (key, message) = if trusted.networks.iter().any(Network::is_everybody) {
            let message = format!(
                "trusts every address, and {address} is not {loopback}: whoever connects there can choose the \
                 client address that limits and the record use; list only the proxies"
            );
            ("listener.trusted_proxies", message)
        } else if *proxy_protocol && trusted.is_empty() {
            let message = format!(
                "is \"required\" without trusted_proxies, and {address} is not {loopback}: whoever connects there can \
                 choose the client address that limits and the record use; list the proxies in trusted_proxies"
            );
            ("listener.proxy_protocol", message)
        } else {
            return None;
        };
        Some(Fault::new(file, None, key, message))
    })
    .collect()
}

impl Config {
    /// The connection settings of each listener, with its TLS files loaded.
    ///
    /// # Errors
    /// Every listener whose files cannot be used.
    pub(crate) fn open_listeners(&self) -> Result<Vec<Opened>, Vec<Fault>> {
        let (mut all, mut faults) = (Vec::new(), Vec::new());
        for (number, listener) in self.listeners.iter().enumerate() {
            match listener.connections.open() {
                Ok(opened) => all.push(opened),
                Err(error) => faults.push(self.tls_fault(number, &error)),
            }
        }
        if faults.is_empty() { Ok(all) } else { Err(faults) }
    }

    fn tls_fault(&self, listener: usize, error: &CertificateError) -> Fault {
        let named = self.tls_files.iter().find(|named| named.listener == listener && named.file == error.file);
        let (line, key) = named.map_or((None, "listener.tls"), |named| (Some(named.line), named.key));
        Fault::new(&self.file, line, key, format!("{} {}", error.file.display(), error.message))
    }
}
