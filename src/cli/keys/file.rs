//! The keys that a command shows or changes: in a file, or in a table.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use super::Source;
use super::document::Document;
use super::in_force::InForce;
#[cfg(feature = "postgres")]
use super::table::Table;
use super::up_to::UpTo;
use crate::cli::{fail, report};
use crate::clock::Clock;
use crate::config::{judge_keys, key_source};
use crate::console::complain;
use crate::credential::Secret;
use crate::directory::{Directory, KeysFile};
use crate::file_watch::FileWatch;
use crate::key_file::{KeyFile, KeyFileError, WrittenSecret};
use crate::key_use::{GatewayUses, UseFile};
use crate::postgres::{KeySource, KeyTableSettings};
use crate::seal::{Place, SecretSlot};
use crate::state;

/// Keys that were read.
pub(super) struct Opened {
    /// Where they are, and what seals their secrets.
    pub(super) settings: KeysFile,
    pub(super) document: Document,
    pub(super) directory: Directory,
    home: Home,
    /// Files of other gateways.
    last_uses: Vec<PathBuf>,
}

/// Where they are written.
enum Home {
    File {
        watch: FileWatch,
        in_force: InForce,
    },
    #[cfg(feature = "postgres")]
    Table(Table),
}

impl Source {
    /// Reads the keys. Prints every fault itself.
    pub(super) fn open(&self) -> Result<Opened, ExitCode> {
        let Self { config, file, postgres, last_use } = self;
        let found = config.as_deref().map(|config| key_source(config, postgres.is_some()));
        let opened = match (found.transpose().map_err(|faults| report(&faults))?, file, postgres) {
            (Some(KeySource::File(_)), _, Some(_)) => {
                return Err(fail("the configuration names a file of keys; leave out --postgres, or --config"));
            }
            (Some(KeySource::File(settings)), _, None) => Opened::read(settings, InForce::of(config.as_deref()))?,
            (Some(KeySource::Table(settings)), _, url) => table(Some(settings), url.as_deref())?,
            (None, Some(file), _) => {
                let settings = KeysFile { path: file.clone(), allow_empty: true, last_use: None, seal: Arc::default() };
                Opened::read(settings, InForce::nowhere())?
            }
            (None, None, url) => table(None, url.as_deref())?,
        };
        Ok(Opened { last_uses: last_use.clone(), ..opened })
    }
}

#[cfg(feature = "postgres")]
fn table(settings: Option<KeyTableSettings>, url: Option<&str>) -> Result<Opened, ExitCode> {
    let (table, rows, settings) = Table::open(settings, url)?;
    let (directory, _) = rows.judge(&settings.seal).map_err(fail)?;
    let home = Home::Table(table);
    Ok(Opened { settings, document: Document::Table(rows), directory, home, last_uses: Vec::new() })
}

#[cfg(not(feature = "postgres"))]
fn table(_: Option<KeyTableSettings>, _: Option<&str>) -> Result<Opened, ExitCode> {
    Err(fail("this build was made without the feature `postgres`"))
}

impl Opened {
    pub(super) fn read(settings: KeysFile, in_force: InForce) -> Result<Self, ExitCode> {
        let watch = FileWatch::new(vec![settings.path.clone()]);
        let read = std::fs::read_to_string(&settings.path).map(zeroize::Zeroizing::new);
        let text = read.map_err(|error| fail(format!("{}: {error}", settings.path.display())))?;
        let document = KeyFile::parse(&text).map_err(|error| refused(&settings.path, &error))?;
        let (directory, _) = judge_keys(&settings, &text).map_err(|faults| report(&faults))?;
        let home = Home::File { watch, in_force };
        Ok(Self { settings, document: Document::File(document), directory, home, last_uses: Vec::new() })
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

    /// Writes the changed keys, if they have no fault.
    pub(super) fn write(&mut self) -> Result<(), ExitCode> {
        self.directory = match (&mut self.home, &self.document) {
            (Home::File { watch, in_force }, Document::File(document)) => {
                let text = zeroize::Zeroizing::new(document.text());
                let (directory, warnings) = judge_keys(&self.settings, &text).map_err(|faults| {
                    complain!("saltgate: nothing was written; the changed file would have these faults:");
                    report(&faults)
                })?;
                warnings.iter().for_each(|warning| complain!("warning: {warning}"));
                if watch.has_changed() {
                    let why = "the file was changed by somebody else meanwhile; nothing was written: run it again";
                    return Err(fail(why));
                }
                in_force.will_change();
                state::replace_kept(&self.settings.path, text.as_bytes())
                    .map_err(|error| fail(format!("{}: {error}; nothing was written", self.settings.path.display())))?;
                directory
            }
            #[cfg(feature = "postgres")]
            (Home::Table(table), Document::Table(rows)) => table.write(rows, &self.settings.seal)?,
            #[cfg(feature = "postgres")]
            _ => return Err(fail("these keys are not written there")),
        };
        Ok(())
    }

    /// When secrets were last used, as each gateway knows it that can be asked, and the files that were named; and the
    /// time by the same clock.
    pub(super) fn uses(&self, up_to: UpTo) -> Result<(Vec<GatewayUses>, SystemTime), ExitCode> {
        let (own, now) = match &self.home {
            Home::File { in_force, .. } => {
                let read = |path: PathBuf| UseFile::new(path).read().map_err(fail);
                let own = match in_force.uses() {
                    Some(uses) => Some(uses),
                    None => self.settings.last_use.clone().map(read).transpose()?.flatten(),
                };
                (own.into_iter().collect(), Clock::system().now())
            }
            #[cfg(feature = "postgres")]
            Home::Table(table) => table.uses(up_to)?,
        };
        #[cfg(not(feature = "postgres"))]
        let _ = up_to;
        let named = self.last_uses.iter().map(|path| {
            let read = UseFile::new(path.clone()).read().map_err(fail)?;
            read.ok_or_else(|| fail(format!("{} does not exist", path.display())))
        });
        let all: Result<Vec<_>, ExitCode> = Vec::into_iter(own).map(Ok).chain(named).collect();
        Ok((all?, now))
    }

    /// The short tag of a secret, if it can be read here.
    pub(super) fn short_tag(&self, api_key: &str, slot: SecretSlot) -> Option<String> {
        let secrets = self.document.secrets(api_key).ok()?;
        secrets.get(slot as usize).filter(|secret| secret.is_readable_here())?;
        self.directory.caller(api_key)?.short_tag(slot)
    }

    /// From when the change is in force, and where, as a sentence.
    pub(super) fn since(&self) -> Result<String, ExitCode> {
        match &self.home {
            Home::File { in_force, .. } => in_force.since(),
            #[cfg(feature = "postgres")]
            Home::Table(table) => table.since(),
        }
    }
}

fn refused(path: &Path, error: &KeyFileError) -> ExitCode {
    fail(format!("{} {error}", path.display()))
}
