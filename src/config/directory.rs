//! Reads `[directory]`: where the keys are.

use std::path::Path;

use super::fault::Fault;
use super::seal::seal;
use super::section::Section;
use super::source::Source;
use crate::directory::KeysFile;
use crate::seal::KeyRing;

/// The `[directory.file]` of a configuration, and the keys of its `[seal]`. Nothing else is read, so that a command about
/// keys does not need other secrets.
///
/// # Errors
/// If it names no file of keys, or cannot be read.
pub(crate) fn keys_file(file: &Path) -> Result<KeysFile, Vec<Fault>> {
    let text = super::file(file, "a configuration, in TOML").map_err(|fault| vec![fault])?;
    let environment = |name: &str| std::env::var(name).ok();
    let source = Source::new(file, &text, &environment);
    let found = Section::document(&source).and_then(|mut root| {
        let seal = seal(&mut root);
        directory(&mut root, seal)
    });
    let faults = source.findings().faults;
    found.filter(|_| faults.is_empty()).ok_or(faults)
}

/// The file of keys.
pub(super) fn directory(root: &mut Section<'_>, seal: KeyRing) -> Option<KeysFile> {
    let source = root.source;
    let faults = source.fault_count();
    let mut section = root.one_of("directory", &["file"], &["postgres"], "[directory.file]");
    if !section.has("file") {
        if source.fault_count() == faults {
            source.fault_at(
                None,
                "directory",
                "no source of keys is named; expected [directory.file] with path = \"keys.toml\"",
            );
        }
        section.finish();
        return None;
    }
    let mut file = section.section("file");
    let path = file.text("path", "the path of the keys");
    let allow_empty = file.flag("allow_empty", KeysFile::ALLOW_EMPTY);
    file.finish();
    section.finish();
    path.map(|path| KeysFile { path: source.resolve(&path), allow_empty, seal: seal.into() })
}
