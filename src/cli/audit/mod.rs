//! `saltgate audit`: the record, read from outside. Nothing in here changes what is written; what
//! `reconcile` learns it adds in a chain of its own.

mod reconcile;
mod show;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{fail, load};
use crate::audit::{self, Head, Retention};
use crate::clock::Clock;
use crate::config::{self, Config};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Names every line that was changed, removed or reordered
    Verify(Verify),
    /// Prints where the chains stand, a line per process: keep it where nobody who can write the record can
    Head(Source),
    /// Prints lines of the record
    Show(show::Arguments),
    /// Asks the upstream about every deletion whose outcome is unknown, and puts the answer on record
    Reconcile(super::WithConfig),
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub(super) struct Source {
    /// The configuration that names the record, in TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The directory of the record
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Verify {
    #[command(flatten)]
    source: Source,
    /// What `saltgate audit head` printed earlier, and was kept elsewhere
    #[arg(long = "head", value_name = "HEAD")]
    heads: Vec<Head>,
    /// A file of such, one a line
    #[arg(long = "heads", value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(super) fn run(command: &Command) -> ExitCode {
    match command {
        Command::Verify(arguments) => verify(arguments),
        Command::Head(source) => head(source),
        Command::Show(arguments) => show::run(arguments),
        Command::Reconcile(arguments) => reconcile::run(&arguments.config),
    }
}

impl Source {
    /// The directory, and what may be gone from it.
    fn open(&self) -> Result<(PathBuf, Retention), ExitCode> {
        match (&self.path, &self.config) {
            (Some(path), _) => Ok((path.clone(), Retention::Unknown)),
            (None, Some(config)) => {
                let config = load(config)?;
                let (path, retain) = record_of(&config)?;
                let retention = retain.map_or(Retention::Forever, |r| Retention::For(r, Clock::system().now()));
                Ok((path.to_owned(), retention))
            }
            (None, None) => Err(fail("give --config FILE or --path DIR")),
        }
    }
}

fn record_of(config: &Config) -> Result<(&Path, Option<std::time::Duration>), ExitCode> {
    match &config.audit {
        config::Audit::Record { path, retain, .. } => Ok((path, *retain)),
        config::Audit::DangerNoRecord => Err(fail("this configuration keeps no record (audit.danger_no_record)")),
    }
}

/// Ends quietly if nobody reads any more.
fn printed(done: io::Result<ExitCode>) -> ExitCode {
    match done {
        Ok(code) => code,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(format!("standard output cannot be written: {error}")),
    }
}

fn verify(arguments: &Verify) -> ExitCode {
    let (directory, retention) = match arguments.source.open() {
        Ok(opened) => opened,
        Err(code) => return code,
    };
    let mut heads = arguments.heads.clone();
    if let Some(file) = &arguments.file {
        match heads_in(file) {
            Ok(more) => heads.extend(more),
            Err(what) => return fail(what),
        }
    }
    let report = match audit::verify(&directory, &heads, retention) {
        Ok(report) => report,
        Err(error) => return fail(error),
    };
    let mut out = io::stdout().lock();
    printed((|| {
        for note in &report.notes {
            writeln!(out, "note: {note}")?;
        }
        for fault in &report.faults {
            writeln!(out, "FAULT: {fault}")?;
        }
        let audit::Report { instances, files, lines, .. } = report;
        let counts = format!("{lines} lines in {files} files of {instances} processes, {} heads", heads.len());
        if report.faults.is_empty() {
            writeln!(out, "sound: {counts}")?;
            if heads.is_empty() {
                writeln!(out, "no head was given: whoever owns the disk could have written all of it anew")?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        writeln!(out, "not as it was written: {} faults in {counts}", report.faults.len())?;
        Ok(ExitCode::FAILURE)
    })())
}

fn heads_in(file: &Path) -> Result<Vec<Head>, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(n, line)| line.parse().map_err(|error| format!("{}:{}: {error}", file.display(), n + 1))).collect()
}

fn head(source: &Source) -> ExitCode {
    let directory = match source.open() {
        Ok((directory, _)) => directory,
        Err(code) => return code,
    };
    match audit::heads(&directory) {
        Err(error) => fail(error),
        Ok(heads) => {
            let mut out = io::stdout().lock();
            printed(heads.iter().try_for_each(|head| writeln!(out, "{head}")).map(|()| ExitCode::SUCCESS))
        }
    }
}
