//! The chain as one process writes it: whole lines or none, file after file.

use std::fmt;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde_json::json;

use super::chain::{FORMAT, Link};
use super::{Settings, Sync, files};
use crate::clock::{self, Clock};

/// How often a lock is tried for that a reader may hold for an instant.
const LOCK_TRIES: usize = 20;

/// Why no record can be kept.
#[derive(Debug)]
pub struct OpenError {
    path: PathBuf,
    doing: &'static str,
    error: io::Error,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, doing, error } = self;
        write!(f, "audit.path {}: {doing}: {error}", path.display())
    }
}

impl std::error::Error for OpenError {}

impl OpenError {
    pub(super) fn no_thread(path: &Path, error: io::Error) -> Self {
        Self { path: path.into(), doing: "there is no thread for its writer", error }
    }
}

/// How lines become durable, and who is told how long it took.
pub(super) struct Disk {
    pub(super) sync: Box<dyn Fn(&File) -> io::Result<()> + Send>,
    pub(super) on_sync: Box<dyn Fn(Duration) + Send>,
}

impl Disk {
    pub(super) fn real(on_sync: impl Fn(Duration) + Send + 'static) -> Self {
        Self { sync: Box::new(File::sync_data), on_sync: Box::new(on_sync) }
    }
}

/// The files of this process.
pub(super) struct Book {
    directory: PathBuf,
    instance: String,
    settings: Settings,
    clock: Clock,
    disk: Disk,
    page: Page,
    link: Link,
}

/// The file that is being written.
struct Page {
    file: File,
    number: u64,
    /// The length up to which it holds whole lines of the chain.
    good: u64,
    lines: u64,
    opened: Duration,
    /// Whether something may stand behind `good`.
    torn: bool,
}

impl Book {
    pub(super) fn open(directory: &Path, settings: Settings, clock: Clock, disk: Disk) -> Result<Self, OpenError> {
        let failed = |doing| move |error| OpenError { path: directory.into(), doing, error };
        std::fs::create_dir_all(directory).map_err(failed("cannot be made a directory"))?;
        let instance = files::new_instance().map_err(failed("the system has no random bytes to name its file by"))?;
        let mut link = Link::default();
        let page = Page::begin(directory, &instance, 1, &mut link, &clock, settings.writer);
        let page = page.map_err(failed("the directory cannot be written"))?;
        Ok(Self { directory: directory.into(), instance, settings, clock, disk, page, link })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file that is being written, by the names that [`files`] knows.
    pub(super) fn place(&self) -> (&str, u64) {
        (&self.instance, self.page.number)
    }

    /// Writes all these lines, as durably as the settings say, or none.
    pub(super) fn write<'l>(&mut self, bodies: impl Iterator<Item = &'l [u8]> + Clone) -> io::Result<()> {
        self.page.cut_back()?;
        let coming: usize = bodies.clone().map(<[u8]>::len).sum();
        if self.is_due(coming as u64) {
            self.turn()?;
        }
        let (mut link, mut bytes, mut lines) = (self.link, Vec::with_capacity(coming + coming / 4), 0);
        for body in bodies {
            link.append(body, &mut bytes);
            lines += 1;
        }
        let done = self.page.file.write_all(&bytes).and_then(|()| self.make_durable());
        if let Err(error) = done {
            self.page.torn = true;
            // Half a line must not stand before the next one; what cannot be cut now is cut first.
            if let Err(error) = self.page.cut_back() {
                tracing::error!(%error, "the record cannot be cut back to its last whole line");
            }
            return Err(error);
        }
        self.link = link;
        self.page.good += bytes.len() as u64;
        self.page.lines += lines;
        Ok(())
    }

    /// Turns to a new file if this one is old.
    pub(super) fn turn_if_old(&mut self) -> io::Result<()> {
        if self.is_due(0) { self.turn() } else { Ok(()) }
    }

