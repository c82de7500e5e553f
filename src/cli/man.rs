//! `saltgate man DIR`: writes a manual page for each command, made from what `--help` prints.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::fail;
use crate::console::say;
use crate::state;

#[derive(Args)]
pub(super) struct Arguments {
    /// The directory, which must exist; pages of the same names are replaced
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// What every command exits with (contract §8).
const EXIT_STATUS: &[(&str, &str)] = &[
    ("0", "Done."),
    ("2", "The command line is wrong."),
    ("78", "The configuration has a fault; each is a line on standard error."),
    ("1", "Anything else."),
];

/// Writes the pages of these commands.
pub(super) fn run(arguments: &Arguments, commands: clap::Command) -> ExitCode {
    // `help` says the same as `--help`.
    let mut commands = commands.disable_help_subcommand(true);
    // The names of inner commands are known only then.
    commands.build();
    let mut written = 0;
    match pages(&commands, &arguments.directory, &mut written) {
        Ok(()) => {
            say!("{written} pages in {}", arguments.directory.display());
            ExitCode::SUCCESS
        }
        Err(error) => fail(format!("{}: {error}", arguments.directory.display())),
    }
}

fn pages(command: &clap::Command, directory: &Path, written: &mut usize) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    state::public_file(&directory.join(format!("{name}.1")), &page(command, &name)?)?;
    *written += 1;
    command.get_subcommands().try_for_each(|inner| pages(inner, directory, written))
}

fn page(command: &clap::Command, name: &str) -> io::Result<Vec<u8>> {
    // Without a date, the page is the same each time it is made.
    let title = format!(".TH {} 1 \"\" \"saltgate {}\" Saltgate\n", name.to_uppercase(), env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone());
    let mut page = title.into_bytes();
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command.get_arguments().next().is_some() {
        man.render_options_section(&mut page)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut more = Roff::new();
    more.control("SH", ["EXIT STATUS"]);
    for (status, meaning) in EXIT_STATUS {
        more.control("TP", []).text([bold(*status)]).text([roman(*meaning)]);
    }
    more.to_writer(&mut page)?;
    Ok(page)
}
