//! Writes the chain of one process, file after file. A write adds all of its lines or none.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::chain::Link;
use super::log_file::{Continuation, Interference, LogDirectory, LogFile};
use super::{ChainHead, RecordSettings, Sync, files};
use crate::clock::{self, Clock};
use crate::state;

/// How often a write is tried again in a new file because the current one was removed or replaced.
const TRIES: usize = 3;

/// Why the record cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("audit.path {}: {doing}: {error}", path.display())]
pub struct RecordOpenError {
    path: PathBuf,
    doing: &'static str,
    #[source]
    error: io::Error,
}

impl RecordOpenError {
    pub(super) fn no_thread(path: &Path, error: io::Error) -> Self {
        Self { path: path.into(), doing: "the thread of the writer cannot be started", error }
    }
}

/// How lines are synced to disk, and the callback that gets the duration of each sync.
pub(super) struct Disk {
    pub(super) sync: Box<dyn Fn(&File) -> io::Result<()> + Send>,
    pub(super) on_sync: Box<dyn Fn(Duration) + Send>,
}

impl Disk {
    pub(super) fn real(on_sync: impl Fn(Duration) + Send + 'static) -> Self {
        Self { sync: Box::new(File::sync_data), on_sync: Box::new(on_sync) }
    }
}

/// Writes the files of this process.
pub(super) struct ChainWriter {
    directory: PathBuf,
    instance: String,
    settings: RecordSettings,
    clock: Clock,
    disk: Disk,
    file: LogFile,
    link: Link,
    /// Why the chain had to continue in a new file, until [`ChainWriter::was_begun_anew`] takes it.
    anew: Option<String>,
}

impl ChainWriter {
    pub(super) fn open(
        directory: &Path,
        settings: RecordSettings,
        clock: Clock,
        disk: Disk,
    ) -> Result<Self, RecordOpenError> {
        let failed = |doing| move |error| RecordOpenError { path: directory.into(), doing, error };
        state::folder(directory).map_err(failed("the directory cannot be created"))?;
        let instance = files::new_instance().map_err(failed("no random bytes for the name of its file"))?;
        let mut link = Link::default();
        let files = LogDirectory { directory, instance: &instance, writer: settings.writer, clock: &clock };
        let file = files.begin(1, &mut link, None).map_err(failed("the directory cannot be written"))?;
        Ok(Self { directory: directory.into(), instance, settings, clock, disk, file, link, anew: None })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The instance and the number of the current file, as in its name.
    pub(super) fn position(&self) -> (&str, u64) {
        (&self.instance, self.file.number)
    }

    /// The end of the chain.
    pub(super) fn head(&self) -> ChainHead {
        let (instance, hash) = (self.instance.clone(), self.link.hash);
        ChainHead { instance, file: self.file.number, line: self.file.lines, hash, time: None }
    }

    /// Writes all these lines, as durably as the settings say, or none.
    ///
    /// With [`Sync::Each`] a reader finds them when this returns. With [`Sync::Os`] that is only certain after
    /// [`ChainWriter::look`].
    pub(super) fn write<'l>(&mut self, bodies: impl Iterator<Item = &'l [u8]> + Clone) -> io::Result<()> {
        self.file.cut_back()?;
        let coming: usize = bodies.clone().map(<[u8]>::len).sum();
        if self.is_due(coming as u64) {
            self.turn()?;
        }
        for _ in 0..TRIES {
            match self.append(bodies.clone(), coming)? {
                None => return Ok(()),
                Some(interference) => self.begin_anew(interference)?,
            }
        }
        Err(io::Error::other("each new file is removed or replaced at once"))
    }

