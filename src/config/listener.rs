use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use super::document::{Section, Setting, Source, quoted};
use crate::policy::Network;

/// `[[listener]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where requests are taken.
    pub address: Address,
    /// Who may connect to a Unix socket.
    pub mode: u32,
    /// Whether a PROXY header comes first.
    pub proxy_protocol: bool,
    /// Whose word about a client's address is taken.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// Whether HTTP/2 is spoken.
    pub http2: bool,
    /// TLS, if it ends here.
    pub tls: Option<ListenerTls>,
}

/// `listener.address`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An address and a port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// Whether only this machine reaches it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }

    /// Whether the port is one that is free at the time.
    fn is_any_port(&self) -> bool {
        matches!(self, Self::Tcp(address) if address.port() == 0)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// One of `listener.trusted_proxies`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustedProxy {
    /// Some addresses.
    Network(Network),
    /// Whoever may connect to the Unix socket.
    Unix,
}

/// `[listener.tls]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// The first is for whoever asks for no name that we know.
    pub certificates: Vec<Certificate>,
    /// Who signs clients' certificates.
    pub client_ca: Option<PathBuf>,
    /// Whether clients show certificates.
    pub client_auth: ClientAuth,
    /// Whether TLS 1.2 is spoken besides 1.3.
    pub tls12: bool,
    /// The line it begins in, for faults of what its files hold.
    pub line: usize,
}

/// One of `listener.tls.certificates`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the setting's")]
pub struct Certificate {
    pub chain: PathBuf,
    pub key: PathBuf,
    pub line: usize,
}

/// `listener.tls.client_auth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// Clients are not asked for certificates.
    Off,
    /// One that is shown must be good.
    Optional,
    /// Without a good one there is no connection.
    Required,
}

const ADDRESS: &str = "an address such as \"127.0.0.1:8080\" or \"unix:/run/saltgate/gate.sock\"";
const MODE: &str = "the mode of the socket, such as \"0660\"";

pub(super) fn listeners<'s>(root: &mut Section<'s>, s: &mut Source<'s>) -> Option<Vec<Listener>> {
    let there = root.has("listener");
    let mut listeners: Vec<Listener> = Vec::new();
    let sections = root.sections(s, "listener");
    if !there || sections.is_empty() {
        if s.faults.iter().all(|fault| fault.key != "listener") {
            s.fault_at(None, "listener", "is missing; expected [[listener]] with address = \"127.0.0.1:8080\"");
        }
        return None;
    }
    let mut sound = true;
    for section in sections {
        let at = section.at("address");
        match listener(section, s) {
            Some(new) if !new.address.is_any_port() && listeners.iter().any(|old| old.address == new.address) => {
                s.fault_at(at, "listener.address", format!("{} is there twice", quoted(&new.address.to_string())));
                sound = false;
            }
            Some(new) => listeners.push(new),
            None => sound = false,
        }
    }
    sound.then_some(listeners)
}

fn listener<'s>(mut section: Section<'s>, s: &mut Source<'s>) -> Option<Listener> {
    let address = address(&mut section, s);
    let at_mode = section.at("mode");
    let mode_text = section.has("mode").then(|| section.text(s, "mode", MODE)).flatten();
    section.known("mode");
    let mode = mode_text.as_deref().map_or(Some(0o660), |text| {
        let octal = text.len() <= 4 && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        u32::from_str_radix(text, 8).ok().filter(|mode| octal && *mode <= 0o777)
    });
    if mode.is_none() {
        s.fault_at(at_mode, "listener.mode", format!("is no mode; expected {MODE}"));
    }
    let is_unix = matches!(address, Some(Address::Unix(_)));
    if address.is_some() && !is_unix && mode_text.is_some() {
        s.fault_at(at_mode, "listener.mode", "stands beside an address with a port, which has no mode; leave it out");
    }
    let words = [("off", false), ("required", true)];
    let proxy_protocol = section.word(s, "proxy_protocol", &words, words[0]);
    let trusted_proxies = trusted_proxies(&mut section, s, address.as_ref());
    let http2 = section.flag(s, "http2", true);
    let tls = section.has("tls").then(|| {
        let tls = section.section(s, "tls");
        tls_of(tls, s)
    });
    section.known("tls");
    section.finish(s);
    let tls = match tls {
        Some(tls) => Some(tls?),
        None => None,
    };
    Some(Listener { address: address?, mode: mode?, proxy_protocol, trusted_proxies, http2, tls })
}

fn address<'s>(section: &mut Section<'s>, s: &mut Source<'s>) -> Option<Address> {
    let at = section.at("address");
    let text = section.text(s, "address", ADDRESS)?;
    let problem = match text.strip_prefix("unix:") {
        Some("") => "names no path",
        Some(path) => {
            let path = s.resolve(path);
            // The kernel's limit is 108 bytes with the final zero; the socket is made under a name
            // that is a little longer.
            if path.as_os_str().len() <= 90 {
                return Some(Address::Unix(path));
            }
            "names a path of over 90 bytes, which is too long for a socket"
        }
        None => match text.parse() {
            Ok(address) => return Some(Address::Tcp(address)),
            Err(_) => "is no address",
        },
    };
    s.fault_at(at, "listener.address", format!("{} {problem}; expected {ADDRESS}", quoted(&text)));
    None
}

