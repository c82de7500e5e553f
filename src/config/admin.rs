//! Reads `[admin]`, for the gateway and for commands that only ask it.

use std::net::SocketAddr;
use std::path::Path;

use super::fault::Fault;
use super::listener::collides_with;
use super::section::Section;
use super::source::Source;
use crate::listen::{ListenAddress, ListenerSettings};

/// The address of the admin listener, and without which shared parts the process is not ready.
pub(super) fn admin(
    root: &mut Section<'_>,
    listeners: Option<&Vec<ListenerSettings>>,
) -> (Option<SocketAddr>, Vec<String>) {
    if !root.has("admin") {
        root.known("admin");
        return (None, Vec::new());
    }
    let mut admin = root.section("admin");
    let at = admin.at("address");
    let address = admin.address("address");
    if let Some(address) = address.map(ListenAddress::Tcp)
        && let Some(listener) = collides_with(listeners, &address)
    {
        let message = format!(
            "{address} collides with the listener on {listener}; expected a port of its own, which clients cannot reach"
        );
        admin.source.fault_at(at, "admin.address", message);
    }
    let ready_needs = admin.words("ready_needs", &["replay"]);
    admin.finish();
    (address, ready_needs)
}

/// The `admin.address` of a configuration. Nothing else is read, so that a probe does not need the gateway's secrets.
///
/// # Errors
/// If there is none that can be asked, or it cannot be read.
pub(crate) fn admin_address(file: &Path) -> Result<SocketAddr, Vec<Fault>> {
    let text = super::file(file, "a configuration, in TOML").map_err(|fault| vec![fault])?;
    let environment = |name: &str| std::env::var(name).ok();
    let source = Source::new(file, &text, &environment);
    let address = Section::document(&source).and_then(|mut root| {
        if !root.has("admin") {
            let message = "is missing: this gateway has nothing that can be probed; expected [admin] with address = \
                           \"127.0.0.1:9901\"";
            source.fault_at(None, "admin.address", message);
        }
        admin(&mut root, None).0
    });
    if address.is_some_and(|address| address.port() == 0) {
        let message =
            "has the port 0, so the system chooses another one at each start; expected a fixed port, such as 9901";
        source.fault_at(None, "admin.address", message);
    }
    let faults = source.findings().faults;
    address.filter(|_| faults.is_empty()).ok_or(faults)
}
