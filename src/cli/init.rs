//! `saltgate init sidecar | edge [DIR]`: writes a configuration and a file of keys to start from.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::fail;
use crate::console::say;
use crate::state;

const KEYS: &str = include_str!("init/keys.toml");

#[derive(Args)]
pub(super) struct Arguments {
    /// Where Saltgate runs: beside the service on its machine or in its pod, or as a proxy of its own
    #[arg(value_enum, value_name = "PLACE")]
    place: Place,
    /// The folder to write into; it is created if it does not exist
    #[arg(value_name = "DIR", default_value = ".")]
    directory: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Place {
    Sidecar,
    Edge,
}

impl Place {
    fn configuration(self) -> &'static str {
        match self {
            Self::Sidecar => include_str!("init/sidecar.toml"),
            Self::Edge => include_str!("init/edge.toml"),
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let Arguments { place, directory } = arguments;
    let files = [("saltgate.toml", place.configuration()), ("keys.toml", KEYS)];
    if let Some((name, _)) = files.iter().find(|(name, _)| directory.join(name).symlink_metadata().is_ok()) {
        return fail(format!("{} is there already; nothing was written", directory.join(name).display()));
    }
    let wrote =
        create(directory).and_then(|()| files.iter().try_for_each(|(name, text)| write(&directory.join(name), text)));
    if let Err(error) = wrote {
        return fail(format!("{}: {error}", directory.display()));
    }
    let file = directory.join("saltgate.toml");
    let file = file.display();
    say!("wrote {file} and {}", directory.join("keys.toml").display());
    say!("Read both, and name your service and your keys. keys.toml takes the secret of its key from the environment:");
    say!("  export CRM_KEY_1=…        16 to 256 bytes; for a trial $(openssl rand -hex 16)");
    say!("Then:");
    say!("  saltgate check --config {file}");
    say!("  saltgate serve --config {file}");
    ExitCode::SUCCESS
}

/// Creates the folder unless it is there; an existing one keeps its mode without a word.
fn create(directory: &Path) -> io::Result<()> {
    if directory.is_dir() { Ok(()) } else { state::folder(directory) }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    state::file().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
}
