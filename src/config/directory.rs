//! Reads `[directory]`: where the keys are.

use super::section::Section;
use crate::directory::KeysFile;
use crate::seal::KeyRing;

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