fn trusted_proxies<'s>(section: &mut Section<'s>, s: &mut Source<'s>, address: Option<&Address>) -> Vec<TrustedProxy> {
    const KEY: &str = "listener.trusted_proxies";
    const EXPECTED: &str =
        "addresses and networks such as [\"10.0.0.0/8\", \"fd00::1\"], and for a Unix socket \"unix\"";
    let at = section.at("trusted_proxies");
    let texts = section.texts(s, "trusted_proxies", EXPECTED);
    let mut proxies = Vec::new();
    for text in texts {
        match (text.as_str(), text.parse()) {
            ("unix", _) if matches!(address, Some(Address::Tcp(_))) => {
                s.fault_at(at, KEY, "names \"unix\", and the listener is none; leave it out");
            }
            ("unix", _) => proxies.push(TrustedProxy::Unix),
            (_, Ok(network)) => proxies.push(TrustedProxy::Network(network)),
            (_, Err(_)) => {
                let slip = text.split_once('/').is_some_and(|(address, _)| address.parse::<IpAddr>().is_ok());
                let hint = if slip { " (are there bits beyond the length of the network?)" } else { "" };
                s.fault_at(at, KEY, format!("{} is no address or network{hint}; expected {EXPECTED}", quoted(&text)));
            }
        }
    }
    proxies
}

fn tls_of<'s>(mut section: Section<'s>, s: &mut Source<'s>) -> Option<ListenerTls> {
    let line = s.line(section.at);
    let at = Some(section.at);
    let there = section.has("certificates");
    let sections = section.sections(s, "certificates");
    let mut certificates = Vec::new();
    let wanted = sections.len();
    for mut one in sections {
        let line = s.line(one.at);
        let chain = one.text(s, "chain", "the path of the certificates, in PEM");
        let key = one.text(s, "key", "the path of their key, in PEM");
        one.finish(s);
        if let (Some(chain), Some(key)) = (chain, key) {
            certificates.push(Certificate { chain: s.resolve(&chain), key: s.resolve(&key), line });
        }
    }
    if wanted == 0 {
        let what = if there { "names none" } else { "is missing" };
        let message = format!("{what}; expected [{{ chain = \"gate.pem\", key = \"gate.key\" }}]");
        s.fault_at(at, "listener.tls.certificates", message);
    }
    let at_ca = section.at("client_ca");
    let ca = section.optional_text(s, "client_ca", "the path of certificates in PEM");
    let client_ca = ca.map(|path| s.resolve(&path));
    let words = [("off", ClientAuth::Off), ("optional", ClientAuth::Optional), ("required", ClientAuth::Required)];
    let default = if client_ca.is_some() { words[2] } else { words[0] };
    let at_auth = section.at("client_auth");
    let client_auth = section.word(s, "client_auth", &words, default);
    match (client_auth, &client_ca) {
        (ClientAuth::Off, Some(_)) => {
            let message = "stands beside client_auth = \"off\", and nobody is asked; expected one of the two";
            s.fault_at(at_ca, "listener.tls.client_ca", message);
        }
        (ClientAuth::Optional | ClientAuth::Required, None) => {
            s.fault_at(
                at_auth,
                "listener.tls.client_auth",
                "asks for certificates that nobody signs; expected client_ca",
            );
        }
        _ => {}
    }
    let versions = [("1.2", true), ("1.3", false)];
    let tls12 = section.word(s, "min_version", &versions, versions[0]);
    section.finish(s);
    let sound = wanted > 0 && certificates.len() == wanted;
    sound.then_some(ListenerTls { certificates, client_ca, client_auth, tls12, line })
}

impl<'s> Section<'s> {
    /// Texts; none if it is left out.
    fn texts(&mut self, source: &mut Source<'s>, name: &'static str, expected: &str) -> Vec<String> {
        let key = format!("{}.{name}", self.path);
        let mut setting = Setting { key, value: "[]".into(), default: Some("[]".into()) };
        let mut found = Vec::new();
        if let Some(value) = self.take(name) {
            let texts: Option<Vec<String>> = match value.get_ref() {
                toml::de::DeValue::Array(array) => {
                    array.iter().map(|text| text.get_ref().as_str().map(str::to_owned)).collect()
                }
                _ => None,
            };
            match texts {
                Some(texts) => found = texts,
                None => {
                    let message = format!("is not a list of texts; expected {expected}");
                    source.fault_at(Some(value.span().start), &setting.key, message);
                }
            }
            let shown: Vec<String> = found.iter().map(|text| quoted(text)).collect();
            setting.value = format!("[{}]", shown.join(", "));
        }
        source.settings.push(setting);
        found
    }
}

/// A fault of what a file of TLS holds.
pub fn tls_fault(config: &Path, tls: &ListenerTls, file: &Path, message: &str) -> super::Fault {
    let named = tls.certificates.iter().find_map(|certificate| match () {
        () if certificate.chain == file => Some((certificate.line, "listener.tls.certificates.chain")),
        () if certificate.key == file => Some((certificate.line, "listener.tls.certificates.key")),
        () => None,
    });
    let (line, key) = named.unwrap_or((tls.line, "listener.tls.client_ca"));
    super::Fault::new(config, Some(line), key, format!("{} {message}", file.display()))
}
