//! `import` and `diff`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::Source;
use super::file::Opened;
use super::in_force::InForce;
use crate::console::say;
use crate::directory::KeysFile;

#[derive(Args)]
pub(in crate::cli) struct Other {
    /// The other file of keys, in TOML
    #[arg(value_name = "OTHER")]
    other: PathBuf,
    #[command(flatten)]
    source: Source,
}

impl Other {
    fn open(&self) -> Result<(Opened, Opened), ExitCode> {
        let file = self.source.open()?;
        let settings = KeysFile { path: self.other.clone(), allow_empty: true, ..file.settings.clone() };
        Ok((file, Opened::read(settings, InForce::nowhere())?))
    }
}

pub(super) fn import(arguments: &Other) -> Result<(), ExitCode> {
    let (mut file, other) = arguments.open()?;
    file.document.add_all(&other.document).map_err(|error| file.refused(&error))?;
    file.write()?;
    say!("{} keys are added; {}", other.directory.len(), file.since()?);
    Ok(())
}

pub(super) fn diff(arguments: &Other) -> Result<(), ExitCode> {
    let (file, other) = arguments.open()?;
    let changes = other.directory.changes_since(Some(&file.directory));
    if changes.is_none() {
        say!("the same keys");
    }
    changes.added.iter().for_each(|key| say!("added {key}"));
    changes.removed.iter().for_each(|key| say!("removed {key}"));
    changes.changed.iter().for_each(|(key, fields)| say!("changed {key}: {}", fields.join(", ")));
    Ok(())
}
