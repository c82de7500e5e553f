//! `saltgate check`: validates the configuration and every file it names, and prints the settings.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::{fail, live, load, report};
use crate::clock::Clock;
use crate::config::{Config, Fault};
use crate::console::{self, complain, say};
use crate::control::missing_folder;
use crate::state;
use crate::upstream::Servers;

#[derive(Args)]
pub(super) struct Arguments {
    /// The configuration, in TOML
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print every setting, not only those that differ from their defaults
    #[arg(long)]
    all: bool,
    /// Also connect to every upstream server, to Redis and to PostgreSQL; deletes nothing and spends no salt
    #[arg(long)]
    live: bool,
    /// With --live: look up who owns this segment, as a deletion would
    #[arg(long, value_name = "ID", requires = "live")]
    segment: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let mut config = match load(&arguments.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let directory = match config.take_directory() {
        Ok(directory) => directory,
        Err(faults) => return report(&faults),
    };
    let expired = match expired(&config) {
        Ok(expired) => expired,
        Err(faults) => return report(&faults),
    };
    if let Some(fault) = missing_socket_folder(&config) {
        return report(&[fault]);
    }
    if let Err(fault) = config.io_backend() {
        return report(&[fault]);
    }
    for warning in config.warnings.iter().map(ToString::to_string).chain(expired) {
        complain!("warning: {warning}");
    }
    for folder in folders_of_state(&config) {
        if let Some(mode) = state::open_to_others(folder) {
            complain!("warning: {} is accessible to other users (mode {mode:04o}); chmod 700 it", folder.display());
        }
    }
    console::text(&config.describe(arguments.all));
    let (many, from) = (directory.len(), config.keys_file.path.display());
    match config.key_table {
        None => say!("# {many} {} in {from}; the configuration is sound", if many == 1 { "key" } else { "keys" }),
        Some(_) => say!("# the keys are in {from}; the configuration is sound"),
    }
    if !arguments.live {
        return ExitCode::SUCCESS;
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(error),
    };
    runtime.block_on(live::check(&config, directory, arguments.segment.as_deref()))
}

/// One line for each expired certificate. Reads the files of all certificates and their keys.
fn expired(config: &Config) -> Result<Vec<String>, Vec<Fault>> {
    let servers = Servers::new(config.upstream.clone(), Clock::system(), None);
    let servers = servers.map_err(|unfit| vec![config.fault(unfit.key, unfit.why)])?;
    let listeners = config.open_listeners()?;
    let listeners = listeners.iter().filter_map(|listener| listener.tls.as_ref()).flat_map(|tls| tls.expiries());
    let all = listeners.chain(servers.expiries()).chain(config.replay.expiries());
    Ok(config.expired(all, Clock::system().now()))
}

/// The start does not create the folder of the control socket, so it must exist already.
fn missing_socket_folder(config: &Config) -> Option<Fault> {
    let folder = missing_folder(config.safeguards.socket.as_deref()?)?;
    let message = format!(
        "the folder {} does not exist; create it for the gateway's user (mkdir -p -m 700), or choose another path",
        folder.display()
    );
    Some(config.fault("control.socket", message))
}

fn folders_of_state(config: &Config) -> impl Iterator<Item = &Path> {
    [config.audit.path(), config.replay.directory(), config.safeguards.state.as_deref()].into_iter().flatten()
}