    fn append<'l>(
        &mut self,
        bodies: impl Iterator<Item = &'l [u8]>,
        coming: usize,
    ) -> io::Result<Option<Interference>> {
        let (mut link, mut bytes, mut lines) = (self.link, Vec::with_capacity(coming + coming / 4), 0);
        for body in bodies {
            link.append(body, &mut bytes);
            lines += 1;
        }
        let good = self.file.good + bytes.len() as u64;
        let written = self.file.handle.write_all(&bytes).and_then(|()| self.make_durable());
        let seen = written.and_then(|()| match self.settings.sync {
            Sync::Os => Ok(None),
            Sync::Each => self.file.look(good),
        });
        match seen {
            Ok(None) => {
                self.link = link;
                self.file.good = good;
                self.file.lines += lines;
                if self.settings.sync == Sync::Each {
                    self.file.seen = good;
                }
            }
            Ok(Some(_)) => self.file.torn = true,
            Err(_) => {
                self.file.torn = true;
                // The next line must not follow half a line. If cutting fails now, the next write cuts first.
                if let Err(error) = self.file.cut_back() {
                    tracing::error!(%error, "the record cannot be cut back to its last whole line");
                }
            }
        }
        seen
    }

    /// Checks that a reader finds the written lines, and continues in a new file if not.
    pub(super) fn look(&mut self) -> io::Result<()> {
        self.file.cut_back()?;
        match self.file.look(self.file.good)? {
            Some(interference) => self.begin_anew(interference),
            None => {
                self.file.seen = self.file.good;
                Ok(())
            }
        }
    }

    /// Takes the reason why the chain had to continue in a new file, if it did since the last call.
    pub(super) fn was_begun_anew(&mut self) -> Option<String> {
        self.anew.take()
    }

    /// Continues in a new file whose header says why. The chain goes on, so that the hash of the lost file's last line
    /// is kept. Lines that no reader may have seen are written again.
    fn begin_anew(&mut self, interference: Interference) -> io::Result<()> {
        let why = format!("{} {interference}", self.file.name());
        let mut repeated = Vec::new();
        if interference.is_whole() {
            // If the file is put back later, the chain goes on from it to the new one.
            if let Err(error) = self.file.cut_back() {
                tracing::warn!(%error, file = self.file.name(), "a file that is gone cannot be cut back");
            }
            repeated = self.file.unseen().unwrap_or_else(|error| {
                tracing::error!(%error, file = self.file.name(), "the last lines of a file that is gone are lost");
                Vec::new()
            });
        }
        state::folder(&self.directory)?;
        self.open_next(Some(&Continuation { why: why.clone(), repeated }))?;
        self.anew = Some(why);
        Ok(())
    }

    /// Rotates to a new file if this one is old.
    pub(super) fn turn_if_old(&mut self) -> io::Result<()> {
        if self.is_due(0) { self.turn() } else { Ok(()) }
    }

    /// Ends the chain with a `closed` line.
    pub(super) fn close(&mut self) -> io::Result<()> {
        let line = json!({ "time": clock::rfc3339(self.clock.now()), "kind": "closed" }).to_string();
        self.look()?;
        self.write(std::iter::once(line.as_bytes()))?;
        self.look()?;
        self.file.seal()
    }

    /// Whether `coming` more bytes fit into the current file without rotation or repair.
    pub(super) fn has_room(&self, coming: usize) -> bool {
        !self.file.torn && !self.is_due(coming as u64)
    }

    /// A file with nothing but its header is never too old or too large.
    fn is_due(&self, coming: u64) -> bool {
        let LogFile { good, lines, opened, .. } = self.file;
        let old = || self.clock.elapsed().saturating_sub(opened) >= self.settings.rotate_age;
        lines > 1 && (good.saturating_add(coming) > self.settings.rotate_size || old())
    }

    fn turn(&mut self) -> io::Result<()> {
        let file = self.file.number;
        self.look()?;
        if self.file.number != file {
            return Ok(());
        }
        let done = self.open_next(None)?;
        // The new file already continues the chain, so a problem with the old one can only be logged.
        if let Err(error) = done.seal() {
            tracing::warn!(%error, file = done.number, "a finished file of the record cannot be sealed");
        }
        Ok(())
    }

    /// Continues in a new file, and returns the previous one.
    fn open_next(&mut self, anew: Option<&Continuation>) -> io::Result<LogFile> {
        let directory = LogDirectory {
            directory: &self.directory,
            instance: &self.instance,
            writer: self.settings.writer,
            clock: &self.clock,
        };
        let mut link = self.link;
        let next = directory.begin(self.file.number + 1, &mut link, anew)?;
        self.link = link;
        Ok(std::mem::replace(&mut self.file, next))
    }

    fn make_durable(&self) -> io::Result<()> {
        match self.settings.sync {
            Sync::Os => Ok(()),
            Sync::Each => {
                let started = self.clock.elapsed();
                (self.disk.sync)(&self.file.handle)?;
                (self.disk.on_sync)(self.clock.elapsed().saturating_sub(started));
                Ok(())
            }
        }
    }
}
