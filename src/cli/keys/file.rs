//! The file of keys that a command shows or changes.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use super::Source;
use super::in_force::InForce;
use crate::cli::{fail, report};
use crate::config::{judge_keys, keys_file};
use crate::console::complain;
use crate::credential::Secret;
use crate::directory::{Directory, KeysFile};
use crate::file_watch::FileWatch;
use crate::key_file::{KeyFile, KeyFileError, WrittenSecret};
use crate::seal::{Place, SecretSlot};
use crate::state;

/// A file that was read.
pub(super) struct Opened {
    pub(super) settings: KeysFile,
    pub(super) document: KeyFile,
    pub(super) directory: Directory,
    watch: FileWatch,
    in_force: InForce,
}

impl Source {
    /// Reads the file. Prints every fault itself.
    pub(super) fn open(&self) -> Result<Opened, ExitCode> {
        let settings = match (&self.config, &self.file) {
            (Some(config), _) => keys_file(config).map_err(|faults| report(&faults))?,
            (None, Some(file)) => KeysFile { path: file.clone(), allow_empty: true, seal: Arc::default() },
            (None, None) => return Err(fail("give --config FILE or --file FILE")),
        };
        let in_force = InForce::of(self.config.as_deref());
        Opened::read(settings, in_force)
    }
}

impl Opened {
    pub(super) fn read(settings: KeysFile, in_force: InForce) -> Result<Self, ExitCode> {
        let watch = FileWatch::new(vec![settings.path.clone()]);
        let read = std::fs::read_to_string(&settings.path).map(zeroize::Zeroizing::new);
        let text = read.map_err(|error| fail(format!("{}: {error}", settings.path.display())))?;
        let document = KeyFile::parse(&text).map_err(|error| refused(&settings.path, &error))?;
        let (directory, _) = judge_keys(&settings, &text).map_err(|faults| report(&faults))?;
        Ok(Self { settings, document, directory, watch, in_force })
    }

    /// The same error for every change that the file does not allow.
    pub(super) fn refused(&self, error: &KeyFileError) -> ExitCode {
        refused(&self.settings.path, error)
    }

    /// A secret as it is to be written at this place: sealed, if there are keys to seal by.
    pub(super) fn written(&self, api_key: &str, slot: SecretSlot, secret: &Secret) -> Result<WrittenSecret, ExitCode> {
        let text = || String::from_utf8_lossy(secret.expose()).into_owned();
        if self.settings.seal.sealing().is_none() {
            return Ok(WrittenSecret::Text(text()));
        }
        let sealed = self.settings.seal.seal(Place { api_key, slot }, secret);
        sealed.map(WrittenSecret::Sealed).map_err(fail)
    }

    /// Replaces the file by the changed one, if that has no fault.
    pub(super) fn write(&mut self) -> Result<(), ExitCode> {
        let text = zeroize::Zeroizing::new(self.document.text());
        let (directory, warnings) = judge_keys(&self.settings, &text).map_err(|faults| {
            complain!("saltgate: nothing was written; the changed file would have these faults:");
            report(&faults)
        })?;
        warnings.iter().for_each(|warning| complain!("warning: {warning}"));
        if self.watch.has_changed() {
            return Err(fail("the file was changed by somebody else meanwhile; nothing was written: run it again"));
        }
        self.in_force.will_change();
        state::replace_kept(&self.settings.path, text.as_bytes())
            .map_err(|error| fail(format!("{}: {error}; nothing was written", self.settings.path.display())))?;
        self.directory = directory;
        Ok(())
    }

    /// From when the change is in force, as a sentence.
    pub(super) fn since(&self) -> Result<String, ExitCode> {
        self.in_force.since()
    }
}

fn refused(path: &Path, error: &KeyFileError) -> ExitCode {
    fail(format!("{} {error}", path.display()))
}
