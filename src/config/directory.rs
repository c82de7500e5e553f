//! Reads `[directory]`: where the keys are.

use std::path::{Path, PathBuf};

use super::fault::Fault;
use super::postgres;
use super::seal::seal;
use super::section::Section;
use super::source::Source;
use crate::directory::KeysFile;
use crate::postgres::KeySource;
use crate::seal::KeyRing;

/// The `[directory]` of a configuration, with the keys of its `[seal]`. Nothing else is read, so that a command about keys does not
/// need other secrets.
///
/// `is_reached_otherwise`: the address in it is not used, so what it names of the environment need not be set.
///
/// # Errors
/// If it names no keys, or cannot be read.
pub(crate) fn key_source(file: &Path, is_reached_otherwise: bool) -> Result<KeySource, Vec<Fault>> {
    let text = super::file(file, "a configuration, in TOML").map_err(|fault| vec![fault])?;
    let environment = |name: &str| std::env::var(name).ok().or_else(|| is_reached_otherwise.then(String::new));
    let source = Source::new(file, &text, &environment);
    let found = Section::document(&source).and_then(|mut root| {
        let seal = seal(&mut root);
        let mut found = directory(&mut root, seal);
        if let Some(KeySource::File(KeysFile { last_use: last_use @ None, .. })) = &mut found
            && root.has("audit")
        {
            let record = root.section("audit").optional_text("path", "a directory for the record");
            *last_use = record.map(|path| beside_the_record(&source.resolve(&path)));
        }
        found
    });
    let faults = source.findings().faults;
    found.filter(|_| faults.is_empty()).ok_or(faults)
}

/// The file in which a gateway with this record keeps when secrets were last used, if the configuration names none. Not within
/// the directory, because readers of a record read everything in it.
pub(super) fn beside_the_record(record: &Path) -> PathBuf {
    let mut name = record.file_name().unwrap_or_default().to_owned();
    name.push(".last-use");
    record.with_file_name(name)
}

/// The source of the keys.
pub(super) fn directory(root: &mut Section<'_>, seal: KeyRing) -> Option<KeySource> {
    let source = root.source;
    let mut section = root.one_of("directory", &["file", "postgres"]);
    let found = match (section.has("file"), section.has("postgres")) {
        (true, false) => {
            let mut file = section.section("file");
            let path = file.text("path", "the path of the keys");
            let allow_empty = file.flag("allow_empty", KeysFile::ALLOW_EMPTY);
            let last_use = file.optional_text("last_use", "the path of a file that the gateway writes");
            let last_use = last_use.map(|path| source.resolve(&path));
            file.finish();
            path.map(|path| {
                KeySource::File(KeysFile { path: source.resolve(&path), allow_empty, last_use, seal: seal.into() })
            })
        }
        (false, true) => postgres::key_table(section.section("postgres"), seal).map(KeySource::Table),
        (true, true) => {
            let at = section.at("postgres");
            section.known("file");
            section.known("postgres");
            source.fault_at(at, "directory", "names two sources of keys; expected one of them");
            return None;
        }
        (false, false) => {
            section.known("file");
            section.known("postgres");
            let expected = "expected [directory.file] with path = \"keys.toml\", or [directory.postgres] with url";
            source.fault_at(None, "directory", format!("no source of keys is named; {expected}"));
            None
        }
    };
    section.finish();
    found
}
