//! The file of keys that a command shows or changes.

use std::path::{Path, PathBuf};
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
use crate::key_use::{GatewayUses, UseFile};
use crate::seal::{Place, SecretSlot};
use crate::state;

/// A file that was read.
pub(super) struct Opened {
    pub(super) settings: KeysFile,
    pub(super) document: KeyFile,
    pub(super) directory: Directory,
    watch: FileWatch,
    in_force: InForce,
    /// Files of other gateways.
    last_uses: Vec<PathBuf>,
}

impl Source {
    /// Reads the file. Prints every fault itself.
    pub(super) fn open(&self) -> Result<Opened, ExitCode> {
        let settings = match (&self.config, &self.file) {
            (Some(config), _) => keys_file(config).map_err(|faults| report(&faults))?,
            (None, Some(file)) => {
                KeysFile { path: file.clone(), allow_empty: true, last_use: None, seal: Arc::default() }
            }
            (None, None) => return Err(fail("give --config FILE or --file FILE")),
        };
        let in_force = InForce::of(self.config.as_deref());
        let last_uses = self.last_use.clone();
        Ok(Opened { last_uses, ..Opened::read(settings, in_force)? })
    }
}

impl Opened {
    pub(super) fn read(settings: KeysFile, in_force: InForce) -> Result<Self, ExitCode> {
        let watch = FileWatch::new(vec![settings.path.clone()]);
        let read = std::fs::read_to_string(&settings.path).map(zeroize::Zeroizing::new);
        let text = read.map_err(|error| fail(format!("{}: {error}", settings.path.display())))?;
        let document = KeyFile::parse(&text).map_err(|error| refused(&settings.path, &error))?;
        let (directory, _) = judge_keys(&settings, &text).map_err(|faults| report(&faults))?;
        Ok(Self { settings, document, directory, watch, in_force, last_uses: Vec::new() })
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

    /// When secrets were last used, as each gateway knows it: the running one, or its file, and the files that were named.
    pub(super) fn uses(&self) -> Result<Vec<GatewayUses>, ExitCode> {
        let own = match self.in_force.uses() {
            Some(uses) => Some(uses),
            None => self
                .settings
                .last_use
                .clone()
                .map(|path| UseFile::new(path).read().map_err(fail))
                .transpose()?
                .flatten(),
        };
        let named = self.last_uses.iter().map(|path| {
            let read = UseFile::new(path.clone()).read().map_err(fail)?;
            read.ok_or_else(|| fail(format!("{} does not exist", path.display())))
        });
        own.into_iter().map(Ok).chain(named).collect()
    }

    /// The short tag of a secret, if it can be read here.
    pub(super) fn short_tag(&self, api_key: &str, slot: SecretSlot) -> Option<String> {
        let secrets = self.document.secrets(api_key).ok()?;
        secrets.get(slot as usize).filter(|secret| secret.is_readable_here())?;
        self.directory.caller(api_key)?.short_tag(slot)
    }

    /// From when the change is in force, as a sentence.
    pub(super) fn since(&self) -> Result<String, ExitCode> {
        self.in_force.since()
    }
}

fn refused(path: &Path, error: &KeyFileError) -> ExitCode {
    fail(format!("{} {error}", path.display()))
}
