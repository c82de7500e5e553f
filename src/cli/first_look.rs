//! Where `saltgate serve` takes its configuration from: a file, or, for a first look, `--upstream` and `--keys`.
//!
//! The first look leaves out no check. It writes a configuration into a folder and serves from it, as anybody could. Spent salts,
//! the record and the freeze state are kept in that folder, so a restart forgets nothing. Only a folder that this start made is
//! taken for one that never held a spent salt.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::{EX_USAGE, fail};
use crate::console::complain;
use crate::plain;
use crate::state;

/// The name of the configuration in the folder.
const FILE: &str = "saltgate.toml";

#[derive(Args)]
pub(super) struct Source {
    /// The configuration, in TOML
    #[arg(long, value_name = "FILE", required_unless_present = "upstream")]
    config: Option<PathBuf>,
    /// For a first look without a configuration: the service, such as http://127.0.0.1:9000
    #[arg(long, value_name = "URL", conflicts_with = "config", requires = "keys")]
    upstream: Option<String>,
    /// With --upstream: the file of keys, in TOML
    #[arg(long, value_name = "FILE", requires = "upstream")]
    keys: Option<PathBuf>,
    /// With --upstream: the loopback address to listen on
    #[arg(long, value_name = "ADDRESS", requires = "upstream", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// With --upstream: the folder for the configuration, spent salts and the record
    #[arg(long, value_name = "DIR", requires = "upstream", default_value = "saltgate-first-look")]
    data: PathBuf,
}

impl Source {
    /// The file to serve from. For a first look it is written, and what that leaves out is said.
    pub(super) fn file(&self) -> Result<PathBuf, ExitCode> {
        match (&self.config, &self.upstream, &self.keys) {
            (Some(file), ..) => Ok(file.clone()),
            (None, Some(upstream), Some(keys)) => self.write(upstream, keys),
            // clap asks for one or the other.
            (None, ..) => Err(ExitCode::from(EX_USAGE)),
        }
    }

    fn write(&self, upstream: &str, keys: &Path) -> Result<PathBuf, ExitCode> {
        let Self { listen, data, .. } = self;
        if !listen.ip().is_loopback() {
            complain!(
                "saltgate serve: --listen {listen} is not a loopback address; write a configuration (saltgate init)"
            );
            return Err(ExitCode::from(EX_USAGE));
        }
        let absolute =
            |path: &Path| std::path::absolute(path).map_err(|error| fail(format!("{}: {error}", path.display())));
        let (data, keys) = (absolute(data)?, absolute(keys)?);
        let is_new = !data.exists();
        let text = configuration(listen, upstream, &keys, is_new);
        let written = state::folder(&data).and_then(|()| state::replace(&data, FILE, text.as_bytes()));
        written.map_err(|error| fail(format!("{}: {error}", data.display())))?;
        warn(listen, &data, is_new);
        Ok(data.join(FILE))
    }
}

fn configuration(listen: &SocketAddr, upstream: &str, keys: &Path, is_new: bool) -> String {
    let when_new = if is_new { "accept" } else { "fence" };
    let (upstream, keys) = (plain::quoted(upstream), plain::quoted(&keys.to_string_lossy()));
    format!(
        r#"# Written by `saltgate serve --upstream`, each time anew. `saltgate init` writes one to keep.

[[listener]]
address = "{listen}"

[replay.journal]
path = "replay"
when_new = "{when_new}"

[directory.file]
path = {keys}

[ownership.upstream]
account = "/accountId"
creator = "/ownerId"

[upstream]
servers = [{upstream}]

[audit]
path = "record"

[control]
socket = "control.sock"
"#
    )
}

/// Says on standard error what is different from a gateway that is set up for good.
fn warn(listen: &SocketAddr, data: &Path, is_new: bool) {
    let file = data.join(FILE);
    complain!("saltgate: FIRST LOOK, not for production. Every check is made, but");
    complain!("  - only programs on this machine can connect, to http://{listen}; there is no TLS");
    complain!("  - the service is not protected: whoever reaches it directly passes Saltgate by");
    complain!("  - /ready and /metrics are not served, and there is no budget");
    complain!("  - spent salts, the record of every deletion and this configuration are in {}:", data.display());
    complain!(
        "    deleting that folder forgets which headers were used, and within 15 minutes they would be accepted again"
    );
    if is_new {
        complain!("  - that folder is new, so this is taken for a first start: headers used before are not known");
    }
    complain!("  why a request was refused:  saltgate refusals --config {}", file.display());
    complain!("  a configuration to keep:    saltgate init sidecar DIR, or saltgate init edge DIR");
}
