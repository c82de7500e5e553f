//! The control socket of the running gateway, as several commands take it from their arguments.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::{fail, report};
use crate::config;
use crate::control::{self, Question};

/// The default path of the control socket.
const DEFAULT: &str = "/run/saltgate/control.sock";
/// How long to wait for an answer, in addition to the wait that was asked for.
pub(super) const TIMEOUT: Duration = Duration::from_secs(20);

/// Which gateway to ask.
#[derive(Args)]
pub(super) struct Socket {
    /// The configuration that names the control socket, in TOML
    #[arg(long, value_name = "FILE", conflicts_with = "socket")]
    pub(super) config: Option<PathBuf>,
    /// The control socket [default: /run/saltgate/control.sock]
    #[arg(long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
}

impl Socket {
    /// The path of the socket. Prints any fault of the configuration itself.
    pub(super) fn path(&self) -> Result<PathBuf, ExitCode> {
        match (&self.socket, &self.config) {
            (Some(socket), _) => Ok(socket.clone()),
            (None, Some(file)) => config::control_socket(file).map_err(|faults| report(&faults)),
            (None, None) => Ok(Path::new(DEFAULT).to_owned()),
        }
    }

    /// Asks the gateway and calls `each` for every line of the answer. Prints any failure itself.
    pub(super) fn ask(&self, question: &Question, wait: Duration, each: impl FnMut(Value)) -> Result<(), ExitCode> {
        control::ask(&self.path()?, question, wait + TIMEOUT, each).map_err(fail)
    }
}
