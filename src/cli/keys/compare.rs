//! `import` and `diff`.

use std::path::PathBuf;
use std::process::ExitCode;
#[cfg(feature = "postgres")]
use std::time::SystemTime;

use clap::Args;

use super::Source;
use super::document::Document;
#[cfg(feature = "postgres")]
use super::document::{NewKey, seconds};
use super::file::Opened;
use super::in_force::InForce;
use crate::console::say;
#[cfg(feature = "postgres")]
use crate::directory::Caller;
use crate::directory::KeysFile;
#[cfg(feature = "postgres")]
use crate::key_file::KeyFileError;
#[cfg(feature = "postgres")]
use crate::seal::SecretSlot;

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
    let added = match (&mut file.document, &other.document) {
        // As they are written, with their comments.
        (Document::File(file), Document::File(other)) => file.add_all(other),
        #[cfg(feature = "postgres")]
        (rows, _) => other.directory.callers().try_for_each(|caller| rows.add(&new_key(&other, caller)?)),
    };
    added.map_err(|error| file.refused(&error))?;
    file.write()?;
    let (many, since) = (other.directory.len(), file.since()?);
    say!("{many} {} added; {since}", if many == 1 { "key is" } else { "keys are" });
    Ok(())
}

#[cfg(feature = "postgres")]
fn new_key(other: &Opened, caller: &Caller) -> Result<NewKey, KeyFileError> {
    let time = |at: Option<SystemTime>| at.as_ref().map(seconds);
    Ok(NewKey {
        api_key: caller.api_key.to_string(),
        account: caller.owner.account.to_string(),
        member: caller.owner.member.to_string(),
        role: caller.role.map(|role| role.as_str().to_owned()),
        active: caller.is_switched_on(),
        expires: time(caller.expires()),
        secrets: other.document.secrets(&caller.api_key)?,
        secret_1_expires: time(caller.secret_expires(SecretSlot::First)),
    })
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
