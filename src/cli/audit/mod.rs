//! `saltgate audit`: reads the record from outside. No command changes a line that is written; `reconcile` adds what it
//! finds in a chain of its own.

mod reconcile;
mod show;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::shipping::Copied;
use super::{fail, load};
use crate::audit::{self, ChainHead, Directories, NotAHead, Retention, Unread};
use crate::clock::{self, Clock};
use crate::config::Config;
use crate::console::{self, complain, say};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Verify the record: name every line that was changed, removed or reordered
    Verify(Verify),
    /// Print the head of each chain; keep it where nobody who can write to the record has access
    Head(Source),
    /// Print lines of the record
    Show(show::Arguments),
    /// Ask the upstream about every deletion whose outcome is unknown, and record the answer
    Reconcile(reconcile::Arguments),
}

#[derive(Args)]
pub(super) struct Source {
    /// The configuration that names the record, in TOML
    #[arg(long, value_name = "FILE", required_unless_present = "paths")]
    config: Option<PathBuf>,
    /// The directory of the record; repeat it for a record in several directories, as a fleet has it
    #[arg(long = "path", value_name = "DIR", conflicts_with = "config")]
    paths: Vec<PathBuf>,
    /// With the copy of all records in PostgreSQL (audit.ship of the configuration)
    #[arg(long, requires = "config")]
    shipped: bool,
}

/// The record that a command reads.
struct Opened {
    record: Directories,
    /// How much may be missing from it.
    retention: Retention,
    /// The directory of the configuration, and the copy of all records. Its files are removed with this.
    shipped: Option<(PathBuf, Copied)>,
}

#[derive(Args)]
pub(super) struct Verify {
    #[command(flatten)]
    source: Source,
    /// A head that `saltgate audit head` printed earlier and that was kept elsewhere
    #[arg(long = "head", value_name = "HEAD")]
    heads: Vec<ChainHead>,
    /// A file with all heads that it printed, one per line: an older chain without a head is then a fault
    #[arg(long = "heads", value_name = "FILE")]
    file: Option<PathBuf>,
    /// How long files are kept (90d): older ones may be missing [default: audit.retain of the configuration]
    #[arg(long, value_name = "DURATION", value_parser = clock::parse_duration)]
    retain: Option<Duration>,
}

pub(super) fn run(command: &Command) -> ExitCode {
    match command {
        Command::Verify(arguments) => verify(arguments),
        Command::Head(source) => head(source),
        Command::Show(arguments) => show::run(arguments),
        Command::Reconcile(arguments) => reconcile::run(arguments),
    }
}

impl Source {
    fn open(&self) -> Result<Opened, ExitCode> {
        let Some(config) = &self.config else {
            let record = self.paths.iter().cloned().collect();
            return Ok(Opened { record, retention: Retention::Unknown, shipped: None });
        };
        let config = load(config)?;
        let (path, retain) = record_of(&config)?;
        let retention = retain.map_or(Retention::Forever, |r| Retention::For(r, Clock::system().now()));
        if !self.shipped {
            return Ok(Opened { record: path.into(), retention, shipped: None });
        }
        let copied = copy_of(&config)?;
        let record = [copied.path().to_owned(), path.to_owned()].into_iter().collect();
        Ok(Opened { record, retention, shipped: Some((path.to_owned(), copied)) })
    }
}

/// The copy of all records in PostgreSQL.
fn copy_of(config: &Config) -> Result<Copied, ExitCode> {
    let ship = config.ship.as_ref();
    let ship = ship.ok_or_else(|| fail("--shipped: this configuration copies the record nowhere (audit.ship)"))?;
    Copied::read(ship).map_err(fail)
}

fn record_of(config: &Config) -> Result<(&Path, Option<Duration>), ExitCode> {
    let path = config.audit.path();
    let path = path.ok_or_else(|| fail("this configuration keeps no record (audit.danger_no_record)"))?;
    Ok((path, config.audit.retain()))
}

fn verify(arguments: &Verify) -> ExitCode {
    let Opened { record, mut retention, shipped } = match arguments.source.open() {
        Ok(opened) => opened,
        Err(code) => return code,
    };
    let now = Clock::system().now();
    if let Some(retain) = arguments.retain {
        retention = Retention::For(retain, now);
    }
    let all = match arguments.file.as_deref().map_or(Ok(Vec::new()), heads_in) {
        Ok(all) => all,
        Err(error) => return fail(error),
    };
    let heads = [&arguments.heads[..], &all].concat();
    // Of the copy, somebody may have removed what is old.
    let copied = shipped.as_ref().map(|(_, copied)| (Directories::from(copied.path()), Retention::Unknown));
    let (record, kept) = copied.unwrap_or((record, retention));
    let verified = audit::verify(record.clone(), &heads, kept).and_then(|mut report| {
        if !all.is_empty() {
            report.faults.extend(audit::without_head(record, &heads, kept, now)?);
        }
        if let Some((directory, copied)) = &shipped {
            let beside = audit::verify_beside(directory, copied.path(), retention)?;
            report.faults.extend(beside.faults);
            report.notes.extend(beside.notes);
        }
        Ok(report)
    });
    let report = match verified {
        Ok(report) => report,
        Err(error) => return fail(error),
    };
    for note in &report.notes {
        console::later(format_args!("note: {note}"));
    }
    for fault in &report.faults {
        console::later(format_args!("FAULT: {fault}"));
    }
    let audit::Report { instances, files, lines, key_sets, .. } = report;
    let heads_given = heads.len();
    let counts = format!(
        "{lines} lines in {files} files of {instances} processes, {key_sets} sets of keys, {heads_given} heads"
    );
    if report.faults.is_empty() {
        say!("sound: {counts}");
        if heads.is_empty() && shipped.is_none() {
            say!("no head was given: whoever can write to the disk could have rewritten all of it");
        }
        return ExitCode::SUCCESS;
    }
    say!("changed after it was written: {} faults in {counts}", report.faults.len());
    ExitCode::FAILURE
}

fn heads_in(file: &Path) -> Result<Vec<ChainHead>, HeadsError> {
    let text = std::fs::read_to_string(file).map_err(|error| HeadsError::NotRead { file: file.into(), error })?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let head = |(n, line): (usize, &str)| {
        line.parse().map_err(|error| HeadsError::NotAHead { file: file.into(), line: n + 1, error })
    };
    lines.map(head).collect()
}

/// Why the heads in a file cannot be used.
#[derive(Debug, thiserror::Error)]
enum HeadsError {
    #[error("{}: {error}", file.display())]
    NotRead {
        file: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error("{}:{line}: {error}", file.display())]
    NotAHead {
        file: PathBuf,
        line: usize,
        #[source]
        error: NotAHead,
    },
}

fn head(source: &Source) -> ExitCode {
    let opened = match source.open() {
        Ok(opened) => opened,
        Err(code) => return code,
    };
    let mut unread = Unread::default();
    match audit::heads(opened.record, &mut unread) {
        Err(error) => fail(error),
        Ok(heads) => {
            heads.iter().for_each(|head| console::later(format_args!("{head}")));
            report_unread(&unread)
        }
    }
}

/// Prints what could not be read on standard error.
fn report_unread(unread: &Unread) -> ExitCode {
    if unread.count == 0 {
        return ExitCode::SUCCESS;
    }
    for what in &unread.named {
        complain!("saltgate: {what}");
    }
    complain!("saltgate: {} parts of the record cannot be read; see `saltgate audit verify`", unread.count);
    ExitCode::FAILURE
}