    /// Ends the chain with a line that says so; after it there is nothing more to come.
    pub(super) fn close(&mut self) -> io::Result<()> {
        let line = json!({ "time": clock::rfc3339(self.clock.now()), "kind": "closed" }).to_string();
        self.write(std::iter::once(line.as_bytes()))?;
        self.page.seal()
    }

    /// Whether so many bytes more can be written where the last ones were.
    pub(super) fn has_room(&self, coming: usize) -> bool {
        !self.page.torn && !self.is_due(coming as u64)
    }

    /// A file with nothing but its header is never too old or too large.
    fn is_due(&self, coming: u64) -> bool {
        let Page { good, lines, opened, .. } = self.page;
        let old = || self.clock.elapsed().saturating_sub(opened) >= self.settings.rotate_age;
        lines > 1 && (good.saturating_add(coming) > self.settings.rotate_size || old())
    }

    fn turn(&mut self) -> io::Result<()> {
        self.page.cut_back()?;
        let mut link = self.link;
        let next = Page::begin(
            &self.directory,
            &self.instance,
            self.page.number + 1,
            &mut link,
            &self.clock,
            self.settings.writer,
        )?;
        let done = std::mem::replace(&mut self.page, next);
        self.link = link;
        // The new file goes on from the old one's head: what is wrong with the old one now can
        // only be told.
        if let Err(error) = done.seal() {
            tracing::warn!(%error, file = done.number, "a finished file of the record cannot be sealed");
        }
        Ok(())
    }

    fn make_durable(&self) -> io::Result<()> {
        match self.settings.sync {
            Sync::Os => Ok(()),
            Sync::Each => {
                let started = self.clock.elapsed();
                (self.disk.sync)(&self.page.file)?;
                (self.disk.on_sync)(self.clock.elapsed().saturating_sub(started));
                Ok(())
            }
        }
    }
}

impl Page {
    /// A file with its header, on disk under its name, or none.
    fn begin(
        directory: &Path,
        instance: &str,
        number: u64,
        link: &mut Link,
        clock: &Clock,
        writer: &str,
    ) -> io::Result<Self> {
        let path = files::path(directory, instance, number);
        let header = json!({
            "kind": "header",
            "format": FORMAT,
            "instance": instance,
            "file": number,
            "time": clock::rfc3339(clock.now()),
            "writer": writer,
            "version": env!("CARGO_PKG_VERSION"),
        });
        let begun = Self::begin_at(&path, number, &header, link, clock);
        if begun.is_err() {
            // Nobody knows of it yet. What stays is truncated by the next try.
            drop(std::fs::remove_file(&path));
        }
        begun
    }

    fn begin_at(
        path: &Path,
        number: u64,
        header: &serde_json::Value,
        link: &mut Link,
        clock: &Clock,
    ) -> io::Result<Self> {
        // No process takes another's file; of its own, one that it failed to begin may be left.
        let first = number == 1;
        let file =
            OpenOptions::new().create_new(first).create(true).write(true).truncate(true).mode(0o640).open(path)?;
        // The lock says that the process is there; nothing else hangs on it.
        for _ in 0..LOCK_TRIES {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        let mut bytes = Vec::new();
        let mut next = *link;
        next.append(header.to_string().as_bytes(), &mut bytes);
        (&file).write_all(&bytes)?;
        // The file's name must survive power loss as well as its lines do.
        file.sync_all()?;
        if let Some(directory) = path.parent() {
            File::open(directory)?.sync_all()?;
        }
        *link = next;
        Ok(Self { file, number, good: bytes.len() as u64, lines: 1, opened: clock.elapsed(), torn: false })
    }

    fn cut_back(&mut self) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.good)?;
            self.file.seek(io::SeekFrom::Start(self.good))?;
            self.torn = false;
        }
        Ok(())
    }

    /// Nothing is written to it any more.
    fn seal(&self) -> io::Result<()> {
        self.file.sync_all()?;
        self.file.set_permissions(Permissions::from_mode(0o440))
    }
}
